"""Launch what was chosen: arrays to the backend's device, one launch, the result back as the caller's kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from .arrays import (
    Array,
    CudaArray,
    HostArray,
    View,
    as_contiguous,
    check_out,
    empty_output,
    is_free,
    is_free_cuda,
    start_of,
)
from .dispatch import Choice, note
from .kinds import NUMPY, Kind, kind_of
from .problem.plan import Plan
from .table import Implementation, cuda_memory


class Operands(NamedTuple):
    """The arrays of a call as the launcher takes them, and x as it was given, with its kind."""

    kind: Kind
    given: Array
    x: View
    weight: View
    bias: View | None


class Weights(NamedTuple):
    """Weight and bias on a backend's device, and what its `pack` made of them."""

    weight: Any
    bias: Any
    packed: Any


def read(x: Array, weight: Array, bias: Array | None) -> Operands:
    """View the arrays of a call, without a copy.

    Raises
    ------
    TypeError
        If one is no array, or they are not all on one device.
    """
    if type(x) is type(weight) is np.ndarray and (bias is None or type(bias) is np.ndarray):
        return Operands(NUMPY, x, x, weight, bias)
    kind, view = view_of("x", x)
    _, weights = view_of("weight", weight)
    _, biases = view_of("bias", bias) if bias is not None else (None, None)
    check_device("weight", weights, "x", view)
    check_device("bias", biases, "x", view)
    return Operands(kind, x, view, weights, biases)


def view_of(name: str, array: Array) -> tuple[Kind, View]:
    """Return the kind of an array and its view, or raise `TypeError`."""
    if type(array) is np.ndarray:
        return NUMPY, array
    kind = kind_of(name, array)
    return kind, kind.view(name, array)


def check_device(name: str, view: View | None, first: str, expected: View) -> None:
    """Raise `TypeError` unless `view` is on the same device as `expected`."""
    if view is None:
        return
    here, there = device_of(view), device_of(expected)
    if here != there and ("cpu" in (here, there) or "cuda" not in (here, there)):  # "cuda": of unknown number
        raise TypeError(f"{name} must be on {first}'s device {there}, got one on {here}")


def device_of(view: View) -> str:
    """Name a view's device: cpu, cuda where its number is not known, or cuda:0 and so on."""
    if not isinstance(view, CudaArray):
        return "cpu"
    return "cuda" if view.index is None else f"cuda:{view.index}"


def copied(kind: Kind, given: Array, view: View) -> View:
    """Copy an array on its own device, contiguous."""
    if not isinstance(view, CudaArray):
        return as_contiguous(view.copy())
    memory = cuda_memory()
    with kind.device(given), memory.on_stream(view.stream):
        memory.refuse_capture("the weights cannot be copied")
        target, home = memory.empty(view.shape, view.dtype), memory.current_stream()
        memory.copy_to(memory.as_device(view.array), target)
        _wait(memory)
    return CudaArray(target, view.shape, view.dtype, view.index, home=home)


def prepare(row: Implementation, plan: Plan, operands: Operands) -> Weights:
    """Bring the weights to the row's device and into its order, for calls on any stream from now on."""
    if row.memory is None:
        return _prepare(row, plan, operands)
    with _placed(row, operands):
        row.memory.refuse_capture("the weights have not been packed yet")
        weights = _prepare(row, plan, operands)
        _wait(row.memory)
        row.memory.share(weights.packed)
    return weights


def _prepare(row: Implementation, plan: Plan, operands: Operands) -> Weights:
    move = as_contiguous if row.memory is None else row.memory.as_device
    weight, bias = move(_raw(operands.weight)), None if operands.bias is None else move(_raw(operands.bias))
    return Weights(weight, bias, row.pack(plan, weight, bias))


def run(choice: Choice, plan: Plan, operands: Operands, out: Array | None, weights: Weights | None = None) -> Array:
    """Launch what was chosen, into `out` where it is given, and take note; the result is of x's kind."""
    result = launch(choice.implementation, plan, operands, out, weights)
    note(choice, plan)
    return result


def launch(
    row: Implementation, plan: Plan, operands: Operands, out: Array | None, weights: Weights | None = None
) -> Array:
    """Launch a row."""
    view = None if out is None else _view_out(out, plan, operands)
    if row.memory is None:
        result = _run_host(row, plan, operands, weights, view)
    else:
        go = _run_cuda if isinstance(operands.x, CudaArray) else _run_moved
        with _placed(row, operands, operands.kind.allocator(operands.given)), _ordered(row.memory, operands, view):
            result = go(row, plan, operands, weights, view)
    if out is not None:
        return out
    return result if operands.kind is NUMPY else operands.kind.wrap(result, operands.given)


def _run_host(row: Implementation, plan: Plan, operands: Operands, weights: Weights | None, out: Any) -> HostArray:
    """Launch into `out`, or into a buffer first where `out` is not contiguous or overlaps an input."""
    x = as_contiguous(operands.x)  # type: ignore[arg-type]
    weight, bias, packed = weights or _prepare(row, plan, operands)
    target: HostArray = out if out is not None and is_free(out, x, weight, bias) else empty_output(plan)
    row.launch(plan, x, weight, bias, target, packed)
    if out is not None and out is not target:
        np.copyto(out, target)
    return target


def _run_moved(row: Implementation, plan: Plan, operands: Operands, weights: Weights | None, out: Any) -> HostArray:
    """Copy x to the backend's device and the result back."""
    host: HostArray = out if out is not None and as_contiguous(out) is out else empty_output(plan)
    if plan.batch:
        weights = weights or _prepare(row, plan, operands)
        target = row.memory.empty(plan.output_shape, plan.dtype)
        row.launch(plan, row.memory.as_device(operands.x), weights.weight, weights.bias, target, weights.packed)
        row.memory.copy_to(target, host)
    if out is not None and out is not host:
        np.copyto(out, host)
    return host


def _run_cuda(row: Implementation, plan: Plan, operands: Operands, weights: Weights | None, out: Any) -> Any:
    """Launch on the arrays where they are, into memory of the caller's library where that can be had."""
    memory = row.memory
    own = operands.kind.empty(plan, operands.given) if out is None else out
    if not plan.batch:  # without elements there is no memory to look at
        return memory.empty(plan.output_shape, plan.dtype) if own is None else own
    x, (weight, bias, packed) = memory.as_device(_raw(operands.x)), weights or _prepare(row, plan, operands)
    target = None
    if own is not None and (out is None or is_free_cuda(out.array, _raw(operands.x), weight, bias)):
        target = memory.as_device(own.array)
    if own is None:
        target = memory.empty(plan.output_shape, plan.dtype)
    elif target is None or start_of(target) != start_of(own.array):  # in the last case it was misaligned
        target = memory.scratch(plan.output_shape, plan.dtype)
    row.launch(plan, x, weight, bias, target, packed)
    if own is not None and start_of(target) != start_of(own.array):
        memory.copy_to(target, own.array)
    return target if own is None else own


@contextmanager
def _ordered(memory: Any, operands: Operands, out: View | None) -> Iterator[None]:
    """Order the work after what is on the streams of the other arrays, and what comes on those after the work.

    What a library may take back in an order of its own, or in that of another stream, is kept until the work has
    passed.
    """
    views = (operands.x, operands.weight, operands.bias, out)
    arrays = [view for view in views if isinstance(view, CudaArray)]  # all of them, or none
    others = {_same_stream(a.stream) for a in arrays[1:]} - {None, *(_same_stream(a.stream) for a in arrays[:1])}
    for stream in others:
        memory.wait_for(stream)
    yield
    for stream in others:
        memory.let_wait(stream)
    current = _same_stream(memory.current_stream()) if any(a.home is not None for a in arrays) else None
    kept = [a.array for a in arrays if a.lent or (a.home is not None and _same_stream(a.home) != current)]
    if kept:
        memory.hold(kept)


def _same_stream(pointer: int | None) -> int | None:
    """One name for the default stream, which has two: 0 and, in the array interface, 1."""
    return 0 if pointer == 1 else pointer


@contextmanager
def _placed(row: Implementation, operands: Operands, allocate: Callable[[int], Any] | None = None) -> Iterator[None]:
    """Make x's device, and the stream of its library, the current ones; `allocate` gives scratch memory."""
    stream = operands.x.stream if isinstance(operands.x, CudaArray) else None
    with operands.kind.device(operands.given), row.memory.on_stream(stream, allocate):
        yield


def _view_out(out: Array, plan: Plan, operands: Operands) -> View:
    view = operands.kind.view_out(out)
    check_out(view, plan)
    check_device("out", view, "x", operands.x)
    return view


def _raw(view: View) -> Any:
    return view.array if isinstance(view, CudaArray) else view


def wait(row: Implementation, operands: Operands) -> None:
    """Wait for what was enqueued by calls on these arrays."""
    if row.memory is not None:
        with _placed(row, operands):
            _wait(row.memory)


def _wait(memory: Any) -> None:
    """Wait for the current stream: a copy to the host does."""
    memory.copy_to(memory.empty((1,), "float32"), np.empty(1, np.float32))
