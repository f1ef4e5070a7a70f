r"""
6. From noise to digits
=======================

A detector's weights can be chosen by hand; a generator's are learned. This page shows two small generators that
have learned to draw handwritten digits of 8 x 8 pixels, from 800 examples. ``python -m docs.noise_to_digits.train
upscaling`` trains the first, and ``constant_size`` in its place the second, some minutes each. What is shown here are
the kept results, and the page runs the first generator again from its weights.

How it learns
-------------

All weights begin as random numbers. Nobody tells the generator which digit to draw for which noise. Instead there is
a second network, the *discriminator*, made of ordinary convolutions: detectors. It is shown real digits and made ones,
gives each picture a score, and learns to give real ones higher scores than made ones.

The generator learns from that score. How would each pixel have to change for the score to rise? That is the gradient
of the score, and it is computed by going back through the discriminator's convolutions by their transposes, as
:doc:`page 2 </paint/2_why_the_transpose>` says: the detectors paint into the picture what they miss in it. From the
pixels it goes on back through the generator's layers by *their* transposes, which are detectors: they find which
features and weights would have painted that. The weights are changed a little that way. A *step* does all this once,
with 64 pictures, for the discriminator and for the generator.

Two generators
--------------

The first starts from a vector of noise. It has three layers: to 4 x 4 places, with a weight of its own for every
place; to 8 x 8 with a stride of 2; and one of stride 1. The second keeps one size: noise of 8 x 8, then five layers
of stride 1.
"""

from docs.noise_to_digits import show

show.over_training("upscaling")

# %%
# The same noise, after more and more steps. First there are strokes, then digits, then better digits.

show.over_training("constant_size")

# %%
# Page 4 said that full-size noise through layers of stride 1 knows no place. These digits are small, though: zeros
# lie around 8 x 8 pixels on all sides, and five layers reach from them to the middle. From those zeros this generator
# learns where it is, and so it does learn a layout, if with more work. On a larger picture the middle would be out of
# reach.
#
# How good are they?
# ------------------
#
# Three measures, on 2000 made digits, with 397 real ones that no generator has seen:
#
# - *Distance.* A classifier was trained on 600 other real digits. It sums up a picture in sixteen numbers, its
#   features. The *Fréchet distance* compares the mean and the covariance of these for made and for real digits; 0 is
#   equal.
# - *Classes.* How many of the ten digits make up at least 2 % of the samples, as the classifier sees them.
# - *Copies.* How many samples lie nearer to one of the 800 examples than the nearest hundredth of the unseen real
#   digits does. A generator that had learned the examples by heart would have 100 %,
#   and the unseen real digits have 1 %.
#
# To compare with: the best *linear* generator, one matrix times Gaussian noise plus a mean, with the examples' own
# mean and covariance. By page 4 that is all that any stack of layers without nonlinearities can do.

# sphinx_gallery_start_ignore
upscaling, constant, linear, real = (show.report(name) for name in ("upscaling", "constant_size", "linear", "real"))
up_d, const_d, lin_d, real_d = (f"{found.distance:.2f}" for found in (upscaling, constant, linear, real))
up_c, const_c, lin_c, real_c = (found.classes for found in (upscaling, constant, linear, real))
up_k, const_k, lin_k = (f"{found.copies:.2%}" for found in (upscaling, constant, linear))
less = f"{linear.distance / upscaling.distance:.1f}"
# sphinx_gallery_end_ignore

# %%
# .. list-table::
#    :header-rows: 1
#
#    * - generator
#      - distance
#      - classes
#      - copies
#    * - upscaling, from a vector
#      - |up_d|
#      - |up_c|
#      - |up_k|
#    * - constant size, from full-size noise
#      - |const_d|
#      - |const_c|
#      - |const_k|
#    * - linear
#      - |lin_d|
#      - |lin_c|
#      - |lin_k|
#    * - the 800 examples themselves
#      - |real_d|
#      - |real_c|
#      -
#
# The linear generator is |less| times as far from real digits as the upscaling one. The examples themselves are not
# at 0, since two sets of real digits differ by chance. The linear generator's pictures have the right mean and the
# right covariance, and yet:

show.compared()

# %%
# One digit, taken apart
# ----------------------
#
# Every layer of the generator paints: each activation of its input stamps a filter. Which activations make a digit?
# Keep only the strongest inputs of one layer, those whose stamps are largest, set the others to 0, and let the rest
# of the generator go on:

z = show.noise(1)[0]
show.taken_apart(z)

# %%
# Without any input a layer paints its biases alone. The first row: from the vector's numbers the digit emerges as a
# whole, because each of them stamps the *entire* picture. The last row: each activation stamps 3 x 3 pixels, and the
# digit is put together piece by piece. The strongest stamps of that layer, each at its place, paint what is dark
# beside the digit; the bright strokes are left between them, and follow with weaker ones:

show.strongest_stamps(z)

# %%
# So this is how noise becomes meaningful: the first layer, different at every place, turns a direction in the space
# of noise into a layout; relu and bias decide which features are painted at all; each layer paints with stamps of
# stamps; and training has made every one of them the transpose of a detector that would find just that.
