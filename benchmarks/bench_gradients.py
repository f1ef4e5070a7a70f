"""Speed of the two gradients: operations x formulations x layers of models."""

from __future__ import annotations

import numpy as np

import gpu_transconv as gtc

from .harness import KERNELS, ONCE, TIMEOUT, layer_named, make_problem

OPERATIONS = ("input_grad", "weight_grad")
#: Dense, with few channels, and depthwise.
LAYERS = ("nnunet3d_b", "pix2pix_rgb", "centernet_dla_ida2")[: 1 if ONCE else None]


class Gradient:
    """One call of a gradient on the CPU, into a reused output; checked by the adjoint identity before."""

    params = (OPERATIONS, KERNELS, LAYERS)
    param_names = ("operation", "formulation", "layer")
    timeout = TIMEOUT
    repeat = (5, 40, 0.5)
    warmup_time = 0.05

    def setup(self, operation: str, formulation: str, layer: str) -> None:
        problem = make_problem(layer_named(layer), "float32")
        geometry = {**problem.layer.geometry, "backend": "cpu"}
        y = gtc.conv_transpose(problem.x, problem.weight, **geometry)
        geometry.pop("output_padding")
        grad = np.random.default_rng(0).standard_normal(y.shape, np.float32)
        sizes = {"input_size": problem.x.shape[2:]}
        arrays, other = (grad, problem.weight), problem.x
        if operation == "weight_grad":
            sizes, arrays, other = {"kernel_size": problem.weight.shape[2:]}, (problem.x, grad), problem.weight
        function = getattr(gtc, f"conv_transpose_{operation}")
        out = np.empty_like(other)
        self.run = lambda: function(*arrays, **sizes, **geometry, formulation=formulation, out=out)
        self.run()
        wanted, found = np.vdot(y.astype(float), grad), np.vdot(out.astype(float), other)
        scale = np.linalg.norm(out.astype(float)) * np.linalg.norm(other)
        assert abs(wanted - found) <= 1e-5 * scale, (operation, formulation, layer, wanted, found)

    def time_gradient(self, *_: str) -> None:
        self.run()

    time_gradient.pretty_name = "Gradients on the CPU: time"
