"""ONNX's ConvTranspose for its reference evaluator, which then runs any model with the kernels of this package.

>>> import gpu_transconv as gtc
>>> from onnx.reference import ReferenceEvaluator  # doctest: +SKIP
>>> session = ReferenceEvaluator("decoder.onnx", new_ops=[gtc.onnx.ConvTranspose])  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .api import conv_transpose
from .arrays import HostArray
from .problem.arguments import Ints
from .problem.axis import output_range

try:
    from onnx.reference.op_run import OpRun
except ImportError as error:
    raise ImportError(
        f"gpu_transconv.onnx needs the package onnx, the extra onnx ({error}); pip install onnx (or, in a checkout, "
        'pip install ".[onnx]")'
    ) from error

__all__ = ["ConvTranspose"]

_AUTO_PAD = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


class ConvTranspose(OpRun):
    """Operator ConvTranspose of the ONNX domain, of opsets 1, 11 and 22, with one to three spatial axes.

    To be given to `onnx.reference.ReferenceEvaluator` in `new_ops`. All attributes are taken: auto_pad, dilations,
    group, kernel_shape, output_padding, output_shape, pads, strides. An output that is longer than all stamps reach, by
    `output_shape` or because auto_pad asks for ``in*stride`` and the kernel is shorter than the stride, holds the bias
    at its end. (onnxruntime 1.32 leaves that end out where auto_pad asks for it, against the specification.)

    Raises
    ------
    ValueError, TypeError
        If an attribute does not fit the arrays, as `gpu_transconv.conv_transpose` does, and for negative padding.

    Examples
    --------
    >>> import numpy as np, onnx, gpu_transconv as gtc
    >>> from onnx.reference import ReferenceEvaluator
    >>> node = onnx.helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2], auto_pad="SAME_UPPER")
    >>> session = ReferenceEvaluator(node, new_ops=[gtc.onnx.ConvTranspose])
    >>> session.run(None, {"x": np.ones((1, 1, 3)), "w": np.ones((1, 1, 2))})[0]
    array([[[1., 1., 1., 1., 1., 1.]]])
    """

    op_domain = ""

    def _run(
        self, x: HostArray, weight: HostArray, bias: HostArray | None = None, **attributes: Any
    ) -> tuple[HostArray]:
        """Run the node."""
        return (_conv_transpose(x, weight, bias, _Attributes(**attributes)),)


class _Attributes(NamedTuple):
    """Those of a node; None where one is not given."""

    auto_pad: str | None = None
    dilations: Sequence[int] | None = None
    group: int | None = None
    kernel_shape: Sequence[int] | None = None
    output_padding: Sequence[int] | None = None
    output_shape: Sequence[int] | None = None
    pads: Sequence[int] | None = None
    strides: Sequence[int] | None = None


def _conv_transpose(x: HostArray, weight: HostArray, bias: HostArray | None, given: _Attributes) -> HostArray:
    kernel, ndim = weight.shape[2:], weight.ndim - 2
    if x.ndim != weight.ndim:
        raise ValueError(f"X must have as many axes as W, with a batch, got shapes {x.shape} and {weight.shape}")
    if given.kernel_shape is not None and tuple(given.kernel_shape) != kernel:
        raise ValueError(f"kernel_shape must be that of W, {kernel}, got {tuple(given.kernel_shape)}")
    strides, dilations = _per_axis("strides", given.strides, ndim, 1), _per_axis("dilations", given.dilations, ndim, 1)
    extra = _per_axis("output_padding", given.output_padding, ndim, 0)
    whole = [
        output_range(n, k, s, 0, d)[0] + more
        for n, k, s, d, more in zip(x.shape[2:], kernel, strides, dilations, extra, strict=True)
    ]
    pads, missing = _pads(given, whole, [n * s for n, s in zip(x.shape[2:], strides, strict=True)])
    result: HostArray = conv_transpose(
        x, weight, bias, stride=strides, padding=pads, output_padding=extra, dilation=dilations,
        groups=1 if given.group is None else given.group,
    )  # fmt: skip
    return _filled(result, bias, missing) if any(missing) else result


def _per_axis(name: str, value: Sequence[int] | None, ndim: int, default: int) -> Ints:
    """An attribute that has one number for each spatial axis."""
    found = (default,) * ndim if value is None else tuple(value)
    if len(found) != ndim:
        raise ValueError(f"{name} must have one number for each of the {ndim} spatial axes, got {list(found)}")
    return found


def _pads(given: _Attributes, whole: list[int], same: list[int]) -> tuple[list[tuple[int, int]], list[int]]:
    """Per axis what is cut from (begin, end) of the `whole` sizes, and what is missing at the end after that.

    An `output_shape` decides before `pads` does; `same` are the sizes that auto_pad asks for.
    """
    ndim, auto_pad = len(whole), given.auto_pad or "NOTSET"
    if auto_pad not in _AUTO_PAD:
        raise ValueError(f"auto_pad must be one of {', '.join(_AUTO_PAD)}, got {auto_pad!r}")
    wanted = None if given.output_shape is None else list(given.output_shape)
    if wanted is not None and len(wanted) not in (ndim, ndim + 2):
        raise ValueError(f"output_shape must have one size for each of the {ndim} spatial axes, got {wanted}")
    if wanted is None and auto_pad in ("NOTSET", "VALID"):
        pads = [0] * 2 * ndim if given.pads is None or auto_pad == "VALID" else list(given.pads)
        if len(pads) != 2 * ndim:
            raise ValueError(f"pads must have two numbers for each of the {ndim} spatial axes, got {pads}")
        return list(zip(pads[:ndim], pads[ndim:], strict=True)), [0] * ndim
    sizes = same if wanted is None else wanted[-ndim:]
    surplus = [full - size for full, size in zip(whole, sizes, strict=True)]
    halves = [(max(total, 0) // 2, max(total, 0) - max(total, 0) // 2) for total in surplus]
    pairs = halves if auto_pad == "SAME_UPPER" else [(high, low) for low, high in halves]
    return pairs, [max(-total, 0) for total in surplus]


def _filled(result: HostArray, bias: HostArray | None, missing: list[int]) -> HostArray:
    """Lengthen every axis at its end, by elements that no stamp reaches: they hold the bias."""
    sizes = [size + more for size, more in zip(result.shape[2:], missing, strict=True)]
    longer = np.zeros((*result.shape[:2], *sizes), result.dtype)
    if bias is not None:
        longer += bias.reshape(-1, *[1] * len(sizes))
    longer[tuple(map(slice, result.shape))] = result
    return longer
