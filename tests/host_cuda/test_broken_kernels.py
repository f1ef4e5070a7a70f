"""Copies of the kernels with one thing broken: the checks of the suite must notice each."""

from __future__ import annotations

import pytest
from cases import Case, named
from checks import assert_close, expected, make_arrays
from host_checks import edited, requires_compiler, run_plan
from host_compiler import KERNELS
from tile_cases import plan_of

pytestmark = requires_compiler

DENSE = named("2d-many-channels-twice-stride")
SPLIT = Case("split", (1, 700, 2, 3), (700, 9, 2, 2), keywords={"stride": 2})
ODD = named("2d-many-channels")
FEW = named("2d-depthwise")
CUT = Case("cut", (1, 24, 5, 6), (24, 5, 4, 6), bias=True, keywords={"stride": (2, 3), "padding": (1, 2)})
#: More units than fit in the bits of a pixel.
WIDE = Case("wide", (1, 40, 37), (40, 3, 80), keywords={"stride": 40, "padding": 20})
RUNS = Case("runs", (1, 24, 9, 16), (24, 36, 2, 2), bias=True, keywords={"stride": 2})

#: What is broken, in which file, how, and the run that must notice: variant, case, dtype, precision, data format.
BROKEN = {
    "no barrier before a chunk is read": (
        "mainloop.cuh",
        "copy_async_wait<Tile::STAGES - 2>();\n            __syncthreads();",
        "copy_async_wait<Tile::STAGES - 2>();",
        ("gather", DENSE, "float32", "highest", "channels_first"),
    ),
    "no barrier, matrix instructions": (
        "mainloop.cuh",
        "copy_async_wait<Tile::STAGES - 2>();\n            __syncthreads();",
        "copy_async_wait<Tile::STAGES - 2>();",
        ("gather", DENSE, "float16", "highest", "channels_last"),
    ),
    "no wait for asynchronous copies": (
        "mainloop.cuh",
        "copy_async_wait<Tile::STAGES - 2>();",
        "",
        ("gather", DENSE, "float16", "highest", "channels_first"),
    ),
    "one copy too many under way": (
        "mainloop.cuh",
        "copy_async_wait<Tile::STAGES - 2>();",
        "copy_async_wait<Tile::STAGES - 1>();",
        ("gather", DENSE, "float32", "tf32", "channels_first"),
    ),
    "store off by one": (
        "epilogue.cuh",
        "sink.template put<1>(to[n] + y, {",
        "sink.template put<1>(to[n] + y + 1, {",
        ("gather", ODD, "float32", "highest", "channels_first"),
    ),
    "run off by one row": (
        "epilogue.cuh",
        "put(to + load_shared(&table[row].y)",
        "put(to + load_shared(&table[row + UNITS].y)",
        ("gather", RUNS, "float16", "highest", "channels_first"),
    ),
    "units of a run before its pixels": (
        "epilogue.cuh",
        "unit[i % UNITS].at[i / UNITS]",
        "unit[i / ALONG].at[i % ALONG]",
        ("gather", RUNS, "float16", "highest", "channels_first"),
    ),
    "units of a pixel in another order": (
        "geometry.cuh",
        "    uint32_t units = 0, bit = 1;\n    GTC_UNROLL\n    for (int a = 2; a >= 0; --a) {",
        "    uint32_t units = 0, bit = 1;\n    GTC_UNROLL\n    for (int a = 0; a < 3; ++a) {",
        ("gather", CUT, "float16", "highest", "channels_first"),
    ),
    "more units than bits, beyond the output": (
        "epilogue.cuh",
        "if (!BITS && !is_output(block.g, o[n], load_shared(table + row + r).out)) continue;",
        "",
        ("gather", WIDE, "float32", "highest", "channels_first"),
    ),
    "units beyond the output": (
        "geometry.cuh",
        "if (is_within(o, g.axis[a].output_size)) units |= bit;",
        "units |= bit;",
        ("gather", CUT, "float32", "highest", "channels_first"),
    ),
    "rows beyond the last": (
        "mainloop.cuh",
        "uint32_t unit = NO_ROW;",
        "uint32_t unit = 0;",
        ("gather", CUT, "float32", "highest", "channels_first"),
    ),
    "channels off by one pixel": (
        "epilogue.cuh",
        "results.template load<false, COUNT>(row, n)",
        "results.template load<false, COUNT>(row, n ^ 1)",
        ("gather", RUNS, "float16", "highest", "channels_last"),
    ),
    "one output too many": (
        "epilogue.cuh",
        "is_within(o[a] + after[a], g.axis[a].output_size)",
        "is_within(o[a] + after[a], g.axis[a].output_size + 1)",
        ("scatter_atomic", DENSE, "float32", "highest", "channels_last"),
    ),
    "one input too many": (
        "geometry.cuh",
        "is_within(pixel.at[a] + tap.shift[a], g.axis[a].size)",
        "is_within(pixel.at[a] + tap.shift[a], g.axis[a].size + 1)",
        ("gather", ODD, "float32", "highest", "channels_first"),
    ),
    "swapped fragment of the pixels": (
        "tile_mma.cuh",
        "b[0][0] = r[0], b[0][1] = r[1]",
        "b[0][0] = r[1], b[0][1] = r[0]",
        ("gather", DENSE, "float16", "highest", "channels_first"),
    ),
    "fragments of the wrong pixels": (
        "tile_mma.cuh",
        "b[0][1] = r[1], b[1][0] = r[2]",
        "b[0][1] = r[2], b[1][0] = r[1]",
        ("gather", DENSE, "bfloat16", "highest", "channels_last"),
    ),
    "swapped fragment of the weights": (
        "tile_mma.cuh",
        "at + i / 2 * 4 * WEIGHT_PITCH + i % 2 * 8",
        "at + i % 2 * 4 * WEIGHT_PITCH + i / 2 * 8",
        ("gather", DENSE, "float32", "tf32", "channels_first"),
    ),
    "result of the wrong lane": (
        "tile_mma.cuh",
        "first_pixel() + lane() % 4 * 2);",
        "first_pixel() + (lane() + 1) % 4 * 2);",
        ("gather", DENSE, "float16", "highest", "channels_first"),
    ),
    "part of a split reduction left out": (
        "gather.cuh",
        "for (int i = 0; i < count; ++i) {",
        "for (int i = 1; i < count; ++i) {",
        ("gather", SPLIT, "float32", "highest", "channels_first"),
    ),
    "rows: the next input's window": (
        "gather_rows.cuh",
        "next ? window[here + 1].at[l] : window[here].at[l]",
        "window[here].at[l]",
        ("gather_rows", FEW, "float16", "highest", "channels_first"),
    ),
    "rows beyond the last output": (
        "gather_rows.cuh",
        "if (first + i < left)",
        "if (first + i <= left)",
        ("gather_rows", FEW, "float16", "highest", "channels_first"),
    ),
    "direct kernel beyond the last output": (
        "gather_direct.cuh",
        "if (width + p * g.axis[2].stride >= g.axis[2].output_size) break;",
        "if (width + p * g.axis[2].stride > g.axis[2].output_size) break;",
        ("gather_direct", FEW, "float16", "highest", "channels_last"),
    ),
    "stamps added without atomics": (
        "scatter.cuh",
        "atomic_add(to, values.at[0]);",
        "*to = add(*to, values.at[0]);",
        ("scatter_atomic", DENSE, "float32", "highest", "channels_first"),
    ),
    "no barrier after the table of pixels": (
        "scatter_owned.cuh",
        "fill_box();\n        __syncthreads();",
        "fill_box();",
        ("scatter_owned", ODD, "float32", "highest", "channels_first"),
    ),
    "no barrier after the stamps are added": (
        "scatter_owned.cuh",
        "collect(slab);\n                __syncthreads();",
        "collect(slab);",
        ("scatter_owned", ODD, "float32", "highest", "channels_first"),
    ),
    "owned outputs by one too far": (
        "scatter_owned.cuh",
        "first_output[a] = index % owned->boxes[a] * owned->outputs[a];",
        "first_output[a] = index % owned->boxes[a] * owned->outputs[a] + 1;",
        ("scatter_owned", ODD, "float32", "highest", "channels_last"),
    ),
}


def check(variant, case, dtype, precision, data_format, folder=KERNELS):
    arrays = make_arrays(case, dtype, data_format)
    got = run_plan(plan_of(case, arrays, data_format, precision), arrays, variant, folder=folder)
    assert_close(got, expected(case, arrays, data_format), dtype, case.reduction, precision)


@pytest.mark.parametrize("what", BROKEN)
def test_broken_copies_are_caught(what, tmp_path):
    name, old, new, run = BROKEN[what]
    check(*run)
    edited(KERNELS / name, old, new, tmp_path)
    with pytest.raises(AssertionError):
        check(*run, folder=tmp_path)
