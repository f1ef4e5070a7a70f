"""The operator as a matrix, against matrices by hand, torch's convolution and the package's own operator."""

import doctest
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpu_transconv as gtc
from gpu_transconv import operators
from gpu_transconv.operators import ConvOperator, as_convolution, conv_matrix, matrix

linalg = pytest.importorskip("scipy.sparse.linalg", reason="the matrices are SciPy's")

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "math.md"


class Case(NamedTuple):
    name: str
    weight: tuple[int, ...]
    image: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]  # what padding amounts to; (0, 0) on every axis where empty
    geometry: dict

    def __repr__(self):
        return self.name


CASES = [
    Case("1d", (2, 3, 3), (3, 7), (), {}),
    Case("1d_stride_fits", (1, 1, 3), (1, 5), ((1, 1),), {"stride": 2, "padding": 1}),
    Case("1d_stride_leaves_a_rest", (2, 1, 3), (1, 9), (), {"stride": 4}),
    Case("1d_one_feature", (2, 2, 4), (2, 5), (), {"stride": 3, "padding": "valid"}),
    Case("1d_stride_over_kernel", (1, 2, 2), (2, 12), (), {"stride": 5}),
    Case("1d_stride_and_dilation_share_a_factor", (2, 1, 3), (1, 14), (), {"stride": 4, "dilation": 2}),
    Case("1d_padding_over_filter", (1, 1, 2), (1, 6), ((4, 4),), {"padding": 4, "stride": 2}),
    Case("1d_asymmetric", (2, 2, 5), (2, 11), ((3, 0),), {"stride": 3, "padding": [(3, 0)]}),
    Case("1d_same_even_surplus", (2, 1, 4), (1, 8), ((1, 1),), {"stride": 2, "padding": "same"}),
    Case("1d_same_odd_surplus", (2, 1, 4), (1, 5), ((1, 2),), {"padding": "same"}),
    Case("1d_same_stride_over_kernel", (1, 1, 2), (1, 12), ((0, -2),), {"stride": 4, "padding": "same"}),
    Case("2d_upsampling", (2, 3, 4, 4), (3, 6, 8), ((1, 1),) * 2, {"stride": 2, "padding": 1}),
    Case(
        "2d_everything",
        (4, 3, 3, 2),
        (6, 9, 8),
        ((2, 1), (0, 3)),
        {"stride": (3, 2), "padding": ((2, 1), (0, 3)), "dilation": (1, 3), "groups": 2},
    ),
    Case("2d_depthwise", (3, 1, 3, 3), (3, 6, 5), ((1, 1),) * 2, {"padding": 1, "stride": 2, "groups": 3}),
    Case("3d", (2, 2, 2, 3, 1), (2, 4, 5, 3), ((0, 0), (1, 1), (0, 0)), {"stride": 2, "padding": (0, 1, 0)}),
    Case("3d_groups", (4, 1, 2, 2, 2), (2, 5, 4, 4), (), {"stride": (2, 1, 3), "dilation": 2, "groups": 2}),
]
every_case = pytest.mark.parametrize("case", CASES, ids=repr)


@pytest.fixture(autouse=True, scope="module")
def _reference():
    with gtc.use(backend="reference"):
        yield


def draw(shape, dtype="int64", seed=0):
    """Small integers, so that sums are exact in every dtype."""
    rng = np.random.default_rng([seed, *shape])
    values = rng.integers(-4, 5, shape)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.integers(-4, 5, shape)
    return values.astype(dtype)


def build(case, dtype="int64"):
    """The case's weight, its matrix and the shape of its feature map."""
    weight = draw(case.weight, dtype)
    shape = ConvOperator(weight, case.image, **case.geometry).feature_shape
    return weight, conv_matrix(weight, case.image, **case.geometry), shape


def output_padding(case, weight, shape):
    if case.geometry.get("padding") == "same":
        return 0
    least = gtc.conv_transpose(np.zeros(shape, weight.dtype), weight, **case.geometry).shape
    return tuple(np.subtract(case.image, least)[1:].tolist())


def test_matrix_by_hand():
    weight, geometry = np.array([[[1, 2, 3]]]), {"stride": 2, "padding": 1}
    five = [[2, 3, 0, 0, 0], [0, 1, 2, 3, 0], [0, 0, 0, 1, 2]]
    six = [[2, 3, 0, 0, 0, 0], [0, 1, 2, 3, 0, 0], [0, 0, 0, 1, 2, 3]]
    np.testing.assert_array_equal(conv_matrix(weight, (1, 5), **geometry).toarray(), five)
    np.testing.assert_array_equal(conv_matrix(weight, (1, 6), **geometry).toarray(), six)


def test_matrix_by_hand_with_groups():
    weight = np.array([[[1, 2]], [[3, 4]]])
    matrix = conv_matrix(weight, (2, 3), groups=2).toarray()
    expected = [[1, 2, 0, 0, 0, 0], [0, 1, 2, 0, 0, 0], [0, 0, 0, 3, 4, 0], [0, 0, 0, 0, 3, 4]]
    np.testing.assert_array_equal(matrix, expected)


def test_matrix_by_hand_in_2d():
    matrix = conv_matrix(np.array([[[[1, 2], [3, 4]]]]), (1, 2, 3))
    np.testing.assert_array_equal(matrix.toarray(), [[1, 2, 0, 3, 4, 0], [0, 1, 2, 0, 3, 4]])


@every_case
def test_matrix_is_torchs_convolution(case):
    torch = pytest.importorskip("torch", reason="torch is the peer of this test")
    weight, matrix, shape = build(case, "float64")
    image = draw(case.image, "float64", seed=1)
    flat = [n for pair in reversed(case.pads) for n in pair]
    padded = torch.nn.functional.pad(torch.from_numpy(image), flat) if flat else torch.from_numpy(image)
    convolve = getattr(torch.nn.functional, f"conv{len(shape) - 1}d")
    arguments = {name: case.geometry.get(name, 1) for name in ("stride", "dilation", "groups")}
    expected = convolve(padded[None], torch.from_numpy(weight), **arguments)[0].numpy()
    assert expected.shape == shape
    np.testing.assert_array_equal((matrix @ image.ravel()).reshape(shape), expected)


@every_case
def test_transpose_generates(case):
    weight, matrix, shape = build(case)
    features = draw(shape, seed=2)
    expected = gtc.conv_transpose(features, weight, output_size=case.image[1:], **case.geometry)
    np.testing.assert_array_equal((matrix.T @ features.ravel()).reshape(case.image), expected)


@every_case
def test_matrix_is_canonical(case):
    _, matrix, _ = build(case)
    assert matrix.has_canonical_format  # SciPy looks: sorted columns, no duplicates
    assert matrix.indices.dtype == matrix.indptr.dtype == np.int32


@settings(max_examples=80, deadline=None, derandomize=True)
@given(data=st.data())
def test_adjoint_identity(data):
    ndim, groups = data.draw(st.integers(1, 3), "ndim"), data.draw(st.integers(1, 2), "groups")

    def each(least, most):
        return tuple(data.draw(st.integers(least, most)) for _ in range(ndim))

    kernel, stride, dilation = each(1, 4), each(1, 4), each(1, 3)
    padding = tuple(zip(each(0, 4), each(0, 4), strict=True))
    needed = [d * (k - 1) + 1 - sum(p) for d, k, p in zip(dilation, kernel, padding, strict=True)]
    image = (2 * groups, *(max(n, 1) + more for n, more in zip(needed, each(0, 5), strict=True)))
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    weight = draw((groups, 2, *kernel))
    operator = ConvOperator(weight, image, **geometry)

    picture, features = draw(image, seed=1), draw(operator.feature_shape, seed=2)
    generated = gtc.conv_transpose(features, weight, output_size=image[1:], **geometry)
    detected = operator @ picture.ravel()
    assert detected @ features.ravel() == picture.ravel() @ generated.ravel()
    np.testing.assert_array_equal(detected, conv_matrix(weight, image, **geometry) @ picture.ravel())


@every_case
@pytest.mark.parametrize("dtype", ["int32", "float32", "float64", "complex64", "complex128"])
def test_operator_is_the_matrix(case, dtype):
    weight, matrix, _ = build(case, dtype)
    operator = ConvOperator(weight, case.image, **case.geometry)
    assert isinstance(operator, linalg.LinearOperator)
    assert operator.shape == matrix.shape
    assert operator.dtype == matrix.dtype == dtype
    for columns in ((), (3,)):
        pictures = draw((matrix.shape[1], *columns), dtype, seed=1)
        features = draw((matrix.shape[0], *columns), dtype, seed=2)
        assert (operator @ pictures).dtype == (operator.H @ features).dtype == dtype
        np.testing.assert_array_equal(operator @ pictures, matrix @ pictures)
        np.testing.assert_array_equal(operator.H @ features, matrix.conj().T @ features)
        np.testing.assert_array_equal(operator.T @ features, matrix.T @ features)
        np.testing.assert_array_equal(operator.H.H @ pictures, matrix @ pictures)
        np.testing.assert_array_equal(operator.T.T @ pictures, matrix @ pictures)


def test_operator_promotes_like_numpy():
    operator = ConvOperator(np.ones((1, 1, 2), np.float32), (1, 4))
    assert (operator @ np.ones(4)).dtype == (operator.H @ np.ones(3)).dtype == np.float64
    assert (operator @ np.ones(4, np.int8)).dtype == (operator.H @ np.ones(3, np.int8)).dtype == np.float32
    assert (operator.H @ np.array([1j, 2, 3])).dtype == np.complex128
    assert (operator @ np.ones((4, 0))).shape == (3, 0)
    assert (operator.H @ np.ones((3, 0))).shape == (4, 0)


def test_operator_keeps_its_weight_and_travels():
    weight = np.ones((1, 1, 2))
    operator = ConvOperator(weight, (1, 4))
    weight[:] = 7
    again = pickle.loads(pickle.dumps(operator))
    assert again.image_shape == (1, 4)
    np.testing.assert_array_equal(again @ np.arange(4.0), [1, 3, 5])


def test_solvers_run_on_the_operator():
    weight, image = np.random.default_rng(3).normal(size=(2, 1, 3, 3)), (1, 7, 6)
    geometry = {"stride": 2, "padding": 1}
    operator, matrix = ConvOperator(weight, image, **geometry), conv_matrix(weight, image, **geometry)
    wanted = matrix @ np.random.default_rng(4).normal(size=42)
    found = linalg.lsqr(operator, wanted, atol=1e-12, btol=1e-12)[0]
    np.testing.assert_allclose(found, np.linalg.pinv(matrix.toarray()) @ wanted, atol=1e-8)
    largest = linalg.svds(operator, k=3, v0=np.ones(min(matrix.shape)), return_singular_vectors=False)
    np.testing.assert_allclose(np.sort(largest)[::-1], np.linalg.svd(matrix.toarray())[1][:3])


@every_case
def test_transpose_is_a_convolution(case):
    weight, matrix, shape = build(case)
    extra = output_padding(case, weight, shape)
    convolution = as_convolution(weight, output_padding=extra, **case.geometry)
    groups = case.geometry.get("groups", 1)
    assert convolution.weight.shape == (case.image[0], shape[0] // groups, *weight.shape[2:])

    count = matrix.shape[0]
    stuffed = convolution.stuff(np.eye(count, dtype=weight.dtype).reshape(count, *shape))
    stuffing = stuffed.reshape(count, -1).T
    dilation = case.geometry.get("dilation", 1)
    plain = conv_matrix(convolution.weight, stuffed.shape[1:], dilation=dilation, groups=groups)
    np.testing.assert_array_equal(plain @ stuffing, matrix.T.toarray())

    features = draw((2, *shape), seed=5)
    expected = gtc.conv_transpose(features, weight, output_padding=extra, **case.geometry)
    np.testing.assert_array_equal(convolution.apply(features), expected)
    np.testing.assert_array_equal(convolution.apply(features[0]), expected[0])


@pytest.mark.parametrize("padding", [2, 3, 4, [(4, 0)], [(0, 4)]])
def test_stuffing_crops_where_padding_exceeds_the_filter(padding):
    x, weight = draw((1, 1, 6)), draw((1, 1, 3))
    convolution = as_convolution(weight, stride=2, padding=padding, output_padding=1)
    expected = gtc.conv_transpose(x, weight, stride=2, padding=padding, output_padding=1)
    assert convolution.stuff(x).shape[-1] == expected.shape[-1] + 2
    np.testing.assert_array_equal(convolution.apply(x), expected)


def test_as_convolution_by_hand():
    weight = np.arange(1, 9).reshape(2, 2, 2)  # (Cin, Cout, kernel)
    np.testing.assert_array_equal(as_convolution(weight).weight, [[[2, 1], [6, 5]], [[4, 3], [8, 7]]])
    convolution = as_convolution(weight, stride=3, output_padding=1)
    assert convolution.stuff(np.array([[1, 2], [3, 4]])).tolist() == [
        [0, 1, 0, 0, 2, 0, 0],
        [0, 3, 0, 0, 4, 0, 0],
    ]
    assert convolution.stuff(np.zeros((0, 2, 4), int)).shape == (0, 2, 13)
    assert convolution.apply(np.zeros((0, 2, 4), int)).shape == (0, 2, 12)


@pytest.mark.parametrize("dtype", ["float16", "float32", "complex64", "int32"])
def test_apply_keeps_the_dtype(dtype):
    x, weight = draw((2, 5, 5), dtype), draw((2, 3, 3, 3), dtype)
    result = as_convolution(weight, stride=2).apply(x)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, gtc.conv_transpose(x, weight, stride=2))


def test_large_pictures_get_long_indices():
    pixels = 2**31 + 10
    matrix = conv_matrix(np.array([[[1.0, 2.0]]]), (1, pixels), stride=2**31)
    assert matrix.shape == (2, pixels)
    assert matrix.indices.tolist() == [0, 1, 2**31, 2**31 + 1]


def test_matrix_larger_than_memory_is_an_error(monkeypatch):
    monkeypatch.setattr(matrix, "memory_bytes", lambda: 100)
    with pytest.raises(MemoryError, match=r"21 entries needs 469 bytes.*ConvOperator"):
        conv_matrix(np.ones((1, 1, 3)), (1, 9))


def test_any_layout_and_byte_order():
    weight = draw((2, 3, 4, 5), "float64")
    expected = conv_matrix(weight, (3, 6, 6)).toarray()
    for other in (np.asfortranarray(weight), weight.astype(">f8"), np.repeat(weight, 2, 3)[..., ::2]):
        np.testing.assert_array_equal(conv_matrix(other, (3, 6, 6)).toarray(), expected)
        np.testing.assert_array_equal(ConvOperator(other, (3, 6, 6)) @ np.eye(108), expected)


ONES = np.ones((2, 3, 4))
BAD = [
    ("weight", TypeError, "weight must be a NumPy array, got list", [[[1.0]]], (1, 5), {}),
    (
        "half",
        TypeError,
        "weight must have one of the dtypes float32.*got float16",
        ONES.astype("f2"),
        (3, 9),
        {},
    ),
    ("axes", ValueError, r"weight must have 3, 4 or 5 axes.*got shape \(4, 4\)", np.ones((4, 4)), (4, 4), {}),
    ("empty", ValueError, r"weight must not have an empty axis", np.ones((2, 3, 0)), (3, 9), {}),
    ("image_rank", ValueError, r"image_shape must be 2 ints >= 1 .*got \(3, 9, 9\)", ONES, (3, 9, 9), {}),
    ("image_int", ValueError, r"image_shape must be 2 ints >= 1 .*got 9", ONES, 9, {}),
    ("image_float", ValueError, r"image_shape must be 2 ints >= 1 .*got \(3, 9.0\)", ONES, (3, 9.0), {}),
    ("image_zero", ValueError, r"image_shape must be 2 ints >= 1 .*got \(3, 0\)", ONES, (3, 0), {}),
    ("channels", ValueError, r"begin with the 3 output channels.*got \(2, 9\)", ONES, (2, 9), {}),
    (
        "group_channels",
        ValueError,
        r"the 6 output channels.*groups=2, got \(3, 9\)",
        ONES,
        (3, 9),
        {"groups": 2},
    ),
    ("groups", ValueError, "groups must divide the 2 input channels, got 3", ONES, (9, 9), {"groups": 3}),
    ("small", ValueError, r"at least 10 pixels on spatial axis 0.*got 9", ONES, (3, 9), {"dilation": 3}),
    (
        "same",
        ValueError,
        r"multiples of stride.*'same', got 9 .*stride 2",
        ONES,
        (3, 9),
        {"padding": "same", "stride": 2},
    ),
    ("stride", ValueError, "stride must be an int", ONES, (3, 9), {"stride": 0}),
    ("padding", ValueError, "padding must be an int >= 0.*negative", ONES, (3, 9), {"padding": -1}),
]


@pytest.mark.parametrize("build", [conv_matrix, ConvOperator])
@pytest.mark.parametrize(
    ("error", "message", "weight", "image", "geometry"), [b[1:] for b in BAD], ids=[b[0] for b in BAD]
)
def test_bad_arguments(build, error, message, weight, image, geometry):
    with pytest.raises(error, match=message):
        build(weight, image, **geometry)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "output_padding must be smaller", {"stride": 2, "output_padding": 2}),
        (ValueError, "groups must divide the 2 input channels, got 3", {"groups": 3}),
        (TypeError, "weight must have one of the dtypes float16.*got bool", {"weight": ONES.astype(bool)}),
    ],
)
def test_bad_arguments_of_as_convolution(error, message, arguments):
    with pytest.raises(error, match=message):
        as_convolution(arguments.pop("weight", ONES), **arguments)


@pytest.mark.parametrize("method", ["stuff", "apply"])
def test_bad_inputs_of_a_convolution(method):
    call = getattr(as_convolution(ONES, padding=3), method)
    with pytest.raises(TypeError, match="NumPy array of the weight's dtype float64, got list"):
        call([[1.0]])
    with pytest.raises(TypeError, match="dtype float64, got float32"):
        call(np.ones((2, 5), np.float32))
    with pytest.raises(ValueError, match="x must have as many channels as weight has rows, got 3"):
        call(np.ones((3, 5)))
    with pytest.raises(ValueError, match="padding leaves no output on spatial axis 0"):
        call(np.ones((2, 3)))


@pytest.mark.parametrize(("name", "module"), [("conv_matrix", "scipy.sparse"), ("ConvOperator", "scipy.sparse.linalg")])
def test_missing_scipy_says_what_to_install(monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "gpu_transconv.operators.linear")
    with pytest.raises(ImportError, match=rf'{name} needs SciPy: pip install scipy .*"\.\[demo\]"'):
        getattr(operators, name)(ONES, (3, 9))


def test_the_operator_is_a_class_of_scipys():
    operator = operators.ConvOperator(np.ones((1, 1, 2)), (1, 4))
    assert type(operator) is ConvOperator
    assert issubclass(ConvOperator, linalg.LinearOperator)
    assert {"ConvOperator", "conv_matrix"} <= set(dir(operators))
    with pytest.raises(AttributeError, match="no attribute 'ConvOperators'"):
        operators.ConvOperators  # noqa: B018


def test_import_leaves_scipy_alone():
    code = "import sys, gpu_transconv.operators; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_page_on_the_mathematics_runs():
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
    test = doctest.DocTestParser().get_doctest(code, {}, PAGE.name, str(PAGE), 0)
    assert len(test.examples) > 5
    assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test).failed == 0
