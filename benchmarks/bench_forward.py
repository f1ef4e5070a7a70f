"""Speed of the operator: formulations x layers of models x dtypes."""

from __future__ import annotations

from typing import Any

from .harness import (
    KERNELS,
    LAYERS,
    TIMEOUT,
    Rows,
    checked_call,
    cuda_rows_of,
    entry_of,
    formulation,
    keep_expected,
    layer_named,
    rows_of,
)

DTYPES = ("float32", "float64")


class Call:
    """One call of the prepared operator on the CPU, into a reused output."""

    params = (KERNELS, LAYERS, DTYPES)
    param_names = ("formulation", "layer", "dtype")
    timeout = TIMEOUT
    repeat = (5, 60, 1.0)
    warmup_time = 0.05

    def setup_cache(self) -> None:
        keep_expected(LAYERS)

    setup_cache.timeout = TIMEOUT

    def setup(self, formulation: str, layer: str, dtype: str) -> None:
        self.run = checked_call(formulation, layer_named(layer), dtype)

    def time_call(self, *_: str) -> None:
        self.run()

    time_call.pretty_name = "Forward on the CPU: time"


class Speed:
    """The same calls in turns in one process, beside the machine's limits measured there."""

    params = Call.params
    param_names = Call.param_names
    timeout = TIMEOUT

    def setup_cache(self) -> Rows:
        return rows_of({name: formulation(name) for name in KERNELS}, LAYERS, DTYPES, passes=3)

    setup_cache.timeout = TIMEOUT

    def setup(self, rows: Rows, formulation: str, layer: str, dtype: str) -> None:
        self.entry = entry_of(rows[layer, dtype], formulation)

    def track_milliseconds(self, *_: Any) -> float:
        return float(self.entry["min_ms"])

    def track_gflops(self, *_: Any) -> float:
        return float(self.entry["gflops"])

    def track_fraction_of_roofline(self, *_: Any) -> float:
        return float(self.entry["roofline_fraction"])

    track_milliseconds.unit = "ms"
    track_milliseconds.pretty_name = "Forward on the CPU: fastest of many calls"
    track_gflops.unit = "GFLOP/s"
    track_gflops.pretty_name = "Forward on the CPU: useful operations"
    track_fraction_of_roofline.unit = "of the roofline"
    track_fraction_of_roofline.pretty_name = "Forward on the CPU: fraction of the roofline"


class Cuda:
    """Calls on the CUDA device, timed by its events; skipped where there is none."""

    params = (
        ("cupy/auto", "numba-cuda/auto"),
        ("dcgan_l3", "pix2pix_rgb", "centernet_dla_ida2", "nnunet3d_b"),
        ("float32", "tf32", "float16"),
    )
    param_names = ("implementation", "layer", "precision")
    timeout = TIMEOUT

    def setup_cache(self) -> dict[str, Any]:
        return cuda_rows_of(*self.params)

    setup_cache.timeout = TIMEOUT

    def setup(self, found: dict[str, Any], implementation: str, layer: str, precision: str) -> None:
        if found["missing"]:
            raise NotImplementedError(found["missing"])
        backend, formulation = implementation.split("/")
        self.row = found[backend, layer, precision]
        self.entry = entry_of(self.row, formulation)

    def track_gflops(self, *_: Any) -> float:
        return float(self.row["flops"] / self.entry["ms"] / 1e6)

    def track_fraction_of_roofline(self, *_: Any) -> float:
        return float(self.entry["roofline_fraction"])

    track_gflops.unit = "GFLOP/s"
    track_gflops.pretty_name = "Forward on the GPU: useful operations"
    track_fraction_of_roofline.unit = "of the roofline"
    track_fraction_of_roofline.pretty_name = "Forward on the GPU: fraction of the roofline"
