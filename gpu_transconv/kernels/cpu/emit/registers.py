"""The machine's vector registers, and what is emitted of instructions that it may not have."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, TypeVar

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target

# LLVM's integers, by their bits.
_I32, _I64 = ir.IntType(32), ir.IntType(64)
ELEMENT = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}
#: Bytes of a cache line, of all CPUs that the kernels were measured on; elsewhere a prefetch is late or idle.
CACHE_LINE = 64
Compiled = TypeVar("Compiled")
#: What `keep` was given; two tables for each type of sums, so it does not grow.
_kept: list[object] = []


class Target(NamedTuple):
    """What the emitted code asks of a CPU."""

    vector_bytes: int
    registers: int  # of vectors
    couples: bool  # one instruction multiplies two neighbouring bfloat16 numbers and adds both products: AVX512_BF16
    masks: tuple[int, ...]  # bytes of the elements of which a vector can be read and written in part
    sums: int  # vectors of a tile at most
    bypass: bool  # one instruction stores a vector past the caches


def target_of(triple: str, features: str) -> Target:
    """What LLVM's name of a machine, and the features that it may use, say."""
    if triple.startswith(("aarch64", "arm64")):
        # Factors are no operands in memory. Beside 26 sums LLVM copies up to 43 registers for each channel, beside 24
        # none: read from its assembly for neoverse-n1, see `tests/kernels/cpu/test_vector_widths.py`.
        return Target(16, 32, False, (), 24, False)
    names = features.split(",")
    if "+avx512f" in names:
        return Target(64, 32, "+avx512bf16" in names, (2, 4, 8) if "+avx512bw" in names else (4, 8), 32, True)
    if "+avx" in names or "+avx2" in names:
        return Target(32, 16, False, (4, 8), 16, True)
    return Target(16, 16, False, (), 16, True)


@lru_cache(maxsize=1)
def target() -> Target:
    """Return what the CPU has that Numba compiles for: the host, or what NUMBA_CPU_NAME and NUMBA_CPU_FEATURES say."""
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    return target_of(triple, features)


def registers() -> tuple[int, int]:
    """Bytes of a vector register, and how many there are."""
    return target()[:2]


def most_sums() -> int:
    """Vectors of sums of a tile at most, so that its operands have registers too."""
    return target().sums


def has_couples() -> bool:
    """Whether one instruction multiplies two neighbouring bfloat16 numbers and adds both products."""
    return target().couples


def selects() -> bool:
    """Whether one instruction picks any elements of two vectors by numbers that are known only when it runs."""
    return registers() == (64, 32)


def has_masks(size: int) -> bool:
    """Whether one instruction reads or writes some elements, of `size` bytes, of a vector."""
    return size in target().masks


def bypasses_caches() -> bool:
    """Whether one instruction stores a vector past the caches.

    AArch64 has one for two registers of halves, which have to be taken apart first.
    """
    return target().bypass


#: Bytes of a vector register.
VECTOR_BYTES = registers()[0]


def keep(function: Compiled) -> Compiled:
    """Keep a compiled function for as long as the process lives: its addresses are handed out."""
    _kept.append(function)
    return function


def multiply_add(module: ir.Module, vector: ir.VectorType) -> ir.Function:
    """``a * b + c`` for vectors: fused where the CPU can do that, and not a call of a library where it cannot."""
    bits = 32 if vector.element == ir.FloatType() else 64
    name = f"llvm.fmuladd.v{vector.count}f{bits}"
    return cgutils.get_or_insert_function(module, ir.FunctionType(vector, [vector] * 3), name)


def multiply_couples(module: ir.Module) -> ir.Function:
    """``c + a0 * b0 + a1 * b1`` for floats c, and a and b of two bfloat16 numbers each."""
    sums, couples = ir.VectorType(ir.FloatType(), 16), ir.VectorType(_I32, 16)
    name = "llvm.x86.avx512bf16.dpbf16ps.512"
    return cgutils.get_or_insert_function(module, ir.FunctionType(sums, [sums, couples, couples]), name)


class _BFloat16(ir.Type):  # type: ignore[misc]
    """LLVM's type, which llvmlite does not have."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat16)

    def __hash__(self) -> int:
        return hash(_BFloat16)


def round_to_bfloat16(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """A vector of 16 floats as bfloat16, rounded to nearest even, where `has_couples`; subnormal ones become zero."""
    name, kind = "llvm.x86.avx512bf16.cvtneps2bf16.512", ir.FunctionType(ir.VectorType(_BFloat16(), 16), [value.type])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [value])


def add_product(
    builder: ir.IRBuilder, total: ir.Value, factor: ir.Value, column: ir.Value, coupled: bool = False
) -> ir.Value:
    """``total + factor * column`` for vectors; of words with two bfloat16 numbers each, both products are added."""
    if not coupled:
        return builder.call(multiply_add(builder.module, total.type), [factor, column, total])
    words = ir.VectorType(_I32, total.type.count)
    operands = [builder.bitcast(value, words) for value in (factor, column)]
    return builder.call(multiply_couples(builder.module), [total, *operands])


def select_elements(builder: ir.IRBuilder, first: ir.Value, second: ir.Value, numbers: ir.Value) -> ir.Value:
    """Vector of the elements of `first` and, counted on, `second` with these numbers; where `selects` says so."""
    vector, kind = first.type, "ps" if first.type.element == ir.FloatType() else "pd"
    name = f"llvm.x86.avx512.vpermi2var.{kind}.512"
    signature = ir.FunctionType(vector, [vector, numbers.type, vector])
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), [first, numbers, second])


def prefetch(builder: ir.IRBuilder, address: ir.Value, near: bool = False, write: bool = False) -> None:
    """Ask for the cache line at an address, given as a number, into the second-level cache or the first (`near`).

    What is going to be written (`write`) comes for this core alone.
    """
    pointer = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, _I32, _I32, _I32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [builder.inttoptr(address, pointer), _I32(int(write)), _I32(3 if near else 2), _I32(1)])


def keep_rolled(loop: cgutils.Loop) -> None:
    """Keep LLVM from unrolling a finished loop of `for_range`, whose vectors would not fit the registers then."""
    block = loop.index.incomings[-1][1]
    module = block.function.module
    node = module.add_metadata([module.add_metadata(["llvm.loop.unroll.disable"])])
    node.operands = (node, node.operands[-1])  # the node of a loop names itself first
    block.terminator.set_metadata("llvm.loop", node)


def broadcast(builder: ir.IRBuilder, base: ir.Value, index: ir.Value, vector: ir.VectorType) -> ir.Value:
    """Vector of one element of memory."""
    undefined = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undefined, builder.load(builder.gep(base, [index])), _I32(0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(_I32, vector.count), [0] * vector.count))
