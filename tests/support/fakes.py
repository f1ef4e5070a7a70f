"""What stands in for a GPU and its backend."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import pytest

from gpu_transconv import api
from gpu_transconv.kernels.kernel import Backend, Kernel
from gpu_transconv.kernels.reference import launch as definition


class DeviceArray:
    """A CUDA array as others see it; its memory is the host's."""

    def __init__(self, array, stream=None):
        self.host, self.stream = array, stream
        self.shape, self.dtype = array.shape, array.dtype

    @property
    def __cuda_array_interface__(self):
        return {**self.host.__array_interface__, "version": 3, "stream": self.stream}


class FakeBackend:
    """A GPU backend whose kernels compute the definition and write down what they were asked for.

    `refusals` and `ratios` are by name: gather, scatter/atomic, scatter/tiles.
    """

    def __init__(self, reason=None, refusals=(), ratios=()):
        self.reason, self.refusals = reason, dict(refusals)
        self.ratios = {"gather": 1.0, "scatter/atomic": 2.0, "scatter/tiles": 2.0, **dict(ratios)}
        self.log, self.streams, self.ordered, self.held, self.devices = [], [], [], [], []
        #: Number of the device that arrays with an interface are said to be on, of all and by their addresses.
        self.index, self.indices = None, {}

    def memory(self):
        return SimpleNamespace(
            as_device=self.as_device,
            empty=self.empty,
            scratch=self.empty,
            copy_to=self.copy_to,
            on_stream=self.on_stream,
            current_stream=lambda: 0,
            wait_for=lambda stream: self.ordered.append(("wait for", stream)),
            let_wait=lambda stream: self.ordered.append(("let wait", stream)),
            hold=self.held.append,
            held=SimpleNamespace(add=lambda work, objects: self.held.append(objects)),  # noqa: ARG005
            share=lambda packed: None,  # noqa: ARG005
            refuse_capture=lambda why: None,  # noqa: ARG005
            device_of=lambda pointer: self.indices.get(pointer, self.index),
            on_device=self.on_device,
        )

    def empty(self, shape, dtype):
        return DeviceArray(np.full(shape, np.nan, dtype))

    @contextmanager
    def on_device(self, index):
        self.devices.append(index)
        yield

    def as_device(self, array):
        if isinstance(array, np.ndarray):
            self.log.append("to device")
            return DeviceArray(np.ascontiguousarray(array))
        return array if array.host.flags.c_contiguous else DeviceArray(np.ascontiguousarray(array.host))

    def copy_to(self, source, out):
        if source.shape != (1,):  # which only waits for the stream
            self.log.append("from device" if isinstance(out, np.ndarray) else "on device")
        np.copyto(out if isinstance(out, np.ndarray) else out.host, source.host)

    @contextmanager
    def on_stream(self, pointer, allocate=None):  # noqa: ARG002
        self.streams.append(pointer)
        yield
        self.streams.append("left")

    def as_value(self, name, dtypes):
        """The `Backend` of that name."""
        memory = self.memory()
        kernels = tuple(self.kernel(name, memory, *kind.partition("/")[::2]) for kind in self.ratios)
        return Backend(name, "cuda", dtypes, lambda: self.reason, lambda: kernels, lambda: memory)

    def kernel(self, backend, memory, formulation, variant):
        kind = f"{formulation}/{variant}" if variant else formulation
        return Kernel(
            backend,
            formulation,
            self.launcher(kind),
            variant,
            pack=lambda _plan, weight, _bias: ("packed", kind, weight),
            refusal=lambda _plan: self.refusals.get(kind),
            work_ratio=lambda _plan: self.ratios[kind],
            memory=memory,
            deterministic=variant != "atomic",
        )

    def launcher(self, name):
        def run(plan, x, weight, bias, out, packed):
            assert packed[:2] == ("packed", name)
            assert self.streams[-1] != "left", "launched outside its stream"
            self.log.append(name)
            host = (None if a is None else a.host for a in (x, weight, bias))
            definition.KERNELS[0].launch(plan, *host, out.host, None)

        return run


def wrap_kernels(monkeypatch: pytest.MonkeyPatch, field: str, wrap: Callable[..., Callable]) -> None:
    """Let every kernel, whenever `field` is read, have ``wrap(kernel, function)`` in place of that function."""
    seen = property(
        lambda kernel: wrap(kernel, vars(kernel)[field]), lambda kernel, value: vars(kernel).update({field: value})
    )
    monkeypatch.setattr(Kernel, field, seen, raising=False)
    # The short way of weights that are packed in every call goes without.
    monkeypatch.setattr(Kernel, "run_once", property(lambda _: None, lambda *_: None))
    if field == "launch":  # which small weights that are kept go without
        monkeypatch.setattr(api, "FEW_WEIGHTS", 0)
        monkeypatch.setattr(api, "_decide", lru_cache(api._decide.__wrapped__))


def count_packing(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Kernel, object]]:
    """Which kernels pack weights from now on, for which plans."""
    packed = []

    def wrap(kernel, pack):
        return lambda plan, *arrays: packed.append((kernel, plan)) or pack(plan, *arrays)

    wrap_kernels(monkeypatch, "pack", wrap)
    return packed


def handed_to_kernels(monkeypatch: pytest.MonkeyPatch) -> list:
    """List to which each launch adds x, weight, bias and out, instead of computing."""
    handed = []
    wrap_kernels(monkeypatch, "launch", lambda *_: lambda _, *arguments: handed.extend(arguments[:4]))
    return handed
