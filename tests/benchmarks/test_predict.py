"""The prediction of GPU times: bounded by the roofline, sensitive to what it should be, and labelled as prediction."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import predict
from gpu_transconv.kernels.cupy.tile_shapes import DeviceProperties
from gpu_transconv.tools.bench.layers import shipped

ROOT = Path(__file__).resolve().parents[2]

REAL = shipped()


@pytest.mark.parametrize("precision", predict.PEAK)
def test_no_layer_beats_the_roofline(precision: str) -> None:
    for name, layer in REAL.items():
        found = predict.predict(layer, precision)
        assert 0 < found.roofline < found.seconds, name
        assert 0 < found.useful <= 1, name
        assert found.kernel, name


def test_the_roofline_is_the_larger_of_operations_and_bytes() -> None:
    dense, depthwise = REAL["simplebaseline_d3"], REAL["mednext_dw_t"]
    assert predict.predict(dense, "float32").roofline == pytest.approx(2e9 * dense.gmac / (494.5e12 / 3))
    plan = depthwise.plan("float16")
    assert predict.predict(depthwise, "float16").roofline == pytest.approx(plan.bytes / 3.35e12)


def test_padding_and_idle_multiprocessors_cost_time() -> None:
    dense = REAL["simplebaseline_d3"]
    tiles = DeviceProperties()  # without the kernel for Hopper, whose blocks of 64 rows this layer does not fill
    assert predict.predict(dense, "float16", tiles).useful == pytest.approx(1)
    odd = replace(dense, cout=129, name="odd")
    assert predict.predict(odd, "float16", tiles).useful < 0.9
    idle = predict.predict(dense, "float16", DeviceProperties(multiprocessors=20_000))  # most have no tile
    assert idle.seconds > 2 * predict.predict(dense, "float16").seconds
    one_image = replace(dense, n=1, name="one")
    assert predict.predict(one_image, "float16").seconds > predict.predict(dense, "float16").seconds / 32


def test_tensor_cores_beat_ordinary_products_on_dense_layers() -> None:
    times = [predict.predict(REAL["simplebaseline_d3"], precision).seconds for precision in predict.PEAK]
    assert times == sorted(times, reverse=True)


def test_page(tmp_path: Path, capsys: Any) -> None:
    assert predict.main([]) == 0
    page = capsys.readouterr().out
    assert page.startswith("# Predicted: H100\n\nNo figure on this page has been measured.")
    lines = [line.split(" | ")[0].removeprefix("| ") for line in page.splitlines() if line.startswith("| ")]
    rows = lines[2:]
    assert rows == list(REAL)
    written = (ROOT / "docs" / "speed" / "performance-gpu.md").read_text()
    for text in (*page.split("\n\n")[:2], *(f"\n| {name} | " for name in rows)):
        assert text in written, "run: python -m benchmarks.predict > docs/speed/performance-gpu.md"
    (tmp_path / "layers.json").write_text(json.dumps([{"name": "broken"}]))
    assert predict.main(["--layers", str(tmp_path / "layers.json")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
