"""The tables and pictures of the gradients, from files that ``python -m benchmarks.gradients --json`` wrote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu_transconv.tools.bench.machine import name_machine
from gpu_transconv.tools.bench.report import Row, geometric_mean

from .documents import RESULTS
from .readme import IMAGES, ROOT, replaced
from .tables import milliseconds, table, table_row

OPERATIONS = ("input_grad", "weight_grad")
#: Names of contenders in the rows: the function, and an operator that has packed its weights.
FUNCTION, PREPARED = "function", "prepared"
#: Ratio from which a layer counts as no slower than PyTorch.
ENOUGH = 0.95
PAGE = ROOT / "docs" / "speed" / "gradients.md"
BEGIN, END = "<!-- gradients: begin, by python -m benchmarks.gradients --page -->", "<!-- gradients: end -->"
#: Where the page's files are kept, beside those of the forward direction.
FOLDER = RESULTS / "gradients"
#: What is asked of a layer: a dense one, this part of the peak; one with few channels, this part of the bandwidth.
PEAK, COPY = 0.8, 0.5
#: Channels of a group on either side from which a layer is dense.
_DENSE = 16
_NAMES = {"input_grad": "Gradient by the input", "weight_grad": "Gradient by the weight"}


def write_page() -> None:
    """Put the tables of all kept files between the page's markers, and draw their pictures."""
    from .charts import draw

    for path in files():
        report = read(path)
        for operation in OPERATIONS:
            threads = max(map(int, report["machines"]))
            rows, machine = rows_of(report, operation, threads), report["machines"][str(threads)]
            draw(rows, machine, "float32", IMAGES / picture_name(path, operation), title=_NAMES[operation])
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), section(), BEGIN, END, PAGE.name), encoding="utf-8")


def files() -> list[Path]:
    """Return the kept files."""
    return sorted(FOLDER.glob("*.json"))


def read(path: Path) -> dict[str, Any]:
    """Read one of them."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def compared(row: Row, name: str) -> float | None:
    """PyTorch's time over a contender's, if it was right."""
    found = row["contenders"]
    return found["torch"]["min_ms"] / found[name]["min_ms"] if found.get(name, {}).get("status") == "ok" else None


def rows_of(report: dict[str, Any], operation: str, threads: int) -> list[Row]:
    """Return the rows of an operation with so many threads, the largest ratio first."""
    rows = [row for row in report["rows"] if (row["operation"], row["threads"]) == (operation, threads)]
    return sorted(rows, key=lambda row: -(compared(row, FUNCTION) or 0))


def picture_name(path: Path, operation: str) -> str:
    """File name of the picture of an operation, with the most threads."""
    return f"{operation}-{path.stem}.png"


def section() -> str:
    """Write what stands between the markers: per file and operation a table, what it says, and the pictures."""
    parts = []
    for path in files():
        report = read(path)
        counts = [int(threads) for threads in report["machines"]]
        for operation in OPERATIONS:
            rows = {threads: rows_of(report, operation, threads) for threads in counts}
            words = [line for threads in counts for line in _summary(rows[threads], report, threads)]
            picture = (
                f"![{_NAMES[operation]}, {max(counts)} threads: speed against the roofline, and against PyTorch]"
                f"(../images/{picture_name(path, operation)})"
            )
            parts += [f"### {_NAMES[operation]}", _conditions(report), "\n".join(words)]
            parts += ["\n".join(_lines(rows, report)), picture]
    return "\n\n".join(parts)


def _conditions(report: dict[str, Any]) -> str:
    machine = next(iter(report["machines"].values()))
    used = ", ".join(f"{name} {version}" for name, version in report["versions"].items() if version)
    limits = "; ".join(
        f"{threads} thread{'s' * (threads != '1')}: peak {one['peak_gflops']['float32']:.0f} GFLOP/s, "
        f"copies {one['copy_gb_per_s']:.0f} GB/s"
        for threads, one in report["machines"].items()
    )
    when = f"{report['date'][:10]}, commit {str(report['commit'])[:8]}"
    return f"{name_machine(machine)}, float32, {when}; {limits}; {used}."


def kind_of(row: Row) -> str:
    """Dense, with few channels, or depthwise."""
    layer = row["layer"]
    groups = layer.get("groups", 1)
    if groups == layer["cin"] > 1:
        return "depthwise"
    return "dense" if min(layer["cin"], layer["cout"]) // groups >= _DENSE else "few channels"


def parts_of(row: Row, machine: dict[str, Any], name: str = FUNCTION) -> tuple[float, float]:
    """Parts of the peak and of the bandwidth of copies that a contender reaches."""
    milliseconds_ = row["contenders"][name]["min_ms"]
    peak = row["flops"] / milliseconds_ / 1e6 / machine["peak_gflops"]["float32"]
    return peak, row["bytes"] / milliseconds_ / 1e6 / machine["copy_gb_per_s"]


def _summary(rows: Sequence[Row], report: dict[str, Any], threads: int) -> list[str]:
    """Say how the layers compare, and which of them stay below what is asked for."""
    machine, how = report["machines"][str(threads)], f"{threads} thread{'s' * (threads > 1)}"
    lines = []
    for name in (FUNCTION, PREPARED):
        ratios = {row["layer"]["name"]: ratio for row in rows if (ratio := compared(row, name))}
        if ratios:
            below = [f"{layer} {ratio:.2f}" for layer, ratio in ratios.items() if ratio < ENOUGH]
            mean = geometric_mean(list(ratios.values()))
            words = f"below {ENOUGH} on {len(below)} of {len(ratios)}" + f": {', '.join(below)}" * bool(below)
            lines.append(f"- {name}, {how}: {mean:.2f} times as fast as PyTorch; {words}")
    possible = geometric_mean([row["contenders"]["torch"]["min_ms"] / row["roofline_ms"] for row in rows])
    lines.append(f"- with every layer at the roofline, {how}: {possible:.2f} times")
    for dense, kind, least, which, words in (
        (True, "dense and bound by products", PEAK, 0, "of the peak"),
        (False, "all others", COPY, 1, f"of the copies' bandwidth, or {PEAK:.0%} of the peak,"),
    ):
        shares = {
            row["layer"]["name"]: parts_of(row, machine, _best(row))
            for row in rows
            if dense == (kind_of(row) == "dense" and row["bound"] == "compute")
        }
        missing = [
            f"{layer} {parts[which]:.0%}" + f" (and {parts[0]:.0%} of the peak)" * which
            for layer, parts in shares.items()
            if parts[which] < least and not (which and parts[0] >= PEAK)
        ]
        lines.append(
            f"- {kind}, {how}: {least:.0%} {words} or more on "
            f"{len(shares) - len(missing)} of {len(shares)}" + f"; not {', '.join(missing)}" * bool(missing)
        )
    return lines


def _best(row: Row) -> str:
    return PREPARED if PREPARED in row["contenders"] else FUNCTION


def _lines(rows: dict[int, list[Row]], report: dict[str, Any]) -> list[str]:
    columns, letters = ["layer", "kind"], "ll"
    for threads in rows:
        columns += [f"PyTorch, {threads} thread{'s' * (threads > 1)}", "ours", "ratio", "prepared", "of the peak",
                    "of copies"]  # fmt: skip
        letters += "rrrrrr"
    lines = table(columns, letters)
    others = {threads: {row["layer"]["name"]: row for row in found} for threads, found in rows.items()}
    for name, row in next(iter(others.values())).items():
        cells = [name, kind_of(row)]
        for threads, found in others.items():
            cells += _cells(found[name], report["machines"][str(threads)]) if name in found else ["-"] * 6
        lines.append(table_row(cells))
    return lines


def _cells(row: Row, machine: dict[str, Any]) -> list[str]:
    found = row["contenders"]
    ratios = [compared(row, name) for name in (FUNCTION, PREPARED)]
    return [
        *(milliseconds(found[name]["min_ms"]) for name in ("torch", FUNCTION)),
        *("-" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
        *(f"{part:.0%}" for part in parts_of(row, machine)),
    ]
