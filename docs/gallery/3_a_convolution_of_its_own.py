r"""
3. A convolution of its own
===========================

"Transposed convolution" sounds as if the transpose of a convolution were a convolution again. Is it? :math:`M^T f`
gives a picture, but a convolution lays a filter over every place of its input and adds up products. Where is the
filter, and what does it lie on?
"""

import numpy as np

import gpu_transconv as gtc
from gpu_transconv.operators import conv_matrix
from gpu_transconv.tools.demo import films, turned
from gpu_transconv.tools.demo.detect import DIAGONAL
from gpu_transconv.tools.demo.rows import square_matrix

# %%
# Stride 1: the filter, turned by half
# ------------------------------------
#
# Read :math:`M^T` by rows. A row of it belongs to one pixel and says which features reach that pixel, with which
# weight. The feature *below and to the right* of the pixel reaches it with the *upper left* corner of its stamp; the
# feature above and to the left with the lower right corner. So the pixel sees the filter turned around by 180
# degrees: at stride 1, :math:`M^T` is the convolution with the turned filter.
#
# The diagonal filter is its own half-turn, so for it nothing changes at all: **the detector is its own transpose.**
# With a hook the turn is visible.

M, hook = square_matrix(DIAGONAL), square_matrix(turned.HOOK)
plain = conv_matrix(turned.half_turn(turned.HOOK)[None, None], (1, 7, 7), padding=1).toarray()
# sphinx_gallery_start_ignore
different, hook_different = int((M != M.T).sum()), int((hook != hook.T).sum())
turned_different = int((plain != hook.T).sum())
# sphinx_gallery_end_ignore
turned.turned()

# %%
# For the diagonal filter, :math:`M` and :math:`M^T` differ in |different| of 2401 entries; for the hook in
# |hook_different|. The transpose of the hook's matrix and the matrix of the turned hook differ in |turned_different|.
#
# Look at the last column of the picture too: a *stamp* is never turned. Seen from a feature, the filter is painted as
# it is; seen from a pixel, it is collected the other way round. Both are :math:`M^T`, read by columns and by rows.
#
# Stride 2, by columns: stamps
# ----------------------------
#
# With stride 2 the detector moves by two pixels, and finds a map of half the size. Its transpose moves the *stamp* by
# two pixels for every feature, so from a small map it makes a large picture. By columns nothing else changes.

films.scatter()

# %%
# Stride 2, by rows: one convolution of a stuffed input
# -----------------------------------------------------
#
# By rows it is less obvious. Neighbouring pixels no longer see the features through the same weights, so no single
# filter can slide over the features. But spread the features out: put a zero between each two of them (stride - 1
# zeros in general), and a border around. Over this larger map the turned filter slides one step at a time, and the
# weights that fall on the zeros drop out by themselves.

films.stuffing()

# %%
# So :math:`M^T` *is* one convolution with one filter, of stride 1, after the stuffing. As matrices: the matrix of
# that convolution times the matrix that stuffs is :math:`M^T`, entry for entry. For thirty sizes, strides and
# paddings:

from itertools import product

# kernel, stride, padding
cases = [case for case in product((2, 3, 4), (1, 2, 3), (0, 1, 2, 3)) if case[2] < case[0]]
cases += [(5, 2, 2), (5, 3, 1), (5, 4, 2)]
rng = np.random.default_rng(0)
equal = 0
for kernel, stride, padding in cases:
    weight = rng.integers(-9, 10, (kernel, kernel))
    picture = stride * 3 + kernel, stride * 2 + kernel + 1
    transposed, composed = turned.as_one_convolution(weight, picture, stride, padding)
    equal += np.array_equal(transposed, composed)
# sphinx_gallery_start_ignore
number = len(cases)
made, used = films.products()
wasted = made - used
# sphinx_gallery_end_ignore

# %%
# |equal| of |number| are equal. It is a good way to see the operator, and a poor way to run it: in the film, |made|
# products are made, and |wasted| of them have a stuffed or padded zero in them.
#
# Stride 2, by rows, without the zeros: phases
# --------------------------------------------
#
# Which weights fall on zeros depends only on whether a pixel's row and column are even or odd. So sort the pixels
# into 2 x 2 *phases*. All pixels of one phase see the features through the same few taps of the filter: a *tap* is
# one of its weights. That is an ordinary convolution, of stride 1, with a small filter; there are four of them, and
# their results are interleaved.

# sphinx_gallery_start_ignore
taps = turned.taps_of_phases(3, 2, 1)
sizes = [len(down) * len(across) for down in taps for across in taps]
one, two, three, four = sizes
total = sum(sizes)
# sphinx_gallery_end_ignore
films.phases()

# %%
# The four small filters have |one|, |two|, |three| and |four| taps, together |total|: every tap of the 3 x 3 filter is
# in exactly one of them. The |used| products with a feature are made, and no other. This is how the package's gather
# kernels compute, and it is the answer in full: a transposed convolution of stride :math:`s` is :math:`s \times s`
# ordinary convolutions, whose outputs interleave; at stride 1 it is one, with the filter turned by half.
#
# Both ways on one page
# ---------------------
#
# *Scatter* goes through the features and adds stamps: :math:`M^T` column by column. *Gather* goes through the pixels
# and collects: :math:`M^T` row by row.

from gpu_transconv.tools.demo.formulations import FEATURES, two_ways

ways = [
    gtc.conv_transpose2d(FEATURES[None], DIAGONAL[None, None], stride=2, padding=1, formulation=name)
    for name in ("gather", "scatter")
]
print(np.array_equal(*ways))
two_ways()

# %%
# :doc:`The next page </paint/4_is_upscaling_necessary>` asks whether the small map and the large picture are needed
# at all.
