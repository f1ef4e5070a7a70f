"""Pictures of a comparison: every layer beside the roofline, and the ratios to the best other library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpu_transconv.tools.bench.machine import name_machine

from .documents import own_name
from .tables import NAMES

_COLOURS = ("#0b6e4f", "#b0b7bf", "#c8553d")


def draw(
    rows: Sequence[Mapping[str, Any]],
    machine: Mapping[str, Any],
    dtype: str,
    path: Path,
    metadata: Mapping[str, str] | None = None,
    title: str = "Transposed convolution",
) -> None:
    """Write a PNG with both pictures; without peers the second shows the fraction of the roofline.

    `metadata` is kept as the file's text.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, max(5.5, 0.2 * len(rows) + 1.6)), layout="constrained")
    roofline, bars = figure.subplots(1, 2, width_ratios=(1, 1))
    _draw_roofline(roofline, rows, machine, dtype)
    _draw_bars(bars, rows)
    threads = f" {machine['threads']} thread{'s' * (machine['threads'] > 1)}," if "threads" in machine else ""
    figure.suptitle(f"{title}, {dtype},{threads} {name_machine(machine)}")
    figure.savefig(path, dpi=100, metadata=dict(metadata or {}))


def _speed(row: Mapping[str, Any], name: str | None) -> float | None:
    return row["contenders"].get(name, {}).get("gflops")


def _draw_roofline(axes: Any, rows: Sequence[Mapping[str, Any]], machine: Mapping[str, Any], dtype: str) -> None:
    peak, copy = machine["peak_gflops"][dtype], machine["copy_gb_per_s"]
    intensity = [row["flops"] / row["bytes"] for row in rows]
    span = np.geomspace(min([*intensity, 1.0]) / 2, max([*intensity, 2 * peak / copy]) * 2, 200)
    axes.plot(span, np.minimum(peak, copy * span), color="black", linewidth=1.2)
    axes.annotate(f"{peak:.0f} GFLOP/s", (peak / copy, peak), ha="right", va="bottom")
    axes.annotate(
        f"{copy:.0f} GB/s",
        (span[4], copy * span[4]),
        ha="left",
        va="top",
        xytext=(6, -2),
        textcoords="offset points",
    )
    series = {"best other library": [_speed(row, row["best_peer"]) for row in rows]}
    series |= {"this package, prepared": [_speed(row, own_name(row)) for row in rows]}
    for (label, speeds), colour, marker in zip(series.items(), (_COLOURS[2], _COLOURS[0]), "xo", strict=True):
        points = [(i, speed) for i, speed in zip(intensity, speeds, strict=True) if speed]
        if points:
            axes.scatter(*zip(*points, strict=True), s=26, c=colour, marker=marker, label=label, zorder=3)
    axes.set(
        xscale="log", yscale="log", xlabel="operations per byte of arrays (log scale)", ylabel="GFLOP/s (log scale)"
    )
    axes.set_title("Speed against the roofline of the definition", fontsize=11)
    axes.grid(alpha=0.25, which="both", linewidth=0.5)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", fontsize=9)


def _draw_bars(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    compared = any(row["ratios"] for row in rows)
    values: dict[str, float] = {}
    for row in rows:
        name = own_name(row)
        if name is not None and (row["ratios"] or not compared):
            fraction = row["contenders"][name]["roofline_fraction"]
            values[row["layer"]["name"]] = row["ratios"][name] if compared else fraction
    names = sorted(values, key=values.__getitem__)
    heights = [values[name] for name in names]
    colours = [_COLOURS[0] if height >= 1 or not compared else _COLOURS[2] for height in heights]
    left = 1 if compared else 0  # as fast as the best peer is in the middle
    axes.barh(range(len(names)), [height - left for height in heights], left=left, color=colours)
    axes.scatter(heights, range(len(names)), s=16, c=colours, zorder=3)  # seen at 1.00 too
    axes.scatter([], [], s=16, c=_COLOURS[0], label="prepared")
    functions = {row["layer"]["name"]: row["ratios"].get("function") for row in rows if compared}
    points = [(functions[name], place) for place, name in enumerate(names) if functions.get(name)]
    if points:
        axes.scatter(
            *zip(*points, strict=True), s=22, facecolors="white", edgecolors="black", zorder=4, label="function"
        )
        axes.legend(loc="lower right", fontsize=9)
        heights = [*heights, *(height for height, _ in points)]
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.axvline(1, color="black", linewidth=1)
    if compared:
        axes.set_xscale("log")
        low, high = min([*heights, 1]) / 1.5, max([*heights, 1]) * 1.5
        ticks = [2.0**power for power in range(-6, 8) if low < 2.0**power < high]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        peers = sorted({row["best_peer"] for row in rows if row["best_peer"]})
        axes.set_title("Times as fast as the best other library", fontsize=11)
        axes.set_xlabel(f"the best of {_listed(peers)} (log scale)")
    else:
        axes.set_title("Fraction of the roofline", fontsize=11)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)


def _listed(peers: Sequence[str]) -> str:
    """Names of libraries, each once."""
    return ", ".join(dict.fromkeys(NAMES.get(name, name).partition(",")[0] for name in peers))


def draw_pairs(titles: tuple[str, str], pairs: Mapping[str, tuple[Any, Any]], path: Path) -> None:
    """Write a PNG of two machines or commits: per layer the fraction of each one's roofline."""
    from matplotlib.figure import Figure

    names = sorted(pairs, key=lambda name: pairs[name][1].fraction / pairs[name][0].fraction)
    figure = Figure(figsize=(9, max(3, 0.22 * len(names) + 1.6)), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(names):
        axes.plot([side.fraction for side in pairs[name]], [place] * 2, color="#b0b7bf", linewidth=2, zorder=1)
    for side, (title, colour) in enumerate(zip(titles, (_COLOURS[2], _COLOURS[0]), strict=True)):
        fractions = [pairs[name][side].fraction for name in names]
        axes.scatter(fractions, range(len(names)), s=26, c=colour, label=title, zorder=2)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlim(left=0)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlabel("fraction of the machine's own roofline")
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper center", ncols=1, fontsize=9)
    figure.savefig(path, dpi=110)
