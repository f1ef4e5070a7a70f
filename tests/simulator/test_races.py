"""No address is touched by two threads without a barrier between, and the check sees it where one is taken out."""

from __future__ import annotations

import inspect
import math
import re
from types import ModuleType

import numpy as np
import pytest
from cases import DATA_FORMATS, Case
from checks import assert_close, expected, make_arrays
from races import Recorded, recording

from gpu_transconv.kernels.numba_cuda import choose, gather, gather_direct, scatter, scatter_owned, stamps
from gpu_transconv.kernels.numba_cuda.cuda import cuda, current_device
from gpu_transconv.kernels.numba_cuda.geometry import make_geometry
from gpu_transconv.kernels.numba_cuda.traits import Traits
from gpu_transconv.problem.arguments import make_params
from gpu_transconv.problem.plan import make_plan
from gpu_transconv.problem.product import by_phase
from gpu_transconv.problem.product import stamps as stamps_of


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
KERNELS = {
    "gather": gather.make_gather,
    "direct": gather_direct.make_gather_direct,
    "atomic": scatter.make_atomic,
    "tiles": scatter_owned.make_owned,
}


def execute(kernel: str, make, case: Case, data_format: str = "channels_first"):
    """Run a kernel on a case with recorded arrays; the recorder, and the result as an array."""
    arrays = make_arrays(case, "float32", data_format)
    params = make_params(case.ndim, data_format=data_format, **case.keywords)
    plan = make_plan(params, arrays.x.shape, arrays.weight.shape, "float32", has_bias=True)
    tile = choose._TINY
    box = choose.choose_box(plan, current_device(), tile)
    traits = Traits("float32", "float32", "int32", plan.channels_last, True, None, tile, 2, 128)
    product = by_phase(plan) if kernel in ("gather", "direct") else stamps_of(plan)
    geometry = tuple(map(int, make_geometry(product, box)))
    weight = arrays.weight
    if kernel in ("gather", "direct"):  # as `elementwise.make_pack` moves it
        weight = np.moveaxis(weight.reshape(*weight.shape[:2], -1), -1, 0)
    with recording() as recorder:
        x, filters, bias = (
            Recorded(name, array.ravel(), recorder)
            for name, array in (("x", arrays.x), ("w", weight), ("b", arrays.bias))
        )
        out = Recorded("out", np.full(math.prod(plan.output_shape), np.nan, np.float32), recorder)
        if kernel == "atomic":
            full = arrays.bias if plan.channels_last else arrays.bias.reshape(-1, *[1] * case.ndim)
            out.values[:] = np.broadcast_to(full, plan.output_shape).ravel()
        arguments = (x, filters, out) if kernel == "atomic" else (x, filters, bias, plan.slope, out)
        cuda.jit(make(traits))[3, tile.threads](*arguments, geometry)
    return recorder, out.values.reshape(plan.output_shape), expected(case, arrays, data_format)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_no_race(kernel, case, data_format):
    recorder, got, want = execute(kernel, KERNELS[kernel], CASES[case], data_format)
    assert recorder.races == []
    assert_close(got, want, "float32", CASES[case].reduction)


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


BROKEN = [("gather", *change) for change in barriers(gather)]
BROKEN += [("atomic", *change) for change in barriers(scatter)]
BROKEN += [("tiles", *change) for change in barriers(scatter_owned)]
BROKEN += [(kernel, *change) for change in barriers(stamps) for kernel in ("atomic", "tiles")]
BROKEN += [
    ("gather", gather, "column_tile * columns", "column_tile * (columns - 1)", 0),
    ("gather", gather, "find_tile(number_of_tile, ", "find_tile(number_of_tile // 2, ", 0),
    ("tiles", scatter_owned, "find_box(box, g)", "find_box(box // 2, g)", 0),
    ("tiles", scatter_owned, "offsets[at.ROUND, r] == turn and", "turn == 0 and", 0),
    ("direct", gather_direct, "cuda.grid(1)", "cuda.threadIdx.x", 0),
]


def is_caught(kernel: str, make, case: str, data_format: str) -> bool:
    """Whether there is a race; or a thread was ahead, and took what nobody had written yet for an index."""
    try:
        return bool(execute(kernel, make, CASES[case], data_format)[0].races)
    except IndexError:
        return True


NAMES = {"gather": "make_gather", "direct": "make_gather_direct", "atomic": "make_atomic", "tiles": "make_owned"}


@pytest.mark.parametrize(
    "change",
    BROKEN,
    ids=[f"{kernel}-{module.__name__.rpartition('.')[2]}-{old[:18]}-{n}" for kernel, module, old, _, n in BROKEN],
)
def test_a_broken_kernel_is_caught(change):
    kernel, module, old, new, number = change
    copy = broken(module, old, new, number)
    if module is stamps:
        user = broken({"atomic": scatter, "tiles": scatter_owned}[kernel], "from __future__", "from __future__")
        user.make_stamps = copy.make_stamps
        copy = user
    make = getattr(copy, NAMES[kernel])
    # With channels last, threads copy what others have prepared; the barriers for that matter only there.
    assert any(is_caught(kernel, make, name, layout) for layout in DATA_FORMATS for name in CASES)


def test_plain_additions_instead_of_atomic_ones_are_caught():
    old = "cuda.atomic.add(out, offset(corners[at.IMAGE, c] * g[at.Y_BATCH] + channel + pixel), sums[i, j])"
    copy = broken(scatter, old, "out[offset(corners[at.IMAGE, c] * g[at.Y_BATCH] + channel + pixel)] += sums[i, j]")
    recorder, _, _ = execute("atomic", copy.make_atomic, CASES["overlap"])
    assert recorder.races


# Neighbouring threads read neighbouring addresses, as the kernels' docstrings say.


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("kernel", ["gather", "atomic", "tiles"])
def test_loads_are_coalesced(kernel, data_format):
    case = _case("aligned", (1, 8, 16), (8, 8, 2), stride=2)
    recorder, _, _ = execute(kernel, KERNELS[kernel], case, data_format)
    for name in ("x", "w"):
        steps = {key[1:3] for key in recorder.reads if key[0] == name}
        assert steps
        for block, epoch in steps:
            by_thread = [recorder.reads.get((name, block, epoch, thread), []) for thread in range(choose._TINY.threads)]
            together = np.array(by_thread)
            assert together.ndim == 2  # all threads read equally often
            assert (np.diff(together, axis=0) == 1).all()
