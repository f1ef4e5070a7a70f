"""Arrays in host memory of libraries that are not known by name."""

from __future__ import annotations

import numpy as np

from .library import ArrayLibrary
from .views import Array, View

#: What reading an array may raise where its library does not give its memory away.
REFUSALS = (AttributeError, BufferError, NotImplementedError, RuntimeError, TypeError, ValueError)


class HostInterface(ArrayLibrary):
    """Objects with ``__array_interface__`` or DLPack; results are NumPy arrays."""

    title = "an array in host memory"

    def owns(self, value: object) -> bool:
        return hasattr(value, "__array_interface__") or hasattr(value, "__dlpack__")

    def view(self, name: str, array: Array) -> View:
        if (getattr(array, "__array_interface__", None) or {}).get("mask") is not None:
            raise TypeError(f"{name} must be an array without a mask, got {type(array).__name__} with one")
        try:
            return np.asarray(array) if hasattr(array, "__array_interface__") else np.from_dlpack(array)
        except REFUSALS as error:
            raise TypeError(f"{name} must be an array in host memory, got {type(array).__name__}: {error}") from error


class ArrayStandard(HostInterface):
    """Arrays of a library that follows the Python array API standard; so do the results."""

    title = "an array of the same library"

    def owns(self, value: object) -> bool:
        return hasattr(value, "__array_namespace__") and hasattr(value, "__dlpack__")

    def wrap(self, result: Array, given: Array) -> Array:
        made = given.__array_namespace__().from_dlpack(result)
        return made if made.device == given.device else made.to_device(given.device)


HOST, STANDARD = HostInterface(), ArrayStandard()
