"""A program for `test_dask.py`: what only a cluster of two processes shows, as JSON."""

from __future__ import annotations

import json
import resource
import sys
import time

import dask
import dask.array as da
import numpy as np
from distributed import Client, LocalCluster

import gpu_transconv as gtc
from gpu_transconv.dask import worker
from gpu_transconv.dask.worker import ChunkOperator

MEBIBYTE = 1 << 20
WEIGHT = np.full((8, 1, 2, 2, 2), 0.5, np.float32)


def count(name: str) -> dict[str, int]:
    """Counters of a worker process, kept by `watch`."""
    return dict(getattr(worker, name))


def watch() -> None:
    """Count in a worker how often the operator arrives, and how often weights are packed."""
    worker.counted = {"arrived": 0, "packed": 0, "threads": 0}
    arrive, prepare, threads = ChunkOperator.__setstate__, worker.prepare, ChunkOperator._threads_of_a_task

    def counted(name, function):
        def call(*arguments):
            worker.counted[name] += 1
            return function(*arguments)

        return call

    def threads_of_a_task(operator):
        worker.counted["threads"] = threads(operator)
        return worker.counted["threads"]

    ChunkOperator.__setstate__ = counted("arrived", arrive)
    ChunkOperator._threads_of_a_task = threads_of_a_task
    worker.prepare = counted("packed", prepare)


def peak() -> int:
    """Most memory that a process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def equal_to_the_whole() -> list[float]:
    """Errors of a chunked result with an overlap and of one without, each with a formulation named."""
    rng, errors = np.random.default_rng(0), []
    x = rng.standard_normal((2, 4, 20, 21)).astype(np.float32)
    for kernel in (5, 2):
        weight = rng.standard_normal((4, 3, kernel, kernel)).astype(np.float32)
        y = gtc.dask.conv_transpose(da.from_array(x, chunks=(1, 2, 7, 6)), weight, stride=2, formulation="gather")
        whole = gtc.conv_transpose(x, weight, stride=2, formulation="gather")
        errors.append(float(np.abs(y.compute() - whole).max() / np.abs(whole).max()))
    return errors


def volume(size: int) -> float:
    """Sum of the result for a volume of so many bytes, whose elements are all 1."""
    planes = size // (4 * 8 * 128 * 128)
    x = da.ones((1, 8, planes, 128, 128), chunks=(1, 8, 16, 128, 128), dtype=np.float32)
    y = gtc.dask.conv_transpose(x, WEIGHT, stride=2)
    return float(y.sum(dtype=np.float64).compute() / y.size)


def main() -> None:
    """Print what was seen."""
    limit, times = int(sys.argv[1]) * MEBIBYTE, int(sys.argv[2])
    for number in (1, 2):  # compile here what the workers then find on disk: a compiler needs memory of its own
        with gtc.use(threads=number):
            gtc.dask.conv_transpose(da.ones((1, 8, 16, 128, 128), dtype=np.float32), WEIGHT, stride=2).compute()
    assert max(equal_to_the_whole()) < 1e-5
    dask.config.set({"distributed.scheduler.worker-ttl": None})
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, memory_limit=limit, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.run(watch)
        found = {"errors": equal_to_the_whole(), "counted": list(client.run(count, "counted").values())}
        start = time.perf_counter()
        found |= {"mean": volume(2 * times * limit), "seconds": time.perf_counter() - start}
        found |= {"peaks": list(client.run(peak).values()), "limit": limit}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
