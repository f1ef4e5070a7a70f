r"""
1. Detect and paint
===================

Take a filter of 3 x 3 numbers, 1 on the diagonal and -1 beside it, and lay it over every place of a picture. Where
the picture has a stroke from north-west to south-east, the products under the filter are large; elsewhere they are
small or negative. The filter is a *detector*. This page asks how the same nine numbers can also *draw* the stroke
that they find.
"""

import numpy as np

import gpu_transconv as gtc
from gpu_transconv.operators import conv_matrix
from gpu_transconv.tools.demo import detect, rows

diagonal = detect.DIAGONAL
print(diagonal)

# %%
# Why -1 beside the diagonal, and not 0? With zeros, an even bright surface would be as good as a stroke: three bright
# pixels lie under the diagonal in both. The -1 makes every bright neighbour count against it.
#
# A picture is a vector, a detector is a row
# ------------------------------------------
#
# Write a picture of 4 x 4 pixels as one vector :math:`x` of 16 numbers, row after row. The filter fits into it at
# four places. At each, what it computes is the sum of nine products: the scalar product of :math:`x` with a vector
# that has the filter's weights where the filter lies, and zeros elsewhere. Put these four vectors below each other
# and they are a matrix :math:`M`, and :math:`M x` is the *feature map*: one number for each place. One such number is
# an *activation*, or simply a feature.

# sphinx_gallery_start_ignore
best = int((conv_matrix(diagonal[None, None], (1, 4, 4)) @ rows.SMALL.ravel()).max())
# sphinx_gallery_end_ignore
rows.flattening()

# %%
# At its last place the filter lies on the stroke and finds |best|, the most that it can find among pixels of 0 and 1.
# At its second and third place, what is bright lies beside the diagonal, and counts against it.
#
# Equal size: stride 1, padding 1
# -------------------------------
#
# Surround the picture with a border of zeros, one pixel wide (*padding* 1), and move the filter by one pixel at a
# time (*stride* 1). Then there is one place for every pixel, and the feature map has the picture's own size. For
# pictures of 7 x 7 pixels, :math:`M` has |height| rows and |width| columns: it is square, and nothing is scaled,
# neither down nor up.

M = conv_matrix(diagonal[None, None], (1, 7, 7), padding=1).toarray()
# sphinx_gallery_start_ignore
height, width = M.shape
# sphinx_gallery_end_ignore

# %%
# A row, a column, a stamp
# ------------------------
#
# Now the transpose. :math:`M^T` takes a feature map and gives a picture: as many numbers as pixels. What picture? Let
# one feature be 1 and all others 0. Then :math:`M^T f` is one *column* of :math:`M^T`, and a column of :math:`M^T` is
# a *row* of :math:`M`: the filter, laid where that detector looks. The feature has painted the filter, at its own
# place. Call that its **stamp**. What the detector looks for is what its transpose draws.

rows.row_and_column()

# %%
# The right-hand picture was not read from the matrix; the package's operator painted it. For all |height| features
# together:

columns = [np.array_equal(M[i], M.T[:, i]) for i in range(49)]
painted = [np.array_equal(M[i], rows.painted_stamp(i).ravel()) for i in range(49)]
print(f"{sum(columns)} rows are the column, {sum(painted)} are the stamp")

# %%
# Many features paint many stamps, each times its activation, and where stamps overlap they add: that is what a
# product of a matrix with a vector is. Neighbours along the diagonal make a longer diagonal; their -1 fall between.

from gpu_transconv.tools.demo import stamps

stamps.stamps()

# %%
# Only the north-west stroke comes back
# -------------------------------------
#
# A drawing with four strokes, one for each direction, tries it out. What should be painted is what was found, so
# small responses are dropped first: of each response only what exceeds a threshold of 1 is kept,
#
# .. math:: k = \mathrm{relu}(M x - 1), \qquad \mathrm{relu}(a) = \max(a, 0).
#
# That is all that "a threshold" means in a network: a *bias* of -1 that is added to every response, and the
# *nonlinearity* relu, which sets negative numbers to 0. A lone bright pixel gives at most 1 and is dropped.

drawing = detect.drawing()
kept = detect.rectify(detect.detect(drawing, diagonal))
painted = gtc.conv_transpose2d(kept[None, None], diagonal[None, None], padding=1)[0, 0]

# sphinx_gallery_start_ignore
pixels = int(drawing.sum())
active = int((kept > 0).sum())
inside = int((kept[1:8, 1:8].diagonal() > 0).sum())
beyond = int(np.count_nonzero(painted[9:]) + np.count_nonzero(painted[:, 9:]))
# sphinx_gallery_end_ignore

# %%
# Of the drawing's |pixels| bright pixels, |active| are found, and |inside| of these lie on the stroke from the
# north-west. Beyond that stroke's surroundings, |beyond| pixels are painted: the other three strokes are gone. The
# first row of the next figure
# shows it.
#
# A photograph needs more than one filter. The second row uses four, for strokes in four directions. Their nine
# weights have mean zero: the weights of the diagonal filter sum to -3, so on a photograph it would mostly measure
# darkness. Each filter has its own feature map; the strongest tenth of all responses is kept, of either sign, and
# every response paints its own filter.

from pathlib import Path

from matplotlib.cbook import get_sample_data

from gpu_transconv.tools.demo.overview import overview
from gpu_transconv.tools.demo.picture import read_grey

grey = detect.normalise(read_grey(Path(get_sample_data("grace_hopper.jpg", asfileobj=False)), 160)[0])
result = detect.demonstrate(grey - grey.mean())
# sphinx_gallery_start_ignore
likeness = f"{result.likeness:.2f}"
share = f"{np.count_nonzero(result.kept) / result.kept.size:.0%}"
# sphinx_gallery_end_ignore
overview(grey, result)

# %%
# From |share| of its responses, a person is recognised. What is painted has a correlation of |likeness| with the
# photograph's detail, which is what each pixel differs from the mean of the nine around it. More cannot be expected:
# filters of mean zero never saw how bright the surfaces are.
#
# In a network, the filters are not chosen by hand. They are learned; and a generator's are learned without any
# detector. Still each of its layers is the transpose of *some* detector: the one that would find what the layer
# paints.
#
# :doc:`The next page </paint/2_why_the_transpose>` asks why it has to be the transpose.
