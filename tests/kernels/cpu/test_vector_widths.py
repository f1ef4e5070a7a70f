"""Kernels compiled for other CPUs than this one: narrower vectors, fewer registers, no fused multiply-add."""

from __future__ import annotations

import itertools
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import llvmlite.binding as llvm
import pytest
from cases import DATA_FORMATS, named
from checks import assert_close, expected, make_arrays, run
from llvmlite import ir
from selection import one_of
from support.kept import installed, kept_folder, sources

from gpu_transconv.kernels.cpu.emit import gemm_tile, registers
from gpu_transconv.kernels.cpu.runtime import machine_code
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
    ("target", "expected_registers"),
    [
        (("x86_64-unknown-linux-gnu", "znver4", "+avx,+avx2,+avx512f,+fma"), (64, 32)),
        (("x86_64-unknown-linux-gnu", "haswell", "-avx512f,+fma,+avx2"), (32, 16)),
        (("x86_64-unknown-linux-gnu", "sandybridge", "+avx,-avx2"), (32, 16)),
        (("x86_64-pc-windows-msvc", "generic", ""), (16, 16)),
        (("aarch64-unknown-linux-gnu", "generic", ""), (16, 32)),
        (("arm64-apple-darwin", "apple-m1", "+neon"), (16, 32)),
    ],
    ids=lambda value: "-".join(value[:2]) if isinstance(value[0], str) else None,
)
def test_registers_of_a_target(monkeypatch, target, expected_registers):
    codegen = SimpleNamespace(magic_tuple=lambda: target)
    context = SimpleNamespace(target_context=SimpleNamespace(codegen=lambda: codegen))
    monkeypatch.setattr(registers, "cpu_target", context)
    assert registers.registers.__wrapped__() == expected_registers


def assembly(triple: str, cpu: str, element: ir.Type, coupled: bool = False) -> str:
    """The tiles for another CPU, as text; `registers` must say what that CPU has."""
    try:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=3)
    except RuntimeError as error:
        pytest.skip(f"llvmlite is built without this target: {error}")
    module = ir.Module("tiles")
    gemm_tile.TILES.emit_table(module, element, coupled).linkage = ""
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(3))
    passes.getModulePassManager().run(parsed, passes)
    return machine.emit_assembly(parsed)


@pytest.mark.parametrize(
    ("triple", "cpu", "size", "instruction"),
    [
        ("aarch64-linux-gnu", "generic", (16, 32), r"\bfmla\tv\d+\.(4s|2d), "),
        ("arm64-apple-darwin", "apple-m1", (16, 32), r"\bfmla\.(4s|2d)\tv\d+, "),
        ("x86_64-linux-gnu", "x86-64-v4", (64, 32), r"\bvfmadd231p[sd]\t.*%zmm\d+$"),
        ("x86_64-linux-gnu", "x86-64-v3", (32, 16), r"\bvfmadd231p[sd]\t.*%ymm\d+$"),
        ("x86_64-linux-gnu", "x86-64", (16, 16), r"\bmulp[sd]\t.*%xmm\d+$"),
    ],
    ids=["neon", "apple", "avx512", "avx2", "sse2"],
)
@pytest.mark.parametrize("element", [ir.FloatType(), ir.DoubleType()], ids=str)
def test_tiles_of_another_cpu(monkeypatch, triple, cpu, size, instruction, element):
    """Every product of a tile is one vector instruction, and none a call."""
    monkeypatch.setattr(gemm_tile, "registers", lambda: size)
    text = assembly(triple, cpu, element)
    shapes = gemm_tile.tile_shapes()
    products = sum(vectors * most * (most + 1) // 2 for vectors, most in shapes.items())
    assert len(re.findall(instruction, text, re.MULTILINE)) >= products
    assert not re.search(r"\b(call|bl)\w*\s+_?fma", text)


def test_tiles_of_couples(monkeypatch):
    """Every two products of a tile for bfloat16 are one instruction."""
    monkeypatch.setattr(gemm_tile, "registers", lambda: (64, 32))
    text = assembly("x86_64-linux-gnu", "znver4", ir.FloatType(), coupled=True)
    shapes = gemm_tile.tile_shapes()
    products = sum(vectors * most * (most + 1) // 2 for vectors, most in shapes.items())
    assert len(re.findall(r"\bvdpbf16ps\t.*%zmm\d+$", text, re.MULTILINE)) >= products
    assert "vfmadd" not in text
