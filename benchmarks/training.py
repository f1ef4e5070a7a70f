"""Measure forward and backward of layers on the CPU: PyTorch's operator beside that of `gpu_transconv.torch`.

::

    python -m benchmarks.training --threads 1 --json out.json
    python -m benchmarks.training --layers nnunet3d_b,fcn8s_up2 --seconds 2
    python -m benchmarks.training --page      # writes the tables of docs/speed/performance.md from the kept results

A step is the operator with bias, and its gradients by input, weight and bias. The weight counts as changed before each,
as an optimizer changes it, so that nothing that was packed for an earlier step is of use. The two take turns; results
are checked against PyTorch in float64 first, and a wrong one gets no time. Ratios are PyTorch's time over ours.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import gpu_transconv as gtc
from gpu_transconv.dispatch.timing import take_turns
from gpu_transconv.tools.bench.layers import REAL_LAYERS, Layer, load_layers, make_problem
from gpu_transconv.tools.bench.machine import identify, make_heading, name_machine
from gpu_transconv.tools.bench.report import geometric_mean

from .documents import RESULTS
from .readme import ROOT, replaced
from .tables import table, table_row

FOLDER = RESULTS / "training"
PAGE = ROOT / "docs" / "speed" / "performance.md"
BEGIN, END = "<!-- training: begin, by python -m benchmarks.training --page -->", "<!-- training: end -->"
#: Allowed error over the largest expected value: some hundred roundings of float32.
_TOLERANCE = 3e-5
Row = dict[str, Any]
Step = Callable[[], Any]


def make_step(layer: Layer, ours: bool, dtype: str = "float32") -> Step:
    """Return a step of a layer, without arguments: the result, and the gradients by input, weight and bias."""
    import torch

    problem = make_problem(layer, dtype)
    shape = problem.plan.output_shape
    arrays = problem.x, problem.weight, np.random.default_rng(1).random(layer.cout) * 2 - 1
    x, weight, bias = (torch.from_numpy(array.astype(dtype)).requires_grad_() for array in arrays)
    grad = torch.from_numpy((np.random.default_rng(2).random(shape) * 2 - 1).astype(dtype))
    call = getattr(gtc.torch if ours else torch.nn.functional, f"conv_transpose{layer.ndim}d")

    def step() -> Any:
        torch.autograd.graph.increment_version(weight)
        y = call(x, weight, bias, **layer.geometry)
        return y, *torch.autograd.grad(y, (x, weight, bias), grad)

    return step


def measure(layer: Layer, seconds: float) -> Row:
    """Check and time both; milliseconds, without ours where a result was wrong."""
    expected = make_step(layer, False, "float64")()
    steps = {"torch": make_step(layer, False), "ours": make_step(layer, True)}
    errors = [_difference(*pair) for pair in zip(steps["ours"](), expected, strict=True)]
    row: Row = {"layer": layer.name, "gmac": layer.gmac, "error": max(errors)}
    if not row["error"] <= _TOLERANCE:
        print(f"{layer.name}: error {row['error']:.2g} of the largest value", file=sys.stderr)
        del steps["ours"]
    del expected
    return row | {f"{name}_ms": min(times) * 1e3 for name, times in take_turns(steps, seconds).items()}


def _difference(got: Any, want: Any) -> float:
    """Largest difference, relative to the largest value."""
    return float((got - want).detach().abs().max() / want.detach().abs().max())


def write_page() -> None:
    """Put the tables of the kept files between the page's markers."""
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), section(), BEGIN, END, PAGE.name), encoding="utf-8")


def section() -> str:
    """Write a table of all kept files, layers by the ratio in the first."""
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))]
    rows = [{row["layer"]: row for row in report["rows"]} for report in reports]
    head = ["layer"]
    for report in reports:
        head += [f"PyTorch, {_threads(report)}", "ours", "ratio"]
    lines = [". ".join(map(_conditions, reports)) + ":", "", *table(head, "l" + "rrr" * len(reports))]
    for name in sorted(rows[0], key=lambda name: -_ratio(rows[0][name])):
        cells = [name]
        for found in (of[name] for of in rows):
            cells += [f"{found['torch_ms']:.2f}", f"{found['ours_ms']:.2f}", f"{_ratio(found):.2f}"]
        lines.append(table_row(cells))
    cells = ["geometric mean"]
    for of in rows:
        cells += ["", "", f"{geometric_mean([_ratio(row) for row in of.values()]):.2f}"]
    return "\n".join([*lines, table_row(cells)])


def _threads(report: Row) -> str:
    count = report["heading"]["machine"]["threads"]
    return f"{count} thread{'s' * (count > 1)}"


def _conditions(report: Row) -> str:
    heading = report["heading"]
    return (
        f"{_threads(report)} on {name_machine(heading['machine'])}, {heading['date'][:10]}, commit "
        + str(heading["commit"])[:8]
    )


def _ratio(row: Row) -> float:
    return float(row["torch_ms"] / row["ours_ms"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print, or write the page; the exit status is 1 if a result was wrong."""
    options = make_parser().parse_args(arguments)
    if options.page:
        write_page()
        return 0
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    wanted = [name for name in options.layers.split(",") if name]
    layers = [layer for layer in load_layers(REAL_LAYERS) if not wanted or layer.name in wanted]
    if unknown := {*wanted} - {layer.name for layer in layers}:
        sys.exit(f"--layers: there is no {', '.join(sorted(unknown))}")
    rows = []
    for layer in layers[options.skip :]:
        if wanted or layer.gmac <= options.max_gmac:
            rows.append(measure(layer, options.seconds))
            print_row(rows[-1])
            if options.json:
                _write(options.json, rows[-1])
    right = {row["layer"]: _ratio(row) for row in rows if "ours_ms" in row}
    if right:
        least = min(right, key=right.__getitem__)
        mean, below = geometric_mean(list(right.values())), sum(ratio < 1 for ratio in right.values())
        print(f"{mean:.2f} in the geometric mean, {right[least]:.2f} at least ({least}), {below} below 1")
    return int(len(right) < len(rows))


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--threads", type=int, help="threads of torch, and so of both")
    parser.add_argument("--layers", default="", help="names, with commas; all up to --max-gmac if left out")
    parser.add_argument("--max-gmac", type=float, default=2.0, help="leave out larger layers (2)")
    parser.add_argument("--skip", type=int, default=0, help="leave out the first so many layers, to go on")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each layer, both together (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the results to a file, in place of older ones")
    parser.add_argument("--page", action="store_true", help="only write docs/speed/performance.md from kept files")
    return parser


def print_row(row: Row) -> None:
    """One line: the milliseconds of both, and the ratio."""
    ours = f"{row['ours_ms']:10.3f}{_ratio(row):7.2f}x" if "ours_ms" in row else "     wrong"
    print(f"{row['layer']:26}{row['gmac']:8.3f}{row['torch_ms']:10.3f}{ours}", flush=True)


def _write(path: Path, row: Row) -> None:
    """Write a result beside those of other layers that the file has, so that a run may end before it is done."""
    import torch

    before = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    rows = [*(old for old in before if old["layer"] != row["layer"]), row]
    heading = make_heading({**identify(), "threads": torch.get_num_threads()}, {"torch": torch.__version__})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"heading": heading, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
