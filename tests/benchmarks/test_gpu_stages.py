"""Any stage killed at any moment leaves all that it had finished; tests that crash or hang cost one test each."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from selection import in_full

from benchmarks.gpu_check import __main__ as gpu_check
from benchmarks.gpu_check import merge, records, stage_profile, stage_sanitize, stage_tests, suite

ROOT = Path(__file__).resolve().parents[2]
DEVICE = ("--device", "support.fake_gpu:FakeGpu")
LAYER = {"cin": 8, "cout": 4, "spatial": [16, 16], "kernel": [4, 4], "stride": [2, 2]}
#: Kills in all, and what there is to do; without GPU_TRANSCONV_TEST_ALL a few, but each stage is killed once.
KILLS, LAYERS, TESTS = (50, 12, 40) if os.environ.get("GPU_TRANSCONV_TEST_ALL") else (5, 4, 8)
#: Seconds within which a stage is killed: it has started its workers by then, or not, or has ended.
EARLIEST, LATEST = 0.1, 2.5

SUITE = """
import os, time
import pytest

@pytest.mark.gpu("cupy")
@pytest.mark.parametrize("number", range({count}))
def test_it(number):
    time.sleep({pause})
    what = {faults}.get(number)
    if what == "crashes":
        os._exit(7)
    if what == "hangs":
        time.sleep(1000)
    if what == "breaks":
        from support.fake_gpu import FakeGpu
        FakeGpu.broken = True
    assert what is None
"""
#: Stands for compute-sanitizer: runs what it is given, and sums up as that does.
SANITIZER = """
import subprocess, sys
command = sys.argv[sys.argv.index("99") + 1:]
done = subprocess.run(command)
bad = "memcheck" in sys.argv and {errors}
print("========= ERROR SUMMARY: %d errors" % bad)
sys.exit(99 if bad else done.returncode)
"""
#: Stands for ncu: runs what it is given, and prints a table as that does.
NCU = """
import subprocess, sys
code = subprocess.run(sys.argv[sys.argv.index("InstructionStats") + 1:]).returncode
if code == 0:
    print('==PROF== Connected\\n"ID","Kernel Name","Grid Size","gpu__time_duration.sum"\\n"","","","ns"')
    print('"0","gather_tile","(1, 1, 1)","1,234.5"')
sys.exit(code)
"""


def make_suite(folder: Path, count: int, pause: float = 0.0, faults: dict[int, str] | None = None) -> Path:
    root = folder / "checkout"
    (root / "tests" / "device").mkdir(parents=True)
    (root / "pytest.ini").write_text("[pytest]\nmarkers = gpu\n")
    text = SUITE.format(count=count, pause=pause, faults=faults or {})
    (root / "tests" / "device" / "test_fake.py").write_text(text)
    return root


def make_tool(folder: Path, name: str, text: str) -> str:
    path = folder / f"{name}.py"
    path.write_text(text)
    return shlex.join([sys.executable, str(path)])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    return tmp_path


def outcomes(folder: Path) -> dict[int, str]:
    found = stage_tests.latest(records.read(folder / "tests.jsonl"))
    return {int(name.split("[")[1][:-1]): record["status"] for name, record in found.items()}


def test_a_test_that_crashes_hangs_or_breaks_the_context_costs_one_test(folder, monkeypatch):
    monkeypatch.setattr(stage_tests, "_TEST_SECONDS", 3.0)
    root = make_suite(folder, 10, faults={2: "crashes", 4: "fails", 5: "hangs", 7: "breaks"})
    given = ["tests", "--out", str(folder), "--suite", str(root), "--processes", "2", *DEVICE]
    assert gpu_check.main(given) == 1
    want = dict.fromkeys(range(10), "passed") | {2: "crashed", 4: "failed", 5: "crashed", 7: "failed"}
    assert outcomes(folder) == want
    found = stage_tests.latest(records.read(folder / "tests.jsonl"))
    notes = {name.split("[")[1][:-1]: record for name, record in found.items()}
    assert "status 7" in notes["2"]["note"]
    assert "SIGKILL" in notes["5"]["note"]
    assert "assert what is None" in notes["4"]["note"]
    assert notes["7"]["context"] == "broken"
    document = merge.merge(folder)
    assert (document["tests"]["not_run"], len(document["tests"]["poor"])) == (0, 4)
    assert gpu_check.main(given) == 1  # nothing to do, and still not right


def test_tests_that_time_does_not_reach_are_run_by_the_next_call(folder):
    given = ["tests", "--out", str(folder), "--suite", str(make_suite(folder, 8, 0.3)), "--processes", "1", *DEVICE]
    assert gpu_check.main([*given, "--seconds", "2.5"]) == 3
    first = outcomes(folder)
    assert len(first) < 8
    assert gpu_check.main(given) == 0
    assert outcomes(folder) == dict.fromkeys(range(8), "passed")
    began = [record["test"] for record in records.read(folder / "tests.jsonl") if record.get("status") == "started"]
    assert len(began) <= 9  # the one that was under way twice


def test_a_file_that_cannot_be_imported_is_told(folder, capsys):
    root = make_suite(folder, 1)
    (root / "tests" / "test_other.py").write_text("import not_there")
    given = ["tests", "--out", str(folder), "--suite", str(root), "--processes", "1", *DEVICE]
    assert gpu_check.main([*given, "--dry"]) == 1
    assert "No module named 'not_there'" in capsys.readouterr().out
    assert gpu_check.main(given) == 1
    found = stage_tests.latest(records.read(folder / "tests.jsonl"))
    assert {name: record["status"] for name, record in found.items()} == {
        "tests/test_other.py": "failed",
        "tests/device/test_fake.py::test_it[0]": "passed",
    }


def test_sanitize(folder):
    tool = make_tool(folder, "sanitizer", SANITIZER.format(errors=3))
    given = ["sanitize", "--out", str(folder), "--suite", str(make_suite(folder, 3)), *DEVICE, "--sanitizer", tool]
    assert gpu_check.main(given) == 1
    found = {record["tool"]: record["status"] for record in records.read(folder / "sanitize.jsonl")}
    assert found == dict.fromkeys(stage_sanitize.TOOLS, "clean") | {"memcheck": "errors"}


def test_what_a_sanitizer_says():
    judge = stage_sanitize._judge
    assert judge("========= ERROR SUMMARY: 0 errors", True, 0)["status"] == "clean"
    assert judge("========= ERROR SUMMARY: 2 errors", True, 99)["status"] == "errors"
    assert judge("RACECHECK SUMMARY: 1 hazard displayed (1 error)", True, 99)["status"] == "errors"
    assert judge("1 failed", True, 1)["status"] == "failed"
    assert judge("no such file", True, 127)["status"] == "failed"
    assert judge("1 passed", True, 0)["status"] == "failed"  # it was not the sanitizer that ran
    assert judge("", False, -9)["status"] == "stopped"


def test_profile(folder):
    layers = folder / "layers.json"
    layers.write_text(json.dumps([{**LAYER, "name": name} for name in ("one", "raises auto")]))
    given = ["profile", "--out", str(folder), "--layers", str(layers), *DEVICE]
    assert gpu_check.main([*given, "--ncu", make_tool(folder, "ncu", NCU)]) == 1
    good, bad = records.read(folder / "profile.jsonl")
    assert (good["layer"], good["status"]) == ("one", "ok")
    assert good["kernels"][0]["metrics"] == {"gpu__time_duration.sum ns": 1234.5}
    assert (bad["layer"], bad["status"]) == ("raises auto", "failed")
    assert "no such kernel" in bad["text"]
    assert stage_profile.read_table("nothing") == []


def finished_lines(folder: Path) -> list[str]:
    """Every whole line of every stage that tells of something finished."""
    found = []
    for path in sorted(folder.glob("*.jsonl")):
        lines = path.read_text().split("\n")[:-1]
        found += [path.name + line for line in lines if '"started"' not in line and '"about"' not in line]
    return found


def in_document(document: dict) -> set[tuple]:
    """What a merged document has: one entry per thing that was done."""
    names = {("probe", step["step"]) for step in document["probe"]}
    names |= {("sanitize", run["tool"], *run["tests"]) for run in document["sanitize"]}
    names |= {("profile", run["layer"], run["precision"]) for run in document["profile"]}
    return names | {("measure", row["layer"], name) for row in document["rows"] for name in row["contenders"]}


def in_lines(lines: list[str]) -> set[tuple]:
    """The same of the files' lines, read in another way than `merge` does."""
    found = set()
    for line in lines:
        stage, record = line.split(".")[0], json.loads(line.partition(".jsonl")[2])
        if stage != "tests":
            names = {"probe": ["step"], "measure": ["layer", "contender"], "profile": ["layer", "precision"]}
            names["sanitize"] = ["tool"]
            found.add((stage, *(record[name] for name in names[stage]), *record.get("tests", ())))
    return found


@in_full
@pytest.mark.long
def test_a_stage_that_is_killed_leaves_all_that_it_had_finished(folder, capsys):
    """Killed at random moments again and again: nothing finished is lost or done twice, and the end is the whole."""
    layers, draw = folder / "layers.json", random.Random(KILLS)
    names = [f"layer {number}" for number in range(LAYERS)]
    layers.write_text(json.dumps([{**LAYER, "name": name} for name in names]))
    root = make_suite(folder, TESTS, 0.05)
    out = folder / "out"
    out.mkdir()
    more = {
        "probe": [],
        "measure": ["--layers", str(layers), "--precisions", "tf32", "--data-formats", "channels_first"],
        "tests": ["--suite", str(root), "--processes", "2"],
        "sanitize": ["--suite", str(root), "--sanitizer", make_tool(folder, "sanitizer", SANITIZER.format(errors=0))],
        "profile": ["--layers", str(layers), "--ncu", make_tool(folder, "ncu", NCU)],
    }
    environment = {**os.environ, "FAKE_GPU_PAUSE": "0.05"}
    environment["PYTHONPATH"] = os.pathsep.join((str(ROOT), str(ROOT / "tests")))

    def start(stage: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "benchmarks.gpu_check", stage, "--out", str(out), *DEVICE, *more[stage]]
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)

    before: list[str] = []
    for turn in range(KILLS):
        stage = list(more)[turn % len(more)]
        process = start(stage)
        time.sleep(draw.uniform(EARLIEST, LATEST))
        process.send_signal(signal.SIGKILL)
        process.wait()
        lines = finished_lines(out)
        assert {*before} <= {*lines}
        assert in_lines(lines) <= in_document(merge.merge(out))
        before = lines
    for stage in more:
        assert start(stage).wait() == 0
    assert gpu_check.main(["merge", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in names)
    document = merge.merge(out)
    assert [row["layer"] for row in document["rows"]] == names
    assert {e["status"] for row in document["rows"] for e in row["contenders"].values()} == {"ok"}
    assert document["tests"]["note"] == f"{TESTS} passed"
    assert len(document["sanitize"]) == 4 * -(-TESTS // stage_sanitize._TESTS_PER_PROCESS)
    # Before there were measurements other rows may have been profiled; in the end all that are measured are.
    assert [run["layer"] for run in document["profile"] if run["precision"] == "tf32"] == names
    last = finished_lines(out)
    assert len(in_lines(last)) == len([line for line in last if not line.startswith("tests")])  # nothing done twice


def test_no_process_outlives_its_stage(folder):
    """The worker of a stage that was killed ends too, even while it computes."""
    environment = {**os.environ, "FAKE_GPU_PAUSE": "1000", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-m", "benchmarks.gpu_check", "probe", "--out", str(folder), *DEVICE]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.parent.parent.exists():
        pytest.skip("needs Linux's /proc")
    until = time.monotonic() + 20
    while not (found := children.read_text().split()) and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(1.0)  # it has begun a step
    process.kill()
    process.wait()
    until = time.monotonic() + 10
    while any(_runs(pid) for pid in found) and time.monotonic() < until:
        time.sleep(0.05)
    assert found
    assert not any(_runs(pid) for pid in found)


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def collected(kinds: dict[str, int]) -> list[dict[str, str]]:
    return [{"test": f"{name}[{i}]", "backend": "cupy"} for name, count in kinds.items() for i in range(count)]


def test_the_tests_for_a_device_are_all_chosen_and_the_rest_in_turns():
    found = collected({"tests/device/test_a.py::test_x": 30, "tests/b.py::test_y": 1000, "tests/b.py::test_z": 20})
    found.append({"test": "tests/b.py::test_y[numba]", "backend": "numba-cuda"})
    chosen = suite.choose(found, 100)
    counts = {kind: sum(kind in name for name in chosen) for kind in ("test_x", "test_y", "test_z", "numba")}
    assert counts == {"test_x": 30, "test_y": 51, "test_z": 20, "numba": 1}
    assert {*suite.choose(found[::-1], 100)} == {*chosen}  # whatever the order


@in_full
@pytest.mark.long
def test_every_gather_tile_is_forced_in_every_precision(folder, capsys):
    """And at most 700 tests per backend are chosen, gradients, layers, streams and graphs among them."""
    assert gpu_check.main(["tests", "--dry", "--out", str(folder)]) == 0
    chosen = [line for line in capsys.readouterr().out.splitlines() if line.startswith("tests/")]
    assert len({*chosen}) == len(chosen) <= 2 * suite.MOST_PER_BACKEND
    forced = suite.forced_tiles(chosen)
    wanted = {"float16": 6, "bfloat16": 6, "tf32": 6, "float32": 6, "float64": 5}
    for precision, shapes in wanted.items():
        assert len(forced[precision]) == 6, "three ways to read x in both data formats"
        assert {*forced[precision].values()} == {shapes}, precision
    names = "\n".join(chosen)
    words = ("test_graphs", "test_layers", "other_stream", "empty_batch", "input_grad/gather", "weight_grad/scatter",
             "tf32", "complex128", "bfloat16", "numba-cuda/gather", "test_large")  # fmt: skip
    assert [word for word in words if word not in names] == []
