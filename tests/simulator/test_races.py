"""No address is touched by two threads without a barrier between, and the check sees it where one is taken out."""

from __future__ import annotations

import inspect
import math
import re
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from cases import DATA_FORMATS, Case
from checks import assert_close, expected, make_arrays
from races import Recorded, Recorder, recording
from support.gradients import exact_gradient, make_gradient, reduction_of

from gpu_transconv.kernels.numba_cuda import (
    choose,
    elementwise,
    gather,
    gather_direct,
    scatter,
    scatter_owned,
    stamps,
    tile,
    weight_gather,
    weight_scatter,
    weight_tile,
)
from gpu_transconv.kernels.numba_cuda.cuda import cuda, current_device
from gpu_transconv.kernels.numba_cuda.geometry import make_geometry
from gpu_transconv.kernels.numba_cuda.traits import Cut, Traits
from gpu_transconv.problem.arguments import make_params
from gpu_transconv.problem.gradients import as_operation
from gpu_transconv.problem.plan import Plan, make_plan
from gpu_transconv.problem.sides import collecting, stamping


def _case(name: str, x: tuple[int, ...], weight: tuple[int, ...], **keywords) -> Case:
    return Case(name, x, weight, bias=True, keywords=keywords)


#: Stamps that overlap, several tiles per block in every direction, phases without taps, boxes without inputs.
CASES = {
    case.name: case
    for case in (
        _case("overlap", (1, 9, 3, 4), (9, 9, 3, 3), stride=2, padding=1),
        _case("gaps", (1, 9, 4, 3), (9, 5, 2, 2), stride=3),
        _case("far", (1, 3, 2), (3, 4, 1), stride=300),
        _case("grouped", (2, 4, 5), (4, 3, 4), stride=2, dilation=3, groups=2),
    )
}
MAKES = {
    "gather": (gather, "make_gather"),
    "direct": (gather_direct, "make_gather_direct"),
    "atomic": (scatter, "make_atomic"),
    "tiles": (scatter_owned, "make_owned"),
    "weight gather": (weight_gather, "make_weight_parts"),
    "weight atomic": (weight_scatter, "make_weight_atomic"),
    "weight tiles": (weight_scatter, "make_weight_owned"),
}
KERNELS = {name: getattr(module, make) for name, (module, make) in MAKES.items()}
#: What there is to run: a kernel, and the operation that it computes.
RUNS = [(kernel, "weight_grad" if "weight" in kernel else "forward") for kernel in KERNELS]
RUNS += [(kernel, "input_grad") for kernel in ("gather", "direct", "atomic", "tiles")]
_TRAITS = Traits("float32", "float32", "int32", tile=choose._TINY, channels=2, owned=128)


def execute(
    kernel: str, make, case: Case, data_format: str = "channels_first", operation: str = "forward", edge: float = 1.0
):
    """Run a kernel on a case with recorded arrays, `edge` the first of x; the recorder, the result, the exact one."""
    arrays = make_arrays(case, "float32", data_format)
    params = make_params(case.ndim, data_format=data_format, **case.keywords)
    forward = make_plan(params, arrays.x.shape, arrays.weight.shape, "float32", has_bias=operation == "forward")
    plan = as_operation(forward, operation)
    if operation == "forward":
        run, want = _execute_product, expected(case, arrays, data_format)
    else:
        run = _execute_weight_grad if operation == "weight_grad" else _execute_product
        arrays = make_gradient(case, "float32", data_format)
        arrays.x.flat[0] = edge
        want = exact_gradient(case, operation, arrays, data_format)
    traits = replace(_TRAITS, channels_last=plan.channels_last, has_bias=plan.has_bias)
    with recording() as recorder:
        got = run(kernel, make(traits), plan, arrays, lambda name, array: Recorded(name, array.ravel(), recorder))
    return recorder, got.reshape(plan.result_shape), want


def _execute_product(kernel: str, function, plan: Plan, arrays, recorded) -> np.ndarray:
    """Run a kernel of the operator or of its gradient by x."""
    sides = collecting(plan) if kernel in ("gather", "direct") else stamping(plan)
    geometry = tuple(map(int, make_geometry(sides, choose.choose_box(sides, current_device(), choose._TINY))))
    weight = arrays.weight.ravel()
    if kernel in ("gather", "direct") or plan.operation == "input_grad":
        pack = elementwise.make_pack if kernel in ("gather", "direct") else elementwise.make_pack_stamps
        packed = Recorded("packed", np.full_like(weight, np.nan), Recorder())
        cuda.jit(pack(_TRAITS))[2, 3](weight, packed, geometry)
        weight = packed.values
    bias = arrays.bias if plan.has_bias else np.zeros(1, np.float32)
    source = arrays.x if plan.operation == "forward" else arrays.bias  # which has the gradient of the output
    out = recorded("out", np.full(math.prod(plan.result_shape), np.nan, np.float32))
    arguments = recorded("x", source), recorded("w", weight), recorded("b", bias), plan.slope, out
    if kernel == "atomic":
        full = bias if plan.channels_last or not plan.has_bias else bias.reshape(-1, *[1] * plan.ndim)
        out.values[:] = np.broadcast_to(full, plan.result_shape).ravel()
        arguments = (*arguments[:2], out)
    cuda.jit(function)[3, choose._TINY.threads](*arguments, geometry)
    return out.values


def _execute_weight_grad(kernel: str, function, plan: Plan, arrays, recorded) -> np.ndarray:
    """Run a kernel of the gradient by the weight, its pixels cut into pieces; two copies where they have owners."""
    pixels, tile_rows = plan.batch * math.prod(plan.in_spatial), choose._TINY.rows
    row_tiles = plan.groups * -(-(plan.in_channels // plan.groups) // tile_rows)
    elements = math.prod(plan.weight_shape)
    size = {"weight gather": max(9, -(-pixels // 2)), "weight atomic": 7, "weight tiles": 3}[kernel]
    parts = -(-pixels // size) if kernel != "weight tiles" else min(2, -(-pixels // size))
    geometry = tuple(map(int, make_geometry(stamping(plan), cut=Cut(parts, size, 0, row_tiles, 0, elements))))
    copies = 1 if kernel == "weight atomic" else parts
    out = recorded("out", np.full((copies, elements), 0 if kernel == "weight atomic" else np.nan, np.float32))
    arguments = recorded("x", arrays.x), recorded("w", arrays.bias), out
    cuda.jit(function)[3, choose._TINY.threads](*arguments, geometry)
    return out.values.reshape(copies, elements).sum(0)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("kernel", "operation"), RUNS)
def test_no_race(kernel, operation, case, data_format):
    recorder, got, want = execute(kernel, KERNELS[kernel], CASES[case], data_format, operation)
    assert recorder.races == []
    assert_close(got, want, "float32", max(CASES[case].reduction, reduction_of(CASES[case], operation)))


# Copies of the kernels' modules, each without one of its barriers, or broken in another way.

_BARRIER = re.compile(r"cuda\.syncthreads(_or)?\(")


def broken(module: ModuleType, old: str, new: str, number: int = 0) -> ModuleType:
    """A copy of `module` in which occurrence `number` of `old` reads `new`."""
    source = inspect.getsource(module)
    start = [match.start() for match in re.finditer(re.escape(old), source)][number]
    copy = ModuleType(module.__name__)
    copy.__package__ = module.__package__
    exec(
        compile(source[:start] + new + source[start + len(old) :], f"{module.__file__}: broken", "exec"), copy.__dict__
    )
    return copy


def barriers(module: ModuleType) -> list[tuple[ModuleType, str, str, int]]:
    """How to take out each barrier of a module."""
    source = inspect.getsource(module)
    plain = [(module, "cuda.syncthreads()", "pass", i) for i in range(source.count("cuda.syncthreads()"))]
    votes = (
        [(module, "cuda.syncthreads_or(types.int32(nonfinite))", "nonfinite", 0)] if "syncthreads_or" in source else []
    )
    assert len(plain) + len(votes) == len(_BARRIER.findall(source))
    return plain + votes


BROKEN = [(kernel, *change) for kernel in ("gather", "atomic", "tiles") for change in barriers(MAKES[kernel][0])]
BROKEN += [(kernel, *change) for change in barriers(stamps) for kernel in ("atomic", "tiles")]
BROKEN += [(kernel, *change) for change in barriers(weight_tile) for kernel in ("weight gather", "weight tiles")]
BROKEN += [("weight gather", *change) for change in barriers(weight_gather)]
BROKEN += [(kernel, *change) for change in barriers(weight_scatter) for kernel in ("weight atomic", "weight tiles")]
BROKEN += [
    ("gather", tile, "column_tile * columns", "column_tile * (columns - 1)", 0),
    ("gather", gather, "find_tile(number_of_tile, ", "find_tile(number_of_tile // 2, ", 0),
    ("tiles", scatter_owned, "find_box(number_of_box, g)", "find_box(number_of_box // 2, g)", 0),
    ("tiles", scatter_owned, "offsets[at.ROUND, r] == turn and", "turn == 0 and", 0),
    ("direct", gather_direct, "cuda.grid(1)", "cuda.threadIdx.x", 0),
    ("weight gather", weight_tile, "column_tile * columns", "column_tile * (columns - 1)", 0),
    ("weight gather", weight_gather, "find_tile(item, g)", "find_tile(item // 2, g)", 0),
    ("weight tiles", weight_scatter, "number * g[at.RESULT] -", "0 * g[at.RESULT] -", 0),
    ("weight tiles", weight_scatter, "find_tile(item, g)", "find_tile(item // 2, g)", 0),
]
#: What kernels take from modules that several of them share.
_SHARED = ("make_find_tile", "make_find_taps", "make_stamps", "make_weight_tile")


def is_caught(kernel: str, make, case: str, data_format: str) -> bool:
    """Whether there is a race; or a thread was ahead, and met what nobody had written yet, or nobody at a barrier."""
    operation = "weight_grad" if "weight" in kernel else "forward"
    try:  # with an infinite x, so that the careful multiplication has its turn
        return bool(execute(kernel, make, CASES[case], data_format, operation, np.inf)[0].races)
    except (IndexError, RuntimeError):  # in the second case threads wait at different barriers
        return True


@pytest.mark.parametrize(
    "change",
    BROKEN,
    ids=[f"{kernel}-{module.__name__.rpartition('.')[2]}-{old[:18]}-{n}" for kernel, module, old, _, n in BROKEN],
)
def test_a_broken_kernel_is_caught(change):
    kernel, module, old, new, number = change
    copy, (user, make) = broken(module, old, new, number), MAKES[kernel]
    if module is not user:
        user = broken(user, "from __future__", "from __future__")
        for name in _SHARED:
            if hasattr(user, name) and hasattr(copy, name):
                setattr(user, name, getattr(copy, name))
        copy = user
    # With channels last, threads copy what others have prepared; the barriers for that matter only there.
    assert any(is_caught(kernel, getattr(copy, make), name, layout) for layout in DATA_FORMATS for name in CASES)


def test_plain_additions_instead_of_atomic_ones_are_caught():
    old = "cuda.atomic.add(out, offset(corners[at.IMAGE, c] * g[at.Y_BATCH] + channel + pixel), sums[i, j])"
    copy = broken(scatter, old, "out[offset(corners[at.IMAGE, c] * g[at.Y_BATCH] + channel + pixel)] += sums[i, j]")
    recorder, _, _ = execute("atomic", copy.make_atomic, CASES["overlap"])
    assert recorder.races
    old = "cuda.atomic.add(out, offset(channel + offsets[at.PLACE, c]), sums[i, j])"
    copy = broken(weight_scatter, old, "out[offset(channel + offsets[at.PLACE, c])] += sums[i, j]")
    recorder, _, _ = execute("weight atomic", copy.make_weight_atomic, CASES["overlap"], operation="weight_grad")
    assert recorder.races


# Neighbouring threads read neighbouring addresses, as the kernels' docstrings say.


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize(
    ("kernel", "operation", "stride"),
    [
        ("gather", "forward", 2),
        ("atomic", "forward", 2),
        ("tiles", "forward", 2),
        # These read the gradient of the output at every so-many-th element.
        ("gather", "input_grad", 1),
        ("weight gather", "weight_grad", 1),
    ],
)
def test_loads_are_coalesced(kernel, operation, stride, data_format):
    case = _case("aligned", (1, 8, 32), (8, 8, 2), stride=stride)
    recorder, _, _ = execute(kernel, KERNELS[kernel], case, data_format, operation)
    for name in ("x", "w"):
        steps = {key[1:3] for key in recorder.reads if key[0] == name}
        assert steps
        for block, epoch in steps:
            by_thread = [recorder.reads.get((name, block, epoch, thread), []) for thread in range(choose._TINY.threads)]
            together = np.array(by_thread)
            assert together.ndim == 2  # all threads read equally often
            assert (np.diff(together, axis=0) == 1).all()
