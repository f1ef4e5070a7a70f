"""Transposed convolutions as matrix products: gather in runs and in boxes, scatter in boxes.

1. `layout`: which weights are rows of which product, as tables; `winograd`: products for pairs of blocks.
2. `partitions`, `stamp_boxes`, `stencil_boxes`: how the columns are cut for threads and caches; `zones`: which of them
   read beyond the border; `cost`: what each way should cost.
3. `pack_weight`, `pack_input`: both factors brought into the order in which tiles read them.
4. `gather`, `gather_boxes`, `gather_stencil`, `scatter`: the kernels. 5. `store`: from sums to outputs.
"""
