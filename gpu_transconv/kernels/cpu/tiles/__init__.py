"""The inner loops: tiles of products, sums and filters, as compiled functions that are found by address.

`shapes` is how a function for each shape is found; `tile_frame` the frame that tiles of matrix products share:
`gemm_tile`, `box_tile`, `flat_tile` and `pixel_tile`. Nearly all time goes to these and to `fir_tile`, the filters of
depthwise layers. Sums of few products are in `dot_tile`, `filter_tile`, `channel_tile` and `stencil_tile`.
"""
