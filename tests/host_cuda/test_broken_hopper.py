"""Copies of the kernel for Hopper with one thing broken: the checks must notice each, in any order of threads."""

from __future__ import annotations

import pytest
from cases import Case
from checks import assert_close, expected, make_arrays
from host_checks import edited, requires_compiler
from host_compiler import KERNELS
from selection import one_of
from test_host_hopper import run_hopper
from tile_cases import plan_of

pytestmark = requires_compiler

#: More chunks than stages, several tiles and steps; x read by tensor copies, channels last or first, and by threads.
LAST = Case("last", (2, 72, 6, 13), (72, 66, 3, 3), bias=True, keywords={"stride": 2, "padding": 1})
FIRST = Case("first", (1, 72, 3, 64), (72, 66, 3, 3), bias=True, keywords={"stride": 2, "padding": 1})
ODD = Case("odd", (1, 67, 4, 9), (67, 66, 3, 3), bias=True, keywords={"stride": 2, "padding": 1})
RUNS = {
    "last": (LAST, "channels_last"),
    "first": (FIRST, "channels_first"),
    "threads": (ODD, "channels_first"),
}

#: What is broken, in which file, how, the run that must notice, and a word of the fault (none: a wrong result).
BROKEN = {
    "no fence after threads' stores": ("gather", "fence_async();", "", "threads", "fence"),
    "parity of a full stage": ("gather", "full[turn.stage], turn.parity)", "full[turn.stage], turn.parity ^ 1)", "last", "copy"),
    "parity of an empty stage": ("gather", "turn.parity ^ 1);", "turn.parity);", "last", "waits for ever"),
    "x's bytes are not expected": ("gather", "bytes + (BY_THREADS ? 0 : X_BYTES)", "bytes", "first", ""),
    "no wait for a full stage": ("gather", "barrier_wait(&shared->full[turn.stage], turn.parity);", "", "first", "copy"),
    "no wait for an empty stage": (
        "gather",
        "barrier_wait(&shared->empty[turn.stage], turn.parity ^ 1);",
        "",
        "last",
        "",
    ),
    "released before it is multiplied": (
        "gather",
        "multiply(sums, shared->stage[turn.stage], own, before, consumer);\n"
        "                    if (thread % 32 == 0) barrier_arrive(&shared->empty[turn.stage]);",
        "if (thread % 32 == 0) barrier_arrive(&shared->empty[turn.stage]);\n"
        "                    multiply(sums, shared->stage[turn.stage], own, before, consumer);",
        "last",
        "race",
    ),
    "released while products are under way": ("gather", "group_wait<0>();", "group_wait<1>();", "first", "product"),
    "one warp releases for all": ("gather", "CONSUMERS * GROUP_THREADS / 32", "1", "last", ""),
    "no fence before a product": ("gather", "group_fence();", "", "last", "fence"),
    "no fence after barriers' initialisation": ("gather", "barrier_init_fence();", "", "last", "fenced"),
    "no barrier after barriers' initialisation": ("gather", "        __syncthreads();\n", "", "last", "initialised"),
    "too many registers": ("gather", "registers_more<232>", "registers_more<240>", "last", "waits for ever"),
    "no registers given back": ("gather", "registers_fewer<40>();", "", "first", "registers"),
    "a stage used twice": (
        "gather",
        "++chunk, turn.advance()) {\n                    barrier_wait(&shared->full",
        "++chunk) {\n                    barrier_wait(&shared->full",
        "last",
        "",
    ),
    "threads' swizzle": ("gather", "(part ^ thread % 8) * 16", "part * 16", "threads", ""),
    "weights' swizzle": ("pack", "((k / 8) ^ (row % 8))", "(k / 8)", "last", ""),
    "stride of lines of channels": ("gather", "before * SLOT_BYTES, 16, 1024", "before * SLOT_BYTES, 16, 512", "last", ""),
    "leading offset of lines of pixels": ("gather", "ACROSS ? X_BYTES / 2 : 16", "ACROSS ? X_BYTES / 4 : 16", "first", ""),
    "next channels in lines of pixels": ("gather", "(ACROSS ? 16 * 128 : 32)", "32", "first", ""),
    "rank of a block in the mask": ("gather", "mask & ((1 << first_block) - 1)", "0", "last", ""),
    "weights of blocks that are left out": ("gather", "slots += bytes, ", "slots += SLOT_BYTES, ", "last", ""),
    "sign of a shift": ("gather", "axis[a].step + step.shift[a];\n            }", "axis[a].step - step.shift[a];\n            }", "first", ""),
    "stages at any address": ("gather", "(-shared_address(memory) & 1023u)", "0", "last", ""),
}  # fmt: skip


@pytest.mark.parametrize("what", one_of(3, BROKEN))
def test_broken_kernels_are_caught(what, tmp_path):
    file, old, new, run, complaint = BROKEN[what]
    edited(KERNELS / f"hopper_{file}.cuh", old, new, tmp_path)
    case, data_format = RUNS[run]
    arrays = make_arrays(case, "float16", data_format)
    with pytest.raises(AssertionError) as caught:
        got = run_hopper(plan_of(case, arrays, data_format), arrays, 4, order=1, folder=tmp_path)
        assert_close(got, expected(case, arrays, data_format), "float16", case.reduction)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("run", RUNS)
def test_the_kernels_are_right_in_any_order(run):
    case, data_format = RUNS[run]
    arrays = make_arrays(case, "float16", data_format)
    for order in range(7):
        got = run_hopper(plan_of(case, arrays, data_format), arrays, 4, order=order)
        assert_close(got, expected(case, arrays, data_format), "float16", case.reduction)
