"""What is asked: a call's arguments, shapes and dtypes, made into one plan that every backend reads.

Ints and strings in, frozen values out: nothing here holds an array or knows a device, and what costs is cached.

``arguments``  what a caller wrote, as tuples with one entry per spatial axis
``shapes``     whether the arrays' shapes fit them and each other
``dtypes``     names, bytes, the dtype of sums; what is defined for which
``axis``       one axis: the relation of input, tap and output; phases, shifts, reach
``plan``       the problem as a whole, and `plan_call`, the one way to it
``rewrites``   a problem as a simpler one on the same memory
"""
