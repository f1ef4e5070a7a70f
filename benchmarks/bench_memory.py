"""Memory that a call needs."""

from __future__ import annotations

import gpu_transconv as gtc

from .harness import ONCE, TIMEOUT, checked_call, formulation, layer_named, make_problem, threads

FORMULATIONS = ("gather", "scatter")
LAYERS = ("pix2pix_rgb", "fsrcnn_x3", "swinunetr_b", "nnunet3d_b")[: 1 if ONCE else None]


class Memory:
    """The prepared operator on float32, arrays included; what importing takes is in every figure."""

    params = (FORMULATIONS, LAYERS)
    param_names = ("formulation", "layer")
    timeout = TIMEOUT

    def setup_cache(self) -> None:
        """Check the results, and leave compiled kernels on disk, in a process of its own."""
        for name in LAYERS:
            for how in FORMULATIONS:
                checked_call(how, layer_named(name))

    setup_cache.timeout = TIMEOUT

    def setup(self, how: str, layer: str) -> None:
        self.contender = formulation(how)(make_problem(layer_named(layer), "float32"), threads())

    def peakmem_call(self, *_: str) -> None:
        self.contender.run()

    peakmem_call.pretty_name = "Memory: peak of a process that makes one call"


class Workspace:
    """Scratch memory beside the arrays, by the backend's own account."""

    params = (FORMULATIONS, LAYERS)
    param_names = ("formulation", "layer")
    timeout = TIMEOUT

    def setup(self, how: str, layer: str) -> None:
        case = layer_named(layer)
        keywords = case.geometry | {"formulation": how, "backend": "cpu"}
        self.explanation = gtc.explain((case.n, case.cin, *case.spatial), case.weight_shape, **keywords)
        if self.explanation.workspace_bytes is None:
            raise NotImplementedError("the backend does not tell")

    def track_workspace(self, *_: str) -> int:
        return int(self.explanation.workspace_bytes)

    track_workspace.unit = "bytes"
    track_workspace.pretty_name = "Memory: workspace"
