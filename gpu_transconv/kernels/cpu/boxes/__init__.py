"""Products in boxes of the output: gather reads a box's input with the margin around it, scatter adds stamps into it.

`box_partition` and `gather_boxes`, `stamp_boxes` and `scatter`: how a problem is cut, and the kernel that runs on that.
"""
