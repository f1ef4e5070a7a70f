"""Modules: ``torch.nn``'s own in everything but `forward`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..settings import AUTO
from .routes import call
from .weights import weight_of


class ConvTransposeNd(torch.nn.modules.conv._ConvTransposeNd):
    """What the three have in common; nothing of it is kept in a module."""

    #: The backend that `accelerate` was given.
    backend: ClassVar[str] = AUTO
    #: The number of spatial axes.
    _axes: ClassVar[int]

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
        bias: Any = self._parameters.get("bias", self)  # torch.nn.Module's own look-up takes longer
        if bias is self:  # it is parametrized
            bias = self.bias
        geometry = self.stride, self.padding, output_padding, self.groups, self.dilation, None, "channels_first"
        return call(self._axes, input, weight_of(self), bias, geometry, (None, None, AUTO, self.backend))


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


#: Ours, by torch's own.
OURS: dict[type[torch.nn.Module], type[ConvTransposeNd]] = {
    torch.nn.ConvTranspose1d: ConvTranspose1d,
    torch.nn.ConvTranspose2d: ConvTranspose2d,
    torch.nn.ConvTranspose3d: ConvTranspose3d,
}
