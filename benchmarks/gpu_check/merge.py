"""Make one document and the tables of the files that the stages wrote, whatever they got to."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpu_transconv.tools.bench.machine import identify, make_heading

from . import records
from .report import complete, make_tables, summarise
from .stage_tests import latest
from .stages import DONE, WRONG, count_words

_ROW = ("layer", "precision", "data_format")


def merge(folder: Path) -> dict[str, Any]:
    """Read the files of all stages; of what was done more than once the last counts."""
    files = {name: records.read(folder / f"{name}.jsonl") for name in STAGES}
    steps = {record["step"]: record for record in files["probe"] if "step" in record}
    machine = _machine(steps)
    rows = [complete(row, machine) for row in _rows(files["measure"])]
    versions = {key: value for key, value in steps.get("versions", {}).items() if key not in _NO_VERSION}
    about = [record for record in files["measure"] if record.get("about")]
    return make_heading(machine | {"host": identify()}, versions) | {
        "probe": list(steps.values()),
        "conditions": [record for record in about if record["about"] == "device"],
        "compiled": next((record for record in reversed(about) if record["about"] == "compile"), {}),
        "tests": _tests(files["tests"]),
        "sanitize": list({(r["tool"], *r["tests"]): r for r in files["sanitize"] if "tool" in r}.values()),
        "profile": list({tuple(r[key] for key in _ROW): r for r in files["profile"] if "layer" in r}.values()),
        "summary": summarise(rows),
        "rows": rows,
    }


STAGES = ("probe", "tests", "sanitize", "measure", "profile")
_NO_VERSION = ("step", "status", "at", "context")


def _machine(steps: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The device's name, sizes and peaks, as far as the probe came."""
    found = {k: v for k, v in steps.get("device", {}).items() if k not in _NO_VERSION}
    found.setdefault("device", "unknown device")
    peaks = {name[8:]: r["tflops"] for name, r in steps.items() if name.startswith("product ") and "tflops" in r}
    found["peak_tflops"] = peaks
    if "gb_per_s" in steps.get("copy", {}):
        found["copy_gb_per_s"] = steps["copy"]["gb_per_s"]
    return found


def _rows(found: list[records.Record]) -> list[dict[str, Any]]:
    """One row per layer, precision and data format, with every contender that has a record."""
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for record in found:
        if "contender" not in record:
            continue
        key = tuple(record[name] for name in _ROW)
        about = {name: record[name] for name in (*_ROW, "flops", "bytes")}
        row = rows.setdefault(key, about | {"contenders": {}})
        rest = {name: v for name, v in record.items() if name not in about and name != "contender"}
        row["contenders"][record["contender"]] = rest
    return list(rows.values())


def _tests(found: list[records.Record]) -> dict[str, Any]:
    last = latest(found)
    chosen = next((record["tests"] for record in reversed(found) if record.get("about") == "chosen"), [])
    poor = [record for record in last.values() if record["status"] not in ("passed", "skipped")]
    return {
        "note": count_words(record["status"] for record in last.values()),
        "not_run": len({*chosen} - {*last}),
        "poor": poor,
    }


def show(document: Mapping[str, Any]) -> int:
    """Print the tables and what went wrong; the exit status."""
    from rich.console import Console

    console = Console() if sys.stdout.isatty() else Console(width=220)
    machine, summary, tests = document["machine"], document["summary"], document["tests"]
    for table in make_tables(document["rows"], summary):
        console.print(table)
    peaks = ", ".join(f"{name} {peak:.0f}" for name, peak in machine["peak_tflops"].items()) or "not measured"
    copy = machine.get("copy_gb_per_s")
    lines = [
        f"{machine['device']}: copies {f'{copy:.0f} GB/s' if copy else 'not measured'}, products in TFLOP/s: {peaks}",
        f"probe: {count_words(step['status'] for step in document['probe'])}",
        f"tests: {tests['note']}, {tests['not_run']} not run",
        f"sanitize: {count_words(run['status'] for run in document['sanitize'])}",
        f"profile: {count_words(run['status'] for run in document['profile'])}",
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False)
    poor = _what_is_wrong(document)
    for line in poor:
        console.print(line, style="red", highlight=False, markup=False)
    return WRONG if poor else DONE


def _what_is_wrong(document: Mapping[str, Any]) -> list[str]:
    found = [f"{kernel}: {note}" for kernel, note in document["compiled"].get("failed", {}).items()]
    found += [
        f"probe: {r['step']}: {r['status']} {r.get('note', '')}" for r in document["probe"] if r["status"] != "ok"
    ]
    found += [f"{r['test']}: {r['status']} {_last_line(r.get('note', ''))}" for r in document["tests"]["poor"]]
    found += [
        f"{r['tool']}: {r['status']} {r['note']}: {', '.join(r['tests'])}"
        for r in document["sanitize"]
        if r["status"] != "clean"
    ]
    return [*found, *document["summary"]["wrong"], *document["summary"]["failed"]]


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1][:200]


def slug(device: str) -> str:
    """File name of a device."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def write(document: Mapping[str, Any], path: Path) -> None:
    """Write the document, whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    part.replace(path)
