"""Concurrent callers, forked children, and the number of threads."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from cases import CASES
from checks import assert_close, expected, implementations, make_arrays
from numba import njit

import gpu_transconv as gtc
from gpu_transconv.kernels.cpu import launch
from gpu_transconv.kernels.cpu.choose import choose_gather
from gpu_transconv.kernels.cpu.runtime import team

ROWS = implementations("cpu")
HERE = str(Path(__file__).parents[2])  # the folder of the case table


@pytest.mark.parametrize("row", ROWS)
def test_eight_threads_at_once(row):
    cases = [case for case in CASES if case.core and case.takes("float32")][:8]
    assert len(cases) == 8
    problems = []
    for case in cases:
        arrays = make_arrays(case, "float32")
        problems.append((case, arrays, expected(case, arrays)))
    together = threading.Barrier(8)

    def work(number):
        together.wait()
        for turn in range(40):
            case, arrays, want = problems[(number + turn) % 8]
            got = gtc.conv_transpose(*arrays, **case.keywords, backend=row.backend, formulation=row.formulation)
            assert_close(got, want, "float32", case.reduction)
        return number

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == list(range(8))


@pytest.mark.skipif(not team.is_possible(), reason="there is no team on this system")
def test_thread_is_kept_off_the_core_of_its_caller():
    allowed, told, done = os.sched_getaffinity(0), [], threading.Event()
    thread = threading.Thread(target=lambda: told.append(threading.get_native_id()) or done.wait())
    thread.start()
    while not told:
        time.sleep(0.001)
    memory = np.zeros(((team.MOST + 1) * team._BOX + team._CORES_BYTES) // 8, np.int64)
    start, part_from = memory.ctypes.data, team._part_from
    memory[(team._BOX + team._THREAD) // 8] = told[0]

    @njit  # what kernels call has no machine code of its own
    def call(start, box, core):
        part_from(start, box, core)

    try:
        for core in (*allowed, *allowed):
            call(start, start + team._BOX, core + 1)
            assert os.sched_getaffinity(told[0]) == (allowed - {core} or allowed)
            assert os.sched_getaffinity(0) == allowed
    finally:
        done.set()
        thread.join()


def _tables_of(arguments):
    return arguments.table, *arguments.tables


def test_small_call_keeps_all_tables_of_its_arguments():
    """Whatever becomes of the jobs that are kept: two threads that make the same one keep only one of them."""
    layer = gtc.ConvTranspose(np.ones((1, 1, 2, 300), np.float32), stride=2, formulation="gather", backend="cpu")
    layer(np.ones((1, 1, 3, 3), np.float32))
    plan = next(iter(layer._choices.values())).plan
    tables = [weakref.ref(table) for table in _tables_of(launch.job_of(choose_gather, plan).arguments)]
    assert len(tables) > 1
    launch._many_jobs.cache_clear()
    gc.collect()
    assert all(table() is not None for table in tables)


def python(code: str, *arguments: str, **environment: str) -> str:
    """Run `code` in an interpreter of its own, which can import the case table."""
    path = os.pathsep.join(filter(None, [HERE, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


FORK = """
import os, sys, warnings
import gpu_transconv as gtc
from cases import named
from checks import assert_close, expected, make_arrays

case = named("2d-kernel-is-twice-stride")
arrays = make_arrays(case, "float32")
want = expected(case, arrays)

def call():
    got = gtc.conv_transpose(*arrays, **case.keywords, backend="cpu", formulation=sys.argv[1])
    assert_close(got, want, "float32", case.reduction)

call()
with warnings.catch_warnings():
    # Python warns about any fork of a process with threads; that this one works is what is tested.
    warnings.simplefilter("ignore", DeprecationWarning)
    child = os.fork()
if child == 0:
    code = 1
    try:
        call()
        print("child", flush=True)
        code = 0
    finally:
        os._exit(code)
_, status = os.waitpid(child, 0)
assert status == 0, status
call()
print("parent")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no os.fork")
@pytest.mark.parametrize("formulation", ["gather", "scatter"])
def test_a_forked_child_calls_after_its_parent(formulation):
    assert python(FORK, formulation).split() == ["child", "parent"]


ONE_PROCESSOR = """
import os, signal, warnings

os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
import gpu_transconv as gtc
from gpu_transconv.kernels.cpu.runtime import threads

threads.choose_layer()
threads.thread_count()
with warnings.catch_warnings():
    # Python warns about any fork of a process with threads; that this one works is what is tested.
    warnings.simplefilter("ignore", DeprecationWarning)
    child = os.fork()
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
print(threads.layer())
signal.alarm(20)  # ends a process that would wait for ever
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this platform pins no process to a processor")
def test_a_process_that_has_forked_on_one_processor_ends():
    assert python(ONE_PROCESSOR, NUMBA_NUM_THREADS="2").split() == ["tbb"]


LAYERS = """
import os, signal, sys, threading, time, warnings
from concurrent.futures import ThreadPoolExecutor
import numba

numba.get_num_threads()  # as the first parallel function of the process does, whosever it is
expected, checks = sys.argv[1], sys.argv[2:]
assert numba.threading_layer() == expected

import numpy as np
from numba.core.compiler_lock import global_compiler_lock
import gpu_transconv as gtc
from gpu_transconv.kernels.cpu.runtime import threads

assert threads.layer() == expected
ones = lambda *shape, dtype="f4": np.ones(shape, dtype)
problems = [(ones(1, 16, 64, 64), ones(16, 16, 4, 4)), (ones(2, 3, 200, dtype="i8"), ones(3, 4, 4, dtype="i8"))]

def call():
    return [
        gtc.conv_transpose(x, weight, stride=2, formulation=formulation)
        for x, weight in problems
        for formulation in ("gather", "scatter")
    ]

want = call()

def right(_=None):
    return all(np.array_equal(got, result) for got, result in zip(call(), want, strict=True))

def fork():
    with warnings.catch_warnings():
        # Python warns about any fork of a process with threads; that this one works is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        signal.alarm(60)
        os._exit(0 if right() else 1)
    assert os.waitpid(child, 0)[1] == 0

if "threads" in checks:
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(right, range(20)))
if "fork" in checks:
    fork()
if "fork-while-another-computes" in checks:
    stop = threading.Event()
    def work():
        while not stop.is_set():
            assert right()
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(work)
        try:
            for _ in range(5):
                time.sleep(0.003)
                fork()
        finally:
            stop.set()
        other.result()
if "fork-while-another-compiles" in checks:
    lock = global_compiler_lock
    held = threading.Event()
    def compile():
        with lock:
            held.set()
            time.sleep(0.1)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(compile)
        held.wait()
        right = lambda: lock._lock.acquire(timeout=20)
        fork()
    assert right()
else:
    assert right()
print("ok")
"""
PRIORITY, CHOSEN = "NUMBA_THREADING_LAYER_PRIORITY", "NUMBA_THREADING_LAYER"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no os.fork")
@pytest.mark.parametrize(
    ("layer", "checks", "environment"),
    [
        ("workqueue", ["threads"], {PRIORITY: "workqueue omp tbb"}),
        ("workqueue", ["fork", "fork-while-another-computes", "fork-while-another-compiles"], {CHOSEN: "workqueue"}),
        pytest.param(
            *("omp", ["threads", "fork"], {PRIORITY: "omp tbb workqueue"}),
            marks=pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP, which no fork survives"),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_layer_that_another_library_settled(layer, checks, environment):
    environment = {PRIORITY: "tbb omp workqueue", CHOSEN: "default", "NUMBA_NUM_THREADS": "2"} | environment
    assert python(LAYERS, layer, *checks, **environment) == "ok\n"


BITS = """
import hashlib, sys
import numba
import numpy as np
import gpu_transconv as gtc
from cases import CASES
from checks import make_arrays

rng = np.random.default_rng(0)
large = rng.standard_normal((2, 19, 33, 45)).astype("f4"), rng.standard_normal((19, 21, 4, 4)).astype("f4")
long = rng.standard_normal((1, 9, 700)).astype("f4"), rng.standard_normal((9, 1, 64)).astype("f4")

def calls(**keywords):
    yield gtc.conv_transpose(*large, stride=2, padding=1, **keywords)
    yield gtc.conv_transpose(*large, stride=3, groups=1, activation="gelu", **keywords)
    yield gtc.conv_transpose(*long, stride=16, **keywords)
    for case in CASES:
        if case.core:
            yield gtc.conv_transpose(*make_arrays(case, "float32"), **case.keywords, **keywords)

for threads in map(int, sys.argv[2:]):
    numba.set_num_threads(threads)
    assert numba.get_num_threads() == threads
    results = [y.tobytes() for y in calls(backend="cpu", formulation=sys.argv[1])]
    print(hashlib.sha256(b"".join(results)).hexdigest())
"""


@pytest.mark.parametrize("formulation", ["gather", "scatter"])
def test_the_number_of_threads_does_not_change_a_bit(formulation):
    digests = python(BITS, formulation, "1", "2", "3", "1", NUMBA_NUM_THREADS="3").split()
    assert len(digests) == 4
    assert len(set(digests)) == 1


def test_settings_of_one_thread_do_not_reach_another():
    x, weight = np.ones((1, 1, 2)), np.ones((1, 1, 2))
    with gtc.use(backend="cupy"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(gtc.conv_transpose, x, weight).result().tolist() == [[[1, 2, 1]]]
