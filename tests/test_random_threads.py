"""The number of threads must not change a bit of any result: random problems with 1, 2, 3 and 8 threads.

``python tests/test_random_threads.py 3000 --seed 7`` computes so many problems and names those that differ. The kernels
run with the threads that Numba may start, so this is a process with ``NUMBA_NUM_THREADS=8``.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from cases import Case
from checks import make_arrays
from test_random_geometries import Problem, make_problem

THREADS = (1, 2, 3, 8)


def make_large_problem(seed: int, number: int) -> Problem:
    """A problem that is large enough for several threads; every second one is drawn as the small ones are."""
    draw = random.Random(f"threads/{seed}/{number}")
    if number % 2:
        return make_problem(seed, number)
    ndim = draw.choice((1, 2, 2, 3))
    stride = draw.choice((1, 2, 2, 3, 4))
    kernel = draw.choice((stride, 2 * stride, 3, 4, 5))
    cin, cout = (draw.choice((1, 3, 8, 17, 64)) for _ in range(2))
    groups = cin if draw.random() < 0.25 else 1
    weight = (cin, 1 if groups > 1 else cout, *(kernel,) * ndim)
    size = draw.randint(*((400, 4000), (20, 80), (6, 20))[ndim - 1])
    padding = draw.randint(0, min(kernel - 1, size // 2))
    keywords = {"stride": stride, "padding": padding, "groups": groups}
    case = Case(f"threads-{seed}-{number}", (draw.choice((1, 1, 2)), cin, *(size,) * ndim), weight, keywords=keywords)
    return Problem(
        case,
        draw.choice(("float32", "float32", "float64", "float16")),
        draw.choice(("channels_first",) * 2 + ("channels_last",)),
    )


def differing(seed: int, number: int) -> list[str]:
    """The formulations and precisions of a problem whose bits depend on the number of threads."""
    import numba

    import gpu_transconv as gtc

    case, dtype, data_format = make_large_problem(seed, number)
    arrays = make_arrays(case, dtype, data_format)
    wrong = []
    for formulation, precision in (("gather", "highest"), ("scatter", "highest"), ("gather", "fast")):
        results = set()
        for threads in THREADS:
            numba.set_num_threads(threads)
            with np.errstate(all="ignore"):
                result = gtc.conv_transpose(
                    *arrays, **case.keywords, data_format=data_format, formulation=formulation, precision=precision
                )
            results.add(result.tobytes())
        if len(results) > 1:
            wrong.append(f"{formulation} ({precision})")
    return wrong


def test_the_number_of_threads_does_not_change_a_bit():
    environment = {**os.environ, "NUMBA_NUM_THREADS": str(max(THREADS))}
    done = subprocess.run(
        [sys.executable, "-W", "error", __file__, "60", "--seed", "0"],
        capture_output=True, text=True, check=False, env=environment, cwd=Path(__file__).parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "60 problems" in done.stdout


def main(arguments: list[str] | None = None) -> int:
    """Compute many problems; the exit status is 1 if a bit differs."""
    parser = argparse.ArgumentParser(description="Random problems, bitwise equal for any number of threads.")
    parser.add_argument("count", type=int, nargs="?", default=3000, help="how many problems (3000)")
    parser.add_argument("--seed", type=int, default=1, help="which sequence of problems (1)")
    options = parser.parse_args(arguments)
    started, wrong = time.perf_counter(), 0
    for number in range(options.count):
        found = differing(options.seed, number)
        if found:
            wrong += 1
            print(f"{make_large_problem(options.seed, number)}: {', '.join(found)}")
    seconds = time.perf_counter() - started
    print(
        f"{options.count:,} problems of seed {options.seed} in {seconds:.0f} s with {THREADS} threads: {wrong:,} differ"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    if "NUMBA_NUM_THREADS" not in os.environ:  # Numba has read it by now, so the program starts once more
        os.environ["NUMBA_NUM_THREADS"] = str(max(THREADS))
        os.execv(sys.executable, sys.orig_argv)
    raise SystemExit(main())
