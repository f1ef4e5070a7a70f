"""Problems that are ready to run: a kernel with its packed weights; and small weights that were packed before.

Whether an array of weights still holds what it did nobody can tell without a look at all of it. Where they are few that
takes less time than packing them, so the function keeps what it packed of small weights beside their values.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .arrays import NUMPY, Array, ArrayLibrary, Operands, View
from .arrays.views import raw
from .dispatch.select import Choice
from .kernels.kernel import Bound
from .problem.plan import Plan
from .run import Weights, launch, prepare, run_bound, run_once

#: Problems with small weights that are remembered, and weights of each: up to 8 MB of values, and as much packed.
_PROBLEMS, _MOST = 64, 4


class Ready(NamedTuple):
    """A problem with its weights; `bound` is the kernel with all of that, where it has a short way."""

    plan: Plan
    choice: Choice
    weights: Weights
    bound: Bound | None

    def run(
        self, library: ArrayLibrary, array: Array, view: View, weight: View, bias: View | None, out: Array | None
    ) -> Array:  # fmt: skip
        """Compute the result of the caller's `array`, which `view` is of, into `out` where it is given."""
        plain = library is NUMPY and (out is None or type(out) is np.ndarray)
        if self.bound is not None and plain and isinstance(view, np.ndarray):
            result = run_bound(self.bound, self.plan, view, out)
            if result is not None:
                return result
        operands = Operands(library, array, view, weight, bias)
        return launch(self.choice.implementation, self.plan, operands, out, self.weights)


class _Kept(NamedTuple):
    values: bytes
    biases: bytes | None
    ready: Ready


class SmallWeights:
    """What was packed of the last weights of a problem, found by their values."""

    def __init__(self, plan: Plan, choice: Choice) -> None:
        self._plan, self._choice = plan, choice
        self._kept: tuple[_Kept, ...] = ()

    def ready(self, weight: View, bias: View | None) -> Ready:
        """The problem with these weights, which are in host memory."""
        values, biases = raw(weight).tobytes(), None if bias is None else raw(bias).tobytes()
        for kept in self._kept:
            if kept.values == values and kept.biases == biases:
                return kept.ready
        plan, kernel = self._plan, self._choice.implementation
        own = np.frombuffer(values, weight.dtype).reshape(weight.shape)  # whatever becomes of the caller's
        own_bias = None if bias is None or biases is None else np.frombuffer(biases, bias.dtype)
        weights = prepare(kernel, plan, Operands(NUMPY, own, own, own, own_bias))  # of x nothing is read
        ready = Ready(plan, self._choice, weights, kernel.bind(plan, weights.packed))
        self._kept = (_Kept(values, biases, ready), *self._kept[: _MOST - 1])
        return ready


@lru_cache(maxsize=_PROBLEMS)
def small_weights(plan: Plan, choice: Choice) -> SmallWeights:
    """What is kept of the small weights of a problem."""
    return SmallWeights(plan, choice)


def run_large(plan: Plan, choice: Choice, operands: Operands, out: Array | None) -> Array:
    """Compute a result with weights that are packed for it alone, into `out` where it is given."""
    library, _, x, weight, bias = operands
    if library is NUMPY and (out is None or type(out) is np.ndarray):
        result = run_once(choice.implementation, plan, raw(x), raw(weight), None if bias is None else raw(bias), out)
        if result is not None:
            return result
    return launch(choice.implementation, plan, operands, out)
