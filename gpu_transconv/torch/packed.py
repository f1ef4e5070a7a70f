"""Weights in the kernels' order, kept as long as their tensor lives and holds the same values.

They are found by the tensor itself, or the one that it is a view of, which is not kept alive by that. They are made
anew once the tensor has other memory, or its version tells of a change, or some of its values, evenly spread, have
changed: ``weight.data.copy_(other)`` changes the values and nothing else.
"""

from __future__ import annotations

import math
import weakref
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ..arrays import NUMPY, Operands
from ..arrays.locks import ProcessLock
from ..arrays.views import HostArray
from ..run import Weights, prepare
from .decisions import Decision
from .views import array_of

#: Bytes of weights that are held in the kernels' order at most, by their own size: 1 GiB, as of results
#: (`gpu_transconv.settings.pool_bytes`). Chosen: a large audio decoder (2048 channels, kernel 16) has a quarter of it.
MOST_BYTES = 1 << 30
#: Weights of a tensor at most: a decoder's layer has one or two shapes of input; the rest is for views of one filter.
_MOST_OF_ONE = 16
#: Bytes up to which all values are compared at a call: that takes at most 0.5 microseconds (Xeon with AVX-512, one
#: thread). Larger weights that are being trained are packed at every call instead: each step changes them, so what was
#: kept would be memory for nothing, and nobody who changes single values unseen, as numerical gradients do, gets an old
#: result.
_WHOLE = 1 << 14
#: Values of larger weights that are compared: they take 0.2 microseconds.
_SAMPLES = 64


class Contents(NamedTuple):
    """What a tensor held: its address, its version, and a sample of its values."""

    address: int
    version: int
    sample: HostArray
    values: bytes

    def same(self, tensor: Tensor) -> bool:
        """Whether a tensor holds the same."""
        return (
            tensor._version == self.version
            and self.sample.tobytes() == self.values
            and tensor.data_ptr() == self.address
            and not tensor.is_neg()
        )

    def renewed(self, tensor: Tensor) -> Contents | None:
        """What a tensor in the same memory holds now; None where it is elsewhere, or not contiguous there."""
        if tensor.data_ptr() != self.address or tensor.is_neg() or not tensor.is_contiguous():
            return None
        return Contents(self.address, tensor._version, self.sample, self.sample.tobytes())


class Entry(NamedTuple):
    """Packed weights, what they were made from, the memory that this is in, and the weight's bytes."""

    weights: Weights
    weight: Contents
    bias: Contents | None
    memory: int
    nbytes: int

    def same(self, weight: Tensor, bias: Tensor | None) -> bool:
        """Whether weight and bias hold what they did."""
        return self.weight.same(weight) and (bias is None or same_contents(self.bias, bias))


class Owner:
    """A tensor, and what was packed of it and its views, by kind and address; calls of `ready` by x's shape."""

    __slots__ = ("entries", "ready", "reference")

    def __init__(self, reference: weakref.ref[Tensor]) -> None:
        self.reference = reference
        self.entries: dict[tuple[object, int], Entry] = {}
        self.ready: dict[object, Any] = {}


_owners: dict[int, Owner] = {}
_lock = ProcessLock()


def packed(packs: object, decision: Decision, weight: Tensor, bias: Tensor | None, recording: bool) -> Weights | None:
    """Return the packed weights for a decision; None where they are not kept, and the launcher packs them itself.

    `recording` says that a gradient by the weight is wanted.
    """
    owner = owner_of(weight)
    if owner is not None:
        entry = owner.entries.get((packs, weight.data_ptr()))
        if entry is not None:
            if not entry.same(weight, bias):
                entry = renew(owner, packs, decision, weight, bias)
            if entry is not None:
                return entry.weights
    if not _worth_keeping(decision, weight, recording) or not (bias is None or _is_plain(bias)):
        return None
    return _make(packs, decision, weight, bias)


def renew(owner: Owner, packs: object, decision: Decision, weight: Tensor, bias: Tensor | None) -> Entry | None:
    """Return an entry of weights that have changed where they lie: small ones are packed again, for little.

    None where they are large, have moved, or are new in every call.
    """
    plan, key = decision.plan, (packs, weight.data_ptr())
    old = owner.entries.get(key)
    if old is None or plan.weight_bytes > _WHOLE or weight.grad_fn is not None:
        return None
    if old.same(weight, bias):  # somebody else has done it
        return old
    known, known_bias = old.weight.renewed(weight), None
    if bias is not None and old.bias is not None:
        known_bias = old.bias.renewed(bias)
    if known is None or (bias is not None and known_bias is None):
        return None
    weights = _prepared(decision, old.weights.weight, old.weights.bias)
    entry = owner.entries[key] = Entry(weights, known, known_bias, old.memory, old.nbytes)
    return entry


def _worth_keeping(decision: Decision, weight: Tensor, recording: bool) -> bool:
    if not _is_plain(weight) or decision.plan.weight_bytes > MOST_BYTES:
        return False
    return not recording or (weight.grad_fn is None and decision.plan.weight_bytes <= _WHOLE)


def _is_plain(tensor: Tensor) -> bool:
    """Whether changes of a tensor can be seen: an inference tensor has no version."""
    return not (tensor.is_inference() or tensor.is_neg())


def _make(packs: object, decision: Decision, weight: Tensor, bias: Tensor | None) -> Weights | None:
    """Pack weights, and keep them if their values can be sampled."""
    # Of tensors that know nothing of the given ones, so that these are not kept alive.
    array, biases = array_of(weight.data, "weight"), None if bias is None else array_of(bias.data, "bias")
    known, known_bias = _contents(weight, array), None
    if bias is not None and biases is not None:
        known_bias = _contents(bias, biases)
    if known is None or (bias is not None and known_bias is None):
        return None
    weights = _prepared(decision, array, biases)
    entry = Entry(weights, known, known_bias, weight.untyped_storage().data_ptr(), decision.plan.weight_bytes)
    base = weight._base
    _keep(weight if base is None else base, (packs, weight.data_ptr()), entry)
    return weights


def _prepared(decision: Decision, weight: HostArray, bias: HostArray | None) -> Weights:
    operands = Operands(NUMPY, weight, weight, weight, bias)  # of x nothing is read
    return prepare(decision.choice.implementation, decision.plan, operands)


def owner_of(weight: Tensor) -> Owner | None:
    """Return what is kept of a weight, or of the tensor that it is a view of."""
    base = weight._base
    return _owners.get(id(weight if base is None else base))


def contents_of(tensor: Tensor) -> Contents | None:
    """Return what a tensor on the CPU holds, for `same_contents` to compare; None where that cannot be told."""
    # Of a tensor that knows nothing of the given one, so that this is not kept alive.
    return _contents(tensor, array_of(tensor.data)) if _is_plain(tensor) else None


def same_contents(known: Contents | None, tensor: Tensor) -> bool:
    """Whether a tensor holds what it did."""
    return known is not None and known.same(tensor)


def _contents(tensor: Tensor, array: HostArray) -> Contents | None:
    sample = _sample(array)
    return None if sample is None else Contents(tensor.data_ptr(), tensor._version, sample, sample.tobytes())


def _sample(array: HostArray) -> HostArray | None:
    """View an array's values, or of many some, evenly spread, as bits; None where they do not lie evenly.

    From one to the next it is a prime number of values, so that they are of different taps and channels.
    """
    axes = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
    inner = array.transpose(axes)[tuple(slice(None) if array.strides[axis] else 0 for axis in axes)]
    flat = inner.reshape(-1)
    if not np.may_share_memory(flat, array):
        return None
    step = 1 if flat.nbytes <= _WHOLE else _prime(flat.size // _SAMPLES)
    return flat[::step].view(f"u{flat.itemsize}")


@lru_cache(maxsize=256)
def _prime(most: int) -> int:
    """The largest prime number up to `most`, or 1."""
    return next((n for n in range(most, 1, -1) if all(n % d for d in range(2, math.isqrt(n) + 1))), 1)


def _keep(owner: Tensor, key: tuple[object, int], entry: Entry) -> None:
    number = id(owner)
    with _lock():
        found = _owners.get(number)
        if found is None or found.reference() is not owner:
            found = _owners[number] = Owner(weakref.ref(owner, partial(_forget, number)))
        of_other_memory = [old for old, kept in found.entries.items() if kept.memory != entry.memory]
        for old in (*of_other_memory, key):
            found.entries.pop(old, None)
        while len(found.entries) >= _MOST_OF_ONE:
            found.entries.pop(next(iter(found.entries)))
        found.entries[key] = entry
        kept = list(map(id, found.entries.values()))
        found.ready = {shape: call for shape, call in list(found.ready.items()) if id(call.entry) in kept}
        _make_room()


def _forget(number: int, reference: weakref.ref[Tensor]) -> None:
    """Let go of what was packed for a tensor that is no more."""
    found = _owners.get(number)
    if found is not None and found.reference is reference:
        _owners.pop(number, None)


def _make_room() -> None:
    """Let go of the tensors that were first packed the longest ago, while more is kept than may be."""
    sizes = {number: sum(e.nbytes for e in list(owner.entries.values())) for number, owner in list(_owners.items())}
    surplus = sum(sizes.values()) - MOST_BYTES
    for number, size in sizes.items():
        if surplus <= 0:
            return
        surplus -= size
        _owners.pop(number, None)


def kept_bytes() -> int:
    """Bytes of the weights that are kept packed, by their own size."""
    return sum(entry.nbytes for owner in list(_owners.values()) for entry in list(owner.entries.values()))
