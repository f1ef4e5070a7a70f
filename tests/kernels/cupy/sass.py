"""The machine code of a kernel: its instructions, loops and paths, by NVIDIA's disassembler."""

from __future__ import annotations

import heapq
import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nvidia
from cubin_checks import Kernel, compile_kernel
from support.kept import installed, kept


@dataclass(frozen=True)
class Code:
    """Instructions in their order, and the one that each label stands before."""

    instructions: tuple[str, ...]
    labels: dict[str, int]

    def loops(self) -> list[Counter[str]]:
        """Instructions of every loop that has none inside, counted by name: ``HMMA``, ``STG.E.64``."""
        found: dict[int, int] = {}
        for i, text in enumerate(self.instructions):
            to = self._target(text)
            if to is not None and to < i:  # an instruction that jumps to itself ends the code
                found[to] = max(found.get(to, 0), i + 1)
        inner = [
            (a, b) for a, b in found.items() if not any(a <= c and d <= b for c, d in found.items() if (c, d) != (a, b))
        ]
        return [Counter(name_of(text) for text in self.instructions[a:b]) for a, b in inner]

    def shortest(self, products: int, stores: int) -> int:
        """Instructions of the shortest path to an end that has so many FFMA, and so many stores of 8 bytes or more."""
        todo, seen = [(0, 0, 0, 0)], set()
        while todo:
            length, i, made, stored = heapq.heappop(todo)
            if (i, made, stored) in seen or made > products or stored > stores:
                continue
            seen.add((i, made, stored))
            text = self.instructions[i]
            name, conditional = name_of(text), text.startswith("@")
            if name == "EXIT" and (made, stored) == (products, stores):
                return length + 1
            made += name.startswith("FFMA")
            stored += name in ("STG.E.64", "STG.E.128")
            to = self._target(text)
            following = [] if to is None else [to]
            if conditional or (to is None and name != "EXIT"):
                following.append(i + 1)
            for next_one in following:
                heapq.heappush(todo, (length + 1, next_one, made, stored))
        raise AssertionError(f"no path with {products} products and {stores} wide stores")

    def _target(self, text: str) -> int | None:
        found = re.search(r"\bBRA\b.*`\((\.L_x_\d+)\)", text)
        return self.labels.get(found[1]) if found else None


def name_of(text: str) -> str:
    """Name of an instruction with its modifiers, without its predicate."""
    return re.sub(r"^@!?U?P\w+\s+", "", text).split()[0]


@cache
def disassemble(kernel: Kernel, architecture: str) -> Code:
    """Compile and disassemble a kernel; functions that it calls are left out."""
    cubin = compile_kernel(kernel, architecture).cubin
    (program,) = (path for folder in nvidia.__path__ for path in Path(folder).glob("*/bin/nvdisasm*"))

    def disassembled() -> str:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "kernel.cubin"
            file.write_bytes(cubin)
            return subprocess.run([str(program), "-c", str(file)], capture_output=True, text=True, check=True).stdout

    text = kept(disassembled, "nvdisasm", installed("nvidia-cuda-nvdisasm"), cubin.hex())
    instructions: list[str] = []
    labels: dict[str, int] = {}
    for line in text.splitlines():
        if found := re.match(r"(\.L_x_\d+):", line.strip()):
            labels[found[1]] = len(instructions)
        elif found := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;", line):
            instructions.append(found[1])
    return Code(tuple(instructions), labels)
