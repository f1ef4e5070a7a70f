"""The operator over time, commit by commit: implementations x real layers x dtypes."""

from __future__ import annotations

import time
from typing import Any

from gpu_transconv.bench.adapters import Ours
from gpu_transconv.bench.layers import REAL_LAYERS, load_layers, make_problem

#: name -> keywords of `Ours`; all of them reuse their output, so that page faults are not measured.
IMPLEMENTATIONS: dict[str, dict[str, Any]] = {
    "prepared": {},
    "auto": {"prepared": False},
    "gather": {"prepared": False, "formulation": "gather"},
    "scatter": {"prepared": False, "formulation": "scatter"},
}
#: Two and more of each rank, from few channels to many, with and without overlapping stamps.
LAYERS = (
    "dcgan_l1",
    "pix2pix_rgb",
    "centernet_dla_ida2",
    "fcn8s_up2",
    "torch41382",
    "kokoro_pool_dw",
    "swinunetr_b",
    "nnunet3d_b",
)


class Forward:
    """One call on arrays that exist, after a first call that compiled and was checked."""

    params = (tuple(IMPLEMENTATIONS), LAYERS, ("float32", "float64"))
    param_names = ("implementation", "layer", "dtype")
    timeout = 120

    def setup(self, implementation: str, layer: str, dtype: str) -> None:
        found = next(known for known in load_layers(REAL_LAYERS) if known.name == layer)
        problem = make_problem(found, dtype)
        contender = Ours(problem, 0, backend="cpu", **IMPLEMENTATIONS[implementation])
        contender.poison()
        error = problem.error(contender.run())
        if error > problem.tolerance:
            raise AssertionError(f"wrong result: error {error:.2g}, allowed {problem.tolerance:.2g}")
        self.run, self.flops = contender.run, problem.plan.flops

    def time_forward(self, *_: str) -> None:
        self.run()

    def track_gflops(self, *_: str) -> float:
        """Speed of the fastest of several calls."""
        best, end = float("inf"), time.perf_counter() + 0.2
        while best == float("inf") or time.perf_counter() < end:
            start = time.perf_counter()
            self.run()
            best = min(best, time.perf_counter() - start)
        return self.flops / best / 1e9

    track_gflops.unit = "GFLOP/s"
