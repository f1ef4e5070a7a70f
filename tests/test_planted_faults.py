"""The faults that `tests/support/mutants.py` plants are those of today's sources."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def faults(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "support"))
    yield __import__("planted").FAULTS
    sys.modules.pop("planted", None)


def test_every_place_is_there_once(faults):
    folder = ROOT / "gpu_transconv" / "kernels"
    counts = {fault.name: (folder / fault.file).read_text(encoding="utf-8").count(fault.old) for fault in faults}
    assert len(counts) == len(faults) >= 60
    assert [name for name, count in counts.items() if count != 1] == []
