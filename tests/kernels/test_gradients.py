"""Every kernel of the two gradients on every case, in every dtype and layout, against an independent oracle.

``python tests/kernels/test_gradients.py 2000 --seed 7`` checks random geometries 0 ... 1999 of seed 7, and with
``--first 500`` geometries 500 ... 2499.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a command

import numpy as np
import pytest
from cases import CASES, CORE, DATA_FORMATS, INTEGERS, named
from checks import DTYPES, Arrays, assert_close, combined, implementations, refused
from selection import one_of
from support.fakes import count_packing
from support.gradients import (
    OPERATIONS,
    call_gradient,
    exact_gradient,
    make_gradient,
    reduction_of,
    run_gradient,
)
from test_random_geometries import make_problem

import gpu_transconv as gtc
from gpu_transconv.kernels.registry import backends, kernels

KERNELS = implementations(operations=OPERATIONS)
TABLE = [
    combined(kernel, case, dtype, name=f"{case.name}-{dtype}")
    for kernel in KERNELS
    for dtype in DTYPES[kernel.values[0].backend]
    if dtype not in INTEGERS
    for case in (CASES if dtype in ("float32", "float64") else CORE)
]
#: The exact results of a case and dtype, worked out once.
_EXACT: dict[tuple[object, ...], tuple] = {}


def check(kernel, case, dtype, data_format):
    key = case.name, dtype, data_format, kernel.operation
    if key not in _EXACT:
        _EXACT.clear()
        arrays = make_gradient(case, dtype, data_format)
        _EXACT[key] = arrays, exact_gradient(case, kernel.operation, arrays, data_format)
    arrays, want = _EXACT[key]
    got = run_gradient(kernel, case, arrays, data_format, dtype)
    assert_close(got, want, dtype, max(1, reduction_of(case, kernel.operation)))


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize(("kernel", "case", "dtype"), one_of(4, TABLE))
def test_definition(kernel, case, dtype, data_format, launched):
    check(kernel, case, dtype, data_format)
    assert launched == [kernel.name]


@pytest.mark.parametrize(
    ("kernel", "number"),
    [
        combined(kernel, number, name=str(number))
        for number in range(60)
        for kernel in KERNELS
        if make_problem(4, number).dtype in set(DTYPES[kernel.values[0].backend]) - {*INTEGERS}
    ],
)
def test_random_geometries(kernel, number):
    check(kernel, *make_problem(4, number))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CORE])
def test_the_three_sums_are_adjoint(case, backend):
    """<conv_transpose(x, w), g> = <x, input_grad(g, w)> = <w, weight_grad(x, g)>."""
    x, weight, grad = arrays = make_gradient(case, "float64", "channels_first")
    keywords = {name: value for name, value in case.keywords.items() if name != "activation"}
    products = [
        (gtc.conv_transpose(x, weight, **keywords, backend=backend), grad),
        (x, call_gradient(case, "input_grad", arrays, "channels_first", backend=backend)),
        (weight, call_gradient(case, "weight_grad", arrays, "channels_first", backend=backend)),
    ]
    dots = [math.fsum((a * b).ravel()) for a, b in products]
    scale = max(np.abs(a).sum() for a, _ in products)
    assert max(dots) - min(dots) <= 1e-12 * scale


@pytest.mark.parametrize("kernel", KERNELS)
def test_empty_batches_have_no_gradient_by_the_weight(kernel):
    case = named("2d-empty-batch")
    got = run_gradient(kernel, case, make_gradient(case, "float32", "channels_first"), "channels_first", "float32")
    assert not got.any()


@pytest.mark.parametrize("formulation", ["gather", "scatter"])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_layer_packs_once(monkeypatch, backend, formulation):
    case = named("2d-kernel-is-twice-stride")
    x, weight, grad = make_gradient(case, "float32", "channels_first")
    keywords = {"backend": backend, "formulation": formulation}
    layer = gtc.ConvTranspose(weight, np.ones(case.out_channels, "f4"), **case.keywords, **keywords)
    packed = count_packing(monkeypatch)
    want = call_gradient(case, "input_grad", Arrays(x, weight, grad), "channels_first", **keywords)
    del packed[:]
    for _ in range(2):
        np.testing.assert_array_equal(layer.input_grad(grad), want)
        np.testing.assert_array_equal(layer.input_grad(grad, input_size=case.x[2:]), want)
        assert layer(x).shape == grad.shape
    assert [kernel.operation for kernel, _ in packed] == ["input_grad", "forward"]
    out = np.full(case.x, np.nan, "f4")
    assert layer.input_grad(grad, out=out) is out
    np.testing.assert_array_equal(out, want)
    with refused(ValueError, "input_size", "got 99"):
        layer.input_grad(grad, input_size=99)
    with refused(TypeError, "grad_output must be an array", "list"):
        layer.input_grad([1.0])


# --- what the arguments must be --------------------------------------------------------------------------

G, W, X = np.ones((1, 3, 8)), np.ones((2, 3, 4)), np.ones((1, 2, 3))


def test_input_size_follows_from_the_shapes_where_it_can():
    assert gtc.conv_transpose_input_grad(G, W, stride=2).shape == (1, 2, 3)
    with refused(ValueError, "input_size must be given", "3 or 4", "size 8"):
        gtc.conv_transpose_input_grad(np.ones((1, 3, 8)), np.ones((2, 3, 2)), stride=1, dilation=4)
    got = gtc.conv_transpose_input_grad(np.ones((1, 3, 8)), np.ones((2, 3, 2)), stride=1, dilation=4, input_size=4)
    assert got.shape == (1, 2, 4)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: gtc.conv_transpose_input_grad(G, W, stride=2, input_size=5), ValueError,
         ["input_size", "axis 0", "must be 3", "got 5"]),
        (lambda: gtc.conv_transpose_input_grad(np.ones((1, 3, 3)), W, stride=9), ValueError, ["grad_output", "no x"]),
        (lambda: gtc.conv_transpose_input_grad(G[:, :, :3], W), ValueError, ["grad_output", "no x"]),
        (lambda: gtc.conv_transpose_input_grad(np.ones((1, 4, 8)), W), ValueError, ["grad_output", "Cout = 3", "4"]),
        (lambda: gtc.conv_transpose_input_grad(G.astype("f4"), W), TypeError, ["weight", "float32", "float64"]),
        (lambda: gtc.conv_transpose_input_grad(G.astype("i4"), W.astype("i4")), TypeError,
         ["grad_output", "floating or complex", "int32"]),
        (lambda: gtc.conv_transpose_input_grad([1.0], W), TypeError, ["grad_output", "must be an array"]),
        (lambda: gtc.conv_transpose_input_grad(G, W, input_size=0), ValueError, ["input_size", "0"]),
        (lambda: gtc.conv_transpose_weight_grad(X, G, kernel_size=9), ValueError,
         ["grad_output", "axis 0", "11", "got 8"]),
        (lambda: gtc.conv_transpose_weight_grad(X, np.ones((2, 3, 8)), kernel_size=6), ValueError,
         ["grad_output", "batch", "(2, 3, 8)"]),
        (lambda: gtc.conv_transpose_weight_grad(X, G, kernel_size=6, groups=2), ValueError, ["groups", "grad_output"]),
        (lambda: gtc.conv_transpose_weight_grad(X, G, kernel_size=0), ValueError, ["kernel_size", "0"]),
        (lambda: gtc.conv_transpose_weight_grad(X, G, kernel_size=6, out=np.empty((2, 3, 5))), ValueError,
         ["out", "(2, 3, 6)", "(2, 3, 5)"]),
    ],
)  # fmt: skip
def test_refusals(call, error, words):
    with refused(error, words[0], *words[1:]):
        call()


def test_explain_and_last_choice_know_the_operations():
    for operation in OPERATIONS:
        found = gtc.explain((1, 2, 3), (2, 3, 4), (3,), stride=2, operation=operation, backend="reference")
        assert found.kernel.startswith(f"reference/{operation}/")
    gtc.conv_transpose_input_grad(G, W, stride=2, backend="reference", formulation="scatter")
    assert gtc.last_choice().implementation.name == "reference/input_grad/scatter"
    with refused(ValueError, "operation must be one of", "'input_grad'", "did you mean 'weight_grad'?"):
        gtc.explain((1, 2, 3), (2, 3, 4), operation="weight-grad")


def main(arguments: list[str] | None = None) -> int:
    """Check many geometries; the exit status is 1 if any fails."""
    parser = argparse.ArgumentParser(description="Random geometries, every gradient kernel, against an oracle.")
    parser.add_argument("count", type=int, nargs="?", default=2000, help="how many geometries (2000)")
    parser.add_argument("--seed", type=int, default=1, help="which sequence of geometries (1)")
    parser.add_argument("--first", type=int, default=0, help="number of the first geometry (0)")
    options = parser.parse_args(arguments)
    found = [kernel for kernel in kernels() if kernel.operation in OPERATIONS and backends()[kernel.backend]]
    runs, wrong = Counter(), Counter()
    for number in range(options.first, options.first + options.count):
        problem = make_problem(options.seed, number)
        for kernel in found if problem.dtype not in INTEGERS else ():
            runs[kernel.name] += 1
            try:
                check(kernel, *problem)
            except Exception as error:  # name it and go on
                wrong[kernel.name] += 1
                print(f"{kernel.name}: {problem}: {str(error).strip()}")
    parts = ", ".join(f"{name} {count - wrong[name]:,}/{count:,}" for name, count in runs.items())
    print(f"{'all right' if not wrong else f'{wrong.total():,} WRONG'} ({parts})")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
