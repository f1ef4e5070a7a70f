"""Few output channels, which fill no tile of a matrix product: the lanes lie along something else.

`stencil_boxes` and `gather_stencil`: lines of blocks that share their input. With the channels last, `gather_filters`:
lanes along the input channels, and `scatter_pixels`: the stamps of some pixels of a row, added to rows of outputs.
"""
