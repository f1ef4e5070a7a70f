"""Ratios, summary and table of a check on a GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from gpu_transconv.tools.bench.report import auto_loss, geometric_mean

from .measure import OURS, PEERS

Row = dict[str, Any]


def complete(row: Row, machine: Mapping[str, Any]) -> Row:
    """Add ratios to the best peer and, where the machine's peaks are known, the roofline and fractions of it."""
    times = {name: entry["ms"] for name, entry in row["contenders"].items() if entry["status"] == "ok"}
    peers = {name: times[name] for name in PEERS if name in times}
    row["best_peer"] = min(peers, key=peers.__getitem__, default=None)
    best = peers.get(row["best_peer"])
    row["ratios"] = {name: best / times[name] for name in OURS if best is not None and name in times}
    row["auto_loss"] = auto_loss(times)
    peak, copy = machine.get("peak_tflops", {}).get(row["precision"]), machine.get("copy_gb_per_s")
    if not peak or not copy:
        return row
    compute, memory = row["flops"] / peak / 1e9, row["bytes"] / copy / 1e6
    row["roofline_ms"], row["bound"] = max((compute, "compute"), (memory, "memory"))
    for entry in row["contenders"].values():
        if entry["status"] == "ok":
            entry["matrix_fraction"] = compute / entry["ms"]
            entry["copy_fraction"] = memory / entry["ms"]
            entry["roofline_fraction"] = row["roofline_ms"] / entry["ms"]
    return row


def summarise(rows: Sequence[Row], worst: int = 5) -> dict[str, Any]:
    """Condense all rows: what was wrong or not reached, and per precision and data format the ratios of auto."""
    entries = [(row, name, entry) for row in rows for name, entry in row["contenders"].items()]
    bad = [
        f"{_title(row)}: {name}: {e['status']}: {e.get('note', '')}"
        + (" (the context broke; a new worker went on)" if "context" in e else "")
        for row, name, e in entries
        if e["status"] in ("wrong", "failed")
    ]
    groups: dict[str, Any] = {}
    for key in dict.fromkeys((row["precision"], row["data_format"]) for row in rows):
        groups[" ".join(key)] = _summarise_group(
            [row for row in rows if (row["precision"], row["data_format"]) == key], worst
        )
    return {
        "rows": len(rows),
        "entries": len(entries),
        "wrong": [line for line in bad if ": wrong: " in line],
        "failed": [line for line in bad if ": failed: " in line],
        "groups": groups,
    }


def _summarise_group(rows: Sequence[Row], worst: int) -> dict[str, Any]:
    ratios = {row["layer"]: row["ratios"]["auto"] for row in rows if "auto" in row["ratios"]}
    done = [row for row in rows if row["contenders"].get("auto", {}).get("status") == "ok"]
    placed = [row for row in done if "bound" in row]
    memory = [row["contenders"]["auto"]["copy_fraction"] for row in placed if row["bound"] == "memory"]
    losses = [1 + row["auto_loss"] for row in rows if row["auto_loss"] is not None]
    loss = geometric_mean(losses)
    return {
        "measured": len(done),
        "compared": len(ratios),
        "vs_best_peer": geometric_mean(list(ratios.values())),
        "below_0.9": sum(ratio < 0.9 for ratio in ratios.values()),
        "roofline_fraction": geometric_mean([row["contenders"]["auto"]["roofline_fraction"] for row in placed]),
        "copy_fraction_where_memory_bound": geometric_mean(memory),
        "auto_loss": None if loss is None else loss - 1,
        "worst": sorted(ratios.items(), key=lambda item: item[1])[:worst],
    }


def _title(row: Row) -> str:
    return f"{row['layer']} {row['precision']} {row['data_format']}"


def make_tables(rows: Sequence[Row], summary: Mapping[str, Any]) -> list[Table]:
    """Make the summary's table, and one line per row."""
    overview = Table(title="auto against the best cuDNN mode; of copy: memory-bound layers", header_style="bold")
    titles = (
        "measured",
        "vs cuDNN",
        "below 0.9",
        "of roofline",
        "of copy, memory-bound",
        "auto's loss",
        "worst layers",
    )
    for title in ("", *titles):
        overview.add_column(title, justify="left" if title in ("", "worst layers") else "right")
    for name, group in summary["groups"].items():
        worst = ", ".join(f"{layer} {ratio:.2f}" for layer, ratio in group["worst"])
        overview.add_row(
            name, str(group["measured"]), _number(group["vs_best_peer"]), str(group["below_0.9"]),
            _percent(group["roofline_fraction"]), _percent(group["copy_fraction_where_memory_bound"]),
            _percent(group["auto_loss"]), worst,
        )  # fmt: skip
    names = (*OURS, *PEERS)
    table = Table(title="median time in ms; of auto also a replay's, and microseconds of the host", header_style="bold")
    for title in ("layer", "precision", "format", "roofline", *names, "replay", "host us", "vs cuDNN"):
        table.add_column(title, justify="left" if title in ("layer", "precision", "format") else "right")
    for row in rows:
        cells = [_time(row["contenders"].get(name)) for name in names]
        roofline = f"{row['roofline_ms']:.3g} {row['bound'][:3]}" if "bound" in row else "-"
        auto = row["contenders"].get("auto", {})
        more = [f"{auto[key]:.3g}" if key in auto else "-" for key in ("graph_ms", "host_us")]
        start = (row["layer"], row["precision"], row["data_format"], roofline)
        table.add_row(*start, *cells, *more, _number(row["ratios"].get("auto")))
    return [table, overview]


def _time(entry: Mapping[str, Any] | None) -> str:
    if entry is None or entry["status"] == "absent":
        return "[dim]-[/]"
    return f"{entry['ms']:.3g}" if entry["status"] == "ok" else f"[bold red]{entry['status']}[/]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
