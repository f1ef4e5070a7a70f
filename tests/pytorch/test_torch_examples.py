"""In the examples the package does what torch does."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples"
pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="the examples are part of the checkout")
pytest.importorskip("torch")


def main_of(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_codec(capsys):
    assert main_of("codec")(["--quick"]) < 1e-5  # of a waveform between -1 and 1
    assert "s of sound" in capsys.readouterr().out


def test_unet(capsys):
    assert main_of("unet")(["--quick"]) < 1e-4  # of scores of about 3
    assert capsys.readouterr().out.count("s per window") == 2


def test_training():
    before, after = main_of("training")(["--quick"])
    assert after == pytest.approx(before, rel=1e-3)
    assert after[-1] < after[0]
