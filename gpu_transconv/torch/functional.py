"""The functions that users call in place of those of ``torch.nn.functional``; `routes` says which way a call goes."""

from __future__ import annotations

from torch import Tensor

from ..problem.arguments import Activation, IntOrInts, Padding
from .routes import PUBLIC, call


def conv_transpose1d(
    input: Tensor,  # noqa: A002 # torch's name
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
    *,
    activation: Activation = None,
    data_format: str = "channels_first",
    precision: str | None = None,
    deterministic: bool | None = None,
    formulation: str = "auto",
    backend: str = "auto",
) -> Tensor:
    """Transposed convolution over one spatial axis, in place of ``torch.nn.functional.conv_transpose1d``.

    Parameters
    ----------
    input, weight, bias, stride, padding, output_padding, groups, dilation, activation, data_format
        As in `conv_transpose2d`.
    precision, deterministic, formulation, backend
        As in `conv_transpose2d`.

    Returns
    -------
    Tensor
        As `conv_transpose2d` gives it.

    Examples
    --------
    >>> import torch, gpu_transconv.torch as gtt
    >>> gtt.conv_transpose1d(torch.tensor([[[1., 10.]]]), torch.tensor([[[1., 2., 3.]]]), stride=2)
    tensor([[[ 1.,  2., 13., 20., 30.]]])
    """
    geometry = stride, padding, output_padding, groups, dilation, activation, data_format
    return call(1, input, weight, bias, geometry, (precision, deterministic, formulation, backend))


def conv_transpose2d(
    input: Tensor,  # noqa: A002 # torch's name
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
    *,
    activation: Activation = None,
    data_format: str = "channels_first",
    precision: str | None = None,
    deterministic: bool | None = None,
    formulation: str = "auto",
    backend: str = "auto",
) -> Tensor:
    """Transposed convolution over two spatial axes, in place of ``torch.nn.functional.conv_transpose2d``.

    It can be differentiated as often as one likes, in reverse and forward mode, and works under ``torch.compile``,
    ``torch.export``, the transforms of ``torch.func`` and autocast. Weights are brought into the kernels' order once
    per tensor, and again when its values have changed. Threads are as many as ``torch.get_num_threads()`` says.

    Parameters
    ----------
    input : Tensor, shape (N, Cin, *spatial) or (Cin, *spatial)
        On the CPU or a CUDA device; floating, complex or int64. A tensor in ``torch.channels_last`` memory format is
        computed so.
    weight : Tensor, shape (Cin, Cout // groups, *kernel)
        Filters, in input's dtype.
    bias : Tensor, shape (Cout,), optional
        Added to every output element.
    stride, dilation, output_padding, groups
        As torch has them.
    padding : int, sequence of int, sequence of (int, int), "valid" or "same"
        As torch has it, and what else `gpu_transconv.conv_transpose` takes.
    activation : str or ("leaky_relu", float), optional
        One of relu, leaky_relu, tanh, sigmoid, silu and gelu (tanh form), applied to the result: in the same kernel
        where no gradient is wanted.
    data_format : {"channels_first", "channels_last"}
        With the latter input and result are (N, *spatial, C).
    precision : {"highest", "tf32", "fast"}, optional
        Whether tensor cores may round float32 to TF32; None follows ``torch.backends.cudnn.allow_tf32``.
    deterministic : bool, optional
        Whether results must be the same to the last bit on every run; None follows
        ``torch.use_deterministic_algorithms``. All CPU kernels are.
    formulation, backend
        As in `gpu_transconv.conv_transpose`.

    Returns
    -------
    Tensor
        With channels last where torch's result would be: where input or weight is.

    Raises
    ------
    RuntimeError
        If shapes, dtypes or devices do not fit or are not supported.
    TypeError
        If an argument is not of the right type.
    ValueError
        If one of those that torch does not have is not one of its values.

    Examples
    --------
    >>> import torch, gpu_transconv.torch as gtt
    >>> x, weight = torch.ones(1, 8, 16, 16), torch.ones(8, 4, 2, 2, requires_grad=True)
    >>> y = gtt.conv_transpose2d(x, weight, stride=2)
    >>> y.shape
    torch.Size([1, 4, 32, 32])
    >>> y.sum().backward()
    >>> weight.grad[0, 0, 0]
    tensor([256., 256.])
    """
    geometry = stride, padding, output_padding, groups, dilation, activation, data_format
    return call(2, input, weight, bias, geometry, (precision, deterministic, formulation, backend))


def conv_transpose3d(
    input: Tensor,  # noqa: A002 # torch's name
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
    *,
    activation: Activation = None,
    data_format: str = "channels_first",
    precision: str | None = None,
    deterministic: bool | None = None,
    formulation: str = "auto",
    backend: str = "auto",
) -> Tensor:
    """Transposed convolution over three spatial axes, in place of ``torch.nn.functional.conv_transpose3d``.

    Parameters
    ----------
    input, weight, bias, stride, padding, output_padding, groups, dilation, activation, data_format
        As in `conv_transpose2d`.
    precision, deterministic, formulation, backend
        As in `conv_transpose2d`.

    Returns
    -------
    Tensor
        As `conv_transpose2d` gives it.

    Examples
    --------
    >>> import torch, gpu_transconv.torch as gtt
    >>> gtt.conv_transpose3d(torch.ones(1, 1, 2, 3, 4), torch.ones(1, 5, 2, 2, 2), stride=2).shape
    torch.Size([1, 5, 4, 6, 8])
    """
    geometry = stride, padding, output_padding, groups, dilation, activation, data_format
    return call(3, input, weight, bias, geometry, (precision, deterministic, formulation, backend))


PUBLIC.update({1: conv_transpose1d, 2: conv_transpose2d, 3: conv_transpose3d})
