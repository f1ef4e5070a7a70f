"""The libraries whose arrays the package takes: which of them a caller's array belongs to.

No library is imported here but NumPy: who holds an array of another has imported it.
"""

from __future__ import annotations

import numpy as np

from .cuda import CUDA, CUPY, NUMBA, is_numba, on_cuda
from .jax import JAX
from .library import NUMPY, ArrayLibrary
from .standard import HOST, STANDARD
from .torch import TORCH, loaded

#: Module, name of its array type, library.
_TYPES = (("torch", "Tensor", TORCH), ("cupy", "ndarray", CUPY), ("jax", "Array", JAX))
#: Those types themselves, not those derived from them, as they are met.
_met: dict[type, ArrayLibrary] = {}


def library_of(name: str, value: object) -> ArrayLibrary:
    """Return the library of the argument called `name`, or raise `TypeError`."""
    if library := _met.get(type(value)):
        return library
    if isinstance(value, np.ndarray):
        return NUMPY
    if isinstance(value, (np.generic, loaded("torch.fx", "Proxy") or np.generic)):  # a Proxy has every attribute
        raise _no_array(name, value)
    for module, attribute, library in _TYPES:
        array_type = loaded(module, attribute)
        if array_type is not None and isinstance(value, array_type):
            if type(value) is array_type:
                _met[array_type] = library
            return library
    if is_numba(value):
        return NUMBA
    if on_cuda(value):
        return CUDA
    if STANDARD.owns(value):
        return STANDARD
    if HOST.owns(value):
        return HOST
    raise _no_array(name, value)


def _no_array(name: str, value: object) -> TypeError:
    cure = ""
    if isinstance(value, list | tuple | range | int | float | complex | np.generic):
        cure = f"; use numpy.asarray({name}, dtype)"
    elif hasattr(value, "toarray") or hasattr(value, "todense"):  # sparse
        cure = f"; use {name}.{'toarray' if hasattr(value, 'toarray') else 'todense'}()"
    elif hasattr(value, "__array__"):  # of a library whose arrays may be elsewhere, or not yet computed
        cure = f"; numpy.asarray({name}) reads one into memory"
    return TypeError(f"{name} must be an array, got {type(value).__name__}{cure}")
