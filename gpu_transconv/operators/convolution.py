"""Which convolution a transposed convolution is: one of stride 1, of a stuffed input, with a turned weight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..api import infer_ndim
from ..arrays import Array, HostArray
from ..arrays.library import plain
from ..arrays.outputs import check_memory
from ..arrays.views import as_contiguous
from ..problem.arguments import IntOrInts, Padding, Params, make_params
from ..problem.axis import Axis
from ..problem.dtypes import DTYPES
from ..problem.plan import ArraySpec, Plan, plan_call
from ..problem.shapes import check_shapes
from .detector import check_weight, correlate, meet


def as_convolution(
    weight: Array,
    *,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    output_padding: IntOrInts = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
) -> Convolution:
    """Tell which convolution a transposed convolution is: of a stuffed input, with a turned weight, stride 1.

    That shows what it is, not how to run it: along an axis, all but one in stride of its products are with a
    stuffed zero. `gpu_transconv.conv_transpose` makes none of those.

    Parameters
    ----------
    weight : ndarray, shape (Cin, Cout // groups, *kernel)
        Filters of the transposed convolution, in any dtype that it takes.
    stride, padding, output_padding, dilation, groups
        As in `gpu_transconv.conv_transpose`.

    Returns
    -------
    Convolution
        Stuffs and convolves; its `weight` is the turned one.

    Raises
    ------
    ValueError
        If a shape or a geometry argument is invalid.
    TypeError
        If `weight` is no NumPy array of a supported dtype.

    References
    ----------
    V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep learning",
    arXiv:1603.07285 (2016), section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from gpu_transconv.operators import as_convolution
    >>> x, c = np.array([[1, 10, 100]]), as_convolution(np.array([[[1, 2, 3]]]), stride=2, padding=1)
    >>> c.weight, c.stuff(x)
    (array([[[3, 2, 1]]]), array([[  0,   1,   0,  10,   0, 100,   0]]))
    >>> c.apply(x)
    array([[  2,  13,  20, 130, 200]])
    """
    weight = check_weight(weight, tuple(DTYPES))
    ndim = infer_ndim(weight)
    params = make_params(
        ndim, stride=stride, padding=padding, output_padding=output_padding, dilation=dilation, groups=groups
    )
    check_shapes(params, (weight.shape[0], *[1] * ndim), weight.shape, None)
    grouped = as_contiguous(weight).reshape(params.groups, -1, *weight.shape[1:])
    turned = np.flip(grouped.swapaxes(1, 2), tuple(range(3, 3 + ndim)))
    return Convolution(turned.reshape(-1, *turned.shape[2:]).copy(), params)


@dataclass(frozen=True, eq=False)
class Convolution:
    """A transposed convolution as a plain one, made by `as_convolution`.

    Attributes
    ----------
    weight : ndarray, shape (Cout, Cin // groups, *kernel)
        The filters, channels swapped inside each group and taps in reverse order.
    params : Params
        The arguments of the transposed convolution.
    """

    weight: HostArray
    params: Params

    def stuff(self, x: Array) -> HostArray:
        """Put ``stride - 1`` zeros between the elements of `x`, then the padding around it.

        Parameters
        ----------
        x : ndarray, shape (N, Cin, *spatial) or (Cin, *spatial)
            Input of the transposed convolution, in the weight's dtype; else `TypeError`, or `ValueError`.

        Returns
        -------
        ndarray, shape (N, Cin, *stuffed) or (Cin, *stuffed)
            Padded by ``dilation*(kernel - 1) - padding`` zeros at both ends of each axis, plus output_padding
            at the high end. Where that is negative, elements are cut off.

        Examples
        --------
        >>> as_convolution(np.array([[[1, 2, 3]]]), stride=2, padding=3).stuff(np.array([[7, 8, 9]]))
        array([[0, 8, 0]])
        """
        plan = self._plan(x)
        x, axes = plain("x", x), [_stuffing(axis) for axis in plan.axes[3 - plan.ndim :]]
        sources, places = zip(*[meet(axis, 0) for axis in axes], strict=True)
        shape = (*x.shape[: -plan.ndim], *[axis.output_size for axis in axes])
        check_memory("stuffed input", shape, plan.dtype)
        stuffed = np.zeros(shape, x.dtype)
        stuffed[(..., *places)] = x[(..., *sources)]
        return stuffed

    def apply(self, x: Array) -> HostArray:
        """Correlate the stuffed input with the turned weight, which is the transposed convolution of `x`.

        Parameters
        ----------
        x : ndarray, shape (N, Cin, *spatial) or (Cin, *spatial)
            As for `stuff`.

        Returns
        -------
        ndarray, shape (N, Cout, *out) or (Cout, *out)
            `gpu_transconv.conv_transpose` of `x`, up to rounding; infinite weights make stuffed zeros NaN.

        Examples
        --------
        >>> as_convolution(np.array([[[1, 2, 3]]]), stride=2, padding=3).apply(np.array([[7, 8, 9]]))
        array([[16]])
        """
        plan, stuffed = self._plan(x), self.stuff(x)
        spatial = stuffed.shape[-plan.ndim :]
        pairs = zip(plan.axes[3 - plan.ndim :], spatial, strict=True)
        sliding = [Axis(axis.output_size, axis.kernel, 1, axis.dilation, 0, size) for axis, size in pairs]
        batch = stuffed.reshape(plan.batch, plan.in_channels, *spatial).astype(plan.accumulate)
        result = correlate(batch, self.weight.astype(plan.accumulate), plan.groups, sliding)
        return result.astype(x.dtype).reshape(plan.output_shape)

    def _plan(self, x: Array) -> Plan:
        """Plan of the transposed convolution of `x`, once that is checked."""
        dtype, groups = self.weight.dtype.name, self.params.groups
        if not isinstance(x, np.ndarray) or x.dtype.newbyteorder("=").name != dtype:
            given = getattr(x, "dtype", type(x).__name__)
            raise TypeError(f"x must be a NumPy array of the weight's dtype {dtype}, got {given}")
        cout, cin, *kernel = self.weight.shape
        weight = (cin * groups, cout // groups, *kernel)
        plan = plan_call(self.params, ArraySpec(x.shape, dtype), ArraySpec(weight, dtype))
        check_memory("output", plan.output_shape, dtype)
        return plan


def _stuffing(axis: Axis) -> Axis:
    """Stuffing as a transposed convolution with the one tap 1, as long as a stride-1 correlation needs it."""
    more = axis.stamp_size - 1
    return Axis(axis.size, 1, axis.stride, 1, axis.pad_low - more, axis.output_size + more)
