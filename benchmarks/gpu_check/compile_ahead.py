"""Compile ahead, on all cores, what a check on a GPU will launch, so that its time goes into measuring."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

from gpu_transconv.kernels.cupy.hopper import best_gather_launches
from gpu_transconv.kernels.cupy.launch_plan import (
    KernelLaunch,
    scatter_atomic_launches,
    scatter_owned_launches,
)
from gpu_transconv.kernels.cupy.tile_shapes import DeviceProperties

from .measure import PRECISIONS, Task, first_line

_MOST_WORKERS = 16


def launches_of(tasks: Iterable[Task], device: DeviceProperties) -> list[KernelLaunch]:
    """List one launch per kernel that the package may launch for `tasks`, in their order.

    What a launch takes of shared memory is no part of a kernel: it is compiled once for all of them.
    """
    found: dict[tuple[str, str], KernelLaunch] = {}
    for task in tasks:
        plan = replace(task.plan, precision="tf32" if PRECISIONS[task.precision][1] else "highest")
        for make in (best_gather_launches, scatter_atomic_launches, scatter_owned_launches):
            planned = make(plan, device)
            for launch in (*planned.pack, *planned.launch):
                found.setdefault((launch.source, launch.kernel), launch)
    return list(found.values())


def compile_ahead(
    launches: Sequence[KernelLaunch], compile_one: Callable[[KernelLaunch], Any], seconds: float
) -> dict[str, Any]:
    """Compile in threads (the compiler lets go of Python's lock) for at most about `seconds`.

    Returns
    -------
    dict
        How many of how many are compiled, what failed, and the seconds it took.
    """
    start = time.monotonic()
    with ThreadPoolExecutor(min(_MOST_WORKERS, os.cpu_count() or 1)) as pool:
        futures = {pool.submit(compile_one, launch): launch for launch in launches}
        done, late = wait(futures, timeout=seconds)
        for future in late:
            future.cancel()  # those that have begun still end
    errors = {futures[future].kernel: future.exception() for future in done}
    failed = {kernel: first_line(error) for kernel, error in errors.items() if isinstance(error, Exception)}
    return {
        "kernels": len(launches),
        "compiled": len(done) - len(failed),
        "failed": failed,
        "seconds": time.monotonic() - start,
    }
