"""Files of results: two of them compared, and the README's table and pictures made of them."""

from __future__ import annotations

import json
import math
import re
import statistics
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compare, documents, readme
from gpu_transconv.tools.bench import contenders
from gpu_transconv.tools.bench.layers import shipped


def row(name: str, ms: float, peer_ms: float = 2.0, roofline_ms: float = 1.0) -> dict[str, Any]:
    def found(ms: float) -> dict[str, Any]:
        return {
            "status": "ok",
            "min_ms": ms,
            "median_ms": 3 * ms,
            "gflops": 4.0 / ms,
            "roofline_fraction": roofline_ms / ms,
        }

    return {
        "layer": {"name": name},
        "flops": 4e6,
        "bytes": 1000,
        "roofline_ms": roofline_ms,
        "bound": "compute",
        "contenders": {"prepared": found(ms), "torch": found(peer_ms)},
        "best_peer": "torch",
        "ratios": {"prepared": peer_ms / ms},
        "auto_loss": None,
    }


def document(threads: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
    machine = {"cpu": "A Processor", "threads": threads, "peak_gflops": {"float32": 100.0}, "copy_gb_per_s": 10.0}
    options = {"dtype": "float32", "data_format": "channels_first", "statistic": "min"}
    return {"schema": 1, "machine": machine, "options": options, "rows": rows}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Results of one and of two threads; the second lacks a layer of the first."""
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    one.write_text(json.dumps(document(1, [row("square", 2.0), row("long", 4.0), row("alone", 4.0)])))
    two.write_text(json.dumps(document(2, [row("square", 1.25), row("long", 10.0)])))
    return one, two


def test_compare_two_machines(files: tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "out.png"
    assert compare.main([*map(str, files), "--picture", str(picture)]) == 0
    printed = capsys.readouterr().out
    assert "A Processor, 1 thread\n" in re.sub(" +\n", "\n", printed)
    cells = {
        line.split("│")[1].strip(): [cell.strip() for cell in line.split("│")[2:-1]]
        for line in printed.splitlines()
        if "│" in line
    }
    assert cells["square"] == ["2", "50%", "3.2", "80%", "1.60"]
    assert cells["long"] == ["1", "25%", "0.4", "10%", "0.40"]
    assert cells["geometric mean"] == ["", "35%", "", "28%", "0.80"]
    assert "only in A Processor, 1 thread: alone" in printed
    assert picture.read_bytes().startswith(b"\x89PNG")


def asv_file(path: Path, fraction: float) -> None:
    params = [["'auto'", "'gather'"], ["'square'"], ["'float32'", "'float64'"]]
    results = {
        "bench_forward.Speed.track_gflops": [[8.0, 4.0, 6.0, math.nan], params],
        "bench_forward.Speed.track_fraction_of_roofline": [[fraction, 0.4, 0.3, math.nan], params],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"result_columns": ["result", "params"], "results": results}))


def test_compare_two_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def rev_parse(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        word = {"main": "0123456789", "HEAD": "abcdef0123"}.get(command[-1])
        return subprocess.CompletedProcess(command, word is None, word or "", "")

    monkeypatch.setattr(compare.subprocess, "run", rev_parse)
    for name, fraction in (("01234567", 0.5), ("abcdef01", 0.25)):
        asv_file(tmp_path / "a machine" / f"{name}-virtualenv-py3.11.json", fraction)
    arguments = ["main", "HEAD", "--asv-results", str(tmp_path)]
    assert compare.main(arguments) == 0
    printed = capsys.readouterr().out
    assert re.search(r"square +│ +8 │ +50% │ +8 │ +25% │ +0\.50 │", printed)
    assert "square float64" in printed
    asv_file(tmp_path / "a machine" / "01234567-virtualenv-py3.11-NUMBA_NUM_THREADS1.json", 0.5)
    assert compare.main(arguments) == 2
    assert "several results of main" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("nothing", "nothing"), ("one", "empty"), ("one", "other")])
def test_what_cannot_be_compared(files: tuple[Path, Path], tmp_path: Path, words: tuple[str, str], capsys: Any) -> None:
    (tmp_path / "empty.json").write_text("{}")
    (tmp_path / "other.json").write_text(json.dumps(document(1, [row("different", 1.0)])))
    known = {path.stem: str(path) for path in (*files, tmp_path / "empty.json", tmp_path / "other.json")}
    assert compare.main([known.get(word, word) for word in words]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_results_of_a_gpu_are_read(tmp_path: Path) -> None:
    entry = {"status": "ok", "ms": 0.5, "roofline_fraction": 0.8, "copy_fraction": 0.1}
    rows = [
        {"layer": "square", "precision": precision, "data_format": "channels_first", "flops": 4e9, "bytes": 1000,
         "roofline_ms": 0.4, "best_peer": None, "ratios": {}, "contenders": {"auto": dict(entry)}}
        for precision in ("float32", "tf32")
    ]  # fmt: skip
    machine = {"device": "A GPU", "copy_gb_per_s": 1000.0, "peak_tflops": {"float32": 20.0, "tf32": 100.0}}
    (tmp_path / "gpu.json").write_text(json.dumps({"machine": machine, "rows": rows}))
    groups = documents.read_groups(tmp_path / "gpu.json")
    assert [(group.device, group.dtype) for group in groups] == [("A GPU", "float32"), ("A GPU", "tf32")]
    speeds = documents.speeds_of(groups)
    assert speeds == dict.fromkeys(("square", "square tf32"), documents.Speed(8000.0, 0.8))
    page = readme.page(groups)
    assert "| A GPU | tf32 | 1 | 80% | - | - | - | - | - |" in page
    assert "| other | 1 | - | - | - | - | 80% | - |" in readme.section(groups)


def test_readme_shows_the_results() -> None:
    groups = [group for path in sorted(documents.RESULTS.glob("*.json")) for group in documents.read_groups(path)]
    assert groups
    assert readme.stale(groups) == [], "run python -m benchmarks.readme"


def test_readme_figures_are_those_of_the_files() -> None:
    """The same without the code that writes them: ratios and means worked out here, from the files."""
    lines = readme.PAGE.read_text(encoding="utf-8").splitlines()
    for path in documents.RESULTS.glob("*-thread*.json"):
        results = json.loads(path.read_text(encoding="utf-8"))
        ours = [found["contenders"]["prepared"]["min_ms"] for found in results["rows"]]
        fractions = [found["roofline_ms"] / ms for found, ms in zip(results["rows"], ours, strict=True)]
        functions = [found["contenders"]["function"]["min_ms"] for found in results["rows"]]
        ratios = [
            min(found["contenders"][name]["min_ms"] for name in found["contenders"] if name not in contenders.OURS
                and found["contenders"][name]["status"] == "ok") / ms
            for found, ms in zip(results["rows"], ours, strict=True)
        ]  # fmt: skip
        means = [math.exp(sum(map(math.log, values)) / len(values)) for values in (fractions, ratios)]
        threads = results["machine"]["threads"]
        title = f"{results['machine']['cpu']}, {threads} thread{'s' * (threads > 1)}"
        start = f"| {title} | {results['options']['dtype']} | {len(ours)} | {means[0]:.0%} | {means[1]:.2f} |"
        assert any(line.startswith(start) for line in lines), start
        for found, ms, function, fraction, ratio in zip(
            results["rows"], ours, functions, fractions, ratios, strict=True
        ):
            parts = (f"| {found['layer']['name']} |", f"| {ms:.3g} | {function:.3g} | {fraction:.0%} |",
                     f"| {ratio:.2f} | {ratio * ms / function:.2f} |")  # fmt: skip
            assert any(all(part in line for part in parts) for line in lines), parts


def test_readme_domains_are_those_of_the_files() -> None:
    """The README's table once more, from the file with the most threads and the list of layers."""
    paths = documents.RESULTS.glob("*-thread*.json")
    results = max((json.loads(path.read_text()) for path in paths), key=lambda found: found["machine"]["threads"])
    text = readme.README.read_text(encoding="utf-8")
    found: dict[str, list[tuple[float, ...]]] = {}
    worst: dict[str, tuple[float, str]] = {}
    for row in results["rows"]:
        ms = {name: entry["min_ms"] for name, entry in row["contenders"].items() if entry["status"] == "ok"}
        best = min(ms[name] for name in ms if name not in contenders.OURS)
        ratios = (
            ms["torch"] / ms["prepared"],
            best / ms["prepared"],
            best / ms["function"],
        )
        for domain in (shipped()[row["layer"]["name"]].domain, "all"):
            found.setdefault(domain, []).append(ratios)
            worst[domain] = min(worst.get(domain, (math.inf, "")), (ratios[1], row["layer"]["name"]))
    assert len(found) == 6
    for domain, ratios in found.items():
        torch, best, best_f = (math.exp(sum(map(math.log, part)) / len(part)) for part in zip(*ratios, strict=True))
        low, high = min(ratio[1] for ratio in ratios), max(ratio[1] for ratio in ratios)
        start = (
            f"| {domain} | {len(ratios)} | {torch:.2f} | {best:.2f} ({low:.2f} to {high:.3g}) | {worst[domain][1]} |"
        )
        assert f"{start} {best_f:.2f} |" in text, start


def test_readme_shares_are_those_of_the_models() -> None:
    """The README's last column, worked out from the files of whole models."""
    found: dict[str, dict[str, tuple[float, str, float]]] = {}
    for path in (documents.RESULTS / "models").glob("*.json"):
        results = json.loads(path.read_text(encoding="utf-8"))
        for row in results["rows"]:
            fewer = -results["heading"]["machine"]["threads"]  # of which the most counts
            before = found.setdefault(row["domain"], {}).get(row["name"], (-math.inf, "", 0))
            entry = (fewer, results["heading"]["date"], min(1, row["torch_inside_ms"] / row["torch_ms"]))
            found[row["domain"]][row["name"]] = max(before, entry)
    speech, music = found["speech and audio codecs"], found["music separation"]
    everything = {name: entry for entries in found.values() for name, entry in entries.items()}
    text = readme.README.read_text(encoding="utf-8")
    for domain, entries in (("audio decoders, vocoders", speech | music), ("medical, 3-D", found["volumes"]),
                            ("segmentation, detection, depth", found["images"]), ("all", everything)):  # fmt: skip
        values = [share for *_, share in entries.values()]
        cell = f"{statistics.median(values):.0%} ({min(values):.0%} to {max(values):.0%})"
        assert re.search(rf"^\| {re.escape(domain)} \|.*\| {re.escape(cell)} \|$", text, re.MULTILINE), (domain, cell)


def test_what_readers_must_be_told(files: tuple[Path, Path]) -> None:
    """Layers left out, whose sizes are no model's, who is faster, above the roofline; and on what, when, with what."""
    found = document(2, [row("dcgan_l1", 0.5), row("espcn_equiv_x3", 4.0)])
    found |= {"date": "2026-01-02T03:04:05+00:00", "commit": "0123456789abcdef" * 2 + "+", "versions": {"torch": "9.8"}}
    found["machine"] |= {"virtual": True, "cpu_target": "swift"}
    found["options"]["max_gmac"] = 3.5
    files[0].write_text(json.dumps(found))
    (group,) = documents.read_groups(files[0])
    for text in (readme.section([group]), readme.page([group])):
        assert "58 of the 60 layers of the list were not measured (above 3.5 GMAC)" in text
        assert "The sizes of 1 of the 2 measured ones are from a model's source" in text
        assert "1 layer is above 100 % of the roofline" in text
        assert "A Processor (swift, virtual machine), 2 threads; float32, channels first" in text
        assert "measured 2026-01-02, commit 0123456789ab with changes, with PyTorch 9.8." in text
    assert "espcn_equiv_x3 (derived)" in readme.page([group])


def test_a_changed_file_makes_readme_and_picture_stale(files: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    charts = import_module("benchmarks.charts")
    (group,) = documents.read_groups(files[0])
    root = tmp_path / "checkout"
    (root / "docs" / "images").mkdir(parents=True)
    (root / "docs" / "speed").mkdir()
    page, listed = root / "README.md", root / "docs" / "speed" / "results.md"
    listed.write_text(readme.page([group]))
    page.write_text(readme.replaced(f"before\n{readme.BEGIN}\n{readme.END}\nafter\n", readme.section([group])))
    picture = root / "docs" / "images" / readme.picture_name(group)
    metadata = {readme.PICTURE_KEY: readme.digest(files[0])}
    charts.draw(group.rows, group.machine, group.dtype, picture, metadata)
    assert readme.stale([group], tmp_path, root) == []
    changed = json.loads(files[0].read_text())
    changed["rows"][0]["contenders"]["prepared"]["min_ms"] = 1.5
    files[0].write_text(json.dumps(changed))
    assert readme.stale(documents.read_groups(files[0]), tmp_path, root) == [page.name, listed.name, picture.name]
    with pytest.raises(ValueError, match="once each"):
        readme.replaced("no markers", "")


@pytest.mark.parametrize("path", sorted(documents.RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_kept_results_say_when_where_and_with_what(path: Path) -> None:
    found = json.loads(path.read_text())
    assert re.match(r"\d{4}-\d\d-\d\d", found["date"])
    assert found["commit"] == "unknown" or re.fullmatch(r"[0-9a-f]{40}\+?", found["commit"])
    assert {"python", "numpy", "numba"} <= set(found["versions"])
    host = found["machine"].get("host", found["machine"])  # a GPU's file has both
    assert {"cpu", "model", "cpu_target", "virtual"} <= set(host)
