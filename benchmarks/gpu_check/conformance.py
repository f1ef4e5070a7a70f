"""Whether Hopper's matrix unit and tensor copies do what their emulation on the host does: one kernel for each way.

The operands are small whole numbers, so that the sums are exact; a box is known by where each number must lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpu_transconv.kernels.cupy.tensor_map import TensorMap
from gpu_transconv.kernels.cupy.tile_shapes import C_TYPES

SOURCE, THREADS = "hopper_probe.cuh", 128
_LINE_BYTES, _ROWS, _LARGEST = 128, 64, 4


@dataclass(frozen=True)
class Probe:
    """One way: the elements' type, whether columns are contiguous, their number, where A is, and how boxes are cut."""

    dtype: str
    across: bool
    columns: int
    registers: bool = False
    line: int = _LINE_BYTES  # bytes of a line of columns

    @property
    def name(self) -> str:
        """Words of a step of ``gpu_check probe``."""
        words = [self.dtype, "across" if self.across else "along", str(self.columns)]
        return "-".join(words + ["registers"] * self.registers + [f"line-{self.line}"] * (self.line < _LINE_BYTES))

    @property
    def kernel(self) -> str:
        """Name expression."""
        flags = f"{str(self.across).lower()},{str(self.registers).lower()},{self.line}"
        return f"gtc::hopper_probe<{C_TYPES[self.dtype]},{self.columns},{flags}>"

    @property
    def item(self) -> int:
        """Bytes of an element."""
        return 4 if self.dtype == "float32" else 2

    @property
    def depth(self) -> int:
        """Elements of a line."""
        return _LINE_BYTES // self.item

    @property
    def shared(self) -> int:
        """Bytes of shared memory: A, the box, a barrier, and room to begin at a multiple of 1024."""
        return (_ROWS + self.columns) * _LINE_BYTES + 16 + 1024

    def tensor_map(self) -> TensorMap:
        """The map of the box: lines of depth, [column][depth]; or of columns, [depth][column]."""
        line, size = self.depth * self.item, self.item
        if not self.across:
            sizes, box = (self.depth, self.columns, 1, 1, 1), (self.depth, self.columns, 1, 1, 1)
            whole = line * self.columns
            return TensorMap("x", size, sizes, (line, whole, whole, whole), box)
        row = self.columns * size
        sizes, box = (self.columns, 1, 1, self.depth, 1), (self.line // size, 1, 1, self.depth, 1)
        return TensorMap("x", size, sizes, (row, row, row, row * self.depth), box)

    def operands(self) -> tuple[np.ndarray, np.ndarray]:
        """A [row][depth] and the box as it lies in global memory, in float32."""
        rng = np.random.default_rng(len(self.name))
        a = rng.integers(-_LARGEST, _LARGEST + 1, (_ROWS, self.depth)).astype(np.float32)
        shape = (self.depth, self.columns) if self.across else (self.columns, self.depth)
        return a, rng.integers(-_LARGEST, _LARGEST + 1, shape).astype(np.float32)

    def sums(self) -> np.ndarray:
        """What the kernel must write: A times B, exactly."""
        a, x = self.operands()
        return np.asarray(a @ (x if self.across else x.T))

    def image(self, x: np.ndarray) -> np.ndarray:
        """Bytes of the box as they must lie in shared memory: the 16-byte units of a line exchanged by address."""
        lines = x
        if self.across:  # a box for every line's worth of columns, each [depth][column]
            lines = np.concatenate(np.split(x, self.columns * self.item // self.line, axis=1))
        found = np.ascontiguousarray(lines).view(np.uint8).reshape(-1, 16)
        unit = np.arange(len(found))
        return np.asarray(found[unit ^ (unit // 8 % (self.line // 16))].reshape(-1))


PROBES = (
    *(Probe(dtype, across, columns) for dtype in ("float16", "bfloat16") for across in (False, True)
      for columns in (64, 128)),
    *(Probe("float32", False, columns) for columns in (64, 128)),
    *(Probe(dtype, False, 64, registers=True) for dtype in ("float16", "bfloat16", "float32")),
    *(Probe("float16", True, 128, line=line) for line in (64, 32)),
)  # fmt: skip


def compare(probe: Probe, image: np.ndarray, sums: np.ndarray, x: np.ndarray) -> dict[str, Any]:
    """Say whether the box and the sums are as they must be, or where they are not."""
    wrong_bytes = np.flatnonzero(image.view(np.uint8).reshape(-1) != probe.image(x))
    wrong_sums = np.argwhere(sums != probe.sums())
    if wrong_bytes.size:
        return {"status": "wrong", "note": f"{wrong_bytes.size} bytes of the box, the first at {wrong_bytes[0]}"}
    if wrong_sums.size:
        row, column = wrong_sums[0]
        return {"status": "wrong", "note": f"{len(wrong_sums)} sums, the first of row {row}, column {column}"}
    return {"status": "ok", "note": "box and sums"}


def run(name: str) -> dict[str, Any]:
    """Run the probe of that name on the current device."""
    import cupy
    import ml_dtypes

    from gpu_transconv.kernels.cupy.compile import compiled
    from gpu_transconv.kernels.cupy.hopper_driver import map_of

    probe = next(one for one in PROBES if one.name == name)
    dtype = np.dtype(ml_dtypes.bfloat16 if probe.dtype == "bfloat16" else probe.dtype)
    a, x = (array.astype(dtype) for array in probe.operands())
    on_device = [cupy.asarray(array.view(f"u{probe.item}")) for array in (a, x)]
    image = cupy.zeros(probe.columns * _LINE_BYTES // 4, "uint32")
    sums = cupy.full((_ROWS, probe.columns), np.nan, "float32")
    kernel = compiled(SOURCE, probe.kernel, cupy.cuda.runtime.getDevice())
    arguments = (map_of(probe.tensor_map(), on_device[1]), on_device[0], image, sums)
    kernel((1, 1, 1), (THREADS, 1, 1), arguments, shared_mem=probe.shared)
    return compare(probe, image.get(), sums.get(), x)
