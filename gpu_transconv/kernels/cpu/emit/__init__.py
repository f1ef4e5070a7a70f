"""How to say it in LLVM: registers, types, rows of numbers. Knows nothing of convolution.

`registers` says what the machine has. `row_ir`, `copy_ir` and `block_ir` emit functions that move rows of numbers, with
the `shuffles` of their vectors; `stream_ir` and `fill_ir` write rows that begin anywhere, the latter with one value
between their numbers, and `thinned_ir` has filters of which not all results are wanted; `intrinsics` and `pointers` are
how kernels call them; `numbers` has the types: half floats and activations.
"""
