"""As much of CuPy 14 as the launcher uses, on host memory: kernels run on the host, and what CuPy refuses is refused.

Streams, events and the memory pool are in `host_streams`.
"""

from __future__ import annotations

import ctypes
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from host_runner import run_kernel
from host_streams import CudaError, Driver, make_streams

#: Dynamic shared memory that a kernel may have unless it is allowed more.
_USUAL_SHARED = 48 << 10


class CompileError(Exception):
    pass


class PooledMemory:
    """A block of the pool, which goes back to the arena that it came from."""

    def __init__(self, cupy: Cupy, size: int) -> None:
        self.driver, self.stream, self.ptr = cupy.driver, cupy.cuda.get_current_stream().ptr, 0
        self.block = self.driver.malloc(size, self.stream) if size else np.empty(0, np.uint8)
        self.ptr, self.size, self.device_id = (self.block.ctypes.data if size else 0), size, 0

    def __del__(self) -> None:
        if self.ptr:
            self.driver.free(self.block, self.stream)


class UnownedMemory:
    """Memory of another library."""

    def __init__(self, ptr: int, size: int, owner: Any, device_id: int = -1) -> None:
        if device_id < 0 and ptr == 0:
            raise RuntimeError("UnownedMemory requires explicit device ID for a null pointer.")
        self.ptr, self.size, self.owner, self.device_id = ptr, size, owner, max(device_id, 0)
        self.block = np.frombuffer((ctypes.c_uint8 * size).from_address(ptr), np.uint8) if size else np.empty(0, "u1")


class MemoryPointer:
    """A place in memory."""

    def __init__(self, mem: Any, offset: int) -> None:
        self.mem, self.ptr = mem, mem.ptr + offset

    def memset_async(self, value: int, size: int, stream: Any = None) -> None:
        target = self.mem.block[self.ptr - self.mem.ptr :][:size]
        (stream or Cupy.active.cuda.get_current_stream()).queue.enqueue(lambda: target.fill(value))


class Array:
    """CuPy's ndarray."""

    def __init__(self, shape: Any, dtype: Any = float, memptr: Any = None, strides: Any = None) -> None:
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        memptr = memptr or MemoryPointer(PooledMemory(Cupy.active, size), 0)
        self.mem, offset = memptr.mem, memptr.ptr - memptr.mem.ptr
        self.host = np.ndarray(shape, dtype, self.mem.block, offset, strides)

    shape = property(lambda self: self.host.shape)
    dtype = property(lambda self: self.host.dtype)
    size = property(lambda self: self.host.size)
    nbytes = property(lambda self: self.host.nbytes)
    flags = property(lambda self: self.host.flags)
    device = SimpleNamespace(id=0)

    @property
    def data(self) -> MemoryPointer:
        return MemoryPointer(self.mem, self.host.ctypes.data - self.mem.ptr if self.mem.ptr else 0)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        stream = Cupy.active.cuda.get_current_stream().ptr or 1
        data = (self.data.ptr, False)
        return self.host.__array_interface__ | {"version": 3, "stream": stream, "data": data}

    def _view(self, host: np.ndarray) -> Array:
        made = object.__new__(Array)
        made.mem, made.host = self.mem, host
        return made

    def view(self, dtype: Any) -> Array:
        return self._view(self.host.view(dtype))

    def __getitem__(self, index: Any) -> Array:
        return self._view(self.host[index])

    def __setitem__(self, index: Any, value: Array) -> None:
        target, source = self.host[index], value.host
        Cupy.active.cuda.get_current_stream().queue.enqueue(lambda: np.copyto(target, source))

    def get(self) -> np.ndarray:
        stream = Cupy.active.cuda.get_current_stream()
        if stream.ptr and stream.is_capturing():
            raise RuntimeError("the current stream is capturing, so D2H transfers are disallowed")
        stream.synchronize()
        return self.host.copy()


def asarray(array: np.ndarray) -> Array:
    stream = Cupy.active.cuda.get_current_stream()
    if stream.ptr and stream.is_capturing():
        raise RuntimeError("the current stream is capturing, so synchronous H2D transfers are disallowed")
    made, source = Array(array.shape, array.dtype), array.copy()
    target = made.host
    stream.queue.enqueue(lambda: np.copyto(target, source))
    return made


class Cupy:
    """Stands in for the module; `launched` lists the kernels in order, with the stream that they went to."""

    active: Cupy
    ndarray = Array
    asarray = staticmethod(asarray)

    def __init__(self, folder: Path, capability: tuple[int, int] = (9, 0)) -> None:
        Cupy.active = self
        self.folder, self.launched, self.limits, self.driver = folder, [], {}, Driver()
        self.most_shared = 227 << 10
        event, stream, external = make_streams(self.driver)
        attributes = {
            "ComputeCapabilityMajor": capability[0], "ComputeCapabilityMinor": capability[1],
            "MultiProcessorCount": 8, "MaxSharedMemoryPerBlockOptin": self.most_shared,
            "MaxSharedMemoryPerBlock": _USUAL_SHARED,
        }  # fmt: skip

        class Device:
            def __init__(self, number: int = 0) -> None:
                self.id, self.attributes = number, attributes
                self.compute_capability = "".join(map(str, capability))

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *error: object) -> None:
                pass

        self.cuda = SimpleNamespace(
            Device=Device,
            Event=event,
            Stream=stream,
            ExternalStream=external,
            UnownedMemory=UnownedMemory,
            MemoryPointer=MemoryPointer,
            get_current_stream=lambda device=-1: stream.current,  # noqa: ARG005
            runtime=SimpleNamespace(
                getDeviceCount=lambda: 1,
                getDevice=lambda: 0,
                pointerGetAttributes=lambda pointer: SimpleNamespace(device=0),  # noqa: ARG005
            ),
            nvrtc=SimpleNamespace(getVersion=lambda: (13, 0)),
            compiler=SimpleNamespace(CompileException=CompileError),
        )

    def stream(self, ptr: int) -> Any:
        return self.cuda.Stream.from_external(SimpleNamespace(__cuda_stream__=lambda: (0, ptr)))

    def empty(self, shape: Any, dtype: Any = float) -> Array:
        return Array(shape, dtype)

    def zeros(self, shape: Any, dtype: Any = float) -> Array:
        made = Array(shape, dtype)
        made.data.memset_async(0, made.nbytes)
        return made

    def RawModule(  # noqa: N802
        self, code: str = "", options: tuple[str, ...] = (), name_expressions: tuple[str, ...] = (), path: str = ""
    ) -> Any:
        if path:  # of what stands for machine code
            return SimpleNamespace(get_function=lambda name: Function(self, Path(path), name))
        assert options == ("-std=c++17",)
        path = self.folder / f"{hashlib.sha256(code.encode()).hexdigest()[:16]}.cuh"
        path.write_text(code)

        def get_function(name: str) -> Function:
            assert name in name_expressions
            if "no such" in code:
                raise CompileError("kernel.cu(1): error: no such thing")
            self.driver.check_unsafe("cuModuleLoadData")
            return Function(self, path, name)

        return SimpleNamespace(get_function=get_function)


class Function:
    """A kernel of a module; modules of the same source are one, and so are their functions and what is set for them."""

    shared_size_bytes = 0

    def __init__(self, cupy: Cupy, path: Path, name: str) -> None:
        self.cupy, self.path, self.name = cupy, path, name

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        return self.cupy.limits.get((self.path, self.name), _USUAL_SHARED)

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, size: int) -> None:
        if not 0 <= size <= self.cupy.most_shared:
            raise CudaError(f"CUDA_ERROR_INVALID_VALUE: {size} bytes of shared memory")
        self.cupy.limits[self.path, self.name] = size

    def __call__(self, grid: Any, block: Any, arguments: tuple[Any, ...], *, shared_mem: int) -> None:
        if shared_mem > self.max_dynamic_shared_size_bytes:
            limit = self.max_dynamic_shared_size_bytes
            raise CudaError(f"CUDA_ERROR_INVALID_VALUE: {shared_mem} bytes of shared memory, the function has {limit}")
        stream = self.cupy.cuda.get_current_stream()
        self.cupy.launched.append((self.name, stream.ptr))
        given = []
        for argument in arguments:  # by address: nothing keeps the arrays alive
            if isinstance(argument, Array):
                given.append(argument.host)
            elif isinstance(argument, np.ndarray):  # CuPy passes it by value
                assert argument.size == 1
                given.append(argument.tobytes())
            else:
                given.append(None if argument.dtype == np.uint64 else argument)
        stream.queue.enqueue(lambda: run_kernel(self.path, self.name, grid, block, given, shared_mem))
