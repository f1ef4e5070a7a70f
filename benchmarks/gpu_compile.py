"""Compile ahead, on all cores, what a check on a GPU will launch, so that its time goes into measuring."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

from gpu_transconv.kernels.cupy.steps import (
    DeviceFacts,
    Step,
    steps_gather,
    steps_scatter_atomic,
    steps_scatter_tiles,
)

from .gpu_measure import PRECISIONS, Task, first_line

_MOST_WORKERS = 16


def steps_of(tasks: Iterable[Task], facts: DeviceFacts) -> list[Step]:
    """List one step per kernel that the package may launch for `tasks`, in their order."""
    found: dict[tuple[str, str, int], Step] = {}
    for task in tasks:
        plan = replace(task.plan, precision="tf32" if PRECISIONS[task.precision][1] else "highest")
        for make in (steps_gather, steps_scatter_atomic, steps_scatter_tiles):
            steps = make(plan, facts)
            for step in (*steps.pack, *steps.launch):
                found.setdefault((step.source, step.kernel, step.shared), step)
    return list(found.values())


def compile_ahead(steps: Sequence[Step], compile_one: Callable[[Step], Any], seconds: float) -> dict[str, Any]:
    """Compile in threads (the compiler lets go of Python's lock) for at most about `seconds`.

    Returns
    -------
    dict
        How many of how many are compiled, what failed, and the seconds it took.
    """
    start = time.monotonic()
    with ThreadPoolExecutor(min(_MOST_WORKERS, os.cpu_count() or 1)) as pool:
        futures = {pool.submit(compile_one, step): step for step in steps}
        done, late = wait(futures, timeout=seconds)
        for future in late:
            future.cancel()  # those that have begun still end
    errors = {futures[future].kernel: future.exception() for future in done}
    failed = {kernel: first_line(error) for kernel, error in errors.items() if isinstance(error, Exception)}
    return {
        "kernels": len(steps),
        "compiled": len(done) - len(failed),
        "failed": failed,
        "seconds": time.monotonic() - start,
    }
