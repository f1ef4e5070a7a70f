"""The public functions: validate, plan, select, launch."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .arrays import Array, library_of, read, view_of
from .dispatch.select import FEW_WEIGHTS, Choice, epoch, note, select
from .problem.arguments import Activation, IntOrInts, Padding, is_plain, make_params
from .problem.dtypes import DtypeOrName
from .problem.plan import ArraySpec, Plan, plan_call
from .problem.shapes import Shape, spatial_axes
from .ready import run_large, small_weights
from .settings import AUTO, HIGHEST, Settings, resolve

#: The geometry arguments, in the order in which `_run` takes them.
_GEOMETRY = (
    "stride", "padding", "output_padding", "output_size", "dilation", "groups", "data_format", "activation",
)  # fmt: skip


def _run(
    ndim: int, x: Array, weight: Array, bias: Array | None, out: Array | None, settings: Settings, *geometry: object
) -> Array:
    operands = read(x, weight, bias)
    _, _, x, weight, bias = operands
    bias_spec = (None, None) if bias is None else (bias.shape, bias.dtype)
    decide = _decide if is_plain(geometry) else _decide.__wrapped__
    plan, choice, is_small = decide(
        epoch(), ndim, operands.device, settings, x.shape, x.dtype, weight.shape, weight.dtype, *bias_spec, *geometry
    )
    if is_small:
        result = small_weights(plan, choice).ready(weight, bias).run(*operands, out)
    else:
        result = run_large(plan, choice, operands, out)
    note(choice, plan)
    return result


@lru_cache(maxsize=1024, typed=True)
def _decide(
    _epoch: int, ndim: int, device: str, settings: Settings, x: Shape, x_dtype: DtypeOrName, weight: Shape,
    weight_dtype: DtypeOrName, bias: Shape | None, bias_dtype: DtypeOrName, *geometry: object,
) -> tuple[Plan, Choice, bool]:  # fmt: skip
    """The plan of a call, what computes it, and whether its weights are so small that they are kept (`ready`)."""
    params = make_params(ndim, **dict(zip(_GEOMETRY, geometry, strict=True)))
    biases = None if bias is None else ArraySpec(bias, bias_dtype)
    plan = plan_call(params, ArraySpec(x, x_dtype), ArraySpec(weight, weight_dtype), biases, settings.precision)
    choice = select(plan, settings, device, packs=True)
    on_host = device == "cpu" and choice.implementation.memory is None
    return plan, choice, on_host and 0 < plan.weight_bytes <= FEW_WEIGHTS


def conv_transpose1d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
    *,
    output_size: IntOrInts | None = None,
    data_format: str = "channels_first",
    activation: Activation = None,
    precision: str = HIGHEST,
    deterministic: bool | None = None,
    formulation: str = AUTO,
    backend: str = AUTO,
    out: Array | None = None,
) -> Array:
    """Transposed convolution over one spatial axis.

    Same as `conv_transpose`, with the argument order of ``torch.nn.functional.conv_transpose1d``.

    Parameters
    ----------
    x : array, shape (N, Cin, length) or (Cin, length)
        Input.
    weight : array, shape (Cin, Cout // groups, kernel)
        Filters, in x's dtype.
    bias, stride, padding, output_padding, groups, dilation, output_size, data_format, activation
        As in `conv_transpose`.
    precision, deterministic, formulation, backend, out
        As in `conv_transpose`.

    Returns
    -------
    array
        The result, as `conv_transpose` gives it.

    Examples
    --------
    >>> import numpy as np, gpu_transconv as gtc
    >>> gtc.conv_transpose1d(np.array([[[1., 10.]]]), np.array([[[1., 2., 3.]]]), stride=2)
    array([[[ 1.,  2., 13., 20., 30.]]])
    """
    return _run(
        1, x, weight, bias, out, resolve(backend, formulation, deterministic, precision),
        stride, padding, output_padding, output_size, dilation, groups, data_format, activation,
    )  # fmt: skip


def conv_transpose2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
    *,
    output_size: IntOrInts | None = None,
    data_format: str = "channels_first",
    activation: Activation = None,
    precision: str = HIGHEST,
    deterministic: bool | None = None,
    formulation: str = AUTO,
    backend: str = AUTO,
    out: Array | None = None,
) -> Array:
    """Transposed convolution over two spatial axes.

    Same as `conv_transpose`, with the argument order of ``torch.nn.functional.conv_transpose2d``.

    Parameters
    ----------
    x : array, shape (N, Cin, rows, columns) or (Cin, rows, columns)
        Input.
    weight : array, shape (Cin, Cout // groups, kernel rows, kernel columns)
        Filters, in x's dtype.
    bias, stride, padding, output_padding, groups, dilation, output_size, data_format, activation
        As in `conv_transpose`.
    precision, deterministic, formulation, backend, out
        As in `conv_transpose`.

    Returns
    -------
    array
        The result, as `conv_transpose` gives it.

    Examples
    --------
    >>> import numpy as np, gpu_transconv as gtc
    >>> gtc.conv_transpose2d(np.array([[[[1., 2.]]]]), np.ones((1, 1, 2, 2)), stride=2)
    array([[[[1., 1., 2., 2.],
             [1., 1., 2., 2.]]]])
    """
    return _run(
        2, x, weight, bias, out, resolve(backend, formulation, deterministic, precision),
        stride, padding, output_padding, output_size, dilation, groups, data_format, activation,
    )  # fmt: skip


def conv_transpose3d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
    *,
    output_size: IntOrInts | None = None,
    data_format: str = "channels_first",
    activation: Activation = None,
    precision: str = HIGHEST,
    deterministic: bool | None = None,
    formulation: str = AUTO,
    backend: str = AUTO,
    out: Array | None = None,
) -> Array:
    """Transposed convolution over three spatial axes.

    Same as `conv_transpose`, with the argument order of ``torch.nn.functional.conv_transpose3d``.

    Parameters
    ----------
    x : array, shape (N, Cin, depth, rows, columns) or (Cin, depth, rows, columns)
        Input.
    weight : array, shape (Cin, Cout // groups, kernel depth, kernel rows, kernel columns)
        Filters, in x's dtype.
    bias, stride, padding, output_padding, groups, dilation, output_size, data_format, activation
        As in `conv_transpose`.
    precision, deterministic, formulation, backend, out
        As in `conv_transpose`.

    Returns
    -------
    array
        The result, as `conv_transpose` gives it.

    Examples
    --------
    >>> import numpy as np, gpu_transconv as gtc
    >>> gtc.conv_transpose3d(np.ones((1, 1, 2, 3, 4)), np.ones((1, 5, 2, 2, 2)), stride=2).shape
    (1, 5, 4, 6, 8)
    """
    return _run(
        3, x, weight, bias, out, resolve(backend, formulation, deterministic, precision),
        stride, padding, output_padding, output_size, dilation, groups, data_format, activation,
    )  # fmt: skip


def conv_transpose(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
    output_size: IntOrInts | None = None,
    data_format: str = "channels_first",
    activation: Activation = None,
    precision: str = HIGHEST,
    deterministic: bool | None = None,
    formulation: str = AUTO,
    backend: str = AUTO,
    out: Array | None = None,
) -> Array:
    """Transposed convolution over 1, 2 or 3 spatial axes: the adjoint of a strided cross-correlation.

    Every input element multiplies the filter and adds it into the output at ``i*stride - padding``::

        y[n, co, o] = bias[co] + sum of x[n, ci, i] * weight[ci, co', k]
                      over ci and all i, k with o = i*stride - low + k*dilation
        out = (in - 1)*stride - low - high + dilation*(kernel - 1) + 1 + output_padding          (per axis)

    where ``co'`` counts inside the group.

    Parameters
    ----------
    x : array, shape (N, Cin, *spatial) or (Cin, *spatial)
        Input, of NumPy, PyTorch, JAX, CuPy, Numba or any library with DLPack or one of the array interfaces; with
        ``data_format="channels_last"`` the channels are the last axis. Any strides. One of the dtypes float16,
        bfloat16 (of ml_dtypes), float32, float64, complex64, complex128, int32, int64.
        ``docs/guide/arrays.md`` lists the kinds of arrays that are taken, and those that are refused, such as
        masked ones.
    weight : array, shape (Cin, Cout // groups, *kernel)
        Filters, in x's dtype. The number of spatial axes is ``weight.ndim - 2``. The weight of an ordinary
        convolution, (Cout, Cin, *kernel), needs its first two axes swapped; where Cin equals Cout, no error can tell.
    bias : array, shape (Cout,), optional
        Added to every output element, in x's dtype.
    stride, dilation : int or sequence of int
        At least 1; one for all axes (also as a sequence of one, like PyTorch's ``(2,)``) or one per axis.
    padding : int, sequence of int, sequence of (int, int), "valid" or "same"
        Elements cut from the ends of each axis of the result: both ends alike, or (low, high). ``"valid"``
        cuts none; ``"same"`` gives ``out = in*stride``, an odd surplus cut at the high end.
    output_padding : int or sequence of int
        Elements added at the high end, smaller than the larger of stride and dilation. Not with ``padding="same"``,
        which fixes the output's size: ONNX (``SAME_UPPER``) and Keras give the pair different meanings.
    groups : int
        Number of channel groups; divides Cin.
    output_size : int or sequence of int, optional
        Spatial output sizes, instead of `output_padding`: one for all axes, one per axis, or the result's whole shape
        with batch and channels in the order of `data_format`, which are then checked (``output_size=skip.shape``).
    data_format : {"channels_first", "channels_last"}
        Layout of x and of the result.
    activation : str or ("leaky_relu", float), optional
        One of relu, leaky_relu (slope 0.01), tanh, sigmoid, silu, gelu (tanh form), applied to the sum.
        Integers take relu; complex numbers tanh, sigmoid and silu.
    precision : {"highest", "tf32", "fast"}
        Whether tensor cores may round float32 operands to TF32. float16 and bfloat16 always accumulate in
        float32 and round once.
    deterministic : bool, optional
        True asks for bitwise repeatable results. All CPU kernels are, for any number of threads.
    formulation : {"auto", "gather", "scatter"}
        Whether each output collects its contributions, or each input stamps its filter into the output.
    backend : {"auto", "cpu", "numba-cuda", "cupy", "reference"}
        Where to run; a backend asked for by name runs or raises.
    out : array, optional
        Array of x's kind and of the result's shape and dtype to fill; it may overlap the inputs.

    Returns
    -------
    array
        The result, of x's own kind and on its device, without a batch axis where x has none; `out` where it is given.

    Raises
    ------
    ValueError
        If a shape or a geometry argument is invalid.
    TypeError
        If dtypes or devices differ or are not supported, or an argument is no array or a tensor that requires a
        gradient.
    BackendUnavailableError
        If the backend asked for cannot run here.
    MemoryError
        If the result is larger than the machine's memory; the message has its size in bytes.

    References
    ----------
    V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285 (2016),
    section 4.

    Examples
    --------
    One activation stamps the filter; two stamps overlap and add.

    >>> import numpy as np, gpu_transconv as gtc
    >>> stamp = np.array([[[1., 2., 3., 4.]]])
    >>> gtc.conv_transpose(np.array([[[0., 1., 0.]]]), stamp, stride=2)
    array([[[0., 0., 1., 2., 3., 4., 0., 0.]]])
    >>> gtc.conv_transpose(np.array([[[1., 1., 0.]]]), stamp, stride=2)
    array([[[1., 2., 4., 6., 3., 4., 0., 0.]]])
    """
    ndim = infer_ndim(weight)
    return _run(
        ndim, x, weight, bias, out, resolve(backend, formulation, deterministic, precision),
        stride, padding, output_padding, output_size, dilation, groups, data_format, activation,
    )  # fmt: skip


def infer_ndim(weight: Array) -> int:
    """Count the spatial axes of `weight`, which must be 1, 2 or 3."""
    return spatial_axes(weight.shape if type(weight) is np.ndarray else _shape_of(weight))


def _shape_of(weight: Array) -> tuple[int, ...]:
    library_of("weight", weight)  # not all that have a shape are arrays
    try:
        shape = weight.shape
    except (AttributeError, RuntimeError):  # some have interfaces only; a tensor may have no shape yet
        shape = None
    found: tuple[int, ...] = shape if isinstance(shape, tuple) else view_of("weight", weight)[1].shape
    return found
