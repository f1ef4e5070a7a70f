"""The CUDA C++ kernels, run on the host by the launches that a GPU would get, against the definition."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from cases import CASES, COMPLEX, CORE, DATA_FORMATS, FLOATS, Case, named
from checks import Arrays, as_format, assert_close, assert_same_specials, expected, make_arrays, tolerance
from device_checks import VARIANTS
from host_checks import requires_compiler, run_plan
from host_compiler import KERNELS
from selection import one_of
from test_random_geometries import make_problem
from tile_cases import EDGE_TABLE, EDGES, plan_of, product_of

from gpu_transconv.kernels.cupy.geometry import run_units
from gpu_transconv.kernels.cupy.tile_shapes import MMA_SHAPES, SIMT_SHAPES, DeviceProperties

pytestmark = requires_compiler

#: dtype and precision: all of them for the core cases, the first for every case.
KINDS = [("float32", "highest"), ("float32", "tf32")]
KINDS += [(dtype, "highest") for dtype in FLOATS + COMPLEX if dtype != "float32"]
TABLE = [
    pytest.param(case, dtype, precision, id=f"{case.name}-{dtype if precision == 'highest' else precision}")
    for dtype, precision in KINDS
    for case in (CASES if (dtype, precision) == KINDS[0] else CORE)
    if case.takes(dtype)
]
#: One output, one wide reduction: what fills no device unless the reduction is split.
SPLIT = Case("split", (1, 700, 2, 3), (700, 9, 2, 2), bias=True, keywords={"stride": 2, "activation": "relu"})


def check(case, variant, dtype, precision, data_format, device=None, **choice):
    arrays = make_arrays(case, dtype, data_format)
    plan = plan_of(case, arrays, data_format, precision)
    got = run_plan(plan, arrays, variant, device or DeviceProperties(), **choice)
    assert_close(got, expected(case, arrays, data_format), dtype, case.reduction, precision)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize(("case", "dtype", "precision"), one_of(3, TABLE))
@pytest.mark.parametrize("variant", VARIANTS)
def test_definition(variant, case, dtype, precision, data_format):
    check(case, variant, dtype, precision, data_format)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize(("shape", "dtype", "precision", "device"), EDGE_TABLE)
def test_edges_of_every_tile(shape, dtype, precision, device, edge, data_format):
    case = EDGES[edge]
    packed = product_of(edge, plan_of(case, make_arrays(case, dtype, data_format), data_format, precision))
    check(case, "gather", dtype, precision, data_format, device, shape=shape, packed=packed)


# How x is read does not depend on the variant, so each tile has one format with atomics and the other with boxes.
SCATTERED = [
    pytest.param(variant, DATA_FORMATS[(number + number // 2 + turn) % 2], *edge.values, id=f"{variant}-{edge.id}")
    for number, edge in enumerate(EDGE_TABLE)
    for turn, variant in enumerate(("scatter_atomic", "scatter_owned"))
]


@pytest.mark.parametrize(("variant", "data_format", "shape", "dtype", "precision", "device"), SCATTERED)
def test_edges_of_every_tile_that_scatters(variant, data_format, shape, dtype, precision, device):
    check(EDGES["merged"], variant, dtype, precision, data_format, device, shape=shape)


#: Kernel = stride, by the units of a run: all of a pixel or some of them, one or several pixels, or none at all.
RUNS = {1: 1, 2: 2, 3: 0, 4: 4, 6: 0, 8: 4}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("stride", RUNS)
def test_runs_of_results(stride, dtype):
    case = Case("runs", (2, 3, 3, 8), (3, 5, 1, stride), bias=True, keywords={"stride": (1, stride)})
    packed = product_of("merged", plan_of(case, make_arrays(case, dtype), "channels_first"))
    assert run_units(packed) == RUNS[stride]
    shape = SIMT_SHAPES[4][2] if dtype == "float32" else MMA_SHAPES[2]
    check(case, "gather", dtype, "highest", "channels_first", shape=shape, packed=packed)


#: Rows of one channel: whole runs and the rest of a row, inside and at the edges, several taps, rows and depths.
ROWS = [
    Case("twice-stride", (2, 3, 9, 24), (3, 1, 4, 4), keywords={"stride": 2, "padding": 1, "groups": 3}),
    Case("odd", (1, 2, 5, 27), (2, 1, 3, 5), bias=True, keywords={"stride": 2, "padding": 1, "groups": 2}),
    Case("long", (1, 2, 3, 17), (2, 1, 3, 11), keywords={"stride": (1, 2), "padding": (0, 3), "groups": 2}),
    Case("depth", (1, 2, 3, 3, 18), (2, 1, 3, 3, 3), keywords={"stride": 2, "padding": 1, "groups": 2}),
    Case("head", (1, 2, 12, 80), (2, 1, 2, 3), bias=True, keywords={"stride": 2, "activation": "relu"}),
]


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("case", ROWS, ids=lambda case: case.name)
def test_rows(case, dtype):
    check(case, "gather_rows", dtype, "highest", "channels_first")


@pytest.mark.parametrize("dtype", ["float32", "float16", "complex64"])
@pytest.mark.parametrize("case", ROWS, ids=lambda case: case.name)
def test_rows_of_neighbouring_channels(case, dtype):
    channels = 8
    case = replace(
        case,
        x=(case.x[0], channels, *case.x[2:]),
        weight=(channels, *case.weight[1:]),
        keywords={**case.keywords, "groups": channels},
    )
    if case.takes(dtype):
        check(case, "gather_rows", dtype, "highest", "channels_last")


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize(("dtype", "precision"), KINDS)
def test_split_reduction(dtype, precision, data_format):
    plan = plan_of(SPLIT, make_arrays(SPLIT, dtype, data_format), data_format, precision)
    launch = VARIANTS["gather"](plan, DeviceProperties()).launch
    assert len(launch) == 2, "the reduction was expected to be split"
    assert launch[0].grid[1] > 1
    if SPLIT.takes(dtype):
        check(SPLIT, "gather", dtype, precision, data_format)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_indices_of_64_bits(variant, dtype, data_format):
    """A first tap so far away that it is cut off: positions that 32 bits do not hold, in small arrays."""
    near = Case("near", (2, 5, 9, 6), (5, 7, 3, 1), bias=True, keywords={"stride": (2, 1)})
    reach = 2**29
    far = {"stride": (2, 1), "dilation": (1, reach), "padding": [(0, 0), (reach, 0)]}
    arrays = make_arrays(near, dtype, data_format)
    weight = np.concatenate([np.full_like(arrays.weight, 7), arrays.weight], axis=-1)
    far_case = Case("far", near.x, weight.shape, bias=True, keywords=far)
    plan = plan_of(far_case, arrays._replace(weight=weight), data_format)
    assert all("long long" in launch.kernel for launch in VARIANTS[variant](plan, DeviceProperties()).launch)
    got = run_plan(plan, arrays._replace(weight=weight), variant)
    assert_close(got, expected(near, arrays, data_format), dtype, near.reduction)


#: Devices whose choice of kernels differs: the largest; one without matrix instructions; one with few multiprocessors.
DEVICES = (DeviceProperties(), DeviceProperties((7, 5), 20, 64 << 10), DeviceProperties((8, 9), 2))


@pytest.mark.parametrize("number", range(60))
def test_random_geometries(number):
    problem = make_problem(3, number)
    dtype = problem.dtype if problem.dtype in FLOATS + COMPLEX else "float16"  # no kernels for integers
    device = DEVICES[number % 3]
    precision = "tf32" if dtype == "float32" and device.capability >= (8, 0) and number % 2 else "highest"
    for variant in VARIANTS:
        check(problem.case, variant, dtype, precision, problem.data_format, device)


def names_of(variant, case, dtype, precision, data_format):
    plan = plan_of(case, make_arrays(case, dtype, data_format), data_format, precision)
    planned = VARIANTS[variant](plan, DeviceProperties())
    return {launch.kernel for launch in (*planned.pack, *planned.launch)}


def test_every_kernel_is_reached():
    sources = "".join(path.read_text() for path in KERNELS.glob("*.cuh") if not re.search("grad|hopper", path.name))
    kernels = set(re.findall(r"GTC_GLOBAL\s+(?:GTC_LAUNCH_BOUNDS\([^)]*\)\s+)?(\w+)\(", sources))
    assert {"gather_tile", "pack_weight", "scatter_atomic"} <= kernels
    kernels.remove("pack_tap_stamps")  # of a gradient
    problems = [(case, dtype, precision) for case, dtype, precision in (p.values for p in TABLE)]
    problems += [(SPLIT, dtype, precision) for dtype, precision in KINDS if SPLIT.takes(dtype)]
    names = set().union(
        *(
            names_of(variant, *problem, data_format)
            for variant in VARIANTS
            for problem in problems
            for data_format in DATA_FORMATS
        )
    )
    assert kernels == {re.match(r"gtc::(\w+)<", name)[1] for name in names}
    tiles = {(found[1], found[2]) for name in names if (found := re.search(r"(SimtTile|MmaTile)<([\w:<>]+?),", name))}
    assert {kind for kind, _ in tiles} == {"SimtTile", "MmaTile"}
    assert {element for kind, element in tiles if kind == "MmaTile"} == {"gtc::half", "gtc::bfloat16", "float"}


# Non-finite values: what is added must be exactly what the definition adds.

SPECIAL = [
    named(name)
    for name in (
        "1d-kernel-is-twice-stride",
        "1d-long-kernel",
        "2d-kernel-is-stride",
        "2d-kernel-below-stride",
        "2d-dilated-shared-factor",
        "2d-grouped-odd",
        "2d-depthwise",
        "2d-padding-over-kernel",
        "2d-one-output-channel",
        "2d-one-by-one-map",
        "2d-many-channels",
        "3d-mixed",
    )
]


@pytest.mark.parametrize("where", ["x", "weight", "bias"])
@pytest.mark.parametrize("case", SPECIAL, ids=lambda case: case.name)
@pytest.mark.parametrize(("dtype", "precision"), [("float32", "highest"), ("float32", "tf32"), ("float16", "highest")])
@pytest.mark.parametrize("variant", VARIANTS)
def test_non_finite_values_propagate_as_in_the_definition(variant, dtype, precision, case, where):
    clean = make_arrays(case, dtype)
    bias = np.zeros(case.out_channels, clean.x.dtype)
    for turn, value in enumerate((np.nan, np.inf, -np.inf)):
        data_format = DATA_FORMATS[turn % 2]
        arrays = Arrays(clean.x.copy(), clean.weight.copy(), bias.copy())
        arrays.x[0, -1, ..., 0] = 0  # times an infinite weight is NaN
        ends = (0, -1, 0)[turn:][: case.ndim] or (0,)
        corner = tuple((ends * 3)[: case.ndim])
        position = {"x": (0, -1, *corner), "weight": (-1, 0, *corner), "bias": (-1,)}[where]
        getattr(arrays, where)[position] = value
        arrays = arrays._replace(x=as_format(arrays.x, case, data_format))
        want = expected(case, arrays, data_format)
        got = run_plan(plan_of(case, arrays, data_format, precision), arrays, variant)
        assert_same_specials(got.astype(want.dtype), want)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("activation", [None, "relu", "leaky_relu", "tanh", "sigmoid", "silu", "gelu"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_activations_of_non_finite_and_large_values(variant, activation, dtype):
    case = Case("values", (1, 1, 10), (1, 1, 1), keywords={"activation": activation})
    values = np.array([np.nan, np.inf, -np.inf, 1e4, -1e4, 30.0, -30.0, 0.5, -0.5, 0.0], np.float32)
    x = values.astype(make_arrays(case, dtype).x.dtype)[None, None]
    arrays = Arrays(x, np.ones_like(x[..., :1]), None)
    with np.errstate(all="ignore"):
        want = expected(case, arrays)
        got = run_plan(plan_of(case, arrays, "channels_first"), arrays, variant).astype(float)
    assert_same_specials(got, want)
    finite = np.isfinite(want)
    error = np.abs(got[finite] - want[finite])
    assert np.all(error <= tolerance(dtype, reduction=1) * np.maximum(1, np.abs(want[finite])))


@pytest.mark.parametrize("which", ["x", "weight"])
def test_operands_are_rounded_to_the_nearest_tf32(which):
    """Cut off instead, they would stay within the tolerance, and every sum would be too small."""
    many = named("2d-many-channels-twice-stride")
    case = Case("alone", many.x, (*many.weight[:2], 1, 1), keywords={"stride": 2})  # one product per output
    x, weight = np.ones(case.x, np.float32), np.zeros(case.weight, np.float32)
    weight[0] = 1
    exact, arrays = Arrays(x, weight, None), Arrays(x.copy(), weight.copy(), None)
    getattr(exact, which)[:] *= 1 + 2**-10
    getattr(arrays, which)[:] *= 1 + 3 * 2**-12
    got = run_plan(plan_of(case, arrays, "channels_first", "tf32"), arrays, "gather")
    np.testing.assert_array_equal(got, expected(case, exact))
