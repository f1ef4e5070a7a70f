"""What a caller may write for each argument, what it becomes, and what is refused in which words."""

from __future__ import annotations

import numpy as np
import pytest
from checks import refused

from gpu_transconv.problem.arguments import make_params
from gpu_transconv.problem.shapes import check_full_size, check_shapes


def identity(value):
    """The value as a test id, without the addresses that some types print."""
    return type(value).__name__ if " at 0x" in repr(value) else repr(value)


@pytest.mark.parametrize("name", ["stride", "dilation", "output_size"])
@pytest.mark.parametrize(
    "value",
    [
        3,
        np.int64(3),
        np.uint8(3),
        np.array(3),
        (3, 3),
        [3, 3],
        (3,),
        [np.int8(3)],
        np.array([3]),
        (np.int32(3), 3),
        np.array([3, 3]),
        np.array([3, 3], "u1"),
    ],
    ids=identity,
)
def test_ints_of_any_kind(name, value):
    got = getattr(make_params(2, **{name: value}), name)
    assert got == (3, 3)
    assert [type(v) for v in got] == [int, int]


@pytest.mark.parametrize(("name", "least"), [("stride", 1), ("dilation", 1), ("output_padding", 0), ("output_size", 1)])
@pytest.mark.parametrize(
    "value",
    [
        -1, True, False, 1.0, 2.5, 1j, "2", "same", b"2", object, {1, 2}, {1: 1, 2: 2}, range(3, 8),
        (), [True], [1.0], (1, 1, 1, 1, 1), (2, -1), (1, True), (1.0, 1), (1, "1"), ((1, 1), 1), iter((1, 1)),
        np.float64(2), np.True_, np.array(2.0), np.array(True), np.array([1.0, 2.0]), np.array([[1, 2]]),
        np.ones(5, int),
    ],
    ids=identity,
)  # fmt: skip
def test_no_ints(name, least, value):
    with refused(ValueError, f"{name} must be an int or 2 ints", f">= {least}", f"got {value!r}"):
        make_params(2, **{name: value})


@pytest.mark.parametrize("name", ["stride", "dilation", "output_size"])
def test_zero_is_too_small(name):
    with refused(ValueError, name, ">= 1", "got 0"):
        make_params(2, **{name: 0})


@pytest.mark.parametrize(
    ("value", "pairs"),
    [
        (0, ((0, 0), (0, 0))),
        ("valid", ((0, 0), (0, 0))),
        ("same", None),
        (2, ((2, 2), (2, 2))),
        ((2,), ((2, 2), (2, 2))),
        (np.array([2]), ((2, 2), (2, 2))),
        (np.int8(2), ((2, 2), (2, 2))),
        ((1, 2), ((1, 1), (2, 2))),
        (np.array([1, 2]), ((1, 1), (2, 2))),
        ([(1, 2), (3, 4)], ((1, 2), (3, 4))),
        (((1, 2), [3, 4]), ((1, 2), (3, 4))),
        (np.array([[1, 2], [3, 4]]), ((1, 2), (3, 4))),
        ([1, (3, 4)], ((1, 1), (3, 4))),
    ],
    ids=identity,
)
def test_padding(value, pairs):
    got = make_params(2, padding=value).padding
    assert got == pairs
    assert all(type(v) is int for pair in got or () for v in pair)


@pytest.mark.parametrize(
    "value",
    [
        None, True, 1.0, "full", "SAME", b"same", {0, 1}, (True,), (1.0,), (1, 2, 3), (1.0, 2), (True, 1),
        ("same", "same"), ((1, 2),), ((1, 2), (3,)), ((1, 2, 3), 1), ((1, 2.0), 1), [[[1, 2]], [[3, 4]]],
        np.array(1.5), np.array([0.0, 1]),
    ],
    ids=identity,
)  # fmt: skip
def test_no_padding(value):
    expected = ("an int >= 0", "2 ints", "2 (low, high) pairs", "'valid'", "'same'")
    with refused(ValueError, "padding", *expected, f"got {value!r}"):
        make_params(2, padding=value)


@pytest.mark.parametrize("value", [-1, (0, -1), ((0, 0), (0, -1)), np.array([-2, 0])], ids=identity)
def test_negative_padding(value):
    with refused(ValueError, "padding", f"got {value!r}", "negative padding is not supported"):
        make_params(2, padding=value)


@pytest.mark.parametrize(
    "value", [0, -1, True, 1.0, "1", None, (1,), (1, 1), np.array([1]), np.array(1.0)], ids=identity
)
def test_no_groups(value):
    with refused(ValueError, "groups", "int >= 1", f"got {value!r}"):
        make_params(2, groups=value)


@pytest.mark.parametrize("value", [2, np.int64(2), np.array(2)], ids=identity)
def test_groups(value):
    got = make_params(2, groups=value).groups
    assert (got, type(got)) == (2, int)


@pytest.mark.parametrize(
    "value", ["NCHW", "channels_Last", None, 1, ["channels_last"], np.array(["a", "b"])], ids=identity
)
def test_no_data_format(value):
    with refused(ValueError, "data_format", "'channels_first'", "'channels_last'", f"got {value!r}"):
        make_params(2, data_format=value)


@pytest.mark.parametrize(
    ("value", "name", "slope"),
    [
        (None, None, 0.0),
        ("relu", "relu", 0.0),
        ("leaky_relu", "leaky_relu", 0.01),
        (("leaky_relu", 0.2), "leaky_relu", 0.2),
        (["leaky_relu", np.float32(0.5)], "leaky_relu", 0.5),
        (("leaky_relu", 0), "leaky_relu", 0.0),
        ("gelu", "gelu", 0.0),
    ],
    ids=identity,
)
def test_activation(value, name, slope):
    params = make_params(1, activation=value)
    assert (params.activation, params.slope) == (name, slope)
    assert type(params.slope) is float


@pytest.mark.parametrize(
    "value",
    ["swish", "ReLU", 1, True, ("relu", 0.1), ("leaky_relu",), ("leaky_relu", 0.1, 0.2), (), np.tanh],
    ids=identity,
)
def test_no_activation(value):
    names = ("'relu'", "'leaky_relu'", "'tanh'", "'sigmoid'", "'silu'", "'gelu'", "('leaky_relu', slope)")
    with refused(ValueError, "activation", *names, f"got {value!r}"):
        make_params(1, activation=value)


@pytest.mark.parametrize("slope", ["steep", "0.2", None, 1j, (0.1,), True], ids=identity)
def test_no_slope(slope):
    with refused(ValueError, "activation", "slope must be a", f"got {slope!r}"):
        make_params(1, activation=("leaky_relu", slope))


@pytest.mark.parametrize(("stride", "dilation", "most"), [(2, 1, 1), (1, 3, 2), (4, 4, 3), (1, 1, 0)])
def test_output_padding_is_below_stride_or_dilation(stride, dilation, most):
    given = {"stride": stride, "dilation": dilation}
    assert make_params(2, output_padding=(0, most), **given).output_padding == (0, most)
    larger = f"smaller than the larger of stride and dilation ({most + 1} on spatial axis 1)"
    with refused(ValueError, "output_padding", larger, f"got {most + 1}"):
        make_params(2, output_padding=(0, most + 1), **given)


def test_output_size_excludes_output_padding():
    with refused(ValueError, "output_size and output_padding", "output_size=(5,)", "output_padding=(1,)"):
        make_params(1, stride=2, output_size=5, output_padding=1)
    assert make_params(1, stride=2, output_size=5, output_padding=0).output_size == (5,)


@pytest.mark.parametrize("extra", [1, (0, 1), (1,)], ids=identity)
def test_same_excludes_output_padding(extra):
    with refused(ValueError, "output_padding and padding='same' exclude each other", "in*stride", "1"):
        make_params(2, stride=2, padding="same", output_padding=extra)
    assert make_params(2, stride=2, padding="same", output_padding=(0, 0)).padding is None


@pytest.mark.parametrize(
    ("data_format", "full", "spatial"),
    [
        ("channels_first", (7, 3, 8, 9), (8, 9)),
        ("channels_first", (3, 8, 9), (8, 9)),
        ("channels_last", (7, 8, 9, 3), (8, 9)),
        ("channels_last", [8, 9, 3], (8, 9)),
        ("channels_first", np.array([0, 3, 8, 9]), (8, 9)),
    ],
)
def test_output_size_as_a_whole_shape(data_format, full, spatial):
    params = make_params(2, output_size=full, data_format=data_format)
    assert (params.output_size, params.full_size) == (spatial, tuple(full))


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("batch", [(), (7,), (0,)], ids=str)
def test_the_whole_shape_must_be_the_results(batch, data_format):
    def order(channels):
        return (*batch, channels, 8, 9) if data_format == "channels_first" else (*batch, 8, 9, channels)

    weight = (2, 3, 3, 3)
    params = make_params(2, output_size=order(6), data_format=data_format, groups=2)
    check_full_size(params, order(2), weight)
    expected = ("output_size must be the result's whole shape", "(8, 9)", f"got {order(6)}")
    for x, filters in ((order(2), (2, 4, 3, 3)), ((1, *order(2)), weight), (order(2)[1:], weight)):
        with refused(ValueError, *expected):
            check_full_size(params, x, filters)


@pytest.mark.parametrize("value", [(-1, 3, 8, 9), (7, 3, 0, 9), (7, 3, 8, 1.0), (3, 8, True)], ids=identity)
def test_no_whole_shape(value):
    with refused(ValueError, "output_size must be", "2 ints", "whole shape", f"got {value!r}"):
        make_params(2, output_size=value)


EMPTY = "must not have an empty"
# name: (x, weight, bias, groups), then the argument at fault and what the message must say
SHAPES = {
    "weight-axes": [(1, 2, 3, 4), (2, 3, 3), None, 1, "weight", "4 axes (Cin, Cout // groups", "(2, 3, 3)"],
    "x-axes": [
        (1, 1, 2, 3, 4),
        (2, 3, 3, 3),
        None,
        1,
        "x",
        "4 axes",
        "3 without the batch",
        "(1, 1, 2, 3, 4)",
    ],
    "x-flat": [(3, 4), (2, 3, 3, 3), None, 1, "x", "4 axes", "3 without the batch", "(3, 4)"],
    "channels": [(1, 3, 4, 5), (2, 3, 3, 3), None, 1, "x", "got 3 channels", "(1, 3, 4, 5)", "(2, 3, 3, 3)"],
    "channels-flat": [(3, 4, 5), (2, 3, 3, 3), None, 1, "x", "got 3 channels", "(3, 4, 5)", "(2, 3, 3, 3)"],
    "groups": [(1, 3, 4, 5), (3, 1, 3, 3), None, 2, "groups", "divide the 3 input channels", "got 2"],
    "empty-kernel": [(1, 2, 4, 5), (2, 3, 0, 3), None, 1, "weight", EMPTY, "(2, 3, 0, 3)"],
    "no-outputs": [(1, 2, 4, 5), (2, 0, 3, 3), None, 1, "weight", EMPTY, "(2, 0, 3, 3)"],
    "no-inputs": [(1, 0, 4, 5), (0, 3, 3, 3), None, 1, "weight", EMPTY, "(0, 3, 3, 3)"],
    "empty-row": [(1, 2, 4, 0), (2, 3, 3, 3), None, 1, "x", EMPTY, "(1, 2, 4, 0)"],
    "empty-row-unbatched": [(2, 4, 0), (2, 3, 3, 3), None, 1, "x", EMPTY, "(2, 4, 0)"],
    "bias-length": [(1, 2, 4, 5), (2, 3, 3, 3), (4,), 1, "bias", "shape (3,)", "got (4,)"],
    "bias-of-groups": [(1, 2, 4, 5), (2, 3, 3, 3), (3,), 2, "bias", "shape (6,)", "got (3,)"],
    "bias-axes": [(1, 2, 4, 5), (2, 3, 3, 3), (3, 1, 1), 1, "bias", "shape (3,)", "got (3, 1, 1)"],
    "bias-scalar": [(1, 2, 4, 5), (2, 1, 3, 3), (), 1, "bias", "shape (1,)", "got ()"],
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_that_do_not_fit(name):
    x, weight, bias, groups, *message = SHAPES[name]
    with refused(ValueError, *message):
        check_shapes(make_params(2, groups=groups), x, weight, bias)


@pytest.mark.parametrize("x", [(1, 2, 4, 5), (2, 4, 5), (0, 2, 4, 5)])
def test_shapes_that_fit(x):
    check_shapes(make_params(2), x, (2, 3, 3, 3), (3,))


def test_channels_are_last_in_channels_last():
    last = make_params(2, data_format="channels_last")
    check_shapes(last, (1, 4, 5, 2), (2, 3, 3, 3), None)
    with refused(ValueError, "x", "got 5 channels", "(1, 2, 4, 5)", "channels_last"):
        check_shapes(last, (1, 2, 4, 5), (2, 3, 3, 3), None)
