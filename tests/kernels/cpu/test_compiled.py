"""Machine code on disk: fresh after every edit, made again where a file is damaged, and not needed anywhere."""

from __future__ import annotations

import ast
import logging
import shutil
import warnings
from pathlib import Path

import numba
import numpy as np
import pytest

from gpu_transconv import cache_folder
from gpu_transconv.errors import CacheWarning
from gpu_transconv.kernels.cpu.runtime import compiled, machine_code, notice

SOURCES = Path(machine_code.__file__).parents[1]
ARRAY = np.arange(3.0)


@pytest.fixture
def places(monkeypatch, tmp_path):
    """Folders to keep machine code in, first to last, empty; a process that has warned of nothing."""
    found = [tmp_path / name for name in ("first", "second", "third")]
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(found[0]))
    monkeypatch.setattr(machine_code, "_in_package", lambda: found[1])
    monkeypatch.setenv("GPU_TRANSCONV_CACHE_DIR", str(found[2]))
    monkeypatch.setattr(cache_folder, "_warned", set())
    monkeypatch.setattr(compiled, "KERNELS", {})
    return found


def files(place):
    return sorted(path for path in place.rglob("*") if path.is_file())


def call(compilations):
    """Call a kernel as a new process would; whether it was compiled tells the counter."""

    def total(values):
        result = 0.0
        for value in values:
            result += value
        return result

    kernel = compiled.kernel(total)
    assert kernel(ARRAY) == 3.0
    assert sum(kernel.stats.cache_misses.values()) == compilations
    assert sum(kernel.stats.cache_hits.values()) == 1 - compilations
    return kernel


# --- which file ----------------------------------------------------------------------------------------


def modules(folder):
    """Files by the names that `NOT_IN_KERNELS` has for them, without the folders' own."""
    paths = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.py"))}
    return {name: path for name, path in paths.items() if not name.endswith("__init__")}


def test_an_edit_of_any_module_makes_other_machine_code(tmp_path):
    copy = tmp_path / "cpu"
    shutil.copytree(SOURCES, copy, ignore=shutil.ignore_patterns("__pycache__"))
    before = machine_code.hash_sources(copy)
    assert before == machine_code._version
    found = modules(copy)
    assert {"geometry", "gemm/store", "emit/intrinsics", "depthwise/channels_last", "runtime/compiled"} <= set(found)
    assert set(machine_code.NOT_IN_KERNELS) <= set(found)
    for name, path in found.items():
        text = path.read_bytes()
        path.write_bytes(text + b"\n")
        changed = machine_code.hash_sources(copy) != before
        assert changed == (name not in machine_code.NOT_IN_KERNELS), name
        path.write_bytes(text)
    assert machine_code.hash_sources(copy) == before
    (copy / "gemm" / "inner").mkdir()
    (copy / "gemm" / "inner" / "gather.py").write_text("")
    assert machine_code.hash_sources(copy) != before


def imported(name, path):
    """Modules beside a module that it imports, by their names; and a folder's where it imports that."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and 0 < node.level <= name.count("/") + 1:
            above = name.split("/")[: name.count("/") + 1 - node.level]
            base = [*above, *(node.module or "").split(".")] if node.module else above
            yield "/".join(base)
            yield from ("/".join((*base, alias.name)) for alias in node.names)


def test_modules_that_are_left_out_are_in_no_kernel():
    found = modules(SOURCES)
    names = {name: set(imported(name, path)) for name, path in found.items()}
    assert "gemm/layout" in names["runs/run_partition"]
    assert {"emit/pointers", "gemm/layout"} <= names["runs/gather"]
    inside = set(found) - set(machine_code.NOT_IN_KERNELS)
    assert {name for name in inside if names[name] & set(machine_code.NOT_IN_KERNELS)} == set()


def test_every_kernel_keeps_its_machine_code_here():
    for path in SOURCES.glob("*.py"):
        if path.stem != "compiled":
            assert "njit" not in path.read_text(), path.name
    for kernel in compiled.KERNELS.values():
        assert isinstance(kernel._cache, compiled.KernelCache)


def test_what_decides_the_code_decides_the_file(monkeypatch):
    class Codegen:
        processor = "znver4"

        def magic_tuple(self):
            return ("x86_64", self.processor, "+avx2")

    first = compiled._key((numba.types.int64,), Codegen())
    assert compiled._key((numba.types.int64,), Codegen()) == first
    assert compiled._key((numba.types.int32,), Codegen()) != first
    monkeypatch.setattr(Codegen, "processor", "generic")
    assert compiled._key((numba.types.int64,), Codegen()) != first
    monkeypatch.undo()
    monkeypatch.setattr(numba.config, "BOUNDSCHECK", 1)
    assert compiled._key((numba.types.int64,), Codegen()) != first


def test_folders_of_old_sources_are_dropped(monkeypatch, tmp_path):
    monkeypatch.setattr(machine_code, "_MOST_VERSIONS", 3)
    monkeypatch.setattr(machine_code, "_in_package", lambda: tmp_path)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    (tmp_path / "somebody's").mkdir()
    for number in range(5):
        monkeypatch.setattr(machine_code, "_version", str(number))
        machine_code.write("name", "key", b"code")
        machine_code.os.utime(tmp_path / f"kernels-{number}", (number, number))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kernels-2", "kernels-3", "kernels-4", "somebody's"]


# --- where it is, and in which state -------------------------------------------------------------------


def test_machine_code_is_found_in_any_place_and_written_to_the_first(monkeypatch, places):
    call(1)
    assert [len(files(place)) for place in places] == [1, 0, 0]
    for here, there in ((0, 1), (1, 2)):  # as an administrator or the building of an image put it there
        shutil.move(places[here], places[there])
        call(0)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    call(0)
    assert [len(files(place)) for place in places] == [0, 0, 1]


def test_the_next_place_where_one_cannot_be_written(places):
    places[0].write_text("no folder")
    call(1)
    assert [len(files(place)) for place in places[1:]] == [1, 0]
    call(0)


def test_no_place_at_all(places):
    for place in places:
        place.write_text("no folder")
    with pytest.warns(CacheWarning, match="NUMBA_CACHE_DIR or GPU_TRANSCONV_CACHE_DIR") as warned:
        call(1)
    assert len(warned) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call(1)


DAMAGE = {
    "empty": lambda _: b"",
    "only-a-hash": lambda data: data[:32],
    "cut-short": lambda data: data[: len(data) // 2],
    "one-byte-short": lambda data: data[:-1],
    "one-bit-changed": lambda data: data[:99] + bytes([data[99] ^ 1]) + data[100:],
    "something-else": lambda _: b"\x80\x04K\x01." * 100,
    "no-pickle": lambda _: machine_code.hashlib.sha256(b"text").digest() + b"text",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_set_aside_and_made_again(places, damage):
    call(1)
    (path,) = files(places[0])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(CacheWarning, match="cannot be used") as warned:
        call(1)
    assert len(warned) == 1
    assert [found.name for found in files(places[0])] == [path.name, f"{path.name}.unusable"]
    call(0)


def test_a_write_that_fails_leaves_nothing(monkeypatch, places):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(machine_code.os, "replace", full)
    with pytest.warns(CacheWarning, match="No space left on device"):
        call(1)
    assert [files(place) for place in places] == [[], [], []]


# --- how long it takes ---------------------------------------------------------------------------------


def test_a_line_of_log_when_compiling_takes_long(monkeypatch, caplog, places):  # noqa: ARG001
    monkeypatch.setattr(notice, "_clock", notice._Clock())
    caplog.set_level(logging.INFO, "gpu_transconv")
    call(1)
    assert caplog.messages == []
    monkeypatch.setattr(notice, "PATIENCE", 0.0)
    monkeypatch.setattr(machine_code, "_version", "other")
    call(1)
    assert ["compiling CPU kernels" in message for message in caplog.messages] == [True]
    monkeypatch.setattr(machine_code, "_version", "yet another")
    call(1)
    assert len(caplog.messages) == 1
