"""The prepared operator: weights packed once, plans kept per input shape."""

from __future__ import annotations

from typing import Any

from .api import infer_ndim, plan_arrays, run
from .arrays import Array, as_contiguous, check_activation, check_arrays, check_out
from .dispatch import Implementation, select
from .params import check_shapes, make_params
from .plan import Plan
from .settings import AUTO, HIGHEST, Settings, resolve

#: Input shapes whose plans are kept.
_MOST_SHAPES = 256


class ConvTranspose:
    """A transposed convolution with fixed weights, to be called many times.

    The weights are copied and brought into the kernels' order once; a call with an input shape seen before
    goes straight to the kernel. Safe to call from several threads.

    Parameters
    ----------
    weight : ndarray, shape (Cin, Cout // groups, *kernel)
        Filters. Later changes to the array have no effect.
    bias : ndarray, shape (Cout,), optional
        Added to every output element.
    stride, padding, output_padding, groups, dilation, output_size, data_format, activation
        As in `conv_transpose`.
    precision, deterministic, formulation, backend
        As in `conv_transpose`; what is not given here is taken from `use` and the environment at every call.

    Raises
    ------
    ValueError, TypeError
        As `conv_transpose` does; at the construction where the weights or the arguments are at fault.

    Examples
    --------
    >>> import numpy as np, gpu_transconv as gtc
    >>> layer = gtc.ConvTranspose(np.ones((8, 4, 2, 2), np.float32), stride=2, activation="relu")
    >>> layer(np.ones((1, 8, 16, 16), np.float32)).shape
    (1, 4, 32, 32)
    >>> layer(np.ones((3, 8, 5, 7), np.float32)).shape
    (3, 4, 10, 14)
    """

    def __init__(
        self,
        weight: Array,
        bias: Array | None = None,
        *,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
        output_size: Any = None,
        data_format: str = "channels_first",
        activation: Any = None,
        precision: str = HIGHEST,
        deterministic: bool | None = None,
        formulation: str = AUTO,
        backend: str = AUTO,
    ) -> None:
        self._params = make_params(
            infer_ndim(weight), stride=stride, padding=padding, output_padding=output_padding,
            output_size=output_size, dilation=dilation, groups=groups, data_format=data_format,
            activation=activation,
        )  # fmt: skip
        self._options = (backend, formulation, deterministic, precision)
        resolve(*self._options)
        check_activation(self._params.activation, check_arrays(weight=weight, bias=bias))
        smallest = weight.shape[:1] + (1,) * self._params.ndim
        if data_format == "channels_last":
            smallest = smallest[::-1]
        check_shapes(self._params, smallest, weight.shape, None if bias is None else bias.shape)
        self._weight = as_contiguous(weight.copy())
        self._bias = None if bias is None else as_contiguous(bias.copy())
        self._choices: dict[tuple[Any, ...], tuple[Plan, Implementation, Any]] = {}
        self._packed: dict[tuple[Implementation, tuple[bool, ...]], Any] = {}

    def __call__(self, x: Array, out: Array | None = None) -> Array:
        """Apply the operator to `x`.

        Parameters
        ----------
        x : ndarray, shape (N, Cin, *spatial) or (Cin, *spatial)
            Input, in the weights' dtype; channels last where the operator is so.
        out : ndarray, optional
            Array of the result's shape and dtype to fill.

        Returns
        -------
        ndarray
            The result; `out` where it is given.
        """
        settings = resolve(*self._options)
        key = (getattr(x, "shape", None), getattr(x, "dtype", None), type(x), settings)
        found = self._choices.get(key)
        if found is None:
            if len(self._choices) >= _MOST_SHAPES:
                self._choices.clear()
            found = self._choices[key] = self._choose(x, settings)
        plan, row, packed = found
        if out is not None:
            check_out(out, plan)
        return run(row, plan, x, self._weight, self._bias, out, packed)

    def _choose(self, x: Array, settings: Settings) -> tuple[Plan, Implementation, Any]:
        plan = plan_arrays(self._params, x, self._weight, self._bias)
        row = select(plan, settings).implementation
        key = row, plan.single
        if key not in self._packed:
            self._packed[key] = row.pack(plan, self._weight, self._bias)
        return plan, row, self._packed[key]
