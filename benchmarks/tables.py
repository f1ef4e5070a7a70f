"""Results as tables of Markdown: per domain, per machine, per layer, and the sentences that go with them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from gpu_transconv.tools.bench.layers import shipped
from gpu_transconv.tools.bench.machine import name_machine
from gpu_transconv.tools.bench.report import Row, geometric_mean, percent

from .documents import Group, Models, own_name

#: What contenders are called where people read.
NAMES = {
    "torch": "PyTorch",
    "onnxruntime": "ONNX Runtime",
    "onnxruntime_out": "ONNX Runtime, bound output",
    "openvino": "OpenVINO",
    "ncnn": "ncnn",
    "litert": "LiteRT",
}
#: Domains of layers that models' domains belong to, where they are called otherwise.
_DOMAINS = {
    "speech and audio codecs": "audio decoders, vocoders",
    "music separation": "audio decoders, vocoders",
    "images": "segmentation, detection, depth",
    "volumes": "medical, 3-D",
}
_PACKAGES = (
    "python",
    "numpy",
    "numba",
    "tbb",
    "torch",
    "onnxruntime",
    "openvino",
    "ncnn",
    "ai-edge-litert",
    "cuda",
    "cudnn",
)


def title(group: Group) -> str:
    """Machine, threads, dtype, data format."""
    return f"{group.device}, {group.dtype}, {group.data_format.replace('_', ' ')}"


def main_group(groups: Sequence[Group]) -> Group | None:
    """Pick the group that the README shows: float32, channels first, most threads; a GPU's before any."""
    usual = [group for group in groups if (group.dtype, group.data_format) == ("float32", "channels_first")]
    return max(usual or groups, key=lambda group: group.machine.get("threads", 1000), default=None)


def ratios(rows: Iterable[Row], contender: str, other: str | None = None) -> list[float]:
    """Time of another library (by default of the fastest on each layer) over a contender's, layer by layer."""
    found = []
    for row in rows:
        times = {name: entry["ms"] for name, entry in row["contenders"].items() if entry["status"] == "ok"}
        name = other or row["best_peer"]
        if name in times and contender in times:
            found.append(times[name] / times[contender])
    return found


def _fractions(rows: Iterable[Row]) -> list[float]:
    return [row["contenders"][name]["roofline_fraction"] for row in rows if (name := own_name(row))]


def by_domain(group: Group, models: Sequence[Models]) -> list[str]:
    """Table with a line per domain, and one of all layers."""
    domains: dict[str, list[Row]] = {}
    for row in group.rows:
        layer = shipped().get(row["layer"]["name"])
        domains.setdefault(layer.domain if layer else "other", []).append(row)
    lines = table(
        ("domain", "layers", "PyTorch / prepared", "best other / prepared (range)", "worst layer",
         "best other / function", "prepared, of the roofline", "share of a model's time (range)"),
        "lrrrlrrr",
    )  # fmt: skip
    rows = {**dict(sorted(domains.items(), key=lambda item: (item[0] == "other", -len(item[1])))), "all": group.rows}
    for domain, found in rows.items():
        best = ratios(found, "prepared")
        span = f" ({min(best):.2f} to {max(best):.3g})" if best else ""
        cells = (
            domain,
            str(len(found)),
            times(ratios(found, "prepared", "torch")),
            times(best) + span,
            _worst(found),
            times(ratios(found, "function")),
            percent(geometric_mean(_fractions(found))),
            _share([row["share"] for one in models for row in one.rows
                    if domain in ("all", _DOMAINS.get(row["domain"], row["domain"]))]),
        )  # fmt: skip
        lines.append(table_row(cells))
    return lines


def _share(found: Sequence[float]) -> str:
    return f"{percent(median(found))} ({percent(min(found))} to {percent(max(found))})" if found else "-"


def shares(models: Sequence[Models]) -> list[str]:
    """Say whose share of a model's time it is: of how many models, with how many threads and when."""
    if not models:
        return []
    dates = " and ".join(sorted({one.heading["date"][:10] for one in models}))
    threads = " and ".join(sorted({str(one.heading["machine"]["threads"]) for one in models}))
    return [f"- The share is the part of PyTorch's time that is spent in transposed convolutions, as the median of "
            f"{sum(len(one.rows) for one in models)} whole models (threads: {threads}; {dates})."]  # fmt: skip


def _worst(rows: Sequence[Row]) -> str:
    """Name the layer on which the prepared operator compares worst with the best other library."""
    compared = [(found[0], row["layer"]["name"]) for row in rows if (found := ratios([row], "prepared"))]
    return min(compared)[1] if compared else "-"


def packing(group: Group, most: int = 10) -> list[str]:
    """Table of the layers on which packing in every call costs most, and of those on which it costs least."""
    found = []
    for row in group.rows:
        times_ = {name: entry["ms"] for name, entry in row["contenders"].items() if entry["status"] == "ok"}
        if {"prepared", "function"} <= times_.keys():
            layer = row["layer"]
            weights = layer["cin"] * layer["cout"] // layer.get("groups", 1) * math.prod(layer["kernel"])
            found.append((times_["function"] / times_["prepared"], layer, weights, times_))
    found.sort(key=lambda entry: -entry[0])
    columns = ("layer", "input", "weights", "prepared, ms", "function, ms", "PyTorch, ms", "function / prepared")
    lines = table(columns, "lrrrrrr")
    for ratio, layer, weights, ms in found[:most] + found[most:][-3:]:
        size = " x ".join(map(str, (layer["cin"], *layer["spatial"])))
        torch = f"{ms['torch']:.3g}" if "torch" in ms else "-"
        cells = (layer["name"], size, f"{weights:,}", f"{ms['prepared']:.3g}", f"{ms['function']:.3g}", torch)
        lines.append(table_row((*cells, f"{ratio:.2f}")))
    return lines


def headline(group: Group) -> str:
    """Say in one sentence how the package compares on a group."""
    best, function = ratios(group.rows, "prepared"), ratios(group.rows, "function")
    if not best or not function:
        return f"{title(group)}: {percent(geometric_mean(_fractions(group.rows)))} of the roofline."
    peers = dict.fromkeys(NAMES.get(row["best_peer"], "").partition(",")[0] for row in group.rows)
    others = ", ".join(sorted(filter(None, peers), key=str.lower))
    return (
        f"**{times(best)} times as fast as the best of {others}** (geometric mean over {len(best)} layers, "
        f"{group.dtype}, {group.device}) where the weights are prepared, slower than it on "
        f"{sum(ratio < 1 for ratio in best)} of them; "
        f"{times(function)} times where they are not, slower on {sum(ratio < 1 for ratio in function)}."
    )


def by_machine(groups: Sequence[Group]) -> list[str]:
    """Table with a line per machine, dtype and data format."""
    columns = ("machine", "dtype", "layers", "of the roofline", "best other / prepared", "PyTorch / prepared",
               "slower on", "best other / function", "slower on")  # fmt: skip
    lines = table(columns, "llrrrrrrr")
    for group in groups:
        kind = group.dtype if group.data_format == "channels_first" else f"{group.dtype}, {group.data_format}"
        cells = [group.device, kind, str(sum(own_name(row) is not None for row in group.rows))]
        cells.append(percent(geometric_mean(_fractions(group.rows))))
        for contender in ("prepared", "function"):
            best = ratios(group.rows, contender)
            cells.append(times(best))
            if contender == "prepared":
                cells.append(times(ratios(group.rows, contender, "torch")))
            cells.append(f"{sum(ratio < 1 for ratio in best)} of {len(best)}" if best else "-")
        lines.append(table_row(cells))
    return lines


def every_layer(group: Group) -> list[str]:
    """Table with a line per layer."""
    columns = ("layer", "sizes from", "roofline, ms", "prepared, ms", "function, ms", "of the roofline",
               "best other, ms", "which", "best other / prepared", "best other / function")  # fmt: skip
    lines = table(columns, "llrrrrrlrr")
    for row in group.rows:
        found, peer = row["contenders"], row["best_peer"]
        layer = shipped().get(row["layer"]["name"])
        name = own_name(row)
        function = found.get("function", {})
        cells = (
            row["layer"]["name"],
            layer.parameters_from if layer else "",
            milliseconds(row["roofline_ms"]),
            milliseconds(found[name]["ms"] if name else None),
            milliseconds(function.get("ms")),
            percent(found[name]["roofline_fraction"] if name else None),
            milliseconds(found[peer]["ms"] if peer else None),
            NAMES.get(peer, peer or ""),
            times(ratios([row], name or "")),
            times(ratios([row], "function")),
        )
        lines.append(table_row(cells))
    return lines


def conditions(group: Group) -> str:
    """Say on what, when and with which versions a group was measured."""
    threads = group.machine.get("threads")
    how = [name_machine(group.machine), *([f"{threads} thread{'s' * (threads > 1)}"] if threads else [])]
    versions = ", ".join(
        f"{NAMES.get(name, name)} {group.versions[name]}" for name in _PACKAGES if name in group.versions
    )
    date, commit = group.date[:10], group.commit[:12] + " with changes" * group.commit.endswith("+")
    return (
        f"{', '.join(how)}; {group.dtype}, {group.data_format.replace('_', ' ')}; measured {date}, commit {commit}, "
        f"with {versions or 'unknown versions'}."
    )


def remarks(group: Group, names: bool = False) -> list[str]:
    """What a reader would otherwise ask: layers left out, where sizes are from, fractions above one."""
    layers = {row["layer"]["name"]: shipped().get(row["layer"]["name"]) for row in group.rows}
    found = []
    if left := [name for name in shipped() if name not in layers]:
        why = f" (above {group.max_gmac:g} GMAC)" if group.max_gmac else ""
        words = f"{len(left)} of the {len(shipped())} layers of the list were not measured{why}"
        found.append(words + (f": {', '.join(left)}." if names else "."))
    other = [f"{name} ({layer.parameters_from})" for name, layer in layers.items()
             if layer and layer.parameters_from != "source"]  # fmt: skip
    if other:
        words = f"The sizes of {len(layers) - len(other)} of the {len(layers)} measured ones are from a model's source"
        listed = (
            f"; not those of {', '.join(other)}." if names else ", those of the others from descriptions or issues."
        )
        found.append(words + listed)
    if above := sum(fraction > 1 for fraction in _fractions(group.rows)):
        found.append(
            f"{above} layer{' is' if above == 1 else 's are'} above 100 % of the roofline, which counts the "
            "multiplications of the definition: there the kernel needs fewer (decision 0010)."
        )
    return [f"- {words}" for words in found]


def table(columns: Sequence[str], aligned: str) -> list[str]:
    """First two lines of a table; a letter per column says to which side it goes."""
    return [table_row(columns), table_row(["---" if letter == "l" else "---:" for letter in aligned])]


def table_row(cells: Sequence[str]) -> str:
    """One line of a table."""
    return f"| {' | '.join(cells)} |"


def milliseconds(value: Any) -> str:
    """Three digits, or a dash."""
    return "-" if value is None else f"{value:.3g}"


def times(found: Sequence[float]) -> str:
    """Geometric mean, or a dash."""
    mean = geometric_mean(found)
    return "-" if mean is None else f"{mean:.2f}"
