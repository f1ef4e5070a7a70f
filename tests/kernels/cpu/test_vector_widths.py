"""Kernels compiled for other CPUs than this one: narrower vectors, fewer registers, no fused multiply-add."""

from __future__ import annotations

import itertools
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import llvmlite.binding as llvm
import pytest
from cases import DATA_FORMATS, named
from checks import assert_close, expected, make_arrays, run
from llvmlite import ir
from selection import one_of
from support.kept import installed, kept_folder, sources

from gpu_transconv.kernels.cpu.emit import registers
from gpu_transconv.kernels.cpu.emit.copy_ir import CopyFunctions
from gpu_transconv.kernels.cpu.emit.numbers import BFLOAT16, COUPLED, FLOAT16
from gpu_transconv.kernels.cpu.emit.row_ir import RowFunctions
from gpu_transconv.kernels.cpu.runtime import machine_code
from gpu_transconv.kernels.cpu.tiles import box_tile, channel_tile, dot_tile, fir_tile, flat_tile, gemm_tile, pixel_tile
from gpu_transconv.kernels.registry import kernels
from gpu_transconv.problem import arguments

CASES = [
    named(name)
    for name in (
        "1d-wide-row",
        "1d-dilated-shared-factor",
        "2d-kernel-1",
        "2d-kernel-is-stride",
        "2d-kernel-is-twice-stride",
        "2d-kernel-below-stride",
        "2d-depthwise",
        "2d-grouped-odd",
        "2d-many-channels",
        "2d-wide-row",
        "3d-mixed",
    )
]
#: Name of the CPU -> the features that Numba is to use, and (bytes of a vector, vector registers).
CPUS = {
    "haswell": ("+avx,+avx2,+fma,+f16c", (32, 16)),
    "nehalem": ("+sse4.2", (16, 16)),
    "generic": ("", (16, 16)),
}
#: Compiling takes nearly all the time, so one dtype on each CPU; float16 uses the tiles of float32.
TARGETS = [("haswell", "float32"), ("nehalem", "float64"), ("generic", "float16")]


def compiled_kernels() -> Path:
    """A folder for what Numba compiles of these sources; it tells the CPUs apart."""
    written = sources(Path(machine_code.__file__).parents[1], "**/*.py")
    return kept_folder("numba", installed("numba", "llvmlite"), written, Path(arguments.__file__).read_text())


def check_cases(dtype: str) -> None:
    """What the child process does; it tells its registers on its standard output."""
    for case, data_format in itertools.product(CASES, DATA_FORMATS):
        arrays = make_arrays(case, dtype, data_format)
        want = expected(case, arrays, data_format)
        for row in kernels():
            if row.backend == "cpu":
                got = run(row, case, arrays, data_format, dtype, want.shape)
                assert_close(got, want, dtype, case.reduction)
    print(json.dumps(registers.registers()))


@pytest.mark.long
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the CPUs named are x86-64")
@pytest.mark.parametrize(("cpu", "dtype"), one_of(3, TARGETS))
def test_kernels_for_another_cpu(cpu, dtype):
    features, size = CPUS[cpu]
    present = llvm.get_host_cpu_features()
    missing = [name for name in features.split(",") if name and not present.get(name[1:])]
    if missing:
        pytest.skip(f"this CPU lacks {', '.join(missing)}")
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": cpu,
        "NUMBA_CPU_FEATURES": features,
        "NUMBA_CACHE_DIR": str(compiled_kernels()),
        "PYTHONPATH": os.pathsep.join(str(Path(__file__).parents[level]) for level in (0, 2, 3)),
    }
    code = f"import test_vector_widths; test_vector_widths.check_cases({dtype!r})"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert tuple(json.loads(done.stdout)) == size


@pytest.mark.parametrize(
    ("triple", "features", "found"),
    [
        ("x86_64-unknown-linux-gnu", "+avx,+avx2,+avx512f,+fma", (64, 32)),
        ("x86_64-unknown-linux-gnu", "-avx512f,+fma,+avx2", (32, 16)),
        ("x86_64-unknown-linux-gnu", "+avx,-avx2", (32, 16)),
        ("x86_64-pc-windows-msvc", "", (16, 16)),
        ("aarch64-unknown-linux-gnu", "", (16, 32)),
        ("arm64-apple-darwin", "+neon", (16, 32)),
    ],
)
def test_registers_of_a_target(monkeypatch, triple, features, found):
    codegen = SimpleNamespace(magic_tuple=lambda: (triple, "generic", features))
    context = SimpleNamespace(target_context=SimpleNamespace(codegen=lambda: codegen))
    monkeypatch.setattr(registers, "cpu_target", context)
    assert registers.target.__wrapped__()[:2] == found


def assembly(monkeypatch, cpu: tuple[str, str, str], emit: Callable[[ir.Module], Any]) -> str:
    """What `emit` adds to a module for another CPU (triple, name, features of Numba), as text."""
    triple, name, features = cpu
    try:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        machine = llvm.Target.from_triple(triple).create_target_machine(cpu=name, opt=3)
    except RuntimeError as error:
        pytest.skip(f"llvmlite is built without this target: {error}")
    monkeypatch.setattr(registers, "target", lambda: registers.target_of(triple, features))
    module = ir.Module("functions")
    emit(module)
    for found in module.global_values:
        found.linkage = found.linkage.replace("internal", "")  # or LLVM drops them
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(3))
    passes.getModulePassManager().run(parsed, passes)
    return machine.emit_assembly(parsed)


NEOVERSE = ("aarch64-linux-gnu", "neoverse-n1", "")


@pytest.mark.parametrize(
    ("cpu", "instruction"),
    [
        (NEOVERSE, r"\bfmla\tv\d+\.(4s|2d), "),
        (("arm64-apple-darwin", "apple-m1", ""), r"\bfmla\.(4s|2d)\tv\d+, "),
        (("x86_64-linux-gnu", "x86-64-v4", "+avx512f"), r"\bvfmadd231p[sd]\t.*%zmm\d+$"),
        (("x86_64-linux-gnu", "x86-64-v3", "+avx2"), r"\bvfmadd231p[sd]\t.*%ymm\d+$"),
        (("x86_64-linux-gnu", "x86-64", ""), r"\bmulp[sd]\t.*%xmm\d+$"),
    ],
    ids=["neon", "apple", "avx512", "avx2", "sse2"],
)
@pytest.mark.parametrize("element", one_of(2, [ir.FloatType(), ir.DoubleType()]), ids=str)
def test_tiles_of_another_cpu(monkeypatch, cpu, instruction, element):
    """Every product of a tile is one vector instruction, and none a call."""
    text = assembly(monkeypatch, cpu, lambda module: gemm_tile.TILES.of().emit_table(module, element))
    shapes = gemm_tile.tile_shapes()
    products = sum(vectors * most * (most + 1) // 2 for vectors, most in shapes.items())
    assert len(re.findall(instruction, text, re.MULTILINE)) >= products
    if gemm_tile.has_half_vectors():
        halves = re.findall(instruction.replace("zmm", "ymm"), text, re.MULTILINE)
        assert len(halves) >= shapes[1] * (shapes[1] + 1) // 2
    assert not re.search(r"\b(call|bl)\w*\s+_?fma", text)


def test_tiles_of_couples(monkeypatch):
    """Every two products of a tile for bfloat16 are one instruction."""
    cpu = ("x86_64-linux-gnu", "znver4", "+avx512f,+avx512bf16")
    text = assembly(monkeypatch, cpu, lambda module: gemm_tile.TILES.of(COUPLED).emit_table(module, ir.FloatType()))
    shapes = gemm_tile.tile_shapes()
    products = sum(vectors * most * (most + 1) // 2 for vectors, most in shapes.items())
    assert len(re.findall(r"\bvdpbf16ps\t.*%zmm\d+$", text, re.MULTILINE)) >= products
    assert "vfmadd" not in text


@pytest.mark.parametrize("half", [FLOAT16, BFLOAT16])
@pytest.mark.parametrize("features", ["+avx512f,+avx512bw,+avx512bf16", "+avx512f,+avx512bw"], ids=["bf16", "plain"])
def test_what_is_rounded_goes_past_the_caches(monkeypatch, features, half):
    """LLVM would store bfloat16, and what it narrows while it stores, into them, whatever it is told."""
    cpu = ("x86_64-linux-gnu", "znver4" if "bf16" in features else "skylake-avx512", features)
    for stride in (1, 2, 3):

        def emit(module: ir.Module, stride: int = stride) -> None:
            RowFunctions(module, ir.FloatType(), ir.IntType(16)).interleaver(stride, half)

        assert "vmovnt" in assembly(monkeypatch, cpu, emit)


def emit_copies(module: ir.Module) -> None:
    """Add the copies of rows of float16, of which LLVM could move the lanes one by one."""
    functions = CopyFunctions(module, ir.FloatType(), ir.IntType(16))
    functions.copier(FLOAT16, 1, False, False)
    functions.product_adder(FLOAT16)
    functions.interleaver(2, FLOAT16)


def emit_for_floats(emit: Callable[[ir.Module, ir.Type], Any], module: ir.Module) -> None:
    """Add tiles of floats."""
    emit(module, ir.FloatType())


#: What is emitted -> loops over products that it has at least.
EMITTERS = {
    "gemm": (partial(emit_for_floats, gemm_tile.TILES.of().emit_table), 34),
    "box": (partial(emit_for_floats, box_tile.BOXES.of().emit_table), 70),
    "flat": (partial(emit_for_floats, flat_tile.FLATS.of().emit_table), 34),
    "pixel": (partial(emit_for_floats, pixel_tile.PIXELS.of().emit_table), 24),
    "channel": (partial(emit_for_floats, channel_tile.CHANNELS.emit_table), 5),
    "dot": (partial(emit_for_floats, dot_tile.DOTS.emit_table), 34),
    "fir": (partial(emit_for_floats, fir_tile.filters().emit_table), 150),
    "copies": (emit_copies, 1),
}


def loops_over_products(text: str) -> Iterator[list[str]]:
    """Instructions of each loop over products without another in it, one line each, of an assembly for AArch64."""
    for function in text.split(".cfi_endproc"):
        lines = [line.split("//")[0].strip() for line in function.splitlines()]
        places = {line.removesuffix(":"): i for i, line in enumerate(lines) if line.endswith(":")}
        jumps = [(line.split()[-1], i) for i, line in enumerate(lines) if re.match(r"(b|cb|tb)\S*\s", line)]
        loops = {(places[label], last) for label, last in jumps if places.get(label, last) < last}
        for first, last in loops:
            inside = {(a, b) for a, b in loops if first <= a and b <= last}
            if len(inside) == 1 and any(line.startswith("fmla") for line in lines[first:last]):
                yield lines[first:last]


@pytest.mark.parametrize("name", EMITTERS)
def test_loops_of_neon(monkeypatch, name):
    """No loop over products puts a register down or moves them about, none has a call, nothing is x86's."""
    emit, least = EMITTERS[name]
    text = assembly(monkeypatch, NEOVERSE, emit)
    assert not re.search(r"\bbl\t|x86|xmm", text)
    loops = list(loops_over_products(text))
    assert len(loops) >= least
    for lines in loops:
        products = sum(line.startswith("fmla") for line in lines)
        assert not [line for line in lines if "[sp" in line], lines
        assert sum(line.startswith("mov\tv") for line in lines) <= 1 + products // 8, lines
