"""An array as a kernel can read it: NumPy's, or one on a CUDA device; contiguity, overlap, address, device."""

from __future__ import annotations

import math
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

#: What the public functions take and return: an array of any library.
Array: TypeAlias = Any
#: An array in host memory, as the CPU kernels take it, and the dtype of one.
HostArray: TypeAlias = NDArray[Any]
DType: TypeAlias = np.dtype[Any]
#: What ``__cuda_array_interface__`` and ``__array_interface__`` hold.
Interface: TypeAlias = dict[str, Any]


class CudaArray(NamedTuple):
    """An array on a CUDA device: `array` has ``__cuda_array_interface__`` or is one of Numba's simulator.

    `dtype` is the name of the elements' dtype, which the array itself need not know (bfloat16 as 16 bits).
    Work on it has to follow what is on `stream`; None where nothing has to be waited for. `number` counts
    devices, None where that is not known. Its allocator reuses its memory in the order of the stream `home`, where
    that is known. It is `lent` where its library may reuse the memory in the order of a stream that is not known.
    """

    array: Array
    shape: tuple[int, ...]
    dtype: str
    number: int | None = None
    stream: int | None = None
    home: int | None = None
    lent: bool = False


View: TypeAlias = HostArray | CudaArray


def as_contiguous(array: HostArray) -> HostArray:
    """C-contiguous, native byte order, aligned; the array itself where it already is."""
    flags = array.flags
    if flags.c_contiguous and flags.aligned and array.dtype.isnative:
        return array
    return np.require(array, array.dtype.newbyteorder("="), ("C", "A"))


def is_free(out: HostArray, *inputs: HostArray | None) -> bool:
    """Whether a kernel may write straight into `out`: contiguous, and apart from all inputs."""
    return as_contiguous(out) is out and not any(a is not None and np.may_share_memory(out, a) for a in inputs)


def is_free_cuda(out: Array, *inputs: Array | None) -> bool:
    """The same for objects with ``__cuda_array_interface__``, or of Numba's simulator."""
    low, high, contiguous = _extent(out)
    others = [_extent(array) for array in inputs if array is not None]
    return contiguous and all(end <= low or high <= start for start, end, _ in others)


def _extent(array: Array) -> tuple[int, int, bool]:
    """First and last address of an array, and whether its elements fill them in C order."""
    pointer = getattr(getattr(array, "data", None), "ptr", None)
    if pointer is not None and array.flags.c_contiguous:  # CuPy's, whose interface takes ten times as long
        return pointer, pointer + array.nbytes, True
    interface = _interface(array)
    shape, item = interface["shape"], np.dtype(interface["typestr"]).itemsize
    packed = [item * math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    strides = interface.get("strides") or packed
    reach = [(size - 1) * stride for size, stride in zip(shape, strides, strict=True)]
    low = interface["data"][0] + sum(step for step in reach if step < 0)
    high = interface["data"][0] + sum(step for step in reach if step > 0) + item
    return low, high, all(n == 1 or a == b for n, a, b in zip(shape, strides, packed, strict=True))


def start_of(array: Array) -> int:
    """Address of an array's first element."""
    start: int = _interface(array)["data"][0]
    return start


def _interface(array: Array) -> Interface:
    interface: Interface = getattr(array, "__cuda_array_interface__", None) or array.__array_interface__
    return interface  # the latter is the simulator's


def raw(view: View) -> Array:
    """The array of a view, as its library's functions take it."""
    return view.array if isinstance(view, CudaArray) else view


def device_of(view: View) -> str:
    """Name a view's device: cpu, cuda where its number is not known, or cuda:0 and so on."""
    if not isinstance(view, CudaArray):
        return "cpu"
    return "cuda" if view.number is None else f"cuda:{view.number}"


def check_device(name: str, view: View | None, first: str, expected: View) -> None:
    """Raise `TypeError` unless `view` is on the same device as `expected`."""
    if view is None:
        return
    if isinstance(view, CudaArray) and isinstance(expected, CudaArray) and view.number == expected.number:
        return
    here, there = device_of(view), device_of(expected)
    if here != there and ("cpu" in (here, there) or "cuda" not in (here, there)):  # "cuda": of unknown number
        raise TypeError(f"{name} must be on {first}'s device {there}, got one on {here}")


@lru_cache(maxsize=16)
def numpy_dtype(name: str) -> DType:
    """NumPy's dtype of that name, bfloat16 included."""
    if name == "bfloat16":
        import_module("ml_dtypes")  # gives NumPy the name
    return np.dtype(name)
