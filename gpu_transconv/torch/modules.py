"""Modules: ``torch.nn``'s own in everything but `forward`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ..settings import AUTO
from .functional import conv_transpose1d, conv_transpose2d, conv_transpose3d
from .weights import weight_of


class ConvTransposeNd(torch.nn.modules.conv._ConvTransposeNd):
    """What the three have in common; nothing of it is kept in a module."""

    #: The backend that `accelerate` was given.
    backend: ClassVar[str] = AUTO
    #: The number of spatial axes, and the operator.
    _axes: ClassVar[int]
    _operator: ClassVar[Callable[..., Tensor]]

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:  # noqa: A002 (as torch.nn's)
        """Apply the operator: shapes, dtypes and errors are those of ``torch.nn``'s module.

        Parameters
        ----------
        input : Tensor, shape (N, Cin, *spatial) or (Cin, *spatial)
            Input, in the weights' dtype.
        output_size : sequence of int, optional
            Spatial sizes of the result, where several are possible.

        Returns
        -------
        Tensor
            The result, in the memory format that torch's would have.
        """
        output_padding: Sequence[int] = self.output_padding
        if output_size is not None:
            output_padding = self._output_padding(
                input, list(output_size), self.stride, self.padding, self.kernel_size,  # type: ignore[arg-type]
                self._axes, self.dilation,  # type: ignore[arg-type]
            )  # fmt: skip
        return type(self)._operator(
            input, weight_of(self), self.bias, self.stride, self.padding, output_padding, self.groups, self.dilation,
            backend=type(self).backend,
        )  # fmt: skip


class ConvTranspose1d(ConvTransposeNd, torch.nn.ConvTranspose1d):
    """``torch.nn.ConvTranspose1d`` on this package's kernels; constructor, parameters and ``state_dict`` are torch's.

    Examples
    --------
    >>> import torch, gpu_transconv as gtc
    >>> layer = gtc.torch.ConvTranspose1d(8, 4, 4, stride=2, padding=1)
    >>> layer(torch.ones(1, 8, 16)).shape
    torch.Size([1, 4, 32])
    >>> isinstance(layer, torch.nn.ConvTranspose1d)
    True
    """

    _axes = 1
    _operator = staticmethod(conv_transpose1d)


class ConvTranspose2d(ConvTransposeNd, torch.nn.ConvTranspose2d):
    """``torch.nn.ConvTranspose2d`` on this package's kernels; constructor, parameters and ``state_dict`` are torch's.

    Examples
    --------
    >>> import torch, gpu_transconv as gtc
    >>> layer = gtc.torch.ConvTranspose2d(8, 4, 2, stride=2)
    >>> layer(torch.ones(1, 8, 16, 16)).shape
    torch.Size([1, 4, 32, 32])
    >>> layer(torch.ones(1, 8, 16, 16), output_size=(33, 32)).shape
    torch.Size([1, 4, 33, 32])
    """

    _axes = 2
    _operator = staticmethod(conv_transpose2d)


class ConvTranspose3d(ConvTransposeNd, torch.nn.ConvTranspose3d):
    """``torch.nn.ConvTranspose3d`` on this package's kernels; constructor, parameters and ``state_dict`` are torch's.

    Examples
    --------
    >>> import torch, gpu_transconv as gtc
    >>> layer = gtc.torch.ConvTranspose3d(8, 4, 2, stride=2)
    >>> layer(torch.ones(1, 8, 4, 4, 4)).shape
    torch.Size([1, 4, 8, 8, 8])
    """

    _axes = 3
    _operator = staticmethod(conv_transpose3d)


#: Ours, by torch's own.
OURS: dict[type[torch.nn.Module], type[ConvTransposeNd]] = {
    torch.nn.ConvTranspose1d: ConvTranspose1d,
    torch.nn.ConvTranspose2d: ConvTranspose2d,
    torch.nn.ConvTranspose3d: ConvTranspose3d,
}
