"""Recycled memory: it goes to the next result, and never while anything can still see the last one."""

from __future__ import annotations

import gc
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import gpu_transconv as gtc
from gpu_transconv.arrays import outputs
from gpu_transconv.arrays.pool import SMALLEST, Pool

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


class Tagged(np.ndarray):
    """A subclass, of which NumPy keeps other bases than of plain arrays."""


def through_torch(array):
    torch = pytest.importorskip("torch", reason="a view that PyTorch holds")
    return torch.from_numpy(array)[3:]


VIEWS = {
    "itself": lambda a: a,
    "slice": lambda a: a[5:7],
    "one-element": lambda a: a[3, ...],
    "reshaped": lambda a: a.reshape(2, -1),
    "transposed": lambda a: a.reshape(2, -1).T[::3],
    "bytes": lambda a: a.view(np.uint8)[:1],
    "subclass": lambda a: a.view(Tagged)[2:],
    "broadcast": lambda a: np.broadcast_to(a, (3, a.size)),
    "strided": lambda a: np.lib.stride_tricks.as_strided(a, (2, 2), (4, 4)),
    "asarray": lambda a: np.asarray(a[1:]),
    "memoryview": memoryview,
    "through-memoryview": lambda a: np.asarray(memoryview(a)[3:4]),
    "frombuffer": lambda a: np.frombuffer(a, np.int16),
    "dlpack": np.from_dlpack,
    "ctypes": lambda a: np.ctypeslib.as_ctypes(a),
    "flat": lambda a: a.flat,
    "iterator": iter,
    "in-a-list": lambda a: [a[1:]],
    "base": lambda a: a.base,
    "torch": through_torch,
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
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


def test_the_newest_memory_is_used():
    pool = Pool(16 * SMALLEST)
    results = [take(pool, SMALLEST) for _ in range(3)]
    place = address(results[-1])
    results.clear()
    assert [address(take(pool, SMALLEST)) for _ in range(2)] == [place, place]


def test_only_memory_of_about_the_size_is_used():
    pool = Pool(64 * SMALLEST)
    big = take(pool, 9 * SMALLEST)
    place = address(big)
    del big
    assert address(take(pool, 4 * SMALLEST)) != place  # less than half of it would be used
    larger = take(pool, 10 * SMALLEST)
    assert address(larger) != place  # too small
    assert address(take(pool, 9 * SMALLEST)) == place


def test_what_is_kept_is_bounded_and_the_oldest_goes_first():
    pool = Pool(6 * SMALLEST)
    results = [take(pool, size * SMALLEST) for size in (3, 2, 4)]
    places = [address(result) for result in results]
    for _ in range(3):
        del results[0]
    assert pool.kept == 6 * SMALLEST
    newest = take(pool, 2 * SMALLEST)
    assert address(newest) == places[2]
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


def test_nothing_runs_when_a_result_dies():
    """What runs then may be where a keyboard interrupt is raised, and Python discards what is raised there."""
    pool, called = Pool(4 * SMALLEST), []
    first = take(pool, SMALLEST)
    sys.setprofile(lambda frame, event, _: called.append(frame.f_code.co_name) if event == "call" else None)
    try:
        del first
    finally:
        sys.setprofile(None)
    assert called == []
    assert pool.kept == SMALLEST


def test_results_of_which_too_many_live_own_their_memory_alone():
    pool = Pool(4 * SMALLEST)
    results = [take(pool, SMALLEST) for _ in range(6)]
    for number, result in enumerate(results):
        result[:] = number
    del result
    held = {address(result) for result in results[2:]}
    del results[2:]
    assert pool.kept == 4 * SMALLEST
    assert {address(result) for result in [take(pool, SMALLEST) for _ in range(4)]} == held
    assert [(result.min(), result.max()) for result in results] == [(0, 0), (1, 1)]
    results.clear()
    assert pool.kept == 4 * SMALLEST


def test_the_number_of_results_that_are_watched_is_bounded(monkeypatch):
    monkeypatch.setattr("gpu_transconv.arrays.pool.MOST", 3)
    pool = Pool(64 * SMALLEST)
    results = [take(pool, SMALLEST) for _ in range(7)]
    assert len(pool._watched) == 3
    results.clear()
    assert pool.kept == 3 * SMALLEST


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


def test_results_that_the_garbage_collector_frees_in_any_thread():
    pool = Pool(6 * SMALLEST)

    def work(number):
        for turn in range(20):
            mine = take(pool, SMALLEST)
            mine[:] = number * 1000 + turn
            ring = [mine[::4096], memoryview(mine)]
            ring.append(ring)
            assert (ring[0] == number * 1000 + turn).all()
            if turn % 7 == 0:
                gc.collect()
            assert mine.min() == mine.max() == number * 1000 + turn
        return number

    limits = gc.get_threshold()
    gc.set_threshold(5)
    try:
        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(work, range(4))) == list(range(4))
    finally:
        gc.set_threshold(*limits)
    gc.collect()
    assert SMALLEST <= pool.kept <= 6 * SMALLEST


def test_a_view_that_dies_in_another_thread():
    pool = Pool(4 * SMALLEST)
    first = take(pool, SMALLEST)
    views = [first[1:]]
    del first
    with ThreadPoolExecutor(1) as thread:
        assert pool.kept == 0
        thread.submit(views.clear).result()
    assert pool.kept == SMALLEST


def test_small_results_of_the_operator_are_not_kept(monkeypatch):
    pool = Pool(8 * SMALLEST)
    monkeypatch.setattr(outputs, "outputs", pool)
    weight = np.ones((1, 1, 2, 2), np.float32)
    for size, kept in ((100, 0), (256, SMALLEST)):
        result = gtc.conv_transpose(np.ones((1, 1, size, size), np.float32), weight, stride=2)
        del result
        assert pool.kept == kept


def test_out_is_never_recycled(monkeypatch):
    pool = Pool(8 * SMALLEST)
    monkeypatch.setattr(outputs, "outputs", pool)
    x, weight = np.ones((1, 1, 256, 256), np.float32), np.ones((1, 1, 2, 2), np.float32)
    out = np.empty((1, 1, 512, 512), np.float32)
    assert gtc.conv_transpose(x, weight, stride=2, out=out) is out
    del out
    assert pool.kept == 0
    assert pool._watched == {}


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


@pytest.mark.parametrize(("limit", "taken"), [(0, []), (1 << 30, [31 << 20])])
def test_the_heap_is_kept_once_and_only_where_memory_may_be(limit, taken, monkeypatch):
    pool, made, empty = Pool(limit), [], np.empty
    monkeypatch.setattr(np, "empty", lambda size, *rest: made.append(size) or empty(size, *rest))
    for _ in range(2):
        pool.keep_heap()
    assert made == taken
