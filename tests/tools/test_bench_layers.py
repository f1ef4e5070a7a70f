"""The layers that are measured: seeded, valid, and chosen as the command line says."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpu_transconv.tools.bench import contenders, layers, libraries, measure, options


def test_random_layers_are_seeded_and_valid() -> None:
    real = layers.load_layers(layers.REAL_LAYERS)
    drawn = layers.random_layers(40, 5, real, max_gmac=1.0)
    assert drawn == layers.random_layers(40, 5, real, max_gmac=1.0)
    assert drawn != layers.random_layers(40, 6, real, max_gmac=1.0)
    assert layers.small_layers(9, 5) == layers.small_layers(9, 5) != layers.small_layers(9, 6)
    assert len({layer.name for layer in drawn}) == 40
    assert {layer.ndim for layer in drawn} == {1, 2, 3}
    for layer in drawn:
        assert layer.gmac <= 1.0
        assert min(layer.plan().output_shape) >= 1
        assert layer.cin % layer.groups == layer.cout % layer.groups == 0


def test_arrays_are_seeded() -> None:
    (layer, other) = layers.load_layers(layers.REAL_LAYERS)[:2]
    one, same, seeded = (layers.make_problem(layer, "float32", seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.x, same.x)
    assert not np.array_equal(one.x, seeded.x)
    assert not np.array_equal(one.weight[0, 0], layers.make_problem(other, "float32", seed=3).weight[0, 0])


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ({"name": "short", "cin": 3, "cout": 2, "spatial": [5]}, "kernel"),
        ({"name": "odd", "cin": 3, "cout": 2, "spatial": [5], "kernel": [2], "groups": 2}, "groups"),
        ({"name": "gone", "cin": 3, "cout": 2, "spatial": [1], "kernel": [2], "padding": [4]}, "padding"),
    ],
)
def test_invalid_layers_are_named(tmp_path: Path, entry: dict[str, Any], named: str) -> None:
    (tmp_path / "layers.json").write_text(json.dumps([entry]))
    with pytest.raises(ValueError, match=f"{entry['name']}.*{named}"):
        layers.load_layers(tmp_path / "layers.json")


MINE = [{"name": name, "cin": 2, "cout": 1, "spatial": [4], "kernel": [2]} for name in ("one", "two", "fcn8s_up2")]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("fcn8s_up2 dac44_up1", ["fcn8s_up2", "dac44_up1"]),  # by name, whatever the size
        ("--only dac44_up1,fcn8s_up2", ["dac44_up1", "fcn8s_up2"]),
        ("--max-gmac 0.01", ["centernet_dla_ida2", "fcn8s_up2", "kokoro_pool_dw"]),
        ("mine.json", ["one", "two", "fcn8s_up2"]),
        ("--layers mine.json --only two", ["two"]),
        ("kokoro_pool_dw --layers mine.json", ["kokoro_pool_dw", "one", "two", "fcn8s_up2"]),
        ("--layers mine.json --max-gmac 1e-12 --only one,two", ["one", "two"]),
        ("mine.json --random 2 --seed 3", ["random_3_0", "random_3_1"]),
    ],
)
def test_layers_are_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, names: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.json").write_text(json.dumps(MINE))
    chosen, _ = options.choose(parsed(words))
    assert [layer.name for layer in chosen] == names
    said = capsys.readouterr().err
    assert ("larger than 0.01 GMAC and left out: dcgan_l1, " in said) == (words == "--max-gmac 0.01")
    if "--random" in words:
        assert {layer.model for layer in chosen} <= {"around one", "around two", "around fcn8s_up2"}


def parsed(words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    options.add_options(parser)
    return parser.parse_args(words.split())


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("", [*contenders.OURS, "torch", "onnxruntime", "onnxruntime_out", "openvino", "ncnn", "litert"]),
        ("--no-peers", ["prepared_out", "prepared", "function"]),
        ("--own", ["auto", "gather", "scatter"]),
        ("--contenders torch,function", ["torch", "function"]),
    ],
)
def test_contenders_are_chosen(words: str, names: list[str]) -> None:
    assert list(options.choose(parsed(words))[1]) == names


PEERS_LAYERS = [
    layers.Layer("line", 1, 3, 2, (5,), (4,), (2,), (1,), (0,), (1,)),
    layers.Layer("same", 2, 3, 4, (4, 5), (4, 2), (2, 2), (1, 0), (0, 0), (1, 1)),
    layers.Layer("slice", 1, 3, 4, (4, 5), (3, 5), (2, 3), (1, 2), (1, 0), (1, 1)),
    layers.Layer("groups", 1, 4, 6, (4, 3), (3, 2), (1, 2), (0, 1), (0, 0), (2, 1), 2),
    layers.Layer("depth", 1, 3, 2, (2, 3, 4), (2, 3, 4), (2, 1, 3), (0, 1, 1), (1, 0, 0), (1, 1, 1)),
]


def checked(name: str, data_format: str) -> list[str]:
    """Status of a library on each layer that it takes."""
    found = []
    for layer in PEERS_LAYERS:
        problem = layers.make_problem(layer, "float32", data_format)
        try:
            contender = libraries.PEERS[name](problem, 1)
        except libraries.UnsupportedError:
            continue
        found.append(measure.check(problem, contender)["status"])
    return found


@pytest.mark.parametrize(
    ("names", "first", "last"),
    [("torch onnxruntime onnxruntime_out openvino", 5, 5), ("ncnn", 4, 0), ("litert", 3, 3)],
    ids=["desktop", "ncnn", "litert"],
)
def test_other_libraries_are_asked_for_the_same_layer(names: str, first: int, last: int) -> None:
    """Uneven axes, groups, and paddings of each kind; in a process of their own, whose threads are not ours."""
    done = subprocess.run([sys.executable, __file__, *names.split()], capture_output=True, text=True, check=True)
    each = {"channels_first": ["ok"] * first, "channels_last": ["ok"] * last}
    assert json.loads(done.stdout.splitlines()[-1]) == dict.fromkeys(names.split(), each)


if __name__ == "__main__":
    names = sys.argv[1:]
    formats = ("channels_first", "channels_last")
    print(json.dumps({name: {data_format: checked(name, data_format) for data_format in formats} for name in names}))
