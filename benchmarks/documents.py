"""Results as files: what `peers`, `gpu_check` and asv wrote, brought into one form."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gpu_transconv.tools.bench.contenders import OURS
from gpu_transconv.tools.bench.report import Row

RESULTS = Path(__file__).with_name("results")
#: What `benchmarks.models` wrote, beside the results of layers.
MODELS = RESULTS / "models"
#: Of the package's contenders, the one that stands for it.
_ORDER = ("prepared", *OURS, "auto")
_ASV = "bench_forward.{}.{}"


@dataclass(frozen=True)
class Group:
    """Layers measured together on one machine in one dtype (on a GPU, precision) and data format.

    Rows are those of `gpu_transconv.tools.bench.report`; times of contenders are in `ms`.
    """

    source: str
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    dtype: str
    data_format: str
    rows: Sequence[Row]
    date: str = "unknown"
    commit: str = "unknown"
    max_gmac: float | None = None

    @cached_property
    def device(self) -> str:
        """Processor and threads, or the GPU's name."""
        if "threads" not in self.machine:
            return str(self.machine["cpu"])
        return f"{self.machine['cpu']}, {self.machine['threads']} thread{'s' * (self.machine['threads'] > 1)}"


@dataclass(frozen=True)
class Speed:
    """Useful operations per second of the package on one layer, and the fraction of what the machine allows."""

    gflops: float
    fraction: float


def own_name(row: Row) -> str | None:
    """Name the contender that stands for the package, or None where none was right."""
    return next((name for name in _ORDER if row["contenders"].get(name, {}).get("status") == "ok"), None)


@dataclass(frozen=True)
class Models:
    """Whole models measured together on one machine."""

    heading: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]


def read_models(folder: Path = MODELS) -> list[Models]:
    """Read the files of `benchmarks.models`; a model that several have on equal threads counts where it is newest."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    newest: dict[tuple[str, int], str] = {}
    for document in found:
        for row in document["rows"]:
            key = row["name"], document["heading"]["machine"]["threads"]
            newest[key] = max(newest.get(key, ""), document["heading"]["date"])
    kept = []
    for document in found:
        heading = document["heading"]
        rows = [row for row in document["rows"] if row["status"] == "ok"
                and newest[row["name"], heading["machine"]["threads"]] == heading["date"]]  # fmt: skip
        if rows:
            kept.append(Models(heading, rows))
    return kept


def read_groups(path: Path) -> list[Group]:
    """Read a file of `peers` or of `gpu_check`.

    Raises
    ------
    ValueError
        If it is neither.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        rows, machine = document["rows"], document["machine"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no file of results: {error!r}") from None
    versions = document.get("versions", {})
    if "peak_tflops" in machine:
        return list(_gpu_groups(path.name, machine, versions, rows))
    options = document["options"]
    for entry in (entry for row in rows for entry in row["contenders"].values() if entry["status"] == "ok"):
        entry["ms"] = entry[f"{options['statistic']}_ms"]
    kind = options["dtype"], options["data_format"]
    when = document.get("date", "unknown"), document.get("commit") or "unknown"
    return [Group(path.name, machine, versions, *kind, rows, *when, options.get("max_gmac"))]


def _gpu_groups(
    source: str, machine: Mapping[str, Any], versions: Mapping[str, str], rows: Sequence[Row]
) -> Iterator[Group]:
    limits = {
        "cpu": machine["device"],
        "peak_gflops": {name: 1e3 * peak for name, peak in machine["peak_tflops"].items()},
        "copy_gb_per_s": machine["copy_gb_per_s"],
    }
    for key in dict.fromkeys((row["precision"], row["data_format"]) for row in rows):
        found = [row for row in rows if (row["precision"], row["data_format"]) == key and row["contenders"]]
        for row in found:
            row["layer"] = {"name": row["layer"]}
            for entry in row["contenders"].values():
                if entry["status"] == "ok":
                    entry["gflops"] = row["flops"] / entry["ms"] / 1e6
        if found:
            yield Group(source, limits, versions, *key, found)


def speeds_of(groups: Sequence[Group]) -> dict[str, Speed]:
    """Return the package's speeds by layer, with what is not float32 and channels first in the name."""
    found = {}
    for group in groups:
        usual = {"float32": "", "channels_first": ""}
        suffix = "".join(f" {usual.get(word, word)}".rstrip() for word in (group.dtype, group.data_format))
        for row in group.rows:
            if name := own_name(row):
                entry = row["contenders"][name]
                found[row["layer"]["name"] + suffix] = Speed(entry["gflops"], entry["roofline_fraction"])
    return found


def read_asv(path: Path) -> dict[str, Speed]:
    """Read the package's speeds from a file of asv's results: `bench_forward`, what "auto" picks.

    Raises
    ------
    ValueError
        If the file has none.
    """
    document = json.loads(path.read_text(encoding="utf-8"))
    try:
        columns, results = document["result_columns"], document["results"]
    except (KeyError, TypeError):
        raise ValueError(f"{path} is no file of asv's results") from None
    found: dict[str, Speed] = {}
    for suite in ("Speed", "Cuda"):
        names = (_ASV.format(suite, "track_gflops"), _ASV.format(suite, "track_fraction_of_roofline"))
        if all(name in results for name in names):
            speeds, fractions = (_by_parameters(dict(zip(columns, results[name], strict=False))) for name in names)
            for (how, layer, dtype), speed in speeds.items():
                fraction = fractions.get((how, layer, dtype))
                if how.endswith("auto") and speed and fraction and speed == speed:  # NaN where it was skipped
                    name = " ".join([layer, *([dtype] * (dtype != "float32")), *([how] * (how != "auto"))])
                    found[name] = Speed(speed, fraction)
    if not found:
        raise ValueError(f"{path} has no results of bench_forward.Speed; run asv with --bench Speed")
    return found


def _by_parameters(entry: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    names = itertools.product(*([word.strip("'") for word in axis] for axis in entry["params"]))
    return dict(zip(names, entry["result"] or [], strict=False))
