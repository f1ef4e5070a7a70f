"""Copies of the kernel for Hopper with one thing broken: the checks must notice each, in any order of threads."""

from __future__ import annotations

import pytest
from cases import Case
from host_checks import edited, requires_compiler
from host_compiler import KERNELS
from selection import one_of
from test_host_hopper import check

pytestmark = requires_compiler

#: More chunks than stages, several tiles and steps; x read by tensor copies, channels last or first, and by threads.
LAST = Case("last", (2, 72, 6, 13), (72, 66, 3, 3), bias=True, keywords={"stride": 2, "padding": 1})
FIRST = Case("first", (1, 72, 3, 64), (72, 66, 3, 3), bias=True, keywords={"stride": 2, "padding": 1})
ODD = Case("odd", (1, 67, 4, 9), (67, 66, 3, 3), bias=True, keywords={"stride": 2, "padding": 1})
#: So many channels that sums which are cut off at every product are seen.
DEEP = Case("deep", (1, 264, 2, 3), (264, 34, 4, 4), bias=True, keywords={"stride": 2, "padding": 1})
RUNS = {
    "last": (LAST, "float16", "channels_last", 4),
    "first": (FIRST, "float16", "channels_first", 4),
    "threads": (ODD, "float16", "channels_first", 4),
    "tf32": (ODD, "tf32", "channels_first", 4),
    "float32": (DEEP, "float32", "channels_last", None),
}

#: What is broken, in which file, how, the run that must notice, and a word of the fault (none: a wrong result).
BROKEN = {
    "no fence after threads' stores": ("pipeline", "fence_async();", "", "threads", "fence"),
    "parity of a full stage": (
        "pipeline",
        "full[turn.stage], turn.parity)",
        "full[turn.stage], turn.parity ^ 1)",
        "last",
        "copy",
    ),
    "parity of an empty stage": ("pipeline", "turn.parity ^ 1);", "turn.parity);", "last", "waits for ever"),
    "x's bytes are not expected": ("pipeline", "bytes + (BY_THREADS ? 0 : X_BYTES)", "bytes", "first", ""),
    "no wait for a full stage": (
        "pipeline",
        "barrier_wait(&shared->full[turn.stage], turn.parity);",
        "",
        "first",
        "copy",
    ),
    "no wait for an empty stage": (
        "pipeline",
        "barrier_wait(&shared->empty[turn.stage], turn.parity ^ 1);",
        "",
        "last",
        "",
    ),
    "released before it is multiplied": (
        "pipeline",
        "multiply(sums, shared->stage[turn.stage], own, before, consumer);\n"
        "                    if (thread % 32 == 0) barrier_arrive(&shared->empty[turn.stage]);",
        "if (thread % 32 == 0) barrier_arrive(&shared->empty[turn.stage]);\n"
        "                    multiply(sums, shared->stage[turn.stage], own, before, consumer);",
        "last",
        "race",
    ),
    "released while products are under way": ("pipeline", "group_wait<0>();", "group_wait<1>();", "first", "product"),
    "one warp releases for all": ("pipeline", "CONSUMERS * GROUP_THREADS / 32", "1", "last", ""),
    "no fence before a product": ("pipeline", "group_fence();", "", "last", "fence"),
    "no fence after barriers' initialisation": ("pipeline", "barrier_init_fence();", "", "last", "fenced"),
    "no barrier after barriers' initialisation": ("pipeline", "        __syncthreads();\n", "", "last", "initialised"),
    "too many registers": ("gather", "registers_more<232>", "registers_more<240>", "last", "waits for ever"),
    "no registers given back": ("gather", "registers_fewer<40>();", "", "first", "registers"),
    "a stage used twice": (
        "pipeline",
        "++chunk, turn.advance()) {\n                    barrier_wait(&shared->full",
        "++chunk) {\n                    barrier_wait(&shared->full",
        "last",
        "",
    ),
    "threads' swizzle": ("pipeline", "(part ^ thread % 8) * 16", "part * 16", "threads", ""),
    "weights' swizzle": ("pack", "((k / EACH) ^ (row % 8))", "(k / EACH)", "last", ""),
    "stride of lines of channels": (
        "pipeline",
        "before * BLOCK_BYTES, 16, 1024",
        "before * BLOCK_BYTES, 16, 512",
        "last",
        "",
    ),
    "leading offset of lines of pixels": (
        "pipeline",
        "x, LINE_BYTES << g.line_log2",
        "x, LINE_BYTES / 2 << g.line_log2",
        "first",
        "",
    ),
    "next channels in lines of pixels": ("pipeline", "ACROSS ? 16 * 2 << g.line_log2 : 32", "32", "first", ""),
    "rank of a block in the mask": ("pipeline", "mask & ((1 << first_block) - 1)", "0", "last", ""),
    "weights of blocks that are left out": ("pipeline", "slots += bytes, ", "slots += SLOT_BYTES, ", "last", ""),
    "sign of a shift": (
        "pipeline",
        "axis[a].step + step.shift[a];\n            }",
        "axis[a].step - step.shift[a];\n            }",
        "first",
        "",
    ),
    "chunks of TF32 numbers": ("pack", "EACH = 16 / sizeof(T)", "EACH = 8", "tf32", ""),
    "depth of a product of TF32 numbers": (
        "pipeline",
        "(k * 32 + m * BLOCK_BYTES",
        "(k * 64 + m * BLOCK_BYTES",
        "tf32",
        "",
    ),
    "low numbers of x": ("pipeline", "as_operand(line.at[i] - high.at[i])", "as_operand(line.at[i])", "float32", ""),
    "low numbers of the weights": ("pack", "as_operand(value - high)", "as_operand(high - value)", "float32", ""),
    "one product instead of three": (
        "pipeline",
        "for (int i = IMAGES == 2 ? 2 : 0; i >= 0; --i)",
        "for (int i = 0; i >= 0; --i)",
        "float32",
        "",
    ),
    "sums of all chunks are cut off": (
        "pipeline",
        "of_chunk[i % COUNT][i / COUNT] = 0;",
        "of_chunk[i % COUNT][i / COUNT] = sums[FIRST + i % COUNT][i / COUNT], sums[FIRST + i % COUNT][i / COUNT] = 0;",
        "float32",
        "error",
    ),
    "stages at any address": ("pipeline", "(-shared_address(memory) & 1023u)", "0", "last", ""),
}


@pytest.mark.parametrize("what", one_of(4, BROKEN))
def test_broken_kernels_are_caught(what, tmp_path):
    file, old, new, run, complaint = BROKEN[what]
    edited(KERNELS / f"hopper_{file}.cuh", old, new, tmp_path)
    case, word, data_format, blocks = RUNS[run]
    with pytest.raises(AssertionError) as caught:
        check(case, word, data_format, tile_blocks=blocks, order=1, folder=tmp_path)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("run", RUNS)
def test_the_kernels_are_right_in_any_order(run):
    case, word, data_format, blocks = RUNS[run]
    for order in range(4):
        check(case, word, data_format, tile_blocks=blocks, order=order)
