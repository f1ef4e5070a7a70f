"""What the tests of the CUDA C++ kernels share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from host_compiler import missing

#: Where tests are a gate, a compiler that is missing is a failure; elsewhere the tests are skipped.
requires_compiler = pytest.mark.skipif(
    missing() is not None and not os.environ.get("CI"), reason=missing() or "kernels can be compiled"
)


def edited(source: Path, old: str, new: str, folder: Path) -> Path:
    """Copy a source and those beside it to `folder`, with one place of its text replaced."""
    text = source.read_text()
    assert text.count(old) == 1, f"{source.name} has {text.count(old)} times: {old}"
    for path in source.parent.glob("*.cuh"):
        shutil.copy(path, folder)
    swap = "#define SWAP(a, b) do { auto swapped = a; a = b; b = swapped; } while (0)\n"
    (folder / source.name).write_text(swap + text.replace(old, new))
    return folder / source.name
