"""A module whose input comes in chunks, on the weights of a layer that a model has."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from .. import streaming
from ..dynamo import stay_out
from ..errors import BackendUnavailableError
from ..kernels.cpu.runtime.threads import follow_threads
from ..problem.arguments import Activation, Padding
from ..settings import AUTO
from .classes import backend_of, refusal
from .modules import ConvTransposeNd
from .packed import Contents, contents_of, same_contents
from .threads import OPENMP
from .views import array_of, tensor_of
from .weights import weight_of

#: Hooks that put a layer's weight together before its `forward`, which a stream does not call.
_HOOKS = (BasePruningMethod, SpectralNorm, WeightNorm)


class StreamingConvTranspose(torch.nn.Module):
    """A transposed convolution of a model whose input comes in chunks along one axis, for inference.

    Each chunk gives the outputs that no later one can change; `finish` gives the rest. Put together they are the
    layer's result for all chunks, and to the bit the same however the input is cut
    (`gpu_transconv.StreamingConvTranspose`). The weights are the layer's own: a stream takes them as they are at its
    first chunk, packs them once, and again where they have changed when the next stream begins.

    Parameters
    ----------
    layer : torch.nn.ConvTranspose1d, torch.nn.ConvTranspose2d or torch.nn.ConvTranspose3d
        On the CPU, torch's or this package's, also under ``weight_norm`` and other parametrizations. It stays usable
        by itself, and is the submodule ``layer`` here.
    padding : int, sequence of int, or sequence of (int, int), optional
        In place of the layer's: ``[(0, 8)]`` where a model crops the last 8 outputs right after the layer.
    activation : str or ("leaky_relu", float), optional
        Applied to the result, as in `gpu_transconv.conv_transpose`.
    axis : int
        Which of the spatial axes the chunks follow each other along.
    backend, formulation : str
        As in `gpu_transconv.conv_transpose`. Threads are as many as ``torch.get_num_threads()`` says.

    Raises
    ------
    TypeError
        If `layer` is no such module or has a ``forward`` of its own; at a call if a gradient would be recorded.
    ValueError, BackendUnavailableError
        As `gpu_transconv.StreamingConvTranspose` does.

    Examples
    --------
    >>> import torch, gpu_transconv as gtc
    >>> layer = torch.nn.ConvTranspose1d(64, 32, 16, stride=8)
    >>> stream = gtc.torch.StreamingConvTranspose(layer, padding=[(0, 8)])
    >>> with torch.inference_mode():
    ...     parts = [stream(torch.ones(1, 64, 1)), stream(torch.ones(1, 64, 9)), stream.finish()]
    >>> [part.shape[2] for part in parts], stream.delay
    ([8, 72, 0], 0)
    """

    def __init__(
        self,
        layer: torch.nn.Module,
        *,
        padding: Padding | None = None,
        activation: Activation = None,
        axis: int = -1,
        backend: str = AUTO,
        formulation: str = AUTO,
    ) -> None:
        super().__init__()
        ours = getattr(type(layer), "forward", None) is ConvTransposeNd.forward
        reason = "" if ours else refusal(layer)
        if reason:
            raise TypeError(f"layer must be a transposed convolution of torch.nn, got {type(layer).__name__}: {reason}")
        self.layer: Any = layer
        self._keywords: dict[str, Any] = {
            "stride": layer.stride, "padding": layer.padding if padding is None else padding,
            "output_padding": layer.output_padding, "dilation": layer.dilation, "groups": layer.groups,
            "activation": activation, "axis": axis, "formulation": formulation,
            "backend": backend_of(layer) if ours and backend is AUTO else backend,
        }  # fmt: skip
        self._made_of: tuple[Contents | None, Contents | None] = None, None
        self._take_weights()

    def _take_weights(self) -> None:
        """Make the stream anew if the layer's weights are others than those that it was made of."""
        with torch.no_grad():
            for hook in self.layer._forward_pre_hooks.values():
                if isinstance(hook, _HOOKS):
                    hook(self.layer, ())
            weight, bias = weight_of(self.layer), self.layer.bias
            if weight.device.type != "cpu":
                raise BackendUnavailableError(f"layer must have its weights on the CPU, got {weight.device}")
            known, known_bias = self._made_of
            if same_contents(known, weight) and (bias is None or same_contents(known_bias, bias)):
                return
            self._stream = streaming.StreamingConvTranspose(weight, bias, **self._keywords)
            self._made_of = contents_of(weight), None if bias is None else contents_of(bias)
        self._dtype: torch.dtype | None = None  # of the chunks, once there is one

    def __getstate__(self) -> dict[str, object]:
        """Return all but where the weights were: a copy has others."""
        return {**self.__dict__, "_made_of": (None, None)}

    def forward(self, x: Tensor) -> Tensor:
        """Take the next chunk of the input, and return the outputs that no later one can change.

        Parameters
        ----------
        x : Tensor, shape (N, Cin, *spatial) or (Cin, *spatial)
            Input of any length along the stream's axis, 0 included, and of the first chunk's sizes along all others;
            in the weights' dtype.

        Returns
        -------
        Tensor
            Outputs; perhaps of length 0.
        """
        if not isinstance(x, Tensor):
            raise TypeError(f"x must be a torch.Tensor, got {type(x).__name__}")
        if torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in self.layer.parameters())):
            raise TypeError("x and the layer's weights must need no gradient: a stream records none; call it under "
                            "torch.inference_mode() or torch.no_grad()")  # fmt: skip
        if self._dtype is None:
            self._take_weights()
        follow_threads(torch.get_num_threads(), OPENMP)
        result = self._stream(array_of(x, "x") if x.is_cpu else x)
        self._dtype = x.dtype
        return tensor_of(result, x.dtype)

    def finish(self) -> Tensor:
        """Return the outputs that are left, now that no input follows; the next chunk starts a new stream.

        Returns
        -------
        Tensor
            As many samples along the axis as `delay` says.

        Raises
        ------
        ValueError
            If there was no chunk, so that no shape is known.
        """
        follow_threads(torch.get_num_threads(), OPENMP)
        result, dtype = self._stream.finish(), self._dtype
        self._dtype = None
        assert dtype is not None  # else it has raised
        return tensor_of(result, dtype)

    def reset(self) -> None:
        """Forget all input: the next chunk is the first one."""
        self._stream.reset()
        self._dtype = None

    def copy(self) -> StreamingConvTranspose:
        """Return a stream that goes on from here by itself.

        Returns
        -------
        StreamingConvTranspose
            Of the same layer, with what was packed of its weights.
        """
        other = type(self).__new__(type(self))
        state = {**self.__dict__, "_modules": dict(self._modules), "_stream": self._stream.copy()}
        other.__setstate__(state)  # type: ignore[no-untyped-call] # torch's
        return other

    __copy__ = copy

    @property
    def delay(self) -> int:
        """Outputs held back, in samples along the axis: the length of what `finish` gives."""
        return self._stream.delay

    def extra_repr(self) -> str:
        """Describe the stream.

        Returns
        -------
        str
            What is written between the brackets of its ``repr``.
        """
        return f"padding={self._keywords['padding']}, axis={self._keywords['axis']}, delay={self.delay}"


stay_out((StreamingConvTranspose, "forward"), (StreamingConvTranspose, "finish"))
