"""The gradients by the CUDA C++ kernels, run on the host by the launches that a GPU would get."""

from __future__ import annotations

import re

import numpy as np
import pytest
from cases import CASES, COMPLEX, CORE, DATA_FORMATS, FLOATS, Case, named
from checks import Arrays, as_format, assert_close, assert_same_specials, make_arrays
from device_checks import GRADIENTS
from host_checks import requires_compiler, run_gradient_plan
from host_compiler import KERNELS
from selection import one_of
from support.gradients import exact_gradient, make_gradient, reduction_of
from test_random_geometries import make_problem
from tile_cases import EDGE_TABLE, plan_of

from gpu_transconv import reference
from gpu_transconv.kernels.cupy.tile_shapes import DeviceProperties
from gpu_transconv.kernels.cupy.weight_grad import WORKSPACE_BYTES
from gpu_transconv.problem.arguments import make_params
from gpu_transconv.problem.gradients import as_operation
from gpu_transconv.problem.plan import make_plan

pytestmark = requires_compiler

#: dtype and precision: all of them for the core cases, the first for every case.
KINDS = [("float32", "highest"), ("float32", "tf32")]
KINDS += [(dtype, "highest") for dtype in FLOATS + COMPLEX if dtype != "float32"]
TABLE = [
    pytest.param(case, dtype, precision, id=f"{case.name}-{dtype if precision == 'highest' else precision}")
    for dtype, precision in KINDS
    for case in one_of(13, CASES if (dtype, precision) == KINDS[0] else CORE)
]


def gradient_plan(case, arrays, operation, data_format, precision="highest"):
    arrays = arrays._replace(bias=None)
    return as_operation(plan_of(case, arrays, data_format, precision), operation)


#: The exact results of the problem at hand, by operation, for all variants.
_EXACT: dict[tuple[object, ...], np.ndarray] = {}


def check(case, variant, dtype, precision, data_format, device=None, shape=None):
    operation = variant.partition("/")[0]
    arrays = make_gradient(case, dtype, data_format)
    plan = gradient_plan(case, arrays, operation, data_format, precision)
    got = run_gradient_plan(plan, arrays, variant, device or DeviceProperties(), shape)
    key = case.name, case.weight, operation, dtype, data_format
    if key not in _EXACT:
        if len(_EXACT) > 1:
            _EXACT.clear()
        _EXACT[key] = exact_gradient(case, operation, arrays, data_format)
    want = _EXACT[key]
    assert_close(got, want, dtype, max(1, reduction_of(case, operation)), precision)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize(("case", "dtype", "precision"), TABLE)
@pytest.mark.parametrize("variant", GRADIENTS)
def test_definition(variant, case, dtype, precision, data_format):
    check(case, variant, dtype, precision, data_format)


#: More rows and columns than most tiles have, none a multiple: read by element, and 16 bytes at once.
EDGES = (
    Case("by element", (1, 67, 23), (67, 149, 3), keywords={"stride": 2, "padding": 1}),
    Case("by 16 bytes", (2, 40, 5, 9), (40, 136, 2, 2), keywords={"stride": (1, 2)}),
)
#: How operands are read does not depend on the formulation, so each tile has one case and format of each.
TILED = [
    pytest.param(variant, EDGES[(number + turn) % 2], DATA_FORMATS[(number // 2 + turn) % 2], *edge.values,
                 id=f"{variant}-{edge.id}")
    for number, edge in one_of(6, enumerate(EDGE_TABLE))
    for turn, variant in enumerate(name for name in GRADIENTS if name != "input_grad/gather")
]  # fmt: skip


@pytest.mark.parametrize(("variant", "case", "data_format", "shape", "dtype", "precision", "device"), TILED)
def test_edges_of_every_tile(variant, case, data_format, shape, dtype, precision, device):
    check(case, variant, dtype, precision, data_format, device, shape=shape)


#: Reductions so long that they are split: of the gradient by x over the output channels, of the other over the pixels.
SPLIT = {
    "input_grad": Case("split", (1, 9, 2, 3), (9, 700, 2, 2), keywords={"stride": 2}),
    "weight_grad": Case("split", (2, 5, 31, 37), (5, 9, 2, 1), keywords={"stride": 2}),
    "depthwise": Case("split", (2, 3, 57, 61), (3, 1, 2, 5), keywords={"stride": 2, "groups": 3}),
}


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize(("dtype", "precision"), KINDS)
@pytest.mark.parametrize("variant", ["input_grad/gather", "weight_grad/gather", "weight_grad/scatter_atomic",
                                     "weight_grad/scatter_tiles", "depthwise"])  # fmt: skip
def test_split_reductions(variant, dtype, precision, data_format):
    case = SPLIT[variant.partition("/")[0]]
    variant = "weight_grad/gather" if variant == "depthwise" else variant
    operation = variant.partition("/")[0]
    plan = gradient_plan(case, make_gradient(case, dtype, data_format), operation, data_format, precision)
    planned = GRADIENTS[variant](plan, DeviceProperties())
    assert max(launch.grid[1] for launch in planned.launch) > 1
    assert len(planned.launch) > 1
    assert sum(buffer.size for buffer in planned.buffers if buffer.name != "packed") <= WORKSPACE_BYTES
    check(case, variant, dtype, precision, data_format)


@pytest.mark.parametrize("variant", [name for name in GRADIENTS if "weight_grad" in name])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_workspace_is_bounded(variant, dtype):
    """Also where one copy of the sums would be beyond it."""
    for channels, size in ((4096, 64), (256, 512), (64, 2048)):
        params = make_params(2, stride=2, padding=1)
        plan = as_operation(make_plan(params, (8, channels, size, size), (channels, channels, 4, 4), dtype, False),
                            "weight_grad")  # fmt: skip
        planned = GRADIENTS[variant](plan, DeviceProperties())
        assert sum(buffer.size for buffer in planned.buffers) <= WORKSPACE_BYTES


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("variant", GRADIENTS)
def test_indices_of_64_bits(variant, dtype):
    """A first tap so far away that it is cut off: positions that 32 bits do not hold, in small arrays."""
    near = Case("near", (2, 5, 9, 6), (5, 7, 3, 1), keywords={"stride": (2, 1)})
    reach = 2**29
    operation = variant.partition("/")[0]
    for data_format in DATA_FORMATS:
        arrays = make_gradient(near, dtype, data_format)
        weight = np.concatenate([np.full_like(arrays.weight, 7), arrays.weight], axis=-1)
        far = {"stride": (2, 1), "dilation": (1, reach), "padding": [(0, 0), (reach, 0)]}
        far_arrays = arrays._replace(weight=weight)
        plan = gradient_plan(Case("far", near.x, weight.shape, keywords=far), far_arrays, operation, data_format)
        planned = GRADIENTS[variant](plan, DeviceProperties())
        assert all("long long" in launch.kernel for launch in (*planned.pack, *planned.launch))
        got = run_gradient_plan(plan, far_arrays, variant)
        want = exact_gradient(near, operation, arrays, data_format)
        if operation == "weight_grad":
            assert not got[..., :1].any()
            got = got[..., 1:]
        assert_close(got, want, dtype, reduction_of(near, operation))


#: Devices whose choice of kernels differs: the largest; one without matrix instructions; one with few multiprocessors.
DEVICES = (DeviceProperties(), DeviceProperties((7, 5), 20, 64 << 10), DeviceProperties((8, 9), 2))


@pytest.mark.parametrize("number", one_of(8, range(60)))
def test_random_geometries(number):
    problem = make_problem(4, number)
    dtype = problem.dtype if problem.dtype in FLOATS + COMPLEX else "float16"  # no kernels for integers
    device = DEVICES[number % 3]
    precision = "tf32" if dtype == "float32" and device.capability >= (8, 0) and number % 2 else "highest"
    for variant in GRADIENTS:
        check(problem.case, variant, dtype, precision, problem.data_format, device)


#: What a device would give to tiles.
LARGE = Case("large", (4, 128, 32, 32), (128, 128, 2, 2), keywords={"stride": 2})
#: What it would not give to tiles.
DEPTHWISE = Case("depthwise", (2, 64, 32, 32), (64, 1, 4, 4), keywords={"stride": 2, "padding": 1, "groups": 64})


def names_of(variant, case, dtype, precision, data_format, device):
    arrays = make_arrays(case, dtype, data_format)
    plan = gradient_plan(case, arrays, variant.partition("/")[0], data_format, precision)
    planned = GRADIENTS[variant](plan, device)
    return {launch.kernel for launch in (*planned.pack, *planned.launch)}


def test_every_kernel_is_reached():
    sources = "".join(path.read_text() for path in KERNELS.glob("*grad*.cuh"))
    kernels = set(re.findall(r"GTC_GLOBAL\s+(?:GTC_LAUNCH_BOUNDS\([^)]*\)\s+)?(\w+)\(", sources))
    assert {"input_grad_owned", "weight_grad_tile", "weight_grad_direct"} <= kernels
    problems = [(case, dtype, precision) for case, dtype, precision in (p.values for p in TABLE)]
    problems += [(case, dtype, precision) for case in (LARGE, DEPTHWISE) for dtype, precision in KINDS]
    names = set().union(
        *(
            names_of(variant, *problem, data_format, device)
            for variant in GRADIENTS
            for problem in problems
            for data_format in DATA_FORMATS
            for device in DEVICES[:2]
        )
    )
    reached = {re.match(r"gtc::(\w+)<", name)[1] for name in names}
    assert kernels | {"gather_tile", "gather_direct", "pack_weight", "pack_tap_stamps"} <= reached
    for kernel in ("input_grad_atomic", "input_grad_owned", "weight_grad_tile", "weight_grad_scatter"):
        kinds = {kind for name in names if kernel in name for kind in ("SimtTile", "MmaTile") if kind in name}
        assert kinds == {"SimtTile", "MmaTile"}, kernel


SPECIAL = [
    named(name)
    for name in (
        "1d-kernel-is-twice-stride",
        "1d-long-kernel",
        "2d-kernel-below-stride",
        "2d-dilated-shared-factor",
        "2d-grouped-odd",
        "2d-depthwise",
        "2d-padding-over-kernel",
        "2d-one-by-one-map",
        "2d-many-channels",
        "3d-mixed",
    )
]


@pytest.mark.parametrize("where", ["x", "weight", "grad_output"])
@pytest.mark.parametrize("case", SPECIAL, ids=lambda case: case.name)
@pytest.mark.parametrize(("dtype", "precision"), [("float32", "highest"), ("float32", "tf32"), ("float16", "highest")])
@pytest.mark.parametrize("variant", GRADIENTS)
def test_non_finite_values_propagate_as_in_the_definition(variant, dtype, precision, case, where):
    operation = variant.partition("/")[0]
    if where == ("x" if operation == "input_grad" else "weight"):
        where = "grad_output"  # the other is no operand
    clean = make_gradient(case, dtype, "channels_first")
    for turn, value in enumerate((np.nan, np.inf, -np.inf)):
        data_format = DATA_FORMATS[turn % 2]
        x, weight, grad = (array.copy() for array in clean)
        ends = ((0, -1, 0)[turn:][: case.ndim] or (0,)) * 3
        corner = ends[: case.ndim]
        array, position = {
            "x": (x, (0, -1, *corner)), "weight": (weight, (-1, 0, *corner)), "grad_output": (grad, (0, 0, *corner)),
        }[where]  # fmt: skip
        array[position] = value
        x, grad = (as_format(array, case, data_format) for array in (x, grad))
        arrays = Arrays(x, weight, grad)
        got = run_gradient_plan(gradient_plan(case, arrays, operation, data_format, precision), arrays, variant)
        with np.errstate(invalid="ignore"):
            want = defined(case, operation, arrays, data_format)
        assert_same_specials(got.astype(want.dtype), want)


def defined(case, operation, arrays, data_format):
    """The gradient by the definition: the oracle's sums over a cube would multiply zeros with what is not finite."""
    x, weight, grad = (array.astype(np.float64) for array in arrays)
    g = case.geometry
    keywords = {"stride": g["stride"], "dilation": g["dilation"], "padding_low": [low for low, _ in g["padding"]]}
    keywords |= {"groups": case.keywords.get("groups", 1), "channels_last": data_format == "channels_last"}
    if operation == "input_grad":
        return reference.input_grad(grad, weight, input_size=case.x[-case.ndim :], **keywords)
    return reference.weight_grad(x, grad, kernel_size=case.weight[2:], **keywords)
