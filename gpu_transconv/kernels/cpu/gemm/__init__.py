"""Transposed convolutions as matrix products: what all ways of cutting one share.

1. `layout`: which weights are rows of which product, as tables; `winograd` and `pairs`: products for pairs of blocks.
2. `zones`: which blocks read beyond the border; `blocking`: bytes and tasks.
3. `pack_weight`: weights in the order in which tiles read them. 4. `moves`: tiles bring in the input that comes next.
5. `store`: from sums to outputs; `fill`: outputs that no weight reaches.

The ways themselves, each with partitions and kernels, are packages beside this one: `gpu_transconv.kernels.cpu.runs`,
`boxes`, `points`, `lines` and `few`.
"""
