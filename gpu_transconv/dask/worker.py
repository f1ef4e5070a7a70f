"""What runs on a worker: the operator on one chunk, with weights that are packed once per process."""

from __future__ import annotations

import multiprocessing
import sys
import threading
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple
from urllib.parse import urlsplit

import dask
from dask.base import tokenize
from dask.system import CPU_COUNT

from ..arrays import NUMPY, Array, HostArray, Operands, check_device, view_of
from ..arrays.locks import ProcessLock
from ..arrays.pool import Pool
from ..arrays.views import numpy_dtype
from ..dispatch.select import Choice, note, select
from ..problem.plan import Plan
from ..run import Weights, launch, prepare
from ..settings import Settings, use
from .chunks import ChannelCut, SpatialCut


@dataclass(frozen=True)
class Cuts:
    """Where an array is cut: along its channels and its spatial axes; the batch needs nothing of that."""

    channels: ChannelCut
    spatial: tuple[SpatialCut, ...]


class Tasks(NamedTuple):
    """How many tasks may run at the same time: in this process, and on this machine."""

    here: int
    beside: int


class ChunkOperator:
    """The operator on any chunk of one array; Dask brings it to each worker once, with the weights.

    Pickled, it is the weights and the plan; what was packed stays in its process.
    """

    def __init__(
        self, plan: Plan, cuts: Cuts, settings: Settings, threads: int | None, weight: Array, bias: Array | None
    ) -> None:
        self.plan, self.cuts, self.settings, self.threads = plan, cuts, settings, threads
        self.weight, self.bias = weight, bias
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._lock = ProcessLock()
        self._whole: dict[str, tuple[Plan, Choice]] = {}
        self._packed: dict[Hashable, Weights] = {}
        self._counted: Tasks | None = None
        self._results = Pool(0)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._start_afresh()

    def __dask_tokenize__(self) -> object:
        """What the result depends on, for Dask's names of tasks."""
        return tokenize(repr(self.plan), self.settings, self.threads, self.weight, self.bias)

    def __call__(self, block: Array, place: tuple[int, ...]) -> Array:
        """Compute the chunk of the result that the chunk `block` of x, with its halo, makes at `place`."""
        library, x = view_of("x", block)
        piece = place[0 if self.plan.unbatched else 1 :]
        channel, spatial = (piece[-1], piece[:-1]) if self.plan.channels_last else (piece[0], piece[1:])
        weight, bias = (self._share(array, channel) for array in (self.weight, self.bias))
        weights = view_of("weight", weight)[1], None if bias is None else view_of("bias", bias)[1]
        operands = Operands(library, block, x, *weights)
        check_device("weight", operands.weight, "x", x)
        plan, choice = self._plan(operands, channel, spatial)
        with use(threads=self._threads_of_a_task()):
            kernel = choice.implementation
            key = kernel, kernel.weight_key(plan), channel
            with self._lock():
                if key not in self._packed:
                    self._packed[key] = prepare(kernel, plan, operands)
            out = self._empty(plan) if library is NUMPY else None
            result = launch(kernel, plan, operands, out, self._packed[key])
        note(choice, plan)
        return result

    def _empty(self, plan: Plan) -> HostArray:
        """Memory for a chunk of the result.

        Dask counts what it holds, not what is kept here for later: no more than a chunk for each task that may run.
        """
        most = self._tasks().here * plan.result_bytes
        self._results.limit = max(self._results.limit, most)
        return self._results.empty(plan.output_shape, numpy_dtype(plan.dtype), plan.result_bytes)

    def _threads_of_a_task(self) -> int:
        """Threads for one task: what `use` allowed, or the cores shared by all tasks that may run beside it here."""
        return max(1, CPU_COUNT // self._tasks().beside) if self.threads is None else self.threads

    def _tasks(self) -> Tasks:
        if self._counted is None:
            self._counted = _count_tasks()
        return self._counted

    def _share(self, array: Array | None, channel: int) -> Array | None:
        """The part of weight or bias that a chunk of channels needs."""
        cut = self.cuts.channels
        if array is None or len(cut.groups) == 1:
            return array
        sizes = cut.inputs if array is self.weight else cut.outputs
        start = sum(sizes[:channel])
        return array[start : start + sizes[channel]]

    def _plan(self, operands: Operands, channel: int, spatial: tuple[int, ...]) -> tuple[Plan, Choice]:
        """The plan of a chunk, and what runs: one kernel for all chunks where a formulation is named."""
        whole, choice = self._of_the_whole(operands.device)
        axes = [cut.axes[number] for cut, number in zip(self.cuts.spatial, spatial, strict=True)]
        lifted = (*whole.axes[: 3 - whole.ndim], *axes)
        cut = self.cuts.channels
        plan = replace(
            whole, batch=1 if whole.unbatched else operands.x.shape[0], in_channels=cut.inputs[channel],
            out_channels=cut.outputs[channel], groups=cut.groups[channel], axes=(lifted[0], lifted[1], lifted[2]),
        )  # fmt: skip
        named = self.settings.formulation != "auto"
        return plan, choice if named else select(plan, self.settings, operands.device)

    def _of_the_whole(self, device: str) -> tuple[Plan, Choice]:
        found = self._whole.get(device)
        if found is None:
            plan, choice = self.plan, select(self.plan, self.settings, device)
            if self.settings.formulation != "auto" and choice.implementation.fixed_order:
                plan = replace(plan, fixed_order=True)
                choice = select(plan, self.settings, device)
            found = self._whole[device] = plan, choice
        return found


def _count_tasks() -> Tasks:
    distributed = sys.modules.get("distributed")
    with suppress(ValueError):  # where this is no worker of the distributed scheduler
        if distributed is not None:
            worker = distributed.get_worker()
            host = urlsplit(worker.address).hostname
            threads: dict[str, int] = distributed.get_client().nthreads()
            beside = sum(count for address, count in threads.items() if urlsplit(address).hostname == host)
            return Tasks(worker.state.nthreads, beside)
    if multiprocessing.parent_process() is None and threading.current_thread() is threading.main_thread():
        return Tasks(1, 1)  # the synchronous scheduler
    count = int(dask.config.get("num_workers", None) or CPU_COUNT)
    return Tasks(1 if multiprocessing.parent_process() else count, count)
