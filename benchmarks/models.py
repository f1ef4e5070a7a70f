"""Whole models of public packages on the CPU: PyTorch as it is, and with ``gpu_transconv.torch``.

::

    python -m benchmarks.models --threads 1
    python -m benchmarks.models --only "Mimi, 12 frames" --only SNAC --seconds 10 --json out.json
    python -m benchmarks.models --page        # writes the tables of docs/guide/pytorch.md from the kept results

Random weights, ``eval``, gradients off, batch 1. The two take turns, in a process per model, and call the very same
modules, which change their class in between. Reported are medians; a result that differs by more than 1e-5 of the
largest value has no time and makes the exit status 1. The time inside transposed convolutions is taken in passes of its
own.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

from gpu_transconv.tools.bench.machine import identify, make_heading
from gpu_transconv.tools.console import make_console, print_table

from .model_zoo import MODELS, Model, stub_torchvision
from .models_page import write_page

Row = dict[str, Any]
#: Largest difference of a result, relative to its largest value.
TOLERANCE = 1e-5
#: Rounds of a model at least, however long they take.
_LEAST_ROUNDS = 5


@contextmanager
def ours(model: Any, functional: bool) -> Iterator[None]:
    """The model on this package's kernels, and on torch's again afterwards."""
    import gpu_transconv as gtc

    gtc.torch.accelerate(model)
    try:
        with gtc.torch.patch() if functional else ExitStack():
            yield
    finally:
        gtc.torch.restore(model)


@contextmanager
def stopwatch(model: Any) -> Iterator[list[float]]:
    """Seconds inside transposed convolutions: modules with all their hooks, and functional calls outside of those."""
    import torch

    spent, started = [0.0], [0.0]

    def start(*_: Any) -> None:
        started[0] = time.perf_counter()

    def stop(*_: Any) -> None:
        spent[0] += time.perf_counter() - started[0]
        started[0] = 0.0

    def timed(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **keywords: Any) -> Any:
            if started[0]:
                return call(*arguments, **keywords)
            start()
            try:
                return call(*arguments, **keywords)
            finally:
                stop()

        return run

    found = [m for m in model.modules() if isinstance(m, torch.nn.modules.conv._ConvTransposeNd)]
    hooks = [m.register_forward_pre_hook(start, prepend=True) for m in found]
    hooks += [m.register_forward_hook(stop) for m in found]
    names = [f"conv_transpose{axes}d" for axes in (1, 2, 3)]
    before = {name: getattr(torch.nn.functional, name) for name in names}
    try:
        for name, call in before.items():
            setattr(torch.nn.functional, name, timed(call))
        yield spent
    finally:
        for name, call in before.items():
            setattr(torch.nn.functional, name, call)
        for hook in hooks:
            hook.remove()


def difference(got: Any, want: Any) -> float:
    """Largest difference between two results, relative to the largest value of `want`."""
    if isinstance(want, (tuple, list)):
        return max(difference(*pair) for pair in zip(got, want, strict=True))
    return float((got - want).abs().max() / want.abs().max()) if got.shape == want.shape else float("inf")


def measure(entry: Model, seconds: float) -> Row:
    """Build a model and measure it both ways."""
    import torch

    torch.manual_seed(0)
    with torch.no_grad():
        model, infer = entry.build()
        row: Row = {"name": entry.name, "domain": entry.domain, "package": entry.package, "ratio_bar": entry.ratio,
                    "part_bar": entry.part, "functional": entry.functional}  # fmt: skip
        want = infer()
        with ours(model, entry.functional):
            got = infer()
        row["difference"] = difference(got, want)
        if not row["difference"] <= TOLERANCE:
            return row | {"status": "wrong"}
        totals, inside, rounds = _turns(model, infer, entry.functional, seconds)
    torchs, own = (median(times) for times in totals)
    torchs_inside, own_inside = (median(times) for times in inside)
    return row | {
        "status": "ok", "rounds": rounds, "torch_ms": torchs * 1e3, "ours_ms": own * 1e3, "ratio": torchs / own,
        "torch_inside_ms": torchs_inside * 1e3, "ours_inside_ms": own_inside * 1e3,
        "share": min(1, torchs_inside / torchs),
        "ours_share": min(1, own_inside / own), "part": own_inside / torchs_inside,
    }  # fmt: skip


def _turns(
    model: Any, infer: Callable[[], Any], functional: bool, seconds: float
) -> tuple[tuple[list[float], list[float]], tuple[list[float], list[float]], int]:
    """Time both in turns: whole inferences, then the part inside transposed convolutions."""
    totals: tuple[list[float], list[float]] = [], []
    inside: tuple[list[float], list[float]] = [], []
    end, rounds = time.perf_counter() + seconds, 0
    while rounds < _LEAST_ROUNDS or time.perf_counter() < end:
        for index in (0, 1) if rounds % 2 else (1, 0):
            with ours(model, functional) if index else ExitStack():
                infer()  # so that the caches hold its own weights, and not the other's
                start = time.perf_counter()
                infer()
                totals[index].append(time.perf_counter() - start)
                with stopwatch(model) as spent:
                    infer()
                inside[index].append(spent[0])
        rounds += 1
    return totals, inside, rounds


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the models, or write the page."""
    options = make_parser().parse_args(arguments)
    if options.page:
        write_page()
        return 0
    rows = list(run(options))
    print_table(
        ("model", "torch ms", "ours ms", "torch / ours", "share", "ours of torch's inside", "difference", ""),
        [_cells(row) for row in rows], right=range(1, 7),
    )  # fmt: skip
    if options.json:
        _write(options.json, rows)
    return int(any(row["status"] in ("wrong", "failed") for row in rows))


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", action="append", choices=list(MODELS), metavar="NAME", help="a model; repeatable")
    parser.add_argument("--threads", type=int, help="threads of torch, and so of both")
    parser.add_argument("--seconds", type=float, default=6.0, help="about how long to measure a model")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the results to a file, in place of older ones")
    parser.add_argument("--page", action="store_true", help="only write docs/guide/pytorch.md from kept files")
    return parser


def run(options: argparse.Namespace) -> Iterator[Row]:
    """Measure the models that were asked for and are installed, under a bar.

    Each has a process of its own: the C library's heap, as one model leaves it, decides how often the next one has to
    fetch memory from the system, for both sides and not alike.
    """
    from rich.progress import track

    try:
        import torch
    except ImportError:
        sys.exit("benchmarks.models needs torch: pip install torch")
    if options.threads:
        torch.set_num_threads(options.threads)
    console, names = make_console(stderr=True), options.only or list(MODELS)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as apart:
        for name in track(names, "models", console=console, transient=True):
            yield apart.submit(_row, name, torch.get_num_threads(), options.seconds).result()


def _row(name: str, threads: int, seconds: float) -> Row:
    """Measure one model in this process."""
    import torch

    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")  # of the models' packages
    stub_torchvision()
    entry = MODELS[name]
    if entry.missing:
        return {"name": name, "status": "left out", "note": f"pip install {entry.missing}"}
    try:
        return measure(entry, seconds)
    except Exception as error:  # whatever another package raises in this environment
        return {"name": name, "status": "failed", "note": f"{type(error).__name__}: {str(error).splitlines()[:1]}"}


def _cells(row: Row) -> list[str]:
    if row["status"] in ("left out", "failed"):
        return [row["name"], *[""] * 6, f"{row['status']}: {row['note']}"]
    if row["status"] == "wrong":
        return [row["name"], *[""] * 5, f"{row['difference']:.1e}", "wrong"]
    late = (f"ratio below {row['ratio_bar']}" * (row["ratio"] < row["ratio_bar"]),
            f"part above {row['part_bar']}" * (row["part"] > row["part_bar"]))  # fmt: skip
    times = (f"{row[name]:.1f}" for name in ("torch_ms", "ours_ms"))
    return [row["name"], *times, f"{row['ratio']:.2f}", f"{row['share']:.0%}", f"{row['part']:.2f}",
            f"{row['difference']:.1e}", ", ".join(filter(None, late))]  # fmt: skip


def _write(path: Path, rows: list[Row]) -> None:
    """Write results beside those of other models that the file has: a long table is measured in pieces."""
    import torch

    before = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    found = {row["name"]: row for row in (*before, *rows)}
    ordered = [found[name] for name in MODELS if name in found]
    packages = ("torch", *(entry.package for entry in MODELS.values() if entry.name in found))
    heading = make_heading({**identify(), "threads": torch.get_num_threads()}, {n: _version(n) for n in packages})
    path.write_text(json.dumps({"heading": heading, "rows": ordered}, indent=1) + "\n", encoding="utf-8")


def _version(name: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
