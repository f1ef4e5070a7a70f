"""Rows, ratios and summaries of a comparison, and the table that shows them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from rich.table import Table
from rich.text import Text

from ..console import Report
from .contenders import KERNELS, OURS
from .layers import Problem
from .libraries import PEERS
from .machine import roofline_seconds

#: A layer with the times of its contenders.
Row: TypeAlias = Report


def make_row(problem: Problem, found: Mapping[str, Report], machine: Report, statistic: str) -> Row:
    """Put a layer's times beside its roofline; `statistic` ("min" or "median") is the one that ratios use."""
    plan = problem.plan
    seconds, bound = roofline_seconds(plan, dict(machine))
    contenders = {name: dict(entry) for name, entry in found.items()}
    for entry in contenders.values():
        if entry["status"] == "ok":
            entry["gflops"] = plan.flops / entry[f"{statistic}_ms"] / 1e6
            entry["roofline_fraction"] = seconds * 1e3 / entry[f"{statistic}_ms"]
    times = {n: entry[f"{statistic}_ms"] for n, entry in contenders.items() if entry["status"] == "ok"}
    peers = {name: time for name, time in times.items() if name in PEERS}
    best = min(peers, key=peers.__getitem__, default=None)
    ratios = {name: peers[best] / times[name] for name in OURS if best is not None and name in times}
    return {
        "layer": problem.layer.as_dict(),
        "flops": plan.flops,
        "bytes": plan.bytes,
        "roofline_ms": seconds * 1e3,
        "bound": bound,
        "contenders": contenders,
        "best_peer": best,
        "ratios": ratios,
        "auto_loss": auto_loss(times),
    }


def auto_loss(times: Mapping[str, float]) -> float | None:
    """How much longer "auto" takes than the better formulation: 0.1 is 10 % longer."""
    named = [times[name] for name in KERNELS if name != "auto" and name in times]
    return times["auto"] / min(named) - 1 if "auto" in times and named else None


def summarise(rows: Sequence[Row]) -> Report:
    """Condense all layers: per way to call the package its geometric means, losses and worst layer."""
    summary: Report = {"layers": len(rows), "wrong": _with_status(rows, "wrong", "failed")}
    for name in OURS:
        ratios = {row["layer"]["name"]: row["ratios"][name] for row in rows if name in row["ratios"]}
        done = [row["contenders"] for row in rows if row["contenders"].get(name, {}).get("status") == "ok"]
        if not done:
            continue
        fractions = [found[name]["roofline_fraction"] for found in done]
        with_torch = [found for found in done if found.get("torch", {}).get("status") == "ok"]
        summary[name] = {
            "geomean_roofline_fraction": geometric_mean(fractions),
            "geomean_vs_best_peer": geometric_mean(list(ratios.values())),
            "geomean_vs_torch": geometric_mean(
                [found[name]["gflops"] / found["torch"]["gflops"] for found in with_torch]
            ),
            "slower_than_best_peer": sum(ratio < 1 for ratio in ratios.values()),
            "compared": len(ratios),
            "worst_layer": min(ratios, key=ratios.__getitem__, default=None),
            "worst_ratio": min(ratios.values(), default=None),
        }
    losses = {row["layer"]["name"]: row["auto_loss"] for row in rows if row["auto_loss"] is not None}
    return summary | ({"auto": _summarise_auto(losses)} if losses else {})


def _summarise_auto(losses: Mapping[str, float]) -> Report:
    """Condense what "auto" loses against the better formulation, by layer."""
    mean = geometric_mean([1 + loss for loss in losses.values()])
    worst = max(losses, key=losses.__getitem__)
    return {
        "geomean_loss": mean - 1 if mean is not None else None,
        "worst_layer": worst,
        "worst_loss": losses[worst],
        "more_than_10_percent": sum(loss > 0.1 for loss in losses.values()),
    }


def geometric_mean(values: Sequence[float]) -> float | None:
    """Geometric mean, or None of nothing."""
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def _with_status(rows: Sequence[Row], *statuses: str) -> list[str]:
    return [
        f"{row['layer']['name']}: {name}: {entry['status']}: {entry['note']}"
        for row in rows
        for name, entry in row["contenders"].items()
        if entry["status"] in statuses
    ]


def make_table(rows: Sequence[Row], names: Sequence[str], statistic: str) -> Table:
    """One line per layer: milliseconds of every contender that took part, and how the package compares."""
    taking_part = [name for name in names if any(row["contenders"][name]["status"] != "left out" for row in rows)]
    compared = [name for name in OURS if any(name in row["ratios"] for row in rows)]
    compared = [name for name in compared if name != "prepared_out"] or compared  # its ratio is in the summary
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("layer", no_wrap=True)
    table.add_column("bound by", no_wrap=True)
    for title in ("roofline", *taking_part):
        table.add_column(title.replace("_", "\n"), justify="right", no_wrap=True)
    titles = ["auto /\nbetter"] if "auto" in names else ["of the\nroofline"]
    for title in (*titles, *("other /\n" + name.replace("_", " ") for name in compared)):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        found = row["contenders"]
        cells = [_cell(found[name], name == row["best_peer"], statistic) for name in taking_part]
        cells.append(_loss(row["auto_loss"]) if "auto" in names else Text(percent(_fraction(found))))
        cells += [_ratio(row["ratios"].get(name)) for name in compared]
        table.add_row(row["layer"]["name"], row["bound"], f"{row['roofline_ms']:.3g}", *cells)
    table.caption = f"{statistic} time in ms; other: the fastest other library; --json has GFLOP/s"
    table.caption_justify = "left"
    return table


def _fraction(found: Mapping[str, Report]) -> float | None:
    """Fraction of the roofline that the first of the package's contenders reached."""
    return next((found[name]["roofline_fraction"] for name in OURS if found.get(name, {}).get("status") == "ok"), None)


def _cell(entry: Report, best: bool, statistic: str) -> Text:
    if entry["status"] == "left out":
        return Text("left out", "dim")
    if entry["status"] != "ok":
        return Text(entry["status"].upper(), "bold red")
    return Text(f"{entry[f'{statistic}_ms']:.3g}", "bold" if best else "")


def percent(value: float | None) -> str:
    """Whole percents, or a dash."""
    return "-" if value is None else f"{value:.0%}"


def _ratio(value: float | None) -> Text:
    return Text("-") if value is None else Text(f"{value:.2f}", "green" if value >= 1 else "red")


def _loss(value: float | None) -> Text:
    return Text("-") if value is None else Text(f"{1 + value:.2f}", "red" if value > 0.1 else "")


def describe(summary: Report) -> list[str]:
    """Tell the summary in lines of text."""
    lines = []
    for name in OURS:
        if name not in summary:
            continue
        found = summary[name]
        line = f"{name}: {percent(found['geomean_roofline_fraction'])} of the roofline (geometric mean)"
        if found["compared"]:
            line += (
                f", {found['geomean_vs_best_peer']:.2f} times as fast as the best other library; "
                f"slower on {found['slower_than_best_peer']} of {found['compared']} layers, "
                f"worst {found['worst_layer']} ({found['worst_ratio']:.2f})"
            )
        if found["geomean_vs_torch"] is not None:
            line += f"; {found['geomean_vs_torch']:.2f} times as fast as torch"
        lines.append(line)
    if "auto" in summary:
        found = summary["auto"]
        lines.append(
            f"auto takes {1 + found['geomean_loss']:.2f} times as long as the better formulation (geometric mean; "
            f"below 1 is noise), at worst {1 + found['worst_loss']:.2f} times ({found['worst_layer']}), "
            f"above 1.10 on {found['more_than_10_percent']} layers"
        )
    return lines + [f"not timed: {line}" for line in summary["wrong"]]


def left_out(rows: Sequence[Row]) -> list[str]:
    """One line per reason for which contenders were left out, with the number of layers."""
    counts: dict[str, int] = {}
    for row in rows:
        for name, entry in row["contenders"].items():
            if entry["status"] == "left out":
                line = f"{name} left out: {entry['note']}"
                counts[line] = counts.get(line, 0) + 1
    return [f"{line} ({count} of {len(rows)} layers)" for line, count in counts.items()]
