r"""
4. Is upscaling necessary?
==========================

Generators that turn noise into faces are stacks of transposed convolutions, and nearly every description of them
says that these layers *upscale*. But on the first page nothing was scaled: at stride 1 with padding 1 the painted
picture is as large as the feature map. So why not start with noise of the picture's full size?
"""

import numpy as np

from gpu_transconv.tools.demo import layout, layout_pages

# %%
# Painting does not need it
# -------------------------
#
# The transpose paints at any stride. What is lost without upscaling is something else, and it shows without any
# training. Take three generators with random weights, each of three layers with relu between them. Their filters are
# smooth blobs times random numbers, so that the pictures are soft enough to be compared by eye; only the first layer
# on a vector has a random number for every place:
#
# - from noise of full size, 16 x 16, through layers of stride 1;
# - from one *vector* of noise, a map of 1 x 1, to 4 x 4, to 8 x 8, to 16 x 16: kernels of 4, strides of 2;
# - from the same vector to 16 x 16 at once, by a first layer whose kernel is 16, then two layers of stride 1.
#
# Each makes 4000 pictures. Shown are four of them and, place by place, the mean of all and their standard deviation.
# (Along the edge a layer sees the zeros of the padding, so only the inside of the frame counts.)

texture, upscaled, at_once = (layout.statistics(layout.made(number)) for number in range(3))
# sphinx_gallery_start_ignore
flat, upscaled_flat, once_flat = (f"{found.largest:.1f}" for found in (texture, upscaled, at_once))
# sphinx_gallery_end_ignore
layout_pages.samples_and_means()

# %%
# A mean of 4000 numbers is off by chance, by about their standard deviation over :math:`\sqrt{4000}`: the *standard
# error*. By that measure the first mean image is flat: no pixel differs from the average by more than |flat| standard
# errors, which is what chance gives among so many pixels. Such pictures are a *texture*. Noise has the same statistics
# at every place, and a layer of stride 1 does the same at every place, so the result has the same statistics at every
# place too; this is called *stationary*. No pixel knows where it is. Such a generator cannot learn that the eyes are
# above the mouth.
#
# The second has a *layout*: its mean image differs from flat by up to |upscaled_flat| standard errors. So has the
# third, by up to |once_flat|, **and it upscales nothing after its first layer.** What a layout takes is a first layer
# that is not the same everywhere: from a map of 1 x 1, every output has a weight of its own.
#
# How far one number reaches
# --------------------------
#
# A picture also needs distant pixels to agree: two eyes of one colour. Two pixels are related only if some number of
# the noise reaches both. One number reaches its stamp, then the stamps of its stamp, and so on: with :math:`L` layers
# of kernel :math:`K` and stride 1 that is :math:`1 + L(K-1)` pixels along a side, |reach_3| for the three layers
# here.

# sphinx_gallery_start_ignore
reach_3 = layout.reach(layout.GENERATORS[0].layers)
far = f"{texture.correlation[reach_3:].max():.3f}"
chance = f"{4 / np.sqrt(layout.SAMPLES):.3f}"
upscaled_far, once_far = f"{upscaled.correlation[-1]:.2f}", f"{at_once.correlation[-1]:.2f}"
# sphinx_gallery_end_ignore
layout_pages.correlations()

# %%
# From full-size noise, the correlation of two pixels that are |reach_3| or more apart is at most |far|; chance gives
# up to |chance| in 4000 pictures. In the other two every pixel depends on the same vector, and even at the largest
# distance there are pixels with a correlation of |upscaled_far| and |once_far|.
#
# What upscaling buys
# -------------------
#
# Layers of stride 1 reach further by :math:`K - 1` pixels each. Layers of stride 2 double the reach each time, and
# most of them work on small maps. To make 64 x 64 pixels, with 64 channels throughout (a *channel* is one of several
# feature maps that lie behind each other):
#
# .. list-table::
#    :header-rows: 1
#
#    * - layers
#      - one number reaches
#      - multiplications
#    * - 4 of kernel 3, stride 1
#      - |reach_4| pixels
#      - |cost_4| million
#    * - 32 of kernel 3, stride 1
#      - |reach_32| pixels
#      - |cost_32| million
#    * - 4 of kernel 4, stride 2
#      - |reach_up| pixels
#      - |cost_up| million

few, many = [layout.Layer(3, 1, 1)] * 4, [layout.Layer(3, 1, 1)] * 32
doubling = [layout.Layer(4, 2, 1)] * 4
# sphinx_gallery_start_ignore
reach_4, reach_32, reach_up = (layout.reach(layers) for layers in (few, many, doubling))
cost_4, cost_32, cost_up = (f"{layout.multiplications(layers, 64) / 1e6:.0f}" for layers in (few, many, doubling))
# sphinx_gallery_end_ignore

# %%
# So the answer is: **no, upscaling is not necessary; it is cheap reach.** What is necessary for a layout is a first
# layer that differs by place. Generators have both: they start from one vector, because it can decide about the whole
# picture, and upscale, because that is the cheap way from there to all pixels. Noise of full size is useful in
# addition, as texture: hair, skin, grass.
#
# One layer cannot make sense of noise
# ------------------------------------
#
# Could one transposed convolution be enough? Let :math:`z` be white Gaussian noise, with variance 1 and no
# correlations. Then :math:`M^T z` is Gaussian again, and its covariance is :math:`M^T M`: the products of the stamps
# with each other.

measured, expected = layout.gaussian_covariance()
# sphinx_gallery_start_ignore
worst = f"{np.abs(measured - expected).max():.2f}"
most = f"{np.abs(expected).max():.0f}"
# sphinx_gallery_end_ignore
layout_pages.one_layer()

# %%
# The two differ by at most |worst|, where the largest entry is |most|. A Gaussian has nothing but its mean and its
# covariance, and halfway between any two of its pictures lies one that is at least as likely as the less likely of the
# two. Digits or faces are not like that: halfway between a 3 and a 6 there is no digit. Several such layers in a row
# are still one matrix, so they cannot help. What makes noise meaningful is what stands *between* the layers: biases and
# nonlinearities, such as the relu, through which a feature is painted or not painted at all.
#
# And then training. The weights above are random, and so are the layouts. :doc:`Page 6 </paint/6_noise_to_digits>`
# trains such generators.
