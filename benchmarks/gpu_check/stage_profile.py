"""Profile with NVIDIA's ncu the layers on which the package is worst."""

from __future__ import annotations

import csv
import io
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu_transconv.tools.bench.layers import Layer

from . import processes, records
from .measure import PEERS, Task
from .stages import DONE, UNFINISHED, WRONG, Stage, count_words, say

LAYERS = 12
#: ncu's sections that every version has: they bring their metrics under the names that it knows them by.
_SECTIONS = (
    "SpeedOfLight", "ComputeWorkloadAnalysis", "MemoryWorkloadAnalysis", "LaunchStats", "Occupancy", "SchedulerStats",
    "WarpStateStats", "InstructionStats",
)  # fmt: skip
_LAYER_SECONDS = 60.0
_POLL_SECONDS = 0.1
#: Columns of ncu's table that are no metrics.
_TEXT = ("ID", "Kernel Name", "Block Size", "Grid Size", "Device", "CC", "Section Name")


def worst(measured: Path, layers: Sequence[Layer], most: int = LAYERS) -> list[Task]:
    """Where auto is slowest beside cuDNN's best; without such rows the first layers in half precision."""
    known = {layer.name: layer for layer in layers}
    times: dict[tuple[str, str, str], dict[str, float]] = {}
    for record in records.read(measured):
        if record.get("status") == "ok" and record["layer"] in known:
            key = record["layer"], record["precision"], record["data_format"]
            times.setdefault(key, {})[record["contender"]] = record["ms"]
    ratios = {
        key: min(found[peer] for peer in PEERS if peer in found) / found["auto"]
        for key, found in times.items()
        if "auto" in found and any(peer in found for peer in PEERS)
    }
    slowest = sorted(ratios, key=ratios.__getitem__)[:most]
    usual = [(layer.name, "float16", "channels_first") for layer in layers[:most]]
    return [Task(known[name], *rest) for name, *rest in slowest or usual]


def profile(stage: Stage, device: Sequence[str], command: Sequence[str], tasks: Sequence[Task]) -> int:
    """Profile what has no record yet."""
    finished = stage.finished(lambda record: (record["layer"], record["precision"], record["data_format"]))
    todo = [task for task in tasks if task.key not in finished]
    found: list[str] = []
    for task in todo:
        record = _run(stage, device, command, task)
        if record is None:
            say(f"time is up: {len(todo) - len(found)} of {len(todo)} layers are left for the next call")
            return UNFINISHED
        stage.append({**dict(zip(("layer", "precision", "data_format"), task.key, strict=True)), **record})
        found.append(record["status"])
        say(f"{' '.join(task.key)}: {record['status']}, {len(record['kernels'])} kernels")
    say(f"profile: {count_words(found)}")
    return WRONG if "failed" in found else DONE


def _run(stage: Stage, device: Sequence[str], command: Sequence[str], task: Task) -> dict[str, Any] | None:
    """Profile one layer; None where the stage's time is up."""
    log = stage.folder / "profile.run.log"
    log.unlink(missing_ok=True)
    sections = [word for section in _SECTIONS for word in ("--section", section)]
    options = ["--csv", "--page", "raw", "--target-processes", "all", "--profile-from-start", "off", *sections]
    ours = [sys.executable, "-m", f"{__package__}.profiled", json.dumps(task.as_dict()), *device]
    process = processes.start([*command, *options, *ours], log)
    until = time.monotonic() + min(_LAYER_SECONDS, stage.left)
    try:
        while process.poll() is None and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)
        ended = process.poll() is not None
    finally:
        processes.stop(process)
    if not ended and stage.left <= 0:
        return None
    text = log.read_text(errors="replace")
    kernels = read_table(text)
    if kernels:
        return {"status": "ok", "kernels": kernels}
    why = processes.how_it_ended(process) if ended else f"not finished after {_LAYER_SECONDS:.0f} s"
    return {"status": "failed", "kernels": [], "note": f"ncu {why}", "text": text[-2000:]}


def read_table(text: str) -> list[dict[str, Any]]:
    """Kernels and their metrics as numbers, of ncu's raw page; its second line has the units."""
    start = text.find('"ID"')
    if start < 0:
        return []
    rows = list(csv.DictReader(io.StringIO(text[start:])))
    units, found = rows[0] if rows else {}, []
    for row in rows[1:]:
        if not (row.get("ID") or "").isdigit():
            continue
        numbers = {key: _number(value) for key, value in row.items() if key not in _TEXT and value}
        metrics = {f"{key} {units.get(key) or ''}".strip(): v for key, v in numbers.items() if v is not None}
        found.append({"kernel": row["Kernel Name"], "grid": row.get("Grid Size"), "metrics": metrics})
    return found


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", ""))
    except (AttributeError, ValueError):
        return None
