"""Few inputs, many weights: sums and stamps along lines of memory, with the weights as they lie.

`line_partition` and `gather_lines`, `stamp_lines` and `scatter_lines`: how a problem is cut, and the kernel.
"""
