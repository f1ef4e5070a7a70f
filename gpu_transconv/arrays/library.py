"""What the package asks of the library of an array, and how NumPy answers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from ..problem.plan import Plan
from .views import Array, CudaArray, HostArray, View


def plain(name: str, array: Array) -> HostArray:
    """View a NumPy array without its subclass, or raise `TypeError` where its memory is not its whole meaning."""
    kind = type(array)
    if kind is np.ndarray:
        return array  # type: ignore[no-any-return]
    if issubclass(kind, np.ma.MaskedArray):
        raise TypeError(
            f"{name} must be an array without a mask, got {kind.__name__}; use {name}.filled(value), or {name}.data "
            "to compute with the values under the mask"
        )
    base = np.ndarray
    if kind.__array_ufunc__ is not base.__array_ufunc__ or kind.__array_function__ is not base.__array_function__:
        raise TypeError(
            f"{name} must be a plain array, got {kind.__name__}, which has arithmetic of its own (units, for "
            f"instance); use {name}.view(numpy.ndarray) to compute with its numbers"
        )
    view: HostArray = array.view(base)
    return view


class ArrayLibrary:
    """NumPy's arrays, which are their own view; the other libraries differ in what they override."""

    #: What a message calls one.
    title = "a NumPy array"

    def owns(self, value: object) -> bool:
        """Whether `value` is an array of this library."""
        return isinstance(value, np.ndarray)

    def view(self, name: str, array: Array) -> View:
        """Return the array as the launcher takes it, without a copy; `name` is for messages."""
        return plain(name, array)

    def view_out(self, out: Array) -> View:
        """Return the view of an array that is to be filled, or raise `TypeError`."""
        if not self.owns(out):
            raise TypeError(f"out must be {self.title} like x, got {type(out).__name__}")
        return self.view("out", out)

    def wrap(self, result: Array, given: Array) -> Array:  # noqa: ARG002
        """Return a result as an array of the library of `given`, without a copy.

        It is a NumPy array, a `CudaArray` of `empty`, or an array of a GPU backend's own library.
        """
        return result

    def empty(self, plan: Plan, given: Array) -> CudaArray | None:  # noqa: ARG002
        """Allocate a result beside `given` on its CUDA device; None leaves that to the backend."""
        return None

    def allocator(self, given: Array) -> Callable[[int], Array] | None:  # noqa: ARG002
        """Function that gives scratch memory on the device of `given` by its bytes, as an array of the library.

        None where the backend's own allocator will do.
        """
        return None

    def device(self, given: Array) -> AbstractContextManager[object]:  # noqa: ARG002
        """Context in which the CUDA device of `given` is the current one."""
        return nullcontext()


NUMPY = ArrayLibrary()
