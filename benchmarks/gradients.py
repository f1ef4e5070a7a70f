"""Measure the two gradients on the CPU beside PyTorch's, layer by layer.

::

    python -m benchmarks.gradients                                      # both, one and two threads; some minutes
    python -m benchmarks.gradients --operation input_grad --threads 1 --layers unet_up4,hifigan_v1_up3
    python -m benchmarks.gradients --formulations gather scatter --json out.json
    python -m benchmarks.gradients --operation input_grad --formulations auto prepared

"prepared" is `ConvTranspose.input_grad`, which has packed its weights before; the gradient by the weight has none.
PyTorch computes one gradient by `torch.ops.aten.convolution_backward` with the others masked out. Contenders take
turns; results are checked against PyTorch in float64 first, and a wrong one gets no time. Ratios are PyTorch's time
over ours.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numba
import numpy as np

import gpu_transconv as gtc
from gpu_transconv.dispatch.timing import take_turns
from gpu_transconv.tools.bench.layers import REAL_LAYERS, Layer, load_layers, make_problem
from gpu_transconv.tools.bench.report import geometric_mean

OPERATIONS = ("input_grad", "weight_grad")
#: Our contenders: what chooses the formulation, or that formulation, or an operator that has packed its weights.
PREPARED = "prepared"
CONTENDERS = ("auto", "gather", "scatter", PREPARED)
#: Allowed error over the largest expected value: some hundred roundings of float32.
_TOLERANCE = 3e-5
Row = dict[str, Any]


class Case:
    """A layer with its arrays, and each gradient by PyTorch and by the package."""

    def __init__(self, layer: Layer, dtype: str) -> None:
        self.layer = layer
        problem = make_problem(layer, dtype)
        shape = problem.plan.output_shape
        self.x, self.weight = problem.x, problem.weight
        self.grad = (np.random.default_rng(1).random(shape, np.float32) * 2 - 1).astype(dtype)

    def torch(self, operation: str, dtype: str | None = None) -> Callable[[], Any]:
        """PyTorch's gradient, in another dtype if one is given."""
        import torch

        layer, axes = self.layer, self.layer.ndim
        grad, x, weight = (
            torch.from_numpy(a if dtype is None else a.astype(dtype)) for a in (self.grad, self.x, self.weight)
        )
        index = OPERATIONS.index(operation)
        mask = [index == 0, index == 1, False]
        geometry = [*map(list, (layer.stride, layer.padding, layer.dilation)), True, list(layer.output_padding)]
        assert len(geometry[0]) == axes

        def run() -> Any:
            call = torch.ops.aten.convolution_backward
            with torch.inference_mode():
                return call(grad, x, weight, None, *geometry, layer.groups, mask)[index].numpy()

        return run

    def ours(self, operation: str, formulation: str, out: Any = None) -> Callable[[], Any]:
        """The package's gradient of a formulation, or by an operator that has packed its weights."""
        geometry = {name: getattr(self.layer, name) for name in ("stride", "padding", "dilation", "groups")}
        if formulation == PREPARED:
            layer = gtc.ConvTranspose(self.weight, **geometry, backend="cpu")
            return lambda: layer.input_grad(self.grad, input_size=self.layer.spatial, out=out)
        keywords: dict[str, Any] = {**geometry, "backend": "cpu", "formulation": formulation, "out": out}
        if operation == "input_grad":
            size = self.layer.spatial
            return lambda: gtc.conv_transpose_input_grad(self.grad, self.weight, input_size=size, **keywords)
        size = self.layer.kernel
        return lambda: gtc.conv_transpose_weight_grad(self.x, self.grad, kernel_size=size, **keywords)


def measure(case: Case, operation: str, formulations: Sequence[str], seconds: float) -> Row:
    """Check and time the contenders; milliseconds by contender, None where a result was wrong."""
    expected = case.torch(operation, "float64")()
    largest = float(np.abs(expected).max())
    runs = {"torch": case.torch(operation)} | {name: case.ours(operation, name) for name in formulations}
    row: Row = {"layer": case.layer.name, "operation": operation, "gmac": case.layer.gmac}
    right = {}
    for name, run in runs.items():
        error = float(np.abs(run() - expected).max()) / largest
        row[name] = None
        if error <= _TOLERANCE:
            right[name] = run
        else:
            print(f"{case.layer.name} {operation} {name}: error {error:.2g} of the largest value", file=sys.stderr)
    row |= {name: min(times) * 1e3 for name, times in take_turns(right, seconds).items()}
    row["ran"] = gtc.last_choice().implementation.name if "auto" in right else ""
    return row


def print_row(row: Row, formulations: Sequence[str]) -> None:
    """One line: PyTorch's milliseconds, then ours and the ratio for each formulation."""
    cells = [f"{row['layer']:26}{row['gmac']:8.3f}{row['torch']:10.3f}"]
    for name in formulations:
        ours = row[name]
        cells.append("     wrong         " if ours is None else f"{ours:10.3f}{row['torch'] / ours:7.2f}x ")
    print("".join(cells), flush=True)


def summarise(rows: Sequence[Row], name: str) -> str:
    """Geometric mean and smallest of the ratios of a formulation."""
    ratios = {row["layer"]: row["torch"] / row[name] for row in rows if row[name]}
    if not ratios:
        return f"{name}: nothing right"
    least = min(ratios, key=ratios.__getitem__)
    below = sum(ratio < 0.95 for ratio in ratios.values())
    mean = geometric_mean(list(ratios.values()))
    return f"{name}: {mean:.2f} in the geometric mean, {ratios[least]:.2f} at least ({least}), {below} below 0.95"


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; the exit status is 1 if a result was wrong."""
    parser = argparse.ArgumentParser(description="The gradients on the CPU beside PyTorch's.")
    parser.add_argument("--operation", choices=OPERATIONS, nargs="*", default=OPERATIONS)
    parser.add_argument("--formulations", choices=CONTENDERS, nargs="*", default=("auto",))
    parser.add_argument("--threads", type=int, nargs="*", default=(1, 2), help="numbers of threads (1 and 2)")
    parser.add_argument("--layers", default="", help="names, with commas; all up to --max-gmac if left out")
    parser.add_argument("--max-gmac", type=float, default=2.0, help="leave out larger layers (2)")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    parser.add_argument("--seconds", type=float, default=1.0, help="for each layer, all contenders together (1)")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args(arguments)
    import torch

    wanted = [name for name in options.layers.split(",") if name]
    layers = [layer for layer in load_layers(REAL_LAYERS) if not wanted or layer.name in wanted]
    if unknown := {*wanted} - {layer.name for layer in layers}:
        parser.error(f"--layers: there is no {', '.join(sorted(unknown))}")
    layers = [layer for layer in layers if wanted or layer.gmac <= options.max_gmac]
    every: list[Row] = []
    for operation in options.operation:
        contenders = [name for name in options.formulations if operation == "input_grad" or name != PREPARED]
        for count in options.threads:
            torch.set_num_threads(count)
            numba.set_num_threads(count)
            heads = "".join(f"{name:>10}   ratio " for name in contenders)
            print(f"\n{operation}, {options.dtype}, {count} threads\n{'layer':26}    GMAC     torch{heads}   (ms)")
            rows = []
            for layer in layers:
                row = measure(Case(layer, options.dtype), operation, contenders, options.seconds)
                rows.append(row | {"threads": count, "dtype": options.dtype})
                print_row(rows[-1], contenders)
            every += rows
            print(*(summarise(rows, name) for name in contenders), sep="\n")
    if options.json:
        options.json.write_text(json.dumps(every, indent=1), encoding="utf-8")
    return int(any(row.get(name, 0) is None for row in every for name in options.formulations))


if __name__ == "__main__":
    sys.exit(main())
