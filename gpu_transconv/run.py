"""Launch a kernel: arrays to its device, one launch on x's stream, the result back as the caller's kind of array."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from .arrays import NUMPY, Array, HostArray, Operands, View, check_device
from .arrays.memory import Memory, wait_for_stream
from .arrays.outputs import check_out, empty_output
from .arrays.pool import SMALLEST
from .arrays.views import CudaArray, as_contiguous, is_free, is_free_cuda, numpy_dtype, raw, start_of
from .kernels.kernel import Bound, Kernel, Operand
from .problem.plan import Plan


class Weights(NamedTuple):
    """Weight and bias on a kernel's device, and what its `pack` made of them."""

    weight: Operand
    bias: Operand | None
    packed: object


def prepare(kernel: Kernel, plan: Plan, operands: Operands) -> Weights:
    """Bring the weights to the kernel's device and into its order, for calls on any stream from now on."""
    memory = kernel.memory
    if memory is None:
        return _prepare(kernel, plan, operands)
    with _placed(memory, operands):
        memory.refuse_capture("the weights have not been packed yet")
        weights = _prepare(kernel, plan, operands)
        wait_for_stream(memory)
        memory.share(weights.packed)
    return weights


def _prepare(kernel: Kernel, plan: Plan, operands: Operands) -> Weights:
    move = as_contiguous if kernel.memory is None else kernel.memory.as_device
    weight, bias = move(raw(operands.weight)), None if operands.bias is None else move(raw(operands.bias))
    return Weights(weight, bias, kernel.pack(plan, weight, bias))


def launch(kernel: Kernel, plan: Plan, operands: Operands, out: Array | None, weights: Weights | None = None) -> Array:
    """Launch a kernel, into `out` where it is given; the result is of x's library."""
    view = None if out is None else _view_out(out, plan, operands)
    library, caller_x = operands.library, operands.caller_x
    if kernel.memory is None:
        result = _run_host(kernel, plan, operands, weights, view)
    else:
        memory, allocate = kernel.memory, library.allocator(caller_x)
        if not isinstance(operands.x, CudaArray):
            with library.device(caller_x), memory.on_stream(None, allocate):
                result = _run_moved(kernel, memory, plan, operands, weights, view)
        else:
            with library.device(caller_x), memory.on_stream(operands.x.stream, allocate):
                arrays = [a for a in (operands.x, operands.weight, operands.bias, view) if isinstance(a, CudaArray)]
                others = _wait_for_others(memory, arrays)
                result = _run_cuda(kernel, memory, plan, operands, weights, view)
                _let_others_wait(memory, arrays, others)
    if out is not None:
        return out
    return result if library is NUMPY else library.wrap(result, caller_x)


def _run_host(kernel: Kernel, plan: Plan, operands: Operands, weights: Weights | None, out: View | None) -> HostArray:
    """Launch into `out`, or into a buffer first where `out` is not contiguous or overlaps an input."""
    x = as_contiguous(raw(operands.x))
    weight, bias, packed = weights or _prepare(kernel, plan, operands)
    target: HostArray = raw(out) if out is not None and is_free(raw(out), x, weight, bias) else empty_output(plan)
    kernel.launch(plan, x, weight, bias, target, packed)
    return _delivered(target, out)


def launch_packed(kernel: Kernel, plan: Plan, x: HostArray, weights: Weights) -> HostArray:
    """Launch a kernel that runs in host memory on packed weights: the shortest way, for callers that know that much."""
    out = empty_output(plan)
    kernel.launch(plan, as_contiguous(x), weights.weight, weights.bias, out, weights.packed)
    return out


def run_bound(bound: Bound, plan: Plan, x: HostArray, out: HostArray | None = None) -> HostArray | None:
    """Run a problem by what its kernel was bound to; None where that does not take x or its result."""
    target = _plain_target(plan, x, out)
    return None if target is None or bound(x.ravel(), target.ravel()) else target


def run_once(
    kernel: Kernel, plan: Plan, x: HostArray, weight: HostArray, bias: HostArray | None, out: HostArray | None = None
) -> HostArray | None:
    """Pack the weights and run a problem, the short way; None where the kernel has none or does not take the arrays."""
    if kernel.run_once is None or not plan.batch or weight.dtype != x.dtype or not _is_readable(weight):
        return None
    if bias is not None and not (bias.dtype == x.dtype and _is_plain(bias)):
        return None
    target = _plain_target(plan, x, out)
    if target is None or (out is not None and not is_free(out, weight, bias)):
        return None
    return None if kernel.run_once(plan, x.ravel(), weight, bias, target.ravel()) else target


def _plain_target(plan: Plan, x: HostArray, out: HostArray | None) -> HostArray | None:
    """Memory for the result, `out` where it is given; None where that or x is not what kernels read and write."""
    if not (_is_plain(x) and x.dtype.isnative):
        return None
    if out is None:
        return np.empty(plan.result_shape, x.dtype) if plan.result_bytes < SMALLEST else empty_output(plan)
    if out.shape == plan.result_shape and out.dtype == x.dtype and _is_plain(out) and is_free(out, x):
        return out
    return None


def _is_plain(array: HostArray) -> bool:
    return bool(array.flags.carray)  # C-contiguous, aligned and writeable


def _is_readable(array: HostArray) -> bool:
    flags = array.flags
    return bool(flags.c_contiguous and flags.aligned)


def _run_moved(
    kernel: Kernel, memory: Memory, plan: Plan, operands: Operands, weights: Weights | None, out: View | None
) -> HostArray:
    """Copy x to the backend's device and the result back."""
    host: HostArray = raw(out) if out is not None and as_contiguous(raw(out)) is out else empty_output(plan)
    if plan.batch:
        weight, bias, packed = weights or _prepare(kernel, plan, operands)
        target = memory.empty(plan.result_shape, plan.dtype)
        kernel.launch(plan, memory.as_device(operands.x), weight, bias, target, packed)
        memory.copy_to(target, host)
    else:
        host.fill(0)  # the gradient by the weight; all other results are empty too
    return _delivered(host, out)


def _delivered(made: HostArray, out: View | None) -> HostArray:
    """What was made, copied into `out` where that is another array."""
    if out is not None and out is not made:
        np.copyto(raw(out), made)
    return made


def _run_cuda(
    kernel: Kernel, memory: Memory, plan: Plan, operands: Operands, weights: Weights | None, out: View | None
) -> Array:
    """Launch on the arrays where they are, into memory of the caller's library where that can be had."""
    own = operands.library.empty(plan, operands.caller_x) if out is None else out
    if not plan.batch:  # without elements there is no memory to look at
        return _nothing(memory, plan, own)
    x, (weight, bias, packed) = memory.as_device(raw(operands.x)), weights or _prepare(kernel, plan, operands)
    if own is None:
        target = memory.empty(plan.result_shape, plan.dtype)
        kernel.launch(plan, x, weight, bias, target, packed)
        return target
    target = None
    if out is None or is_free_cuda(raw(out), raw(operands.x), weight, bias):
        target = memory.as_device(raw(own))
    in_place = target is not None and (target is raw(own) or start_of(target) == start_of(raw(own)))  # else misaligned
    if not in_place:
        target = memory.scratch(plan.result_shape, plan.dtype)
    kernel.launch(plan, x, weight, bias, target, packed)
    if not in_place:
        memory.copy_to(target, raw(own))
    return own


def _nothing(memory: Memory, plan: Plan, own: Array | None) -> Array:
    """The result for an empty batch: empty as well, or zeros where it is the gradient by the weight."""
    if plan.operation != "weight_grad":
        return memory.empty(plan.result_shape, plan.dtype) if own is None else own
    zeros = memory.as_device(np.zeros(plan.result_shape, numpy_dtype(plan.dtype)))
    if own is None:
        return zeros
    memory.copy_to(zeros, raw(own))
    return own


def _wait_for_others(memory: Memory, arrays: list[CudaArray]) -> set[int]:
    """Order the work after what is on the streams of the arrays other than the first; return those streams."""
    first = arrays[0].stream
    if all(a.stream is None or a.stream == first for a in arrays):
        return set()
    first = _same_stream(first)
    others = {stream for a in arrays if (stream := _same_stream(a.stream)) is not None and stream != first}
    for stream in others:
        memory.wait_for(stream)
    return others


def _let_others_wait(memory: Memory, arrays: list[CudaArray], others: set[int]) -> None:
    """Order what comes on those streams after the work.

    What a library may take back in an order of its own, or in that of another stream, is kept until the work has
    passed.
    """
    for stream in others:
        memory.let_wait(stream)
    current = None
    if any(a.home is not None for a in arrays):
        current = _same_stream(memory.current_stream())
    kept = [a.array for a in arrays if a.lent or (a.home is not None and _same_stream(a.home) != current)]
    if kept:
        memory.hold(kept)


def _same_stream(pointer: int | None) -> int | None:
    """One name for the default stream, which has two: 0 and, in the array interface, 1."""
    return 0 if pointer == 1 else pointer


@contextmanager
def _placed(memory: Memory, operands: Operands, allocate: Callable[[int], Array] | None = None) -> Iterator[None]:
    """Make x's device, and the stream of its library, the current ones; `allocate` gives scratch memory."""
    stream = operands.x.stream if isinstance(operands.x, CudaArray) else None
    with operands.library.device(operands.caller_x), memory.on_stream(stream, allocate):
        yield


def _view_out(out: Array, plan: Plan, operands: Operands) -> View:
    view = operands.library.view_out(out)
    check_out(view, plan)
    check_device("out", view, "x", operands.x)
    return view


def wait(kernel: Kernel, operands: Operands) -> None:
    """Wait for what was enqueued by calls on these arrays."""
    if kernel.memory is not None:
        with _placed(kernel.memory, operands):
            wait_for_stream(kernel.memory)
