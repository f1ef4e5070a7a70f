"""Blocks for second-level caches smaller than the one that they were measured with."""

from __future__ import annotations

import numpy as np
import pytest

import gpu_transconv as gtc
from gpu_transconv.kernels.cpu import launch
from gpu_transconv.kernels.cpu.runtime import caches

KIB = 1024


def write_caches(folder, second, sharers):
    """What Linux tells of two first-level caches and a second-level one, of a core or several with two threads each."""
    for number, (level, kind, size, cpus) in enumerate(
        [("1", "Data", "32K", "3"), ("1", "Instruction", "64K", "3"), ("2", "Unified", second, sharers)]
    ):
        cache = folder / f"index{number}"
        cache.mkdir(parents=True)
        for name, word in (("level", level), ("type", kind), ("size", size), ("shared_cpu_map", cpus)):
            (cache / name).write_text(f"{word}\n")
    return folder


@pytest.mark.parametrize(
    ("second", "sharers", "size"),
    [
        ("1024K", "3", 1024 * KIB),
        ("256K", "00000000,00000003", 256 * KIB),
        ("2M", "00000001,00000001", 2048 * KIB),
        ("2048K", "ff", 512 * KIB),  # of four cores
        ("16K", "3", 128 * KIB),
        ("", "3", caches.MEASURED),
        ("512X", "3", caches.MEASURED),
        ("512K", "none", caches.MEASURED),
    ],
)
def test_what_linux_tells(tmp_path, second, sharers, size):
    assert caches.read_second_level(write_caches(tmp_path, second, sharers)) == size


def test_nobody_tells(tmp_path):
    assert caches.read_second_level(tmp_path) == caches.MEASURED


@pytest.mark.parametrize("formulation", ["gather", "scatter"])
def test_a_layer_in_small_blocks(monkeypatch, formulation):
    """With a small cache there is less in work at a time, and the sums are the same up to their order."""
    rng = np.random.default_rng(1)
    x, weight = (rng.standard_normal(shape).astype(np.float32) for shape in ((1, 300, 40, 37), (300, 8, 3, 3)))
    layer = {"stride": 2, "formulation": formulation, "backend": "cpu"}
    results, rooms = [], []
    for size in (caches.MEASURED, 128 * KIB):
        monkeypatch.setattr(caches, "second_level", lambda size=size: size)
        launch._many_jobs.cache_clear()
        results.append(gtc.conv_transpose(x, weight, **layer))
        rooms.append(gtc.explain(x, weight, **layer).workspace_bytes)
    launch._many_jobs.cache_clear()
    assert rooms[1] < 0.6 * rooms[0]
    np.testing.assert_allclose(*results, rtol=0, atol=2e-6 * np.abs(results[0]).max())


@pytest.mark.parametrize(("size", "share"), [(256 * KIB, 4), (512 * KIB, 2), (1024 * KIB, 1), (2048 * KIB, 1)])
def test_panels_fit(monkeypatch, size, share):
    """A smaller cache has the same share of it in use, and a larger one no other blocks."""
    monkeypatch.setattr(caches, "second_level", lambda: size)
    assert caches.fitted(512 * KIB) == 512 * KIB // share
