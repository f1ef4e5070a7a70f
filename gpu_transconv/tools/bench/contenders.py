"""The package as a contender, and what every contender offers.

A contender is built outside the timing, with its weights in the form it likes best; `run` is what is timed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

import numpy as np

import gpu_transconv as gtc
from gpu_transconv.arrays import Array

from .layers import Problem


class UnsupportedError(NotImplementedError):
    """A contender cannot take a problem; the message says why."""


class Contender(ABC):
    """One way to run a layer."""

    #: What a reader of the figures should know.
    note = ""

    @abstractmethod
    def run(self) -> Array:
        """Compute the layer once."""

    def poison(self) -> None:  # noqa: B027  (most contenders own no output)
        """Overwrite a reused output, so that a stale one cannot pass for a result."""

    def as_array(self, result: Array) -> Array:
        """What `run` returned, as a NumPy array in the problem's dtype and layout."""
        return result


class Ours(Contender):
    """The package: the function, or the prepared operator, with or without an output to reuse."""

    def __init__(
        self,
        problem: Problem,
        threads: int,  # noqa: ARG002  (Numba reads the environment)
        *,
        backend: str,
        formulation: str = "auto",
        prepared: bool = True,
        reuse: bool = True,
    ) -> None:
        keywords = problem.layer.geometry | {
            "backend": backend,
            "formulation": formulation,
            "data_format": problem.data_format,
        }
        self._out = np.empty(problem.plan.output_shape, problem.dtype) if reuse else None
        arrays = (problem.x, problem.weight, problem.bias)
        if not prepared:
            self._call = partial(gtc.conv_transpose, *arrays, **keywords, out=self._out)
        else:
            self._call = partial(gtc.ConvTranspose(*arrays[1:], **keywords), problem.x, out=self._out)

    def run(self) -> Array:
        return self._call()

    def poison(self) -> None:
        if self._out is not None:
            self._out.fill(np.nan)


Build = Callable[[Problem, int], Contender]

OURS = ("prepared_out", "prepared", "function")
KERNELS = ("auto", "gather", "scatter")


def ours(backend: str) -> dict[str, Build]:
    """The package's contenders: prepared operator with and without a reused output, and the function."""
    return {
        "prepared_out": partial(Ours, backend=backend),
        "prepared": partial(Ours, backend=backend, reuse=False),
        "function": partial(Ours, backend=backend, prepared=False, reuse=False),
    }


def kernels(backend: str) -> dict[str, Build]:
    """The package's formulations, each with a reused output, and what it picks by itself."""
    return {name: partial(Ours, backend=backend, formulation=name) for name in KERNELS}
