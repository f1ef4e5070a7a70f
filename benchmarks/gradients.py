"""Measure the two gradients on the CPU beside PyTorch's, layer by layer.

::

    python -m benchmarks.gradients                                      # both, one and two threads; some minutes
    python -m benchmarks.gradients --operation input_grad --threads 1 --layers unet_up4,hifigan_v1_up3
    python -m benchmarks.gradients --contenders gather scatter --json out.json
    python -m benchmarks.gradients --json out.json                      # adds to the file
    python -m benchmarks.gradients --page                               # write tables and pictures of the kept files

"prepared" is `ConvTranspose.input_grad`, which has packed its weights before; the gradient by the weight has none.
PyTorch computes one gradient by `torch.ops.aten.convolution_backward` with the others masked out. Contenders take
turns; results are checked against PyTorch in float64 first, and a wrong one gets no time. Ratios are PyTorch's time
over ours.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numba
import numpy as np

import gpu_transconv as gtc
from gpu_transconv.dispatch.timing import take_turns
from gpu_transconv.tools.bench.layers import REAL_LAYERS, Layer, load_layers, make_problem
from gpu_transconv.tools.bench.machine import make_heading, measure_machine
from gpu_transconv.tools.bench.report import Row, geometric_mean, make_row
from gpu_transconv.tools.console import Report

from .gradients_page import ENOUGH, FUNCTION, OPERATIONS, PREPARED, compared, write_page

#: Our contenders: the function, the same by one formulation, or an operator that has packed its weights.
CONTENDERS = (FUNCTION, "gather", "scatter", PREPARED)
#: Allowed error over the largest expected value: some hundred roundings of float32.
_TOLERANCE = 3e-5


class Case:
    """A layer with its arrays, and each gradient by PyTorch and by the package."""

    def __init__(self, layer: Layer, dtype: str) -> None:
        self.layer = layer
        self.problem = problem = make_problem(layer, dtype)
        shape = problem.plan.output_shape
        self.x, self.weight = problem.x, problem.weight
        self.grad = (np.random.default_rng(1).random(shape, np.float32) * 2 - 1).astype(dtype)

    def torch(self, operation: str, dtype: str | None = None) -> Callable[[], Any]:
        """PyTorch's gradient, in another dtype if one is given."""
        import torch

        layer = self.layer
        grad, x, weight = (
            torch.from_numpy(a if dtype is None else a.astype(dtype)) for a in (self.grad, self.x, self.weight)
        )
        index = OPERATIONS.index(operation)
        mask = [index == 0, index == 1, False]
        geometry = [*map(list, (layer.stride, layer.padding, layer.dilation)), True, list(layer.output_padding)]

        def run() -> Any:
            call = torch.ops.aten.convolution_backward
            with torch.inference_mode():
                return call(grad, x, weight, None, *geometry, layer.groups, mask)[index].numpy()

        return run

    def ours(self, operation: str, contender: str) -> Callable[[], Any]:
        """One of `CONTENDERS`."""
        geometry = {name: getattr(self.layer, name) for name in ("stride", "padding", "dilation", "groups")}
        if contender == PREPARED:
            layer = gtc.ConvTranspose(self.weight, **geometry, backend="cpu")
            return lambda: layer.input_grad(self.grad, input_size=self.layer.spatial)
        formulation = "auto" if contender == FUNCTION else contender
        keywords: dict[str, Any] = {**geometry, "backend": "cpu", "formulation": formulation}
        if operation == "input_grad":
            size = self.layer.spatial
            return lambda: gtc.conv_transpose_input_grad(self.grad, self.weight, input_size=size, **keywords)
        size = self.layer.kernel
        return lambda: gtc.conv_transpose_weight_grad(self.x, self.grad, kernel_size=size, **keywords)


def measure(case: Case, operation: str, contenders: Sequence[str], seconds: float, machine: Report) -> Row:
    """Check and time the contenders on a layer."""
    expected = case.torch(operation, "float64")()
    largest = float(np.abs(expected).max())
    runs = {"torch": case.torch(operation)} | {name: case.ours(operation, name) for name in contenders}
    found: dict[str, Report] = {}
    for name, run in runs.items():
        error = float(np.abs(run() - expected).max()) / largest
        note = "" if error <= _TOLERANCE else f"error {error:.2g} of the largest value"
        found[name] = {"status": "wrong" if note else "ok", "note": note, "error": error}
        if note:
            print(f"{case.layer.name} {operation} {name}: {note}", file=sys.stderr)
    right = {name: run for name, run in runs.items() if found[name]["status"] == "ok"}
    for name, times in take_turns(right, seconds).items():
        found[name] |= {"min_ms": min(times) * 1e3, "median_ms": statistics.median(times) * 1e3, "calls": len(times)}
    key = {"operation": operation, "threads": machine["threads"]}
    return key | make_row(case.problem, found, machine, "min")


def print_row(row: Row, contenders: Sequence[str]) -> None:
    """One line: PyTorch's milliseconds, then those of each contender, the ratio, and its part of the roofline."""
    found = row["contenders"]
    cells = [f"{row['layer']['name']:26}{row['flops'] / 2e9:8.3f}{found['torch']['min_ms']:10.3f}"]
    for name in contenders:
        if found[name]["status"] == "ok":
            ratio, part = compared(row, name), found[name]["roofline_fraction"]
            cells.append(f"{found[name]['min_ms']:10.3f}{ratio:7.2f}x{part:5.0%}  ")
        else:
            cells.append(f"{'wrong':>25}")
    print("".join(cells), flush=True)


def summarise(rows: Sequence[Row], name: str) -> str:
    """Geometric mean and smallest of the ratios of a contender."""
    ratios = {row["layer"]["name"]: ratio for row in rows if (ratio := compared(row, name))}
    if not ratios:
        return f"{name}: nothing right"
    least = min(ratios, key=ratios.__getitem__)
    below = sum(ratio < ENOUGH for ratio in ratios.values())
    mean = geometric_mean(list(ratios.values()))
    return f"{name}: {mean:.2f} in the geometric mean, {ratios[least]:.2f} at least ({least}), {below} below {ENOUGH}"


def merge(path: Path, machine: Report, rows: Sequence[Row]) -> None:
    """Write rows to a file, in the place of those of the same operation, threads and layer that it has."""
    document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": [], "machines": {}}
    new = {key_of(row): row for row in rows}
    kept = {key_of(row): row for row in document["rows"]}
    machines = document["machines"] | {str(machine["threads"]): machine}
    heading = {key: value for key, value in make_heading(machine).items() if key != "machine"}
    versions = heading["versions"] | {"torch": metadata.version("torch")}
    document = heading | {"versions": versions, "machines": machines, "rows": list((kept | new).values())}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def key_of(row: Row) -> tuple[str, int, str]:
    """What a row is about."""
    return row["operation"], row["threads"], row["layer"]["name"]


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; the exit status is 1 if a result was wrong."""
    parser = argparse.ArgumentParser(description="The gradients on the CPU beside PyTorch's.")
    parser.add_argument("--operation", choices=OPERATIONS, nargs="*", default=OPERATIONS)
    parser.add_argument("--contenders", choices=CONTENDERS, nargs="*", default=(FUNCTION, PREPARED))
    parser.add_argument("--threads", type=int, nargs="*", default=(1, 2), help="numbers of threads (1 and 2)")
    parser.add_argument("--layers", default="", help="names, with commas; all up to --max-gmac if left out")
    parser.add_argument("--max-gmac", type=float, default=2.0, help="leave out larger layers (2)")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    parser.add_argument("--seconds", type=float, default=1.0, help="for each layer, all contenders together (1)")
    parser.add_argument("--json", type=Path, help="add the rows to this file")
    parser.add_argument("--page", action="store_true", help="measure nothing; write the page from the kept files")
    options = parser.parse_args(arguments)
    if options.page:
        write_page()
        return 0
    import torch

    wanted = [name for name in options.layers.split(",") if name]
    layers = [layer for layer in load_layers(REAL_LAYERS) if not wanted or layer.name in wanted]
    if unknown := {*wanted} - {layer.name for layer in layers}:
        parser.error(f"--layers: there is no {', '.join(sorted(unknown))}")
    layers = [layer for layer in layers if wanted or layer.gmac <= options.max_gmac]
    wrong = False
    for count in options.threads:
        torch.set_num_threads(count)
        numba.set_num_threads(count)
        machine = measure_machine(count)
        for operation in options.operation:
            names = [name for name in options.contenders if operation == "input_grad" or name != PREPARED]
            heads = "".join(f"{name:>10}   ratio roof  " for name in names)
            print(f"\n{operation}, {options.dtype}, {count} threads\n{'layer':26}    GMAC     torch{heads}   (ms)")
            rows = []
            for layer in layers:
                rows.append(measure(Case(layer, options.dtype), operation, names, options.seconds, machine))
                print_row(rows[-1], names)
                wrong = wrong or any(entry["status"] == "wrong" for entry in rows[-1]["contenders"].values())
            print(*(summarise(rows, name) for name in names), sep="\n")
            if options.json:
                merge(options.json, machine, rows)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
