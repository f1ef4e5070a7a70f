"""Patterns that a transposed convolution paints into an even picture: where they come from, and what removes them."""

from __future__ import annotations

import numpy as np

from ... import conv_transpose2d
from .canvas import GREY, Canvas
from .detect import Picture, detect

#: Side of the even feature map, and pixels along the edge of the result that are not looked at.
FLAT, EDGE = 6, 3
KERNELS, STRIDES = (2, 3, 4, 5, 6), (1, 2, 3)


def phase_sums(kernel: Picture, stride: int) -> Picture:
    """Sums of the taps of each phase, shape (stride, stride): what an even map of ones becomes away from the edge.

    Examples
    --------
    >>> phase_sums(np.ones((3, 3)), 2)
    array([[4., 2.],
           [2., 1.]])
    """
    sums = np.zeros((stride, stride), kernel.dtype)
    for row, column in np.ndindex(stride, stride):
        sums[row, column] = kernel[row::stride, column::stride].sum()
    return sums


def of_even(kernel: Picture, stride: int, layers: int = 1, side: int = FLAT) -> Picture:
    """Send an even map of ones through layers of one filter; the filter is scaled so that the result is 1 in the mean.

    Examples
    --------
    >>> bool(np.allclose(of_even(np.ones((4, 4)), 2)[3:-3, 3:-3], 1))
    True
    """
    values: Picture = np.ones((1, side, side), kernel.dtype)
    weight = kernel[None, None] * (stride**2 / kernel.sum())
    for _ in range(layers):
        values = conv_transpose2d(values, weight, stride=stride)
    return values.reshape(values.shape[1:])


def unevenness(picture: Picture, edge: int = EDGE) -> float:
    """Largest difference from 1 away from the edge."""
    return float(np.abs(picture[edge:-edge, edge:-edge] - 1).max())


def evened(kernel: Picture, stride: int) -> Picture:
    """Change a filter as little as possible so that all phases have the same sum.

    Examples
    --------
    >>> kernel = evened(np.arange(16.).reshape(4, 4), 2)
    >>> phase_sums(kernel, 2)
    array([[30., 30.],
           [30., 30.]])
    """
    sums, result = phase_sums(kernel, stride), kernel.copy()
    for row, column in np.ndindex(stride, stride):
        taps = result[row::stride, column::stride]
        taps += (sums.mean() - sums[row, column]) / taps.size
    return result


def resize_convolution(kernel: Picture, stride: int) -> Picture:
    """Write "repeat every element stride times, then convolve" as the filter of one transposed convolution.

    Examples
    --------
    >>> resize_convolution(np.array([[1.]]), 2)
    array([[1., 1.],
           [1., 1.]])
    """
    rows, columns = kernel.shape
    whole = np.zeros((rows + stride - 1, columns + stride - 1), kernel.dtype)
    for row, column in np.ndindex(stride, stride):
        whole[row : row + rows, column : column + columns] += kernel[::-1, ::-1]
    return whole


def resized(features: Picture, kernel: Picture, stride: int) -> Picture:
    """Repeat every feature stride times along both axes, then correlate with the filter, zeros beyond the border."""
    return detect(np.repeat(np.repeat(features, stride, 0), stride, 1), kernel)


def random_filter(side: int = 4, seed: int = 3) -> Picture:
    """Draw a filter of positive weights, as uneven as learned ones may be."""
    return np.random.default_rng(seed).uniform(0.2, 1.0, (side, side))


def counts() -> Canvas:
    """Draw an even map after one layer, for several sizes of kernel and stride."""
    canvas = Canvas(
        900,
        590,
        "An even map after one layer of ones, for kernels of 2 to 6 and strides of 1 to 3: even only where "
        "the stride divides the kernel",
    )
    for row, stride in enumerate(STRIDES):
        top = 50 + 178 * row
        canvas.text((20, top + 70), f"stride {stride}", 12, ha="left")
        for column, kernel in enumerate(KERNELS):
            result = of_even(np.ones((kernel, kernel)), stride, side=24)
            middle = len(result) // 2
            window = result[middle - 6 : middle + 6, middle - 6 : middle + 6]
            panel = canvas.panel((110 + 158 * column, top), (132, 132), window - 1, 1.0, shades=GREY)
            panel.title(f"kernel {kernel}" if not row else "", "even" if np.allclose(window, 1) else "a pattern")
    return canvas


def after_layers(layers: int) -> Picture:
    """Cut 24 x 24 pixels out of an even map after layers of kernel 3 and stride 2, where no edge is seen.

    Examples
    --------
    >>> after_layers(1)[:2, :2] * 9
    array([[16.,  8.],
           [ 8.,  4.]])
    """
    return of_even(np.ones((3, 3)), 2, layers, side=20)[8:32, 8:32]


def compounding() -> Canvas:
    """Draw an even map after one, two and three layers of kernel 3 and stride 2."""
    canvas = Canvas(
        900,
        350,
        "An even map after one, two and three layers of kernel 3 and stride 2: patterns of 2, 4 and 8 pixels "
        "on top of each other",
    )
    for index, layers in enumerate((1, 2, 3)):
        window = after_layers(layers)
        panel = canvas.panel((40 + 290 * index, 50), (240, 240), window - 1, 1.5, shades=GREY)
        panel.title(f"{layers} layer{'s' * (layers > 1)}", f"from {window.min():.2f} to {window.max():.2f}, mean 1")
    return canvas


def cures() -> Canvas:
    """Draw an even map after a layer with a random filter of kernel 4 and stride 2, and after its cures."""
    kernel = random_filter()
    shown = (
        ("random weights, 4 taps per phase", of_even(kernel, 2)),
        ("sums of the phases made equal", of_even(evened(kernel, 2), 2)),
        ("repeat, then convolve 3 x 3", of_even(resize_convolution(kernel[:3, :3], 2), 2)),
    )
    canvas = Canvas(
        900,
        350,
        "An even map after a random filter with equal counts, a pattern; after the same with equal sums, "
        "even; after repeating and convolving, even",
    )
    for index, (words, result) in enumerate(shown):
        panel = canvas.panel((40 + 290 * index, 50), (240, 240), result[EDGE:-EDGE, EDGE:-EDGE] - 1, 0.3, shades=GREY)
        panel.title(words, f"at most {unevenness(result):.2f} from 1")
    return canvas
