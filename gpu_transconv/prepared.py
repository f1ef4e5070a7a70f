"""The prepared operator: weights packed once, plans kept per input shape."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import TypeAlias

import numpy as np

from .api import infer_ndim
from .arrays import NUMPY, Array, Operands, View, check_device, copied, view_of
from .dispatch.select import epoch, note, select, select_backends
from .problem.arguments import Activation, IntOrInts, Ints, Padding, as_ints, make_params, without_result
from .problem.dtypes import check_activation, check_dtypes
from .problem.gradients import plan_input_grad
from .problem.plan import ArraySpec, Plan, plan_call
from .problem.shapes import check_weight
from .ready import Ready
from .run import Weights, prepare
from .settings import AUTO, HIGHEST, Settings, in_force, resolve

#: Makes the plan of arrays and settings.
_MakePlan: TypeAlias = Callable[[Operands, Settings], Plan]
#: Shapes whose plans are kept.
_MOST_SHAPES = 256


class ConvTranspose:
    """A transposed convolution with fixed weights, to be called many times.

    The weights are copied and brought into the kernels' order once; a call with an input shape seen before
    goes straight to the kernel. Safe to call from several threads.

    Parameters
    ----------
    weight : array, shape (Cin, Cout // groups, *kernel)
        Filters. Later changes to the array have no effect.
    bias : array, shape (Cout,), optional
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
    ) -> None:
        self._params = make_params(
            infer_ndim(weight), stride=stride, padding=padding, output_padding=output_padding,
            output_size=output_size, dilation=dilation, groups=groups, data_format=data_format,
            activation=activation,
        )  # fmt: skip
        self._options = (backend, formulation, deterministic, precision)
        resolve(*self._options)
        library, self._weight = view_of("weight", weight)
        self._bias: View | None = None if bias is None else view_of("bias", bias)[1]
        check_device("bias", self._bias, "weight", self._weight)
        biases = (None, None) if self._bias is None else (self._bias.shape, self._bias.dtype)
        check_activation(self._params.activation, check_dtypes(weight=self._weight.dtype, bias=biases[1]))
        check_weight(self._params, self._weight.shape, biases[0])
        self._weight = copied(library, weight, self._weight)
        self._bias = None if self._bias is None else copied(library, weight, self._bias)
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._choices: dict[Hashable, Ready] = {}
        self._packed: dict[Hashable, Weights] = {}

    def __getstate__(self) -> dict[str, object]:
        """Return the caller's weights and arguments alone: what was packed fits this machine and this process."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_choices", "_packed")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._start_afresh()

    def __call__(self, x: Array, out: Array | None = None) -> Array:
        """Apply the operator to `x`.

        Parameters
        ----------
        x : array, shape (N, Cin, *spatial) or (Cin, *spatial)
            Input, in the weights' dtype; channels last where the operator is so.
        out : array, optional
            Array of the result's shape and dtype to fill.

        Returns
        -------
        array
            The result; `out` where it is given.
        """
        return self._run("x", x, out, self._bias, self._plan)

    def input_grad(self, grad_output: Array, *, input_size: IntOrInts | None = None, out: Array | None = None) -> Array:
        """Gradient by x of the convolution, without its activation; the weights are packed for it once.

        Parameters
        ----------
        grad_output : array, of the shape of a result
            Gradient by the convolution's result, before a fused activation.
        input_size : int or sequence of int, optional
            Spatial sizes of x; may be left out where only one is possible.
        out : array, optional
            Array of x's shape and dtype to fill.

        Returns
        -------
        array, of the shape of x
            The gradient; `out` where it is given.

        Raises
        ------
        ValueError, TypeError, BackendUnavailableError, MemoryError
            As `conv_transpose_input_grad` does.

        Examples
        --------
        >>> import numpy as np, gpu_transconv as gtc
        >>> layer = gtc.ConvTranspose(np.ones((8, 4, 2, 2), np.float32), stride=2)
        >>> layer.input_grad(np.ones((1, 4, 32, 32), np.float32)).shape
        (1, 8, 16, 16)
        """
        if input_size is None:
            return self._run("grad_output", grad_output, out, None, self._plan_input_grad)
        size = as_ints("input_size", input_size, self._params.ndim, least=1)
        return self._run("grad_output", grad_output, out, None, partial(self._plan_input_grad, size=size), size)

    def _run(
        self, name: str, array: Array, out: Array | None, bias: View | None, make_plan: _MakePlan, *more: Hashable
    ) -> Array:
        """Launch what was chosen for arrays like this one; `name`, `more` and the array say which plan it is."""
        library, view = (NUMPY, array) if type(array) is np.ndarray else view_of(name, array)
        where = None if view is array else (type(view), getattr(view, "number", None))
        key = (name, view.shape, view.dtype, in_force(), epoch(), where, *more)
        found = self._choices.get(key)
        if found is None:
            settings, operands = resolve(*self._options), Operands(library, array, view, self._weight, bias)
            check_device(name, view, "weight", self._weight)
            if len(self._choices) >= _MOST_SHAPES:
                self._choices.clear()
            found = self._choices[key] = self._choose(make_plan(operands, settings), operands, settings)
        result = found.run(library, array, view, self._weight, bias, out)
        note(found.choice, found.plan)
        return result

    def tune(self, x: Array, *, seconds: float = 1.0) -> dict[str, float]:
        """Measure every implementation on `x` and let "auto" take the fastest from now on.

        What is found is kept in the cache folder, for this and other processes, and for inputs of about this
        size. The first time it also compiles what has not been compiled before.

        Parameters
        ----------
        x : array
            Input, as for a call; its values do not matter.
        seconds : float
            About how long to measure.

        Returns
        -------
        dict of str to float
            Seconds by implementation, the fastest first.

        Examples
        --------
        >>> import numpy as np, gpu_transconv as gtc
        >>> layer = gtc.ConvTranspose(np.ones((8, 4, 2, 2), np.float32), stride=2)
        >>> sorted(layer.tune(np.ones((1, 8, 16, 16), np.float32), seconds=0.01))
        ['cpu/gather', 'cpu/scatter']
        """
        from .dispatch.tune import tune  # who does not tune does not wait for it

        library, view = view_of("x", x)
        operands, settings = Operands(library, x, view, self._weight, self._bias), resolve(*self._options)
        check_device("x", view, "weight", self._weight)
        plan = self._plan(operands, settings)
        return tune(plan, operands, select_backends(plan, settings.backend, operands.device)[0], seconds)

    def _choose(self, plan: Plan, operands: Operands, settings: Settings) -> Ready:
        choice = select(plan, settings, operands.device)
        key = choice.implementation, choice.implementation.weight_key(plan)
        if key not in self._packed:
            self._packed[key] = prepare(choice.implementation, plan, operands)
        weights = self._packed[key]
        return Ready(plan, choice, weights, choice.implementation.bind(plan, weights.packed))

    def _plan(self, operands: Operands, settings: Settings) -> Plan:
        bias = None if operands.bias is None else ArraySpec(operands.bias.shape, operands.bias.dtype)
        return plan_call(self._params, *_specs(operands), bias, settings.precision)

    def _plan_input_grad(self, operands: Operands, settings: Settings, size: Ints | None = None) -> Plan:
        return plan_input_grad(without_result(self._params), *_specs(operands), size, settings.precision)


def _specs(operands: Operands) -> tuple[ArraySpec, ArraySpec]:
    x, weight = operands.x, operands.weight
    return ArraySpec(x.shape, x.dtype), ArraySpec(weight.shape, weight.dtype)
