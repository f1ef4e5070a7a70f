"""Whose memory: the only room that knows array libraries. It views what callers pass, and makes what they get back.

``libraries``   which library an array belongs to; ``library`` what is asked of each, and NumPy
``cuda``, ``jax``, ``torch``, ``standard``   the other libraries
``views``       an array as a kernel can read it: contiguity, overlap, address, device
``outputs``     memory for results, and whether the caller's own will do; ``pool`` recycles it
``memory``      what a GPU backend offers to move arrays; ``held`` keeps what enqueued work still reads
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .libraries import library_of
from .library import NUMPY, ArrayLibrary
from .memory import cuda_memory, wait_for_stream
from .views import Array, CudaArray, HostArray, View, as_contiguous, check_device, raw

__all__ = [
    "NUMPY", "Array", "ArrayLibrary", "HostArray", "Operands", "View", "check_device", "copied", "library_of", "read",
    "view_of",
]  # fmt: skip


class Operands(NamedTuple):
    """The arrays of a call as the launcher takes them, and x as the caller has it, with its library."""

    library: ArrayLibrary
    caller_x: Array
    x: View
    weight: View
    bias: View | None

    @property
    def device(self) -> str:
        """Where they are: "cpu" or "cuda"."""
        return "cuda" if type(self.x) is CudaArray else "cpu"


def read(x: Array, weight: Array, bias: Array | None) -> Operands:
    """View the arrays of a call, without a copy.

    Raises
    ------
    TypeError
        If one is no array, or they are not all on one device.
    """
    if type(x) is type(weight) is np.ndarray and (bias is None or type(bias) is np.ndarray):
        return Operands(NUMPY, x, x, weight, bias)
    library, view = view_of("x", x)
    _, weights = view_of("weight", weight)
    _, biases = view_of("bias", bias) if bias is not None else (None, None)
    check_device("weight", weights, "x", view)
    check_device("bias", biases, "x", view)
    return Operands(library, x, view, weights, biases)


def view_of(name: str, array: Array) -> tuple[ArrayLibrary, View]:
    """Return the library of an array and its view, or raise `TypeError`."""
    if type(array) is np.ndarray:
        return NUMPY, array
    library = library_of(name, array)
    return library, library.view(name, array)


def copied(library: ArrayLibrary, array: Array, view: View) -> View:
    """Copy an array on its own device, contiguous; what it is copied on has done so when this returns."""
    if not isinstance(view, CudaArray):
        return as_contiguous(view.copy())
    memory = cuda_memory()
    with library.device(array), memory.on_stream(view.stream):
        memory.refuse_capture("the weights cannot be copied")
        target, home = memory.empty(view.shape, view.dtype), memory.current_stream()
        memory.copy_to(memory.as_device(raw(view)), target)
        wait_for_stream(memory)
    return CudaArray(target, view.shape, view.dtype, view.number, home=home)
