r"""
5. Checkerboards
================

Pictures made by transposed convolutions often have a fine pattern of squares on them, most visible in even areas.
It comes from the stamps: where they overlap, some pixels get more of them than others. This page says exactly when,
and what helps.
"""

import numpy as np

from gpu_transconv import conv_transpose2d
from gpu_transconv.tools.demo import checkerboards as boards

# %%
# An even map, an uneven picture
# ------------------------------
#
# Give every feature the value 1. Away from the edge, a pixel is then the sum of the taps of its *phase*, which is its
# place modulo the stride (see :doc:`page 3 </paint/3_a_convolution_of_its_own>`). With a filter of ones that is the
# number of stamps that cover it. With a kernel of 3 and a stride of 2, along one axis, every second pixel gets two
# stamps and the others get one; along two axes these multiply.

sums = boards.phase_sums(np.ones((3, 3), int), 2)
# sphinx_gallery_start_ignore
most, least = sums.max(), sums.min()
middle = sums[0, 1]
# sphinx_gallery_end_ignore
print(sums)

# %%
# Pixels get |most|, |middle|, |middle| or |least| stamps. For other sizes, scaled to a mean of 1 (grey; white is
# above it, black below):

boards.counts()

# %%
# The counts are even where the stride divides the kernel, and nowhere else.
#
# Layers on layers
# ----------------
#
# A second layer stamps the pattern of the first, and adds its own, twice as fine. Three layers of kernel 3 and stride
# 2:

# sphinx_gallery_start_ignore
low, high = (f"{value(boards.after_layers(3)):.2f}" for value in (np.min, np.max))
# sphinx_gallery_end_ignore
boards.compounding()

# %%
# The map was even, and the picture now runs from |low| to |high| times its mean.
#
# Even counts are not enough
# --------------------------
#
# A kernel of 4 with a stride of 2 has four taps in every phase. But learned weights are not all 1. What counts is the
# *sum* of the taps of each phase: **an even map stays even exactly if all these sums are equal.**

kernel = boards.random_filter()
before = boards.phase_sums(kernel, 2)
# sphinx_gallery_start_ignore
smallest, largest = f"{before.min():.2f}", f"{before.max():.2f}"
uneven = f"{boards.unevenness(boards.of_even(kernel, 2)):.2f}"
even = f"{boards.unevenness(boards.of_even(boards.evened(kernel, 2), 2)):.1g}"
# sphinx_gallery_end_ignore
print(before.round(2))

# %%
# This random filter's sums run from |smallest| to |largest|, and an even map comes out up to |uneven| away from its
# mean. Two cures:
#
# - *Equal sums.* Add to the taps of each phase what is missing to the average. An even map then stays even: it comes
#   out |even| away from its mean. A network can keep its weights so while it learns, or be started so.
# - *Repeat, then convolve.* Repeat every feature in a square of stride x stride pixels and convolve with stride 1.
#   That is a transposed convolution as well, with a larger filter that is built of shifted copies of the small one.
#   Every phase sums up the whole small filter, so the sums are always equal, whatever is learned. The price: the
#   small filter has fewer weights to learn than the large one has taps, and computed as it is described, it makes
#   more products.

small = kernel[:3, :3]
features = np.random.default_rng(1).standard_normal((8, 8))
repeated = boards.resized(features, small, 2)
whole = boards.resize_convolution(small, 2)
at_once = conv_transpose2d(features[None], whole[None, None], stride=2, padding=1)[0]
# sphinx_gallery_start_ignore
difference = f"{np.abs(repeated - at_once).max():.1g}"
rows, columns = whole.shape
# sphinx_gallery_end_ignore
boards.cures()

# %%
# The second cure as one transposed convolution has a filter of |rows| x |columns| taps for one of 3 x 3; on random
# features the two ways differ by |difference|, which is rounding.
#
# A pattern that is *learned* can still be there, if it helps: even sums only say that the operator adds none by
# itself.
#
# References
# ----------
#
# A. Odena, V. Dumoulin, C. Olah, *Deconvolution and Checkerboard Artifacts*, Distill, 2016,
# `doi:10.23915/distill.00003 <https://doi.org/10.23915/distill.00003>`_, shows the patterns in pictures of trained
# generators.
