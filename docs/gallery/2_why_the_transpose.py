r"""
2. Why the transpose?
=====================

A matrix that makes a picture of a feature map needs as many rows as there are pixels and as many columns as there
are features. :math:`M^T` has that shape, but so has every other :math:`B` with as many numbers. What does the
transpose do that no other matrix does, and what does it not do?
"""

import numpy as np

from gpu_transconv.tools.demo import adjoint, detect
from gpu_transconv.tools.demo.rows import square_matrix

M = square_matrix().astype(float)  # the diagonal filter on 7 x 7 pixels, stride 1, padding 1

# %%
# For one feature: no picture excites the detector more
# -----------------------------------------------------
#
# Detector :math:`i` computes :math:`m_i \cdot x`, where :math:`m_i` is row :math:`i` of :math:`M`. Of all pictures
# with the same sum of squares, which one gives the largest response? The one that points the same way as :math:`m_i`
# (the inequality of Cauchy and Schwarz). Row :math:`i` is column :math:`i` of the transpose: **what** :math:`M^T`
# **paints for a feature is what that feature would most like to see.**

response = M[24] @ M[24]
rng = np.random.default_rng(0)
others = rng.standard_normal((1000, 49))
others *= np.linalg.norm(M[24]) / np.linalg.norm(others, axis=1, keepdims=True)
best_other = (others @ M[24]).max()
# sphinx_gallery_start_ignore
response, best_other = f"{response:.0f}", f"{best_other:.1f}"
# sphinx_gallery_end_ignore

# %%
# Its own stamp gives |response|; the best of a thousand random pictures with the same sum of squares gives
# |best_other|.
#
# For many features: never against them
# -------------------------------------
#
# Paint a whole feature map :math:`f`, and let the detector look at the result: it finds :math:`M B f`. If painting is
# to mean anything, that should agree with :math:`f` rather than contradict it: :math:`f \cdot M B f` should be
# positive. With the transpose,
#
# .. math:: f \cdot M M^T f = (M^T f) \cdot (M^T f) = |M^T f|^2 \ge 0 ,
#
# always. With another matrix it is a toss of a coin. A thousand feature maps, and for each a random matrix:

draws = adjoint.DRAWS
transposed, random = adjoint.agreements(draws)
# sphinx_gallery_start_ignore
positive, random_positive = int((transposed > 0).sum()), int((random > 0).sum())
# sphinx_gallery_end_ignore
adjoint.for_or_against()

# %%
# In |positive| of |draws| draws what the transpose painted agrees with its features; of the random matrices,
# |random_positive| of |draws| do. The others paint, in sum, the opposite of what was asked for.
#
# The photograph of the last page says the same. Its features are painted by filters that did not detect them, fifty
# banks of four random filters of mean zero, and by a matrix of random numbers:

from pathlib import Path

from matplotlib.cbook import get_sample_data

from gpu_transconv.tools.demo.picture import read_grey

grey = detect.normalise(read_grey(Path(get_sample_data("grace_hopper.jpg", asfileobj=False)), 160)[0])
result = detect.demonstrate(grey - grey.mean())
likenesses = np.array([found for found, _ in adjoint.random_banks(result.kept, result.picture)])
# sphinx_gallery_start_ignore
own = f"{result.likeness:.2f}"
banks = len(likenesses)
strongest, mean, spread = f"{likenesses.max():.2f}", f"{likenesses.mean():.2f}", f"{likenesses.std():.2f}"
# sphinx_gallery_end_ignore
adjoint.other_painters(result)

# %%
# The transpose's picture has a correlation of |own| with the photograph's detail; the |banks| random banks have
# |mean| in the mean, with a deviation of |spread|, and the luckiest |strongest|. (A bank of filters still puts every
# feature at its place, so by luck it may draw something like edges. A random matrix does not even do that.)
#
# It is the only one
# ------------------
#
# Ask of a matrix :math:`B` that for every picture :math:`x` and every feature map :math:`f`
#
# .. math:: \langle M x,\, f \rangle = \langle x,\, B f \rangle .
#
# To compare what was found with what was wished is then the same as to compare the picture with what was painted. Put
# unit vectors for :math:`x` and :math:`f`, and the equation says that entry :math:`(i, j)` of :math:`M` is entry
# :math:`(j, i)` of :math:`B`. So there is exactly one: :math:`B = M^T`.
#
# This is also what learning needs. Let the score of a picture be :math:`\langle M x, f \rangle`. To raise it fastest,
# change :math:`x` along the gradient, which is :math:`M^T f`: the transposed convolution of :math:`f`. Every network
# that is trained through a convolution runs its transpose backwards; and the other way round, the gradient of a
# transposed convolution by its input is the detector :math:`M`. A check by small steps:

x, f, direction = rng.standard_normal((3, 12, 12))
by_step, by_transpose = adjoint.slope(x, f, direction)
# sphinx_gallery_start_ignore
by_step, by_transpose = f"{by_step:.6f}", f"{by_transpose:.6f}"
# sphinx_gallery_end_ignore

# %%
# The slope along a random direction is |by_step| by taking a small step, and |by_transpose| by the transpose.
#
# What it is not
# --------------
#
# :math:`M^T` is not the inverse of :math:`M`, and it does not paint whole pictures best. If *all* features of a
# picture are known, then the picture that has these features can be solved for, by least squares (the pseudo-inverse
# of :math:`M`). Four filters say enough about the photograph to give it back:

small = result.picture[::2, ::2]
painted, solved = adjoint.restored(small)
# sphinx_gallery_start_ignore
by_painting = f"{detect.likeness(painted, small):.2f}"
by_solving = f"{detect.likeness(solved, small):.3f}"
# sphinx_gallery_end_ignore
adjoint.whole_maps(small)

# %%
# Solving gives a correlation of |by_solving| with the photograph, painting |by_painting|: the transpose answers with
# an outline. The solution comes at a price. It depends on all features at once, through a system of equations as
# large as the picture, and its answer for one feature is no stamp. :math:`M^T` works place by place with nine
# numbers, which is why it can be a layer.
#
# So: for one feature it is the best there is; for many it is never against them; it is the gradient, and nothing else
# is. For whole maps others restore more.
#
# :doc:`The next page </paint/3_a_convolution_of_its_own>` shows that the transpose is a convolution too.
