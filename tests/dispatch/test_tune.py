"""Tuning: what is measured is kept, believed by "auto" alone, and survives whatever happens to its file."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import warnings

import numpy as np
import pytest
from checks import refused
from support.fakes import FakeBackend

import gpu_transconv as gtc
from gpu_transconv.dispatch import limits, store
from gpu_transconv.dispatch.select import invalidate, select
from gpu_transconv.errors import CacheWarning
from gpu_transconv.problem.arguments import make_params
from gpu_transconv.problem.plan import make_plan
from gpu_transconv.settings import resolve

X, WEIGHT = np.ones((1, 2, 6, 5), np.float32), np.ones((2, 3, 2, 2), np.float32)
SLOW_GATHER = {"cpu/gather": 2.0, "cpu/scatter": 1.0}
SLOW_SCATTER = {"cpu/gather": 1.0, "cpu/scatter": 2.0}


pytestmark = pytest.mark.usefixtures("folder")


def plan(x=X.shape, dtype="float32", **keywords):
    return make_plan(make_params(2, **keywords), x, WEIGHT.shape, dtype, False)


def chosen(device="cpu", **keywords):
    return select(plan(), resolve(**keywords), device)


def remember(times, device="cpu"):
    store.record(plan(), device, times)
    invalidate()


def another_process():
    """Forget what this process knows."""
    invalidate()


@pytest.mark.parametrize(("times", "expected"), [(SLOW_GATHER, "cpu/scatter"), (SLOW_SCATTER, "cpu/gather")])
def test_auto_takes_what_was_fastest(times, expected):
    remember(times)
    for _ in range(2):
        choice = chosen()
        assert choice.implementation.name == expected
        assert f"{expected} (1e+03 ms) was measured fastest here" in choice.reason
        another_process()


def test_names_are_not_overruled():
    remember(SLOW_GATHER)
    assert chosen(formulation="gather").implementation.name == "cpu/gather"
    assert chosen(backend="reference").implementation.backend == "reference"
    assert chosen(backend="cpu").implementation.name == "cpu/scatter"  # the formulation is still open


def test_the_fastest_of_the_repeatable(install):
    install(cupy=FakeBackend(), numba_cuda=FakeBackend())
    remember({"cupy/scatter/atomic": 1.0, "numba-cuda/gather": 2.0, "cupy/scatter/tiles": 3.0}, "cuda")
    assert chosen("cuda").implementation.name == "numba-cuda/gather"
    assert chosen("cuda", deterministic=False).implementation.name == "cupy/scatter/atomic"
    assert chosen("cuda", backend="cupy").implementation.name == "cupy/scatter/tiles"
    assert chosen().implementation.backend == "cpu"


def test_a_layer_is_tuned_for_itself_and_for_the_function(folder, launched):
    layer = gtc.ConvTranspose(WEIGHT, backend="reference")
    assert not folder.exists()
    found = layer.tune(X, seconds=0.01)
    assert sorted(found) == ["reference/gather", "reference/scatter"]
    assert list(found.values()) == sorted(found.values())
    assert store.times(plan(), "cpu") == found
    launched.clear()
    layer(X)
    gtc.conv_transpose(X, WEIGHT, backend="reference")
    assert launched == [next(iter(found))] * 2
    another_process()
    assert store.times(plan(), "cpu") == found


def test_a_layer_that_ran_before_takes_the_new_winner(launched):
    layer = gtc.ConvTranspose(WEIGHT)
    layer(X)
    first = launched[0].removeprefix("cpu/")
    other = {"gather": "scatter", "scatter": "gather"}[first]
    remember({f"cpu/{first}": 2.0, f"cpu/{other}": 1.0})
    layer(X)
    gtc.conv_transpose(X, WEIGHT)
    assert launched[1:] == [f"cpu/{other}"] * 2


def test_tuning_leaves_no_trace_in_last_choice():
    layer = gtc.ConvTranspose(WEIGHT, backend="reference", formulation="gather")
    layer(X)
    before = gtc.last_choice()
    layer.tune(X, seconds=0.01)
    assert gtc.last_choice() is before


def test_tuning_on_a_device(install):
    fake = FakeBackend()
    install(cupy=fake)
    found = gtc.ConvTranspose(WEIGHT, backend="cupy").tune(X, seconds=0.01)
    assert set(found) == {"cupy/gather", "cupy/scatter/atomic", "cupy/scatter/tiles"}
    assert store.times(plan(), "cuda") == found
    assert store.times(plan(), "cpu") == {}


def test_times_of_several_backends_add_up():
    remember(SLOW_GATHER)
    gtc.ConvTranspose(WEIGHT, backend="reference").tune(X, seconds=0.01)
    assert set(store.times(plan(), "cpu")) == {"cpu/gather", "cpu/scatter", "reference/gather", "reference/scatter"}
    assert chosen().implementation.name == "cpu/scatter"


def test_what_makes_another_problem():
    key = store.key_of(plan(), "cpu")
    others = [
        plan(dtype="float64"),
        plan(stride=2),
        plan(padding=1),
        plan((1, 2, 7, 5)),
        plan((2, 2, 6, 5)),
        plan((1, 6, 5, 2), data_format="channels_last"),
    ]
    keys = [store.key_of(other, "cpu") for other in others]
    assert len({key, store.key_of(plan(), "cuda"), *keys}) == 2 + len(others)
    assert f"gpu_transconv {gtc.__version__}" in key
    assert f"numba {pytest.importorskip('numba').__version__}" in key


def test_times_of_the_simulator_are_its_own(monkeypatch):
    key = store.key_of(plan(), "cuda")
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    store.key_of.cache_clear()
    assert store.key_of(plan(), "cuda") != key
    store.key_of.cache_clear()


def test_large_sizes_share_their_times():
    near, far = plan((1, 2, 513, 640)), plan((1, 2, 512, 704))
    assert store.key_of(plan((1, 2, 512, 640)), "cpu") == store.key_of(near, "cpu")
    assert store.key_of(far, "cpu") != store.key_of(near, "cpu")
    bias_and_activation = make_plan(make_params(2, activation="relu"), X.shape, WEIGHT.shape, "float32", True)
    assert store.key_of(bias_and_activation, "cpu") == store.key_of(plan(), "cpu")


# --- the file ------------------------------------------------------------------------------------------


def spoil_with_words(path):
    path.write_text("this is no database, and longer than a page would need to be\n" * 100)


def spoil_the_middle(path):
    content = bytearray(path.read_bytes())
    content[2000:] = b"\xff" * len(content[2000:])
    path.write_bytes(content)


def spoil_by_version(path):
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 7")
    connection.close()


def spoil_a_value(path):
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE tuned SET times = '{\"cpu/gather\": -1.0}'")
    connection.close()


@pytest.mark.parametrize("spoil", [spoil_with_words, spoil_the_middle, spoil_by_version, spoil_a_value])
def test_a_file_that_cannot_be_used_is_set_aside(spoil):
    remember(SLOW_GATHER)
    path = store.database()
    spoil(path)
    spoiled = path.read_bytes()
    another_process()
    with pytest.warns(CacheWarning, match="cannot be used"):
        assert store.times(plan(), "cpu") == {}
    assert path.with_name("tuning.sqlite.unusable").read_bytes() == spoiled
    remember(SLOW_SCATTER)
    another_process()
    assert store.times(plan(), "cpu") == SLOW_SCATTER


@pytest.mark.parametrize("length", [0, 1, 10, 100, 1024, 4096, 5000, -1])
def test_a_file_that_was_cut_short(length):
    remember(SLOW_GATHER)
    path = store.database()
    path.write_bytes(path.read_bytes()[:length])
    another_process()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)
        assert store.times(plan(), "cpu") in ({}, SLOW_GATHER)
        remember(SLOW_SCATTER)
        another_process()
        assert store.times(plan(), "cpu") == SLOW_SCATTER


def test_a_file_that_another_process_is_about_to_write_is_left_alone(folder):
    folder.mkdir()
    store.database().touch()
    assert store.times(plan(), "cpu") == {}
    assert list(folder.iterdir()) == [store.database()]


def test_a_folder_that_must_not_be_read(monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(store.database()), "stat", refuse)
    assert store.times(plan(), "cpu") == {}
    assert limits.device_limits() == limits.shipped("cpu")


@pytest.mark.parametrize("spoil", [spoil_with_words, spoil_by_version])
def test_a_file_that_is_spoiled_meanwhile(spoil):
    remember(SLOW_GATHER)
    spoil(store.database())
    with pytest.warns(CacheWarning, match="cannot be used"):
        store.record(plan(dtype="float64"), "cpu", SLOW_SCATTER)
    another_process()
    assert store.times(plan(dtype="float64"), "cpu") == SLOW_SCATTER


def test_a_folder_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GPU_TRANSCONV_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.warns(CacheWarning, match="kept in memory only.*set GPU_TRANSCONV_CACHE_DIR"):
        remember(SLOW_GATHER)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.record(plan(dtype="float64"), "cpu", SLOW_SCATTER)
        assert chosen().implementation.name == "cpu/scatter"
    assert store.times(plan(dtype="float64"), "cpu") == SLOW_SCATTER


def test_export_and_import(tmp_path, monkeypatch):
    remember(SLOW_GATHER)
    store.record(plan(dtype="float64"), "cpu", SLOW_SCATTER)
    assert store.export(tmp_path / "shipped.json") == 2
    monkeypatch.setenv("GPU_TRANSCONV_CACHE_DIR", str(tmp_path / "other"))
    another_process()
    assert store.count() == 0
    assert store.import_file(tmp_path / "shipped.json") == 2
    another_process()
    assert store.times(plan(), "cpu") == SLOW_GATHER
    assert store.times(plan(dtype="float64"), "cpu") == SLOW_SCATTER


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        "[" * 100_000,
        "{}",
        '{"schema": 0, "tuned": {}}',
        '{"schema": 1, "tuned": []}',
        '{"schema": 1, "tuned": {"key": {"cpu/gather": "fast"}}}',
        '{"schema": 1, "tuned": {"key": {}}}',
    ],
    ids=lambda text: text[:60],
)
def test_import_refuses_what_is_no_export(tmp_path, text):
    (tmp_path / "file.json").write_text(text)
    with refused(ValueError, str(tmp_path), "is no file of tuning results"):
        store.import_file(tmp_path / "file.json")
    assert store.count() == 0


TUNER = """
import sys, time, numpy as np, gpu_transconv as gtc
from pathlib import Path
number, gate = int(sys.argv[1]), Path(sys.argv[2])
(gate / f"ready{number}").touch()
while not (gate / "go").exists():
    time.sleep(0.001)
for size in (1, 2, 3, 100 + 16 * number):
    x = np.ones((1, 1, size))
    gtc.ConvTranspose(np.ones((1, 1, 3)), backend="reference").tune(x, seconds=0.001)
"""


def test_sixteen_processes_tune_at_once(folder, tmp_path):
    children = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", TUNER, str(n), str(tmp_path)], env=dict(os.environ))
        for n in range(16)
    ]
    while sum((tmp_path / f"ready{n}").exists() for n in range(16)) < 16:
        assert all(child.poll() is None for child in children)
    (tmp_path / "go").touch()
    assert [child.wait() for child in children] == [0] * 16
    another_process()
    assert list(folder.iterdir()) == [store.database()]
    for size in (1, 2, 3, *(100 + 16 * n for n in range(16))):
        problem = make_plan(make_params(1), (1, 1, size), (1, 1, 3), "float64", False)
        assert set(store.times(problem, "cpu")) == {"reference/gather", "reference/scatter"}, size
    with sqlite3.connect(store.database()) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_export_is_plain_json(tmp_path):
    remember(SLOW_GATHER)
    store.export(tmp_path / "out.json")
    document = json.loads((tmp_path / "out.json").read_text())
    assert list(document["tuned"].values()) == [SLOW_GATHER]
