"""What of the tests runs here, and in which order: no skips by the thousand, and no process that ends alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import selection
from support import kept as keeping
from support.kept import forget_old, kept

from gpu_transconv.kernels.registry import BackendStatus as Status

HERE = {name: Status(True, None) for name in ("cpu", "reference")}
MISSING = {name: Status(False, f"no {name} (because); install it") for name in selection.GPU_BACKENDS}


class Item:
    """Stands for a test with marks."""

    def __init__(self, name, *marks):
        self.name, self.marks = name, marks

    def iter_markers(self, name):
        return [mark for mark in self.marks if mark.name == name]

    def get_closest_marker(self, name):
        return next(iter(self.iter_markers(name)), None)


def config(deselected=None, expression=""):
    hook = SimpleNamespace(pytest_deselected=lambda items: deselected.extend(items))
    return SimpleNamespace(stash=pytest.Stash(), hook=hook, getoption=lambda _: expression)


ITEMS = (
    Item("plain"),
    Item("cupy", pytest.mark.gpu("cupy").mark),
    Item("numba", pytest.mark.gpu("numba-cuda").mark),
    Item("any", pytest.mark.gpu.mark),
)


@pytest.mark.parametrize(
    ("missing", "required", "kept"),
    [
        (("cupy", "numba-cuda"), "cpu,reference", ["plain"]),
        (("cupy",), "cpu,reference", ["plain", "numba", "any"]),
        ((), "cpu,reference", ["plain", "cupy", "numba", "any"]),
        (("cupy", "numba-cuda"), "cpu,cupy", ["plain", "cupy", "any"]),  # a missing one that was asked for must fail
        (("cupy", "numba-cuda"), "cpu,reference,cupy,numba-cuda", ["plain", "cupy", "numba", "any"]),
    ],
)
def test_tests_of_missing_devices_are_left_out(monkeypatch, missing, required, kept):
    present = {name: Status(True, None) for name in selection.GPU_BACKENDS if name not in missing}
    monkeypatch.setattr(selection, "backends", lambda: HERE | MISSING | present)
    monkeypatch.setenv("GPU_TRANSCONV_TEST_BACKENDS", required)
    deselected, items = [], list(ITEMS)
    where = config(deselected)
    selection.leave_out_missing_devices(where, items)
    assert [item.name for item in items] == kept
    assert sorted(item.name for item in deselected) == sorted({item.name for item in ITEMS} - {*kept})
    assert where.stash[selection.LEFT_OUT].total() == len(deselected)


def test_one_line_says_how_many_and_why(monkeypatch):
    monkeypatch.setattr(selection, "backends", lambda: HERE | MISSING)
    monkeypatch.delenv("GPU_TRANSCONV_TEST_BACKENDS", raising=False)
    where = config([])
    selection.leave_out_missing_devices(where, [*ITEMS] * 600)
    line = selection.line_of_left_out(where.stash[selection.LEFT_OUT])
    assert "\n" not in line
    assert line == (
        "not run, for want of a device: 600 of cupy (no cupy); 600 of cupy or numba-cuda (no cupy, no numba-cuda); "
        "600 of numba-cuda (no numba-cuda); -m gpu runs them"
    )


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [("gpu", True), ("gpu and quick", True), ("", False), ("not gpu", False), ("quick", False)],
)
def test_what_asks_for_devices(expression, wanted):
    assert selection.wants_devices(config(expression=expression)) is wanted


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
@pytest.mark.parametrize(("long", "short"), [(5, 40), (3, 0), (0, 6), (6, 5)])
def test_every_process_starts_with_long_tests(workers, long, short):
    items = [Item(n) for n in range(short)]
    items[short // 2 : short // 2] = [Item(100 + n, pytest.mark.long.mark) for n in range(long)]
    dealt = selection.deal(items, workers)
    assert sorted(item.name for item in dealt) == sorted(item.name for item in items)
    pieces, rest = [], list(dealt)
    for worker in range(workers):
        size = len(rest) // (workers - worker)
        pieces.append([item.name >= 100 for item in rest[:size]])
        rest = rest[size:]
    if long + short >= workers * (long // workers + 1):
        for piece in pieces:
            assert sum(piece) in (long // workers, -(-long // workers))
            assert piece == sorted(piece, reverse=True)


def test_what_a_compiler_made_is_kept_until_its_key_changes(monkeypatch, tmp_path):
    monkeypatch.setattr(keeping, "FOLDER", tmp_path / "made")
    made = []

    def make():
        made.append(len(made))
        return made[-1]

    assert [kept(make, "a"), kept(make, "a"), kept(make, "b"), kept(make, "a")] == [0, 0, 1, 0]
    (file,) = (path for path in (tmp_path / "made").iterdir() if path.name == f"kept_{keeping.digest('a')}.pickle")
    file.write_bytes(file.read_bytes()[:-3])  # an interrupted write
    assert kept(make, "a") == 2
    monkeypatch.setattr(keeping, "_DAYS", -1)
    keeping.kept_folder("c")
    forget_old()
    assert list((tmp_path / "made").iterdir()) == []
