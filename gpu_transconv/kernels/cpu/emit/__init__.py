"""How to say it in LLVM: tiles of matrix products and of filters, rows of numbers, types. Knows nothing of convolution.

`registers` says what the machine has, `shapes` how a function for each shape is found by its address. Nearly all time
goes to the inner loops of `gemm_tile`, on the frame that tiles of matrix products share (`tile_frame`), and of
`fir_tile`. `row_ir` and `copy_ir` emit functions that move rows of numbers, with the `shuffles` of their vectors;
`stream_ir` and `fill_ir` write rows that begin anywhere, the latter with one value between their numbers, and
`thinned_ir` has filters of which not all results are wanted; `intrinsics` and `pointers` are how kernels call them;
`numbers` has the types: half floats and activations.
"""
