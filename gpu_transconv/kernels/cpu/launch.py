"""Launch the CPU kernels: the job of a plan, its scratch memory, and what is left to do element by element.

Which kernel runs is decided in `choose`; here none is known by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ...arrays.views import Array
from ...problem.dtypes import DTYPES
from ...problem.plan import Operation, Plan
from ..kernel import Bound, Description, Formulation, Kernel
from .arguments import Arguments, Table, flatten
from .choice import Choice
from .choose import choose_exact, choose_gather, choose_scatter
from .complexes import apart, result_of, together
from .elementwise import Elementwise, elementwise_gather, elementwise_scatter
from .geometry import make_geometry
from .pack import Packed, TileWeights, pack, pack_once, pack_points
from .partition import HasPartition
from .points.meetings import count_meetings
from .runtime.compiled import CompiledKernel
from .runtime.parallel import find_address, run_at, run_parts
from .runtime.threads import choose_layer, thread_count
from .runtime.workspace import SMALL, stored, workspace
from .weight_grad import launch as weight_grad
from .weight_order import LONG, WeightOrder

#: Pieces of work per thread, so that a slow piece does not leave the other threads idle. Chosen, not measured.
PIECES = 4
#: Results of a piece of the longest axis at least, where loops without tiles scatter. Chosen, not measured.
LEAST_PIECE = 64
#: Bytes of a gradient by the input above which it is written past the caches. Measured: monai_unet_t, 14 MB, takes
#: 6.0 ms so and 8.0 else, dcgan_l4_rgb, 17 MB, 5.7 and 6.6, pix2pix_rgb, 8 MB, 2.4 and 2.9; below it makes no
#: difference to hifigan_v1_up1, 2 MB.
_STREAMED_GRAD = 4 << 20
#: Multiplications and bytes up to which one thread is as fast as two. Measured, without Python: 0.25, 1.2 and 1.5
#: times as many as `SMALL` take 1.6, 7.3 and 15.2 microseconds with one, and 1.9, 4.5 and 9 with two.
_SERIAL = SMALL * 3 // 4
# Before anything is compiled: with TBB comes the runtime library that converts half types on CPUs without F16C.
choose_layer()

Chooser: TypeAlias = Callable[[Plan], Choice]


class Job(NamedTuple):
    """A tiled kernel with all that it needs besides the arrays."""

    function: CompiledKernel
    arguments: Arguments
    work: tuple[int, int]  # threads, elements of scratch memory for each


def _launch_gather(plan: Plan, x: Array, weight: Array, bias: Array | None, out: Array, packed: Packed) -> None:
    """Fill `out` by the gather formulation; the contract is `gpu_transconv.kernels.kernel.Kernel`."""
    if not plan.batch:
        return
    if packed.tiles is not None:
        not_finite = run_tiles(plan, job_of(choose_gather, plan), packed.tiles, x, out)
        if not_finite:  # in pairs an infinity may have become NaN
            exact = pack(choose_exact(plan).order, weight, bias).tiles
            assert exact is not None
            run_tiles(plan, job_of(choose_exact, plan), exact, x, out)
    if packed.elementwise.size:
        pieces = PIECES * thread_count()
        run_elementwise(elementwise_gather, pieces, plan, x, weight, bias, out, packed.elementwise, pieces)


def _launch_scatter(plan: Plan, x: Array, weight: Array, bias: Array | None, out: Array, packed: Packed) -> None:
    """Fill `out` by the scatter formulation; the contract is `gpu_transconv.kernels.kernel.Kernel`."""
    if not plan.batch:
        return
    if packed.tiles is not None:
        run_tiles(plan, job_of(choose_scatter, plan), packed.tiles, x, out)
    if packed.elementwise.size:
        images = plan.batch * packed.elementwise.size
        pieces = max(1, min(-(-PIECES * thread_count() // images), max(plan.out_spatial) // LEAST_PIECE))
        parts = images * pieces
        run_elementwise(elementwise_scatter, parts, plan, x, weight, bias, out, packed.elementwise, pieces)


def job_of(choose: Chooser, plan: Plan) -> Job:
    """The job of a plan, on as many threads as are worth waking."""
    return (_few_jobs if _has_long_tables(plan) else _many_jobs)(choose, plan, _threads(plan))


def _make_job(choose: Chooser, plan: Plan, threads: int) -> Job:
    kernel, plan, order = choose(plan)
    assert kernel.tiles is not None
    values: HasPartition = kernel.tiles.cut(plan, order, threads)
    if order.swapped and plan.output_bytes > _STREAMED_GRAD:
        values = _streamed(values)
    return Job(kernel.tiles.function, flatten(values), (values.part.threads, values.part.work))


def _streamed(values: Any) -> HasPartition:
    """The same with results written past the caches."""
    streamed: HasPartition = values._replace(geometry=values.geometry._replace(stream=1))
    return streamed


# Jobs of long kernels have long tables, so only a few are kept.
_many_jobs, _few_jobs = lru_cache(maxsize=512)(_make_job), lru_cache(maxsize=32)(_make_job)


@lru_cache(maxsize=512)
def _has_long_tables(plan: Plan) -> bool:
    _, plan, order = choose_gather(plan)
    return order.has_long_tables or (order.pack is pack_points and count_meetings(plan) > 2 * LONG)


def _threads(plan: Plan) -> int:
    return 1 if _is_small(plan) else thread_count()


def _is_small(plan: Plan) -> bool:
    return plan.flops // 2 + plan.bytes < _SERIAL


def bind(choose: Chooser, plan: Plan, packed: Packed) -> Bound | None:
    """Return what runs a problem by its job's function alone; the contract is `Kernel.bind`."""
    tiles, whole = packed.tiles, plan.batch and not packed.elementwise.size
    if tiles is None or not (whole and plan.dtype in ("float32", "float64")):
        return None
    weight, bias = tiles
    dtype = weight.dtype

    kept: dict[int, tuple[Job, int]] = {}

    def find(threads: int, x: Array, out: Array) -> tuple[Job, int]:
        job = job_of(choose, plan)
        arrays = x, weight, bias, out, job.arguments.table, workspace(job.work, dtype)
        found = job, find_address(job.function, *arrays)
        if not _has_long_tables(plan):
            kept[threads] = found
        return found

    def run_on_threads(x: Array, out: Array) -> int:
        threads = thread_count()
        (function, arguments, work), address = kept.get(threads) or find(threads, x, out)
        if work[0] == 1:
            return function(x, weight, bias, out, arguments.table, workspace(work, dtype), 0)
        return run_at(address, x, weight, bias, out, arguments.table, workspace(work, dtype), work[0], threads)

    if not _is_small(plan):
        return run_on_threads
    function, arguments, work = job_of(choose, plan)

    def run(x: Array, out: Array) -> int:  # which keeps all tables of the arguments, not only the first
        return function(x, weight, bias, out, arguments.table, workspace(work, dtype), 0)

    return run


def run_once(choose: Chooser, plan: Plan, x: Array, weight: Array, bias: Array | None, out: Array) -> int:
    """Pack the weights and run a problem by its job's function; the contract is `Kernel.run_once`."""
    packed = pack_once(choose(plan).order, plan.out_channels, weight, bias)
    if packed is None:
        return 1
    (tiles, values), (function, arguments, work) = packed, job_of(choose, plan)
    return run_parts(function, work[0], x, tiles, values, out, arguments.table, workspace(work, tiles.dtype))


def run_tiles(plan: Plan, job: Job, packed: TileWeights, x: Array, out: Array) -> int:
    """Run the job; true if it found a result that is not finite, and looked for that."""
    weight, bias = packed
    work = workspace(job.work, weight.dtype)
    function, threads, table = job.function, job.work[0], job.arguments.table
    if x.dtype.kind != "c":
        return run_parts(function, threads, stored(x), weight, bias, stored(out), table, work)
    parts = result_of(out, plan)
    source, target = stored(apart(x, plan)), parts.reshape(-1)
    not_finite = run_parts(function, threads, source, weight, bias, target, table, work)
    together(parts, out, plan)
    return not_finite


def run_elementwise(
    function: CompiledKernel, parts: int, plan: Plan, x: Array, weight: Array, bias: Array | None, out: Array,
    channels: Table, pieces: int,
) -> None:  # fmt: skip
    """Fill some channels of `out`, the result or a gradient, which has the plan's data format."""
    dtype = plan.accumulate
    sums = out if plan.dtype == dtype else np.empty(out.shape, dtype)
    x, weight = (array.astype(dtype, copy=False) for array in (x, weight))
    bias = np.zeros(plan.out_channels, dtype) if bias is None else bias.astype(dtype, copy=False)
    arguments, work = flatten(Elementwise(make_geometry(plan), channels, pieces)), np.empty((1, 1), dtype)
    run_parts(function, parts, stored(x), stored(weight), stored(bias), sums.reshape(-1), arguments.table, work)
    if sums is not out:
        axis = -1 if plan.channels_last else 0 if plan.unbatched else 1
        some = (slice(None),) * (axis % out.ndim) + (channels,)
        with np.errstate(over="ignore"):  # a sum beyond the half type's range is infinite, as in the definition
            out[some] = sums[some]


def describe(choice: Choice, choose: Chooser, plan: Plan) -> Description:
    """Tell which kernel runs on finite weights, its scratch memory in bytes, and the products that it saves."""
    item = DTYPES[plan.accumulate].size
    if choice.kernel.tiles is not None:
        return Description(choice.words, math.prod(job_of(choose, plan).work) * item, choice.saved)
    sums = 0 if plan.dtype == plan.accumulate else math.prod(plan.output_shape)
    return Description(choice.words, sums * item)


def tiled_kernel(
    formulation: Formulation,
    launch: Callable[[Plan, Array, Array, Array | None, Array, Packed], None],
    choose: Chooser,
    key: Callable[[WeightOrder], Hashable],
    problem: Callable[[Plan], Plan] = lambda plan: plan,
    operation: Operation = "forward",
    fixed_order: bool = False,
) -> Kernel:
    """Make the value of a kernel that computes what `problem` makes of a plan, as `choose` says of that.

    Plans whose orders have the same `key` share their packed weights.
    """

    def chosen(plan: Plan) -> Choice:
        return choose(problem(plan))

    return Kernel(
        "cpu",
        formulation,
        launch,
        pack=lambda plan, weight, bias: pack(chosen(plan).order, weight, bias),
        weight_key=lambda plan: key(chosen(plan).order),
        bind=lambda plan, packed: bind(choose, problem(plan), packed),
        run_once=partial(run_once, choose) if operation == "forward" else None,
        work_ratio=lru_cache(maxsize=512)(lambda plan: chosen(plan).work_ratio),
        pack_ratio=lambda plan: chosen(plan).pack_ratio,
        describe=lambda plan: describe(chosen(plan), choose, problem(plan)),
        operation=operation,
        fixed_order=fixed_order,
    )


_SIZELESS = attrgetter("key")
KERNELS = (
    tiled_kernel("gather", _launch_gather, choose_gather, _SIZELESS, fixed_order=True),
    tiled_kernel("scatter", _launch_scatter, choose_scatter, _SIZELESS, fixed_order=True),
    *weight_grad.KERNELS,
)
