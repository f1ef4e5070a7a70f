"""As much of CuPy as the launcher uses, on host memory: kernels run on the host, streams and events are noted.

Only what the launcher does with CuPy is held to account by this, not what CuPy does.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from host_runner import device_array, run_kernel


class Pointer:
    """Memory that an array lies in, by its address."""

    def __init__(self, ptr: int) -> None:
        self.ptr = ptr


class Array:
    """An array on the pretended device."""

    def __init__(self, shape: Any, dtype: Any, memory: Any = None, strides: Any = None, host: Any = None) -> None:
        if host is None:
            host = (
                np.ndarray(shape, dtype, memory.owner.host, strides=strides) if memory else device_array(shape, dtype)
            )
        self.host = host

    shape = property(lambda self: self.host.shape)
    dtype = property(lambda self: self.host.dtype)
    size = property(lambda self: self.host.size)
    flags = property(lambda self: self.host.flags)
    data = property(lambda self: Pointer(self.host.ctypes.data))
    device = SimpleNamespace(id=0)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self.host.__array_interface__ | {"version": 3}

    def view(self, dtype: Any) -> Array:
        return Array(None, None, host=self.host.view(dtype))

    def copy(self, order: str) -> Array:
        assert order == "C"
        return asarray(self.host)

    def get(self) -> np.ndarray:
        return self.host.copy()

    def __getitem__(self, index: Any) -> Array:
        return Array(None, None, host=self.host[index])

    def __setitem__(self, index: Any, value: Array) -> None:
        self.host[index] = value.host


def asarray(array: np.ndarray) -> Array:
    made = Array(array.shape, array.dtype)
    made.host[...] = array
    return made


class Stream:
    """A stream that notes what it waits for."""

    current: Stream

    def __init__(self, ptr: int) -> None:
        self.ptr, self.waited = ptr, []

    def record(self) -> tuple[str, int]:
        return ("event", self.ptr)

    def wait_event(self, event: Any) -> None:
        self.waited.append(event)

    def __enter__(self) -> Stream:
        self.before, Stream.current = Stream.current, self
        return self

    def __exit__(self, *error: object) -> None:
        Stream.current = self.before


class CompileError(Exception):
    pass


class Cupy:
    """Stands in for the module; `launched` lists the kernels in order, with the stream that they went to."""

    ndarray = Array
    asarray = staticmethod(asarray)

    def __init__(self, folder: Path, capability: tuple[int, int] = (9, 0)) -> None:
        self.folder, self.launched, self.shared = folder, [], {}
        self.streams: dict[int, Stream] = {}
        Stream.current = self.stream(0)
        attributes = {
            "ComputeCapabilityMajor": capability[0], "ComputeCapabilityMinor": capability[1],
            "MultiProcessorCount": 8, "MaxSharedMemoryPerBlockOptin": 227 << 10, "MaxSharedMemoryPerBlock": 48 << 10,
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
            ExternalStream=self.stream,
            Stream=SimpleNamespace(null=self.stream(0)),
            UnownedMemory=lambda ptr, size, owner: SimpleNamespace(owner=owner, ptr=ptr, size=size),
            MemoryPointer=lambda memory, offset: memory,  # noqa: ARG005
            get_current_stream=lambda: Stream.current,
            runtime=SimpleNamespace(getDeviceCount=lambda: 1, getDevice=lambda: 0, is_hip=False),
            nvrtc=SimpleNamespace(getVersion=lambda: (13, 0)),
            compiler=SimpleNamespace(CompileException=CompileError),
        )

    def stream(self, ptr: int) -> Stream:
        return self.streams.setdefault(ptr, Stream(ptr))

    def empty(self, shape: Any, dtype: Any = float) -> Array:
        return Array(shape, dtype)

    def zeros(self, shape: Any, dtype: Any = float) -> Array:
        return asarray(np.zeros(shape, dtype))

    def RawModule(self, code: str, options: tuple[str, ...], name_expressions: tuple[str, ...]) -> Any:  # noqa: N802
        assert options == ("-std=c++17",)
        path = self.folder / f"{hashlib.sha256(code.encode()).hexdigest()[:16]}.cuh"
        path.write_text(code)

        def get_function(name: str) -> Function:
            assert name in name_expressions
            if "no such" in code:
                raise CompileError("kernel.cu(1): error: no such thing")
            return Function(self, path, name)

        return SimpleNamespace(get_function=get_function)


class Function:
    """A kernel of a module."""

    max_dynamic_shared_size_bytes = 48 << 10

    def __init__(self, cupy: Cupy, path: Path, name: str) -> None:
        self.cupy, self.path, self.name = cupy, path, name

    def __call__(self, grid: Any, block: Any, arguments: tuple[Any, ...], *, shared_mem: int) -> None:
        assert shared_mem <= self.max_dynamic_shared_size_bytes
        self.cupy.launched.append((self.name, Stream.current.ptr))
        given = []
        for argument in arguments:
            if isinstance(argument, Array):
                given.append(argument.host)
            elif isinstance(argument, np.ndarray):  # CuPy passes it by value
                given.append(argument.tobytes())
            else:
                given.append(None if argument.dtype == np.uint64 else argument)
        run_kernel(self.path, self.name, grid, block, given, shared_mem)
