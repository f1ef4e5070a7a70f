"""The tables of docs/guide/pytorch.md, from files that ``python -m benchmarks.models --json`` wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gpu_transconv.tools.bench.machine import name_machine

from .documents import read_models
from .readme import ROOT, replaced
from .tables import table, table_row

PAGE = ROOT / "docs" / "guide" / "pytorch.md"
BEGIN, END = "<!-- models: begin, by python -m benchmarks.models --page -->", "<!-- models: end -->"


def write_page() -> None:
    """Put the tables of all kept files between the page's markers."""
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), section(), BEGIN, END, PAGE.name), encoding="utf-8")


def section() -> str:
    """Write a table per file: the models by domain."""
    return "\n\n".join("\n".join([_conditions(found.heading), "", *_lines(found.rows)]) for found in read_models())


def _conditions(heading: Mapping[str, Any]) -> str:
    machine, versions = heading["machine"], heading["versions"]
    threads = machine["threads"]
    used = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    return (
        f"{threads} thread{'s' if threads > 1 else ''} on {name_machine(machine)}, {heading['date'][:10]}, commit "
        f"{str(heading['commit'])[:8]}; {used}:"
    )


def _lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = table(["model", "torch, ms", "with ours, ms", "torch / ours", "transposed convolutions in torch's time",
                   "their time, ours / torch"], "lrrrrr")  # fmt: skip
    for domain in dict.fromkeys(row["domain"] for row in rows):
        lines.append(table_row([f"*{domain}*", *[""] * 5]))
        lines += [table_row(_cells(row)) for row in rows if row["domain"] == domain]
    return lines


def _cells(row: Mapping[str, Any]) -> list[str]:
    inside = f"{row['torch_inside_ms']:.1f} to {row['ours_inside_ms']:.1f} ms, {row['part']:.2f}"
    times = (f"{row[name]:.{0 if row[name] >= 100 else 1}f}" for name in ("torch_ms", "ours_ms"))
    return [row["name"], *times, f"{row['ratio']:.2f}", f"{row['share']:.0%}", inside]
