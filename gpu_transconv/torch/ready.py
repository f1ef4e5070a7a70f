"""Layers called before: what small ones cost is mostly the look at their arguments, so that this is done once.

A call is remembered with the weight that it was of, as long as what was packed of that is kept (`packed`).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, from_numpy, get_num_threads

from ..arrays.pool import outputs
from ..arrays.views import numpy_dtype
from ..dispatch.select import note
from ..kernels.cpu.runtime.threads import follow_threads
from ..kernels.kernel import Bound
from .decisions import Decision
from .geometry import Spec
from .kernels import run_on_cpu
from .packed import Entry, Owner, owner_of, renew
from .threads import OPENMP

#: Calls of a tensor that are remembered at most.
_MOST = 64


class Ready:
    """A call that was made before: what decided how it is computed, and what computes it."""

    __slots__ = (
        "asked",
        "bound",
        "decision",
        "dtype",
        "entry",
        "geometry",
        "layouts",
        "nbytes",
        "shape",
        "spec",
        "words",
    )

    def __init__(
        self, asked: tuple[object, ...], geometry: tuple[Any, ...], words: tuple[Any, ...],
        layouts: tuple[object, ...], spec: Spec, decision: Decision, entry: Entry, bound: Bound,
    ) -> None:  # fmt: skip
        self.asked, self.geometry, self.words, self.layouts = asked, geometry, words, layouts
        self.spec, self.decision, self.entry, self.bound = spec, decision, entry, bound
        plan = decision.plan
        self.shape, self.dtype, self.nbytes = plan.result_shape, numpy_dtype(plan.dtype), plan.result_bytes

    def renew(self, owner: Owner, weight: Tensor, bias: Tensor | None) -> bool:
        """Take the weights as they are now; false where the call has to be looked at again."""
        decision = self.decision
        entry = renew(owner, decision.packs, decision, weight, bias)
        bound = None if entry is None else decision.choice.implementation.bind(decision.plan, entry.weights.packed)
        if entry is None or bound is None:
            return False
        self.bound, self.entry = bound, entry
        return True

    def run(self, first: Tensor, second: Tensor, bias: Tensor | None, recording: bool) -> Tensor:
        """Compute the result."""
        if not first.is_neg():  # a view that stands for the negative of its memory
            follow_threads(get_num_threads(), OPENMP)
            array = first.numpy(force=first.requires_grad)
            result = outputs.empty(self.shape, self.dtype, self.nbytes)
            if not self.bound(array.ravel(), result.ravel()):
                note(self.decision.choice, self.decision.plan)
                return from_numpy(result)
        return run_on_cpu(self.decision, first, second, bias, recording)


def recall(
    asked: tuple[object, ...], x: Tensor, weight: Tensor, bias: Tensor | None, geometry: tuple[Any, ...],
    words: tuple[Any, ...],
) -> Ready | None:  # fmt: skip
    """Return what was remembered of the same call, if the weights hold what they did or were small enough to renew."""
    owner = owner_of(weight)
    if owner is None:
        return None
    ready: Ready | None = owner.ready.get(x.shape)
    if ready is None or ready.asked != asked:
        return None
    stride, padding, output_padding, groups, dilation, activation, data_format = ready.geometry
    precision, deterministic, formulation, backend = ready.words
    if (
        stride is geometry[0] and padding is geometry[1] and output_padding is geometry[2] and groups is geometry[3]
        and dilation is geometry[4] and activation is geometry[5] and data_format is geometry[6]
        and precision is words[0] and deterministic is words[1] and formulation is words[2] and backend is words[3]
        and ready.layouts == layouts_of(x, weight, bias)
        and (ready.entry.same(weight, bias) or ready.renew(owner, weight, bias))
    ):  # fmt: skip
        return ready
    return None


def layouts_of(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[object, ...]:
    """All that a call depends on besides x's shape, arguments and values."""
    if bias is None:
        return x.stride(), x.dtype, weight.shape, weight.stride(), weight.dtype
    return x.stride(), x.dtype, weight.shape, weight.stride(), weight.dtype, bias.shape, bias.dtype


def remember(
    asked: tuple[object, ...], x: Tensor, weight: Tensor, bias: Tensor | None, geometry: tuple[Any, ...],
    words: tuple[Any, ...], spec: Spec, decision: Decision,
) -> None:  # fmt: skip
    """Remember a call if its weights are kept, and x is read as it lies in memory."""
    plan, kernel, packs = decision.plan, decision.choice.implementation, decision.packs
    owner = owner_of(weight)
    entry = None if owner is None else owner.entries.get((packs, weight.data_ptr()))
    if owner is None or entry is None or decision.first is not None or not x.is_contiguous():
        return
    bound = kernel.bind(plan, entry.weights.packed)
    if bound is None:
        return
    if len(owner.ready) >= _MOST:
        owner.ready.clear()
    layouts = layouts_of(x, weight, bias)
    owner.ready[x.shape] = Ready(asked, geometry, words, layouts, spec, decision, entry, bound)
