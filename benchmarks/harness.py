"""What the asv suites share: their layers, contenders that were checked, and rows measured as `peers` measures them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gpu_transconv.dispatch.device import threads
from gpu_transconv.tools.bench.contenders import KERNELS, Build, kernels, ours
from gpu_transconv.tools.bench.layers import Layer, make_problem, shipped
from gpu_transconv.tools.bench.libraries import PEERS
from gpu_transconv.tools.bench.machine import measure_machine
from gpu_transconv.tools.bench.measure import Conditions, check, measure_rows
from gpu_transconv.tools.bench.report import Row

__all__ = [
    "KERNELS",
    "LAYERS",
    "ONCE",
    "PEERS",
    "TIMEOUT",
    "Rows",
    "checked_call",
    "cuda_rows_of",
    "entry_of",
    "formulation",
    "keep_expected",
    "layer_named",
    "make_problem",
    "prepared",
    "rows_of",
    "threads",
]

#: Whether all that is asked is that each benchmark runs, as `.ci/run` does: then nothing is measured for long, on one
#: layer.
ONCE = bool(os.environ.get("GPU_TRANSCONV_BENCHMARK_ONCE"))
#: Layers of each rank, from few channels to many, with and without overlapping stamps; each takes under 10 ms.
LAYERS = (
    "dcgan_l1",
    "pix2pix_rgb",
    "centernet_dla_ida2",
    "fcn8s_up2",
    "fsrcnn_x3",
    "kokoro_pool_dw",
    "swinunetr_b",
    "nnunet3d_b",
)[: 1 if ONCE else None]
#: Compiling a kernel counts, for the first process that needs it.
TIMEOUT = 400.0
Rows = dict[tuple[str, str], Row]


def layer_named(name: str) -> Layer:
    """Return one of the package's layers."""
    return shipped()[name]


def formulation(name: str) -> Build:
    """Return the prepared operator on the CPU by "auto", "gather" or "scatter", into a reused output."""
    return kernels("cpu")[name]


def prepared() -> Build:
    """Return the prepared operator on the CPU, which makes a new output at every call."""
    return ours("cpu")["prepared"]


def keep_expected(layers: Iterable[str]) -> None:
    """Compute the right results once for all processes of a suite; for `setup_cache`, whose folder they share."""
    for name in layers:
        layer = layer_named(name)
        np.save(_expected_file(layer), make_problem(layer, "float64").expected)


def _expected_file(layer: Layer) -> Path:
    return Path(f"expected {layer.name}.npy")


@cache
def checked_call(how: str, layer: Layer, dtype: str = "float32") -> Callable[[], Any]:
    """Make a layer's call by a formulation, after a first call that compiled and was checked.

    Cached, because asv sets up anew before every call that it times.

    Raises
    ------
    AssertionError
        If the result is wrong.
    """
    problem = make_problem(layer, dtype)
    if (file := _expected_file(layer)).exists():
        problem.__dict__["expected"] = np.load(file)  # as the cached property would keep it
    contender = formulation(how)(problem, threads())
    first = check(problem, contender)
    if first["status"] != "ok":
        raise AssertionError(f"wrong result on {layer.name} in {dtype}: {first['note']}")
    return contender.run


def rows_of(
    builds: Mapping[str, Build],
    layers: Iterable[str],
    dtypes: Iterable[str] = ("float32",),
    seconds: float = 0.3,
    passes: int = 1,
) -> Rows:
    """Measure contenders in turns on every layer and dtype, with the machine's limits in the same run.

    This is for `setup_cache`: one process measures, and what tracks the figures only reads them. Of several passes
    over all layers the fastest times count, so that what disturbs the machine for a moment does not. With `ONCE` there
    is one pass, and a short one.
    """
    seconds, passes = (0.01, 1) if ONCE else (seconds, passes)
    machine, chosen = measure_machine(threads()), [layer_named(name) for name in layers]
    rows: Rows = {}
    for dtype in tuple(dtypes) * passes:
        for row in measure_rows(chosen, builds, machine, Conditions(dtype, seconds=seconds)):
            before = rows.setdefault((row["layer"]["name"], dtype), row)["contenders"]
            for name, entry in row["contenders"].items():
                if entry["status"] != "ok" or entry["min_ms"] < before[name].get("min_ms", 0.0):
                    before[name] = entry
    return rows


def cuda_rows_of(
    implementations: Iterable[str], layers: Iterable[str], precisions: Iterable[str], seconds: float = 240.0
) -> dict[Any, Any]:
    """Measure the package on the CUDA device as `gpu_check` does; rows by backend, layer and precision.

    ``missing`` says what is not here, where the device or what drives it is not.
    """
    from .gpu_check.measure import OURS, Task, measure_task
    from .gpu_check.report import complete

    found: dict[Any, Any] = {"missing": ""}
    until = time.monotonic() + seconds
    tasks = [Task(layer_named(name), precision, "channels_first") for precision in precisions for name in layers]
    try:
        from .gpu_check.device import CudaDevice
        from .gpu_check.machine import measure_machine as measure_device

        machine = measure_device(CudaDevice())
        for backend in dict.fromkeys(name.split("/")[0] for name in implementations):
            device = CudaDevice(backend)
            for task in tasks:
                row = {"layer": task.layer.name, "precision": task.precision, "data_format": task.data_format}
                row |= {"flops": task.plan.flops, "bytes": task.plan.bytes, "contenders": {}}
                if time.monotonic() < until:
                    row["contenders"] = dict(measure_task(device, task, OURS))
                found[backend, task.layer.name, task.precision] = complete(row, machine)
    except (ImportError, RuntimeError, AssertionError) as error:
        found["missing"] = f"no CUDA device with PyTorch: {str(error).strip().splitlines()[:1]}"
    return found


def entry_of(row: Row, name: str) -> dict[str, Any]:
    """Return what was measured of a contender.

    Raises
    ------
    NotImplementedError
        If it was left out, as asv wants it of a benchmark that is to be skipped.
    AssertionError
        If its result was wrong, or it failed.
    """
    entry: dict[str, Any] = row["contenders"].get(name, {"status": "left out", "note": "not measured"})
    if entry["status"] == "left out":
        raise NotImplementedError(f"{name}: {entry['note']}")
    if entry["status"] != "ok":
        raise AssertionError(f"{name}: {entry['status']}: {entry['note']}")
    return entry
