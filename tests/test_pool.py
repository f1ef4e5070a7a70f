"""Recycled memory: it goes to the next result, and never while anything can still see the last one."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import gpu_transconv as gtc
from gpu_transconv.pool import SMALLEST, Pool

FLOAT = np.dtype(np.float32)


def take(pool, nbytes):
    return pool.empty((nbytes // 4,), FLOAT, nbytes // 4 * 4)


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_of_a_dead_result_is_used_again():
    pool = Pool(16 * SMALLEST)
    first = take(pool, 2 * SMALLEST)
    place = address(first)
    assert pool.kept == 0
    del first
    assert pool.kept == 2 * SMALLEST
    again = pool.empty((SMALLEST // 8, 2), np.dtype("f8"), 2 * SMALLEST)
    assert address(again) == place
    assert (again.shape, again.dtype, again.flags.writeable) == ((SMALLEST // 8, 2), np.float64, True)
    assert pool.kept == 0


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a,
        lambda a: a[5:7],
        lambda a: a.reshape(2, -1).T[::3],
        lambda a: a.view(np.uint8)[:1],
        memoryview,
        lambda a: np.frombuffer(a, np.int16),
        lambda a: np.asarray(memoryview(a)[3:4]),
        lambda a: [a[1:]],
        lambda a: a.base,
    ],
    ids=[
        "itself",
        "slice",
        "transposed",
        "bytes",
        "memoryview",
        "frombuffer",
        "through-memoryview",
        "in-a-list",
        "base",
    ],
)
def test_memory_is_not_used_again_while_a_view_lives(view):
    pool = Pool(16 * SMALLEST)
    first = take(pool, SMALLEST)
    place, kept = address(first), view(first)
    del first
    gc.collect()
    second = take(pool, SMALLEST)
    assert pool.kept == 0
    assert address(second) != place
    del kept
    gc.collect()
    assert pool.kept == SMALLEST
    assert address(take(pool, SMALLEST)) == place


def test_only_memory_of_about_the_size_is_used():
    pool = Pool(64 * SMALLEST)
    big = take(pool, 9 * SMALLEST)
    place = address(big)
    del big
    assert address(take(pool, 4 * SMALLEST)) != place  # less than half of it would be used
    assert address(take(pool, 10 * SMALLEST)) != place  # too small
    assert address(take(pool, 9 * SMALLEST)) == place


def test_what_is_kept_is_bounded_and_the_oldest_goes_first():
    pool = Pool(6 * SMALLEST)
    results = [take(pool, size * SMALLEST) for size in (3, 2, 4)]
    places = [address(result) for result in results]
    for _ in range(3):
        del results[0]
    assert pool.kept == 6 * SMALLEST
    assert address(take(pool, 4 * SMALLEST)) == places[2]
    assert address(take(pool, 2 * SMALLEST)) == places[1]


def test_small_and_enormous_results_are_not_kept():
    for limit, size in ((8 * SMALLEST, SMALLEST - 4), (2 * SMALLEST, 3 * SMALLEST), (0, 2 * SMALLEST)):
        pool = Pool(limit)
        del_me = take(pool, size)
        assert del_me.nbytes == size
        del del_me
        assert pool.kept == 0


def test_an_enormous_result_does_not_drive_out_what_is_kept():
    pool = Pool(2 * SMALLEST)
    for size in (2, 3):
        take(pool, size * SMALLEST)
    assert pool.kept == 2 * SMALLEST


def test_threads():
    pool = Pool(8 * SMALLEST)

    def work(number):
        for turn in range(200):
            mine = take(pool, SMALLEST)
            mine[:] = number * 1000 + turn
            assert mine.min() == mine.max() == number * 1000 + turn
        return number

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(work, range(4))) == list(range(4))
    assert pool.kept <= 8 * SMALLEST


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_results_do_not_change_when_more_are_made(backend):
    x, weight = np.ones((1, 2, 300, 300), np.float32), np.ones((2, 1, 2, 2), np.float32)
    first = gtc.conv_transpose(x, weight, stride=2, backend=backend)
    assert first.nbytes >= SMALLEST
    row = first[0, 0, 7]
    del first
    second = gtc.conv_transpose(3 * x, weight, stride=2, backend=backend)
    assert row.tolist() == [2.0] * 600
    assert np.unique(second).tolist() == [6.0]
