"""Arrays on CUDA devices: CuPy's, Numba's, and of any library with ``__cuda_array_interface__`` or DLPack."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module

import numpy as np

from ..errors import BackendUnavailableError
from ..problem.dtypes import dtype_name
from ..problem.plan import Plan
from .library import ArrayLibrary
from .memory import cuda_memory, out_of_memory
from .views import Array, CudaArray, Interface, View, numpy_dtype

#: DLPack's numbers of CUDA memory, plain and managed.
_DLPACK_CUDA = (2, 13)


class Cupy(ArrayLibrary):
    """CuPy's arrays."""

    title = "a CuPy array"

    def owns(self, value: object) -> bool:
        return isinstance(value, sys.modules["cupy"].ndarray)

    def view(self, name: str, array: Array) -> View:  # noqa: ARG002
        index = array.device.id
        stream = sys.modules["cupy"].cuda.get_current_stream(index).ptr
        return CudaArray(array, array.shape, dtype_name(array.dtype), index, stream)

    def wrap(self, result: Array, given: Array) -> Array:  # noqa: ARG002
        return result.array if isinstance(result, CudaArray) else result

    def empty(self, plan: Plan, given: Array) -> CudaArray:
        with self.device(given):
            made = sys.modules["cupy"].empty(plan.result_shape, given.dtype)
        return CudaArray(made, made.shape, plan.dtype, given.device.id)

    def device(self, given: Array) -> AbstractContextManager[object]:
        context: AbstractContextManager[object] = sys.modules["cupy"].cuda.Device(given.device.id)
        return context


class Numba(ArrayLibrary):
    """Numba's device arrays, those of its simulator included."""

    title = "a Numba device array"

    def owns(self, value: object) -> bool:
        return is_numba(value)

    def view(self, name: str, array: Array) -> View:  # noqa: ARG002
        interface = getattr(array, "__cuda_array_interface__", {})
        index = _device_of(interface)
        return CudaArray(array, tuple(array.shape), dtype_name(array.dtype), index, interface.get("stream"))

    def wrap(self, result: Array, given: Array) -> Array:  # noqa: ARG002
        return result.array if isinstance(result, CudaArray) else result

    def empty(self, plan: Plan, given: Array) -> CudaArray:
        with self.device(given), out_of_memory(plan.result_shape, plan.dtype):
            made = import_module("numba.cuda").device_array(plan.result_shape, numpy_dtype(plan.dtype))
        return CudaArray(made, plan.result_shape, plan.dtype, _device_of(_interface(made)))

    def device(self, given: Array) -> AbstractContextManager[object]:
        return _on_device(_device_of(_interface(given)))


class CudaInterface(ArrayLibrary):
    """Other objects; results are arrays of the backend's own library."""

    title = "an array on a CUDA device"

    def owns(self, value: object) -> bool:
        return on_cuda(value)

    def view(self, name: str, array: Array) -> View:
        interface = getattr(array, "__cuda_array_interface__", None)
        if interface is None:
            return _from_dlpack(name, array)
        dtype = dtype_name(np.dtype(interface["typestr"]))
        return CudaArray(
            array, tuple(interface["shape"]), dtype, _device_of(interface), interface.get("stream"), lent=True
        )

    def device(self, given: Array) -> AbstractContextManager[object]:
        interface = _interface(given)
        return _on_device(_device_of(interface) if interface else given.__dlpack_device__()[1])


def is_numba(value: object) -> bool:
    """Whether `value` is a device array of Numba or of its simulator."""
    return hasattr(value, "__cuda_ndarray__") and type(value).__module__.startswith("numba")


def on_cuda(value: object) -> bool:
    """Whether `value` says that it is an array on a CUDA device."""
    if hasattr(value, "__cuda_array_interface__"):
        return True
    return hasattr(value, "__dlpack_device__") and value.__dlpack_device__()[0] in _DLPACK_CUDA


def _from_dlpack(name: str, array: Array) -> CudaArray:
    try:
        cupy = import_module("cupy")
    except ImportError:
        raise TypeError(
            f"{name} must be an array with __cuda_array_interface__ where CuPy is not installed, got "
            f"{type(array).__name__} with DLPack alone; install cupy-cuda12x or cupy-cuda13x"
        ) from None
    with cupy.cuda.Device(array.__dlpack_device__()[1]):
        view = CUPY.view(name, cupy.from_dlpack(array))
    assert isinstance(view, CudaArray)
    return view._replace(lent=True)


def _interface(array: Array) -> Interface:
    """Return what an array says of its memory, empty where it does not say it in this way."""
    interface: Interface = getattr(array, "__cuda_array_interface__", {})
    return interface


def _device_of(interface: Interface) -> int | None:
    """Ask on which device memory is; None where there is none, or nobody who could tell."""
    pointer = interface["data"][0] if interface else 0
    if not pointer:
        return None
    try:
        index: int | None = cuda_memory().device_of(pointer)
    except BackendUnavailableError:  # which will be said when a backend is chosen
        return None
    return index


def _on_device(index: int | None) -> AbstractContextManager[object]:
    """Context in which a device is the current one."""
    if index is None:
        return nullcontext()
    context: AbstractContextManager[object] = cuda_memory().on_device(index)
    return context


CUPY, NUMBA, CUDA = Cupy(), Numba(), CudaInterface()
