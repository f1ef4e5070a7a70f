"""The two gradients of the operator, as functions of arrays: what a framework's backward pass calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from .api import infer_ndim
from .arrays import Array, Operands, check_device, view_of
from .dispatch.select import Choice, epoch, note, select
from .problem.arguments import IntOrInts, Ints, Padding, Params, as_ints, make_params
from .problem.dtypes import DtypeOrName
from .problem.gradients import plan_input_grad, plan_weight_grad
from .problem.plan import ArraySpec, Plan
from .run import launch
from .settings import AUTO, HIGHEST, Settings, resolve


def conv_transpose_input_grad(
    grad_output: Array,
    weight: Array,
    *,
    input_size: IntOrInts | None = None,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
    data_format: str = "channels_first",
    precision: str = HIGHEST,
    deterministic: bool | None = None,
    formulation: str = AUTO,
    backend: str = AUTO,
    out: Array | None = None,
) -> Array:
    """Gradient of `conv_transpose` by x: the strided cross-correlation, a detector, of which it is the adjoint.

    ::

        dx[n, ci, i] = sum of grad_output[n, co, o] * weight[ci, co', k]    over co and all o, k with
                                                                          o = i*stride - low + k*dilation

    Complex arrays are not conjugated: this is the plain transpose.

    Parameters
    ----------
    grad_output : array, shape (N, Cout, *spatial) or (Cout, *spatial)
        Gradient by the result, floating or complex; channels are last with ``data_format="channels_last"``.
    weight : array, shape (Cin, Cout // groups, *kernel)
        Filters, in grad_output's dtype.
    input_size : int or sequence of int, optional
        Spatial sizes of x. May be left out where only one x has a result of this size: with a stride at least as long
        as the dilation.
    stride, padding, dilation, groups, data_format
        As in `conv_transpose`. No output_padding: it follows from the sizes.
    precision, deterministic, formulation, backend
        As in `conv_transpose`. Gather collects the terms of each element of the gradient, scatter adds those of each
        element of grad_output to where they belong.
    out : array, optional
        Array of grad_output's kind and of the result's shape and dtype to fill.

    Returns
    -------
    array, of the shape of x
        Of grad_output's own kind and on its device; `out` where it is given.

    Raises
    ------
    ValueError
        If a shape or argument is invalid, if no x has a result of this size, or several have and none is named.
    TypeError, BackendUnavailableError, MemoryError
        As in `conv_transpose`.

    References
    ----------
    V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285 (2016),
    section 4.1: the transposed convolution is the gradient of a convolution by its input, so its own gradient is that
    convolution.

    Examples
    --------
    >>> import numpy as np, gpu_transconv as gtc
    >>> gtc.conv_transpose_input_grad(np.array([[[1., 10., 100., 1000.]]]), np.array([[[1., 2.]]]), stride=2)
    array([[[  21., 2100.]]])
    """
    settings = resolve(backend, formulation, deterministic, precision)
    ndim = infer_ndim(weight)
    params = make_params(
        ndim, stride=stride, padding=padding, dilation=dilation, groups=groups, data_format=data_format
    )
    sizes = None if input_size is None else as_ints("input_size", input_size, ndim, least=1)
    return _run(plan_input_grad, ("grad_output", grad_output), ("weight", weight), params, sizes, settings, out)


def conv_transpose_weight_grad(
    x: Array,
    grad_output: Array,
    *,
    kernel_size: IntOrInts,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
    data_format: str = "channels_first",
    precision: str = HIGHEST,
    deterministic: bool | None = None,
    formulation: str = AUTO,
    backend: str = AUTO,
    out: Array | None = None,
) -> Array:
    """Gradient of `conv_transpose` by the weight: per tap a correlation of x with grad_output, summed over all pixels.

    ::

        dw[ci, co', k] = sum of x[n, ci, i] * grad_output[n, co, o]    over n and all i, o with
                                                                     o = i*stride - low + k*dilation

    Complex arrays are not conjugated: this is the plain transpose.

    Parameters
    ----------
    x : array, shape (N, Cin, *spatial) or (Cin, *spatial)
        Input; the channels are the last axis with ``data_format="channels_last"``. Floating or complex.
    grad_output : array, shape (N, Cout, *spatial) or (Cout, *spatial)
        Gradient by the result, in x's dtype.
    kernel_size : int or sequence of int
        Sizes of the filters; an int is meant for all spatial axes, of which x has ``x.ndim - 2`` with a batch. Without
        a batch give a sequence.
    stride, padding, dilation, groups, data_format
        As in `conv_transpose`. No output_padding: it follows from the sizes.
    precision, deterministic, formulation, backend
        As in `conv_transpose`. Gather sums up each element of the gradient, scatter adds the share of each block of
        pixels.
    out : array, optional
        Array of x's kind and of the result's shape and dtype to fill.

    Returns
    -------
    array, shape (Cin, Cout // groups, *kernel)
        Of x's own kind and on its device; `out` where it is given.

    Raises
    ------
    ValueError
        If a shape or argument is invalid, or x and filters of this size have no result of the shape of grad_output.
    TypeError, BackendUnavailableError, MemoryError
        As in `conv_transpose`.

    References
    ----------
    V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285 (2016),
    section 4: the relation of input, filter and output that is summed over here.

    Examples
    --------
    >>> import numpy as np, gpu_transconv as gtc
    >>> x, grad = np.array([[[1., 2.]]]), np.array([[[1., 10., 100., 1000.]]])
    >>> gtc.conv_transpose_weight_grad(x, grad, kernel_size=2, stride=2)
    array([[[ 201., 2010.]]])
    """
    settings = resolve(backend, formulation, deterministic, precision)
    ndim = _count_axes(x, kernel_size)
    params = make_params(
        ndim, stride=stride, padding=padding, dilation=dilation, groups=groups, data_format=data_format
    )
    sizes = as_ints("kernel_size", kernel_size, ndim, least=1)
    return _run(plan_weight_grad, ("x", x), ("grad_output", grad_output), params, sizes, settings, out)


def _count_axes(x: Array, kernel_size: IntOrInts) -> int:
    """Count the spatial axes: as many as sizes of the filters, or where one stands for all, those of x with a batch."""
    try:
        count = len(kernel_size)  # type: ignore[arg-type]
    except TypeError:
        count = 1
    if count == 1:  # a sequence of one stands for all axes, as a number does
        count = max(1, len(view_of("x", x)[1].shape) - 2)
    if not 1 <= count <= 3:
        raise ValueError(
            f"kernel_size must have 1, 2 or 3 sizes, or be an int for an x with a batch, got {kernel_size!r}"
        )
    return count


def _run(
    planner: Callable[..., Plan], first: tuple[str, Array], second: tuple[str, Array], params: Params,
    sizes: Ints | None, settings: Settings, out: Array | None,
) -> Array:  # fmt: skip
    """Compute a gradient from its two arrays, given with their names."""
    library, view = view_of(*first)
    _, other = view_of(*second)
    check_device(second[0], other, first[0], view)
    operands = Operands(library, first[1], view, other, None)
    plan, choice = _decide(
        epoch(), planner, params, view.shape, view.dtype, other.shape, other.dtype, sizes, settings, operands.device
    )
    result = launch(choice.implementation, plan, operands, out)
    note(choice, plan)
    return result


@lru_cache(maxsize=1024, typed=True)
def _decide(
    _epoch: int, planner: Callable[..., Plan], params: Params, first: Ints, first_dtype: DtypeOrName, second: Ints,
    second_dtype: DtypeOrName, sizes: Ints | None, settings: Settings, device: str,
) -> tuple[Plan, Choice]:  # fmt: skip
    specs = ArraySpec(first, first_dtype), ArraySpec(second, second_dtype)
    plan = planner(params, *specs, sizes, settings.precision)
    return plan, select(plan, settings, device, packs=True)
