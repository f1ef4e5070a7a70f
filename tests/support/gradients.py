"""The two gradients: exact results by an oracle that shares no code with the package, and calls by name."""

from __future__ import annotations

import itertools
import math

import numpy as np
from cases import COMPLEX, DATA_FORMATS, Case
from checks import Arrays, as_format, keywords_of, make_arrays, numpy_dtype, poisoned

import gpu_transconv as gtc
from gpu_transconv.kernels.kernel import Kernel

OPERATIONS = ("input_grad", "weight_grad")


def output_size(case: Case) -> tuple[int, ...]:
    """Spatial sizes of the forward result, by the equation."""
    g = case.geometry
    axes = zip(case.x[-case.ndim :], case.weight[2:], g["stride"], g["dilation"], strict=True)
    full = [(i - 1) * s + d * (k - 1) + 1 for i, k, s, d in axes]
    cuts = zip(full, g["padding"], g["output_padding"], strict=True)
    return tuple(f - low - high + extra for f, (low, high), extra in cuts)


def meetings(case: Case) -> list[np.ndarray]:
    """Per axis an array (input, output, tap) that is 1 where the three meet and 0 elsewhere."""
    g, found = case.geometry, []
    for axis, (size, out) in enumerate(zip(case.x[-case.ndim :], output_size(case), strict=True)):
        i, o, k = np.ogrid[:size, :out, : case.weight[2 + axis]]
        met = o == i * g["stride"][axis] - g["padding"][axis][0] + k * g["dilation"][axis]
        found.append(met.astype(float))
    return found


def contract(case: Case, operation: str, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The gradient of channels-first arrays, in their own dtype: tap by tap, a matrix product over what it joins."""
    groups, met = case.keywords.get("groups", 1), meetings(case)

    def split(array: np.ndarray) -> np.ndarray:  # (n, groups, channels, ...)
        batched = array[None] if array.ndim == case.ndim + 1 else array
        return batched.reshape(batched.shape[0], groups, batched.shape[1] // groups, *batched.shape[2:])

    def flat(array: np.ndarray, places: tuple[np.ndarray, ...]) -> np.ndarray:  # (n, groups, channels, places)
        some = array[(..., *places)]
        return some.reshape(*some.shape[:3], math.prod(some.shape[3:]))

    taps, weight_shape = case.weight[2:], (groups, case.weight[0] // groups, *case.weight[1:])
    by_input = operation == "input_grad"
    grad, other = (split(first), second.reshape(weight_shape)) if by_input else (split(second), split(first))
    shape = (*grad.shape[:2], weight_shape[1], *case.x[-case.ndim :]) if by_input else weight_shape
    result = np.zeros(shape, first.dtype)
    for tap in itertools.product(*map(range, taps)):
        pairs = [np.nonzero(axis[:, :, k]) for axis, k in zip(met, tap, strict=True)]
        inputs, outputs = (np.ix_(*(pair[side] for pair in pairs)) for side in range(2))
        joined = flat(grad, outputs)
        if by_input:  # no two of a tap's outputs belong to one input
            place = (..., *inputs)
            result[place] += (other[(..., *tap)] @ joined).reshape(result[place].shape)
        else:
            result[(..., *tap)] = (flat(other, inputs) @ joined.swapaxes(-1, -2)).sum(axis=0)
    return result.reshape(case.x if by_input else case.weight)


def make_gradient(case: Case, dtype: str, data_format: str) -> Arrays:
    """x, weight and, in the place of the bias, grad_output; scaled so that results stay near 1."""
    arrays = make_arrays(case, dtype, data_format)
    rng = np.random.default_rng(len(case.name))
    batch = () if case.unbatched else case.x[:1]
    shape = (*batch, case.out_channels, *output_size(case))
    grad = rng.standard_normal(shape)
    if dtype in COMPLEX:
        grad = grad + 1j * rng.standard_normal(shape)
    return Arrays(arrays.x, arrays.weight, as_format(grad.astype(numpy_dtype(dtype)), case, data_format))


def reduction_of(case: Case, operation: str) -> int:
    """How many products one element of a gradient sums at most."""
    if operation == "input_grad":
        return case.weight[1] * math.prod(case.weight[2:])
    return math.prod(case.x[-case.ndim :]) * (1 if case.unbatched else case.x[0])


def exact_gradient(case: Case, operation: str, arrays: Arrays, data_format: str) -> np.ndarray:
    """The gradient of inputs promoted to a wider type, in that type."""
    wide = "complex128" if arrays.x.dtype.kind == "c" else "float64"
    x, weight, grad = (array.astype(wide) for array in arrays)
    if data_format == "channels_last":
        x, grad = (np.moveaxis(array, -1, -1 - case.ndim) for array in (x, grad))
    pair = (grad, weight) if operation == "input_grad" else (x, grad)
    result = contract(case, operation, *pair)
    return as_format(result, case, data_format) if operation == "input_grad" else result


def defined_gradient(case: Case, operation: str, arrays: Arrays) -> np.ndarray:
    """The gradient of channels-first arrays, product by product: with NaN and infinities just where they belong.

    Slow, for small cases; `contract` multiplies by zeros what never meets.
    """
    groups, wide = case.keywords.get("groups", 1), [array.astype("float64") for array in arrays]
    x, weight, grad = (array[None] if case.unbatched and n != 1 else array for n, array in enumerate(wide))
    weight = weight.reshape(groups, -1, *weight.shape[1:])
    x, grad = (array.reshape(array.shape[0], groups, -1, *array.shape[2:]) for array in (x, grad))
    result = np.zeros_like(x if operation == "input_grad" else weight)
    for met in itertools.product(*(np.argwhere(one) for one in meetings(case))):
        i, o, k = (tuple(axis[side] for axis in met) for side in range(3))
        if operation == "input_grad":  # i and o count from the right, past images, groups and channels
            result[(..., *i)] += np.einsum("ngo,gco->ngc", grad[(..., *o)], weight[(..., *k)])
        else:
            result[(..., *k)] += np.einsum("ngc,ngo->gco", x[(..., *i)], grad[(..., *o)])
    return result.reshape(case.x if operation == "input_grad" else case.weight)


def call_gradient(case: Case, operation: str, arrays: Arrays, data_format: str, **keywords: object) -> np.ndarray:
    """Call the public function of an operation."""
    names = ("stride", "padding", "dilation", "groups")
    given = {name: case.keywords[name] for name in names if name in case.keywords}
    given |= {"data_format": data_format, **keywords}
    if operation == "input_grad":
        size = case.x[-case.ndim :]
        return gtc.conv_transpose_input_grad(arrays.bias, arrays.weight, input_size=size, **given)
    return gtc.conv_transpose_weight_grad(arrays.x, arrays.bias, kernel_size=case.weight[2:], **given)


def run_gradient(kernel: Kernel, case: Case, arrays: Arrays, data_format: str, dtype: str) -> np.ndarray:
    """One call by name, into an output that holds no result yet."""
    shape = case.weight if kernel.operation == "weight_grad" else arrays.x.shape
    out = poisoned(shape, dtype)
    with np.errstate(all="ignore"):
        result = call_gradient(case, kernel.operation, arrays, data_format, **keywords_of(kernel), out=out)
    assert result is out
    return out


__all__ = [
    "DATA_FORMATS", "OPERATIONS", "call_gradient", "defined_gradient", "exact_gradient", "make_gradient", "meetings",
    "output_size", "reduction_of", "run_gradient",
]  # fmt: skip
