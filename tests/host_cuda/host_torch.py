"""As much of PyTorch's CUDA tensors as the package asks for, on the memory of `host_cupy`.

Its allocator is its own: while a graph is captured it sets memory aside, which no one else gets.
"""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
from host_cupy import Cupy, PooledMemory


class Tensor:
    """A contiguous float32 or uint8 tensor on the device."""

    requires_grad, is_cuda, layout = False, True, "strided"
    is_quantized = is_nested = False
    __torch_dispatch__ = None
    device = SimpleNamespace(type="cuda", index=0)

    def __init__(self, shape: Any, dtype: str) -> None:
        library = Torch.active
        self.shape, self.dtype = tuple(shape), f"torch.{dtype}"
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        with library.cupy.stream(library.current):
            self.memory = PooledMemory(library.cupy, size)
        if library.cupy.driver.queue(library.current).capture is not None:
            library.graph_memory.append(self.memory)
        self.host = np.ndarray(shape, dtype, self.memory.block)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self.host.__array_interface__ | {"version": 2, "data": (self.memory.ptr, False), "strides": None}

    def detach(self) -> Tensor:
        return self

    resolve_conj = resolve_neg = detach

    def is_conj(self) -> bool:
        return False

    is_neg = is_conj

    def is_inference(self) -> bool:
        return True


class Torch:
    """Stands in for the module; `current` is the address of its current stream."""

    active: Torch
    Tensor = Tensor
    strided, uint8 = "strided", "uint8"

    def __init__(self, cupy: Cupy) -> None:
        Torch.active = self
        self.cupy, self.current, self.graph_memory, self.empties = cupy, 0, [], []
        self.autograd = SimpleNamespace(forward_ad=SimpleNamespace(_current_level=-1))
        self.jit = SimpleNamespace(is_tracing=lambda: False)
        self._C = SimpleNamespace(_len_torch_dispatch_stack=lambda: 0)
        self.cuda = SimpleNamespace(
            current_stream=lambda device: SimpleNamespace(cuda_stream=self.current),  # noqa: ARG005
            device=lambda device: nullcontext(),  # noqa: ARG005
            OutOfMemoryError=type("OutOfMemoryError", (RuntimeError,), {}),
        )

    def is_grad_enabled(self) -> bool:
        return False

    def _is_functional_tensor(self, tensor: Tensor) -> bool:  # noqa: ARG002
        return False

    def empty(self, shape: Any, dtype: str, device: Any) -> Tensor:
        assert device is Tensor.device
        self.empties.append(tuple(shape))
        return Tensor(shape, dtype.removeprefix("torch."))

    def tensor(self, array: np.ndarray) -> Tensor:
        made = Tensor(array.shape, array.dtype.name)
        made.host[...] = array
        return made
