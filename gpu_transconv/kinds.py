"""The libraries whose arrays the package takes: how each is read, and how a result becomes one of its own.

Nothing is imported here but NumPy: who holds an array of a library has imported it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from .arrays import Array, CudaArray, HostArray, View, dtype_name
from .plan import Plan


class Kind:
    """NumPy's arrays, which are their own view; the other libraries differ in what they override."""

    #: What a message calls one.
    title = "a NumPy array"

    def view(self, name: str, array: Array) -> View:  # noqa: ARG002
        """Return the array as the launcher takes it, without a copy; `name` is for messages."""
        view: HostArray = array
        return view

    def view_out(self, out: Array) -> View:
        """Return the view of an array that is to be filled, or raise `TypeError`."""
        if not isinstance(out, np.ndarray):
            raise TypeError(f"out must be {self.title} like x, got {type(out).__name__}")
        return self.view("out", out)

    def wrap(self, result: Any, given: Array) -> Array:  # noqa: ARG002
        """Return a result as an array of the library of `given`, without a copy.

        It is a NumPy array, or an array on a CUDA device: a `CudaArray` of `empty`, or of a backend's memory.
        """
        return result

    def empty(self, plan: Plan, given: Array) -> CudaArray | None:  # noqa: ARG002
        """Allocate a result beside `given` on its CUDA device; None leaves that to the backend."""
        return None

    def device(self, given: Array) -> AbstractContextManager[Any]:  # noqa: ARG002
        """Context in which the CUDA device of `given` is the current one."""
        return nullcontext()


NUMPY = Kind()


class CudaInterface(Kind):
    """Anything with ``__cuda_array_interface__``, and the device arrays of Numba's simulator."""

    title = "an array on a CUDA device"

    def view(self, name: str, array: Array) -> View:  # noqa: ARG002, D102
        facts = getattr(array, "__cuda_array_interface__", None)
        if facts is None:  # the simulator's
            return CudaArray(array, tuple(array.shape), dtype_name(array.dtype))
        return CudaArray(
            array, tuple(facts["shape"]), dtype_name(np.dtype(facts["typestr"])), stream=facts.get("stream")
        )

    def view_out(self, out: Array) -> View:  # noqa: D102
        if not _is_cuda(out):
            raise TypeError(f"out must be {self.title} like x, got {type(out).__name__}")
        return self.view("out", out)


CUDA = CudaInterface()


def kind_of(name: str, value: Array) -> Kind:
    """Return the kind of an array, or raise `TypeError`."""
    if isinstance(value, np.ndarray):
        return NUMPY
    if _is_cuda(value):
        return CUDA
    raise TypeError(f"{name} must be an array, got {type(value).__name__}")


def _is_cuda(value: Any) -> bool:
    return hasattr(value, "__cuda_array_interface__") or hasattr(value, "__cuda_ndarray__")
