"""Every row of the tables of docs/arrays.md, tried as x, weight, bias and out, through every way in."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import gpu_transconv as gtc

PAGE = Path(__file__).resolve().parents[1] / "docs" / "arrays.md"
X = np.arange(1.0, 7.0, dtype=np.float32).reshape(1, 2, 3)
WEIGHT = np.array([[[1.0, 2.0], [4.0, 0.0]], [[3.0, -1.0], [1.0, 5.0]]], np.float32)
BIAS = np.array([0.5, -2.0], np.float32)
GIVEN = {"x": X, "weight": WEIGHT, "bias": BIAS}
SHAPE = (1, 2, 4)  # of the result


class Sub(np.ndarray):
    """A subclass without a meaning of its own."""


class Unit(np.ndarray):
    def __array_ufunc__(self, *_, **__):
        return NotImplemented


class Interface:
    def __init__(self, array, **more):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.__array_interface__ = array.__array_interface__ | more


class Dlpack:
    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __dlpack__(self, **keywords):
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class Convertible:
    """As pandas, xarray and Dask have it."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("read without being asked")


def unaligned(array):
    raw = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    raw[...] = array
    return raw


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def memmap(array):
    made = np.memmap(memmap.folder / f"{array.size}.bin", array.dtype, "w+", shape=array.shape)
    made[...] = array
    return made


def windows(array):
    """Every element is that of a line at the sum of its indices."""
    return np.lib.stride_tricks.as_strided(array.copy().reshape(-1), array.shape, (array.itemsize,) * array.ndim)


def torch_():
    return pytest.importorskip("torch")


def tensor(array):
    return torch_().from_numpy(array.copy())


def require_grad(array):
    return tensor(array).requires_grad_()


def expanded(array):
    return tensor(array[..., :1]).expand(array.shape)


def channels_last(array):
    strides = [stride // 8 for stride in np.empty(array.shape, order="F").strides]
    made = torch_().empty_strided(array.shape, strides, dtype=torch_().float32)
    made.copy_(tensor(array))
    return made


def negative(array):
    return torch_().complex(tensor(array), -tensor(array)).conj().imag


def inference(array):
    with torch_().inference_mode():
        return tensor(array).clone()


def subclassed(array):
    return tensor(array).as_subclass(type("Sub", (torch_().Tensor,), {}))


def dispatching(array):
    torch_()
    from torch.testing._internal.two_tensor import TwoTensor

    return TwoTensor(tensor(array), tensor(array))


def fake(array):
    torch_()
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        return torch_().ones(array.shape)


def lazy(_):
    return torch_().nn.UninitializedParameter()


def jax_():
    return pytest.importorskip("jax")


def deleted(array):
    made = jax_().numpy.array(array)
    made.delete()
    return made


def strict(array):
    return pytest.importorskip("array_api_strict").asarray(array)


def masked_interface(array):
    return Interface(array, mask=np.zeros(array.shape, bool))


# Each takes a function and the values, and calls it with what the row is about.


def making(make):
    return lambda function, array: function(make(array))


def dual(function, array):
    ad = torch_().autograd.forward_ad
    with ad.dual_level():
        return function(ad.make_dual(tensor(array), tensor(array)))


def no_grad(function, array):
    with torch_().no_grad():
        return function(torch_().nn.Parameter(tensor(array)))


def under(transform):
    def run(function, array):
        torch_()
        return transform(function, tensor(array))

    return run


def make_fx(function, value):
    from torch.fx.experimental.proxy_tensor import make_fx

    return make_fx(function)(value)


def jvp(function, value):
    return torch_().func.jvp(function, (value,), (value,))


def sparse(array):
    return pytest.importorskip("scipy.sparse").csr_array(np.atleast_2d(array.reshape(-1)))


EXAMPLES = {
    "`numpy.ndarray`": [making(np.copy)],
    "`numpy.memmap`": [making(memmap)],
    "`numpy.matrix`, as x with one spatial axis and no batch": [making(np.matrix)],
    "`numpy.recarray` of plain numbers": [making(lambda a: a.copy().view(np.recarray))],
    "another subclass": [making(lambda a: a.copy().view(Sub))],
    "a subclass with `__array_ufunc__` or `__array_function__` (units, for instance)": [making(lambda a: a.view(Unit))],
    "`numpy.ma.MaskedArray`, masked or not": [making(np.ma.array), making(lambda a: np.ma.array(a, mask=a > 1))],
    "byte-swapped": [making(lambda a: a.astype(a.dtype.newbyteorder()))],
    "unaligned": [making(unaligned)],
    "negative strides": [making(lambda a: np.flip(np.flip(a).copy()))],
    "zero strides (`broadcast_to`)": [making(lambda a: np.broadcast_to(a[..., :1], a.shape))],
    "windows that overlap (`as_strided`)": [making(windows)],
    "read-only": [making(read_only)],
    "of objects": [making(lambda a: a.astype(object))],
    "structured (records)": [making(lambda a: a.view([("re", "f4")]))],
    "strings, times": [making(lambda a: a.astype("U3")), making(lambda a: a.astype("i8").view("M8[s]"))],
    "uint8": [making(lambda a: a.astype("u1"))],
    "bool, int8, uint32, longdouble": [
        making(lambda a, d=dtype: a.astype(d)) for dtype in ("?", "i1", "u4", np.longdouble)
    ],
    "without axes": [making(lambda a: np.array(a.flat[0]))],
    "NumPy scalar": [making(lambda a: a.flat[0])],
    "`torch.Tensor`": [making(tensor)],
    "`torch.nn.Parameter`, without gradients": [no_grad],
    "a tensor that requires a gradient": [making(require_grad), making(lambda a: torch_().nn.Parameter(tensor(a)))],
    "a tensor with a forward gradient (dual)": [dual],
    "a subclass": [making(subclassed)],
    "a subclass with `__torch_dispatch__`": [making(dispatching)],
    "`MaskedTensor`": [making(lambda a: torch_().masked.masked_tensor(tensor(a), tensor(a) > 1))],
    "`FakeTensor`": [making(fake)],
    "conjugate view": [making(lambda a: torch_().complex(tensor(a), tensor(a)).conj())],
    "negative view": [making(negative)],
    "expanded": [making(expanded)],
    "channels last in memory": [making(channels_last)],
    "made in inference mode": [making(inference)],
    "meta": [making(lambda a: tensor(a).to("meta"))],
    "sparse": [making(lambda a: tensor(a).to_sparse())],
    "quantised": [making(lambda a: torch_().quantize_per_tensor(tensor(a), 1.0, 0, torch_().qint8))],
    "nested": [making(lambda a: torch_().nested.nested_tensor([tensor(a), tensor(a)]))],
    "float8": [making(lambda a: tensor(a).to(torch_().float8_e4m3fn))],
    "uninitialised (lazy layers)": [making(lazy)],
    "inside `torch.func.vmap`": [under(lambda f, a: torch_().func.vmap(f)(a[None]))],
    "inside `torch.func.grad`": [under(lambda f, a: torch_().func.grad(lambda b: f(b).sum())(a))],
    "inside `torch.func.jvp`": [under(jvp)],
    "inside `torch.func.functionalize`": [under(lambda f, a: torch_().func.functionalize(f)(a))],
    "inside `torch.jit.trace`": [under(lambda f, a: torch_().jit.trace(f, a, check_trace=False))],
    "inside `make_fx`": [under(make_fx)],
    "`torch.fx.Proxy`": [under(lambda f, _: torch_().fx.symbolic_trace(lambda x: f(x)))],
    "JAX array": [making(lambda a: jax_().numpy.array(a))],
    "JAX tracer (jit, grad, vmap)": [
        lambda f, a: jax_().jit(f)(a),
        lambda f, a: jax_().vmap(f)(a[None]),
        lambda f, a: jax_().grad(lambda b: f(b).sum())(a),
    ],
    "JAX random keys": [making(lambda a: jax_().random.split(jax_().random.key(0), a.shape))],
    "JAX array that was deleted or donated": [making(deleted)],
    "of the array API standard (array-api-strict)": [making(strict)],
    "object with `__array_interface__`": [making(lambda a: Interface(a.copy()))],
    "object with `__array_interface__` and a mask": [making(masked_interface)],
    "object with DLPack in host memory": [making(lambda a: Dlpack(a.copy()))],
    "object with `__array__` alone (pandas, xarray, Dask, h5py)": [making(Convertible)],
    "`scipy.sparse`": [making(sparse)],
    "list, tuple, number": [making(np.ndarray.tolist), making(lambda a: tuple(a.tolist())), making(lambda _: 3.0)],
    "None, str, bytes, any other object": [
        making(lambda _, v=value: v) for value in (None, "x", b"x", object(), SimpleNamespace(shape=(2, 1, 2)))
    ],
}

#: Rows that cannot be every operand.
ROLES = {"`numpy.matrix`, as x with one spatial axis and no batch": ("x",)}
#: Kinds of x to which a row's `out` belongs; NumPy's and PyTorch's follow from the table.
PARTNERS = {
    "JAX": lambda a: jax_().numpy.array(a),
    "array-api-strict": strict,
    "__array_interface__": Interface,
    "DLPack": Dlpack,
}


def rows():
    """Name of the table, and the columns: given, inputs, result or message, out."""
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        title, *lines = section.splitlines()
        table = [line for line in lines if line.startswith("|")][2:]
        for line in table:
            yield title, *(cell.strip() for cell in line.strip("|").split(" | "))


ROWS = list(rows())


def test_every_row_is_tried():
    assert [given for _, given, *_ in ROWS] == list(EXAMPLES)


def cases(column):
    """Rows and their examples, by the word in that column: 2 for inputs, 4 for out."""
    for word in ("taken", "refused"):
        for row in ROWS:
            if row[column] == word:
                for i, example in enumerate(EXAMPLES[row[1]]):
                    yield pytest.param(row, example, word, id=re.sub(r"[^\w]+", "-", row[1]).strip("-") + f"-{i}")
    assert {row[column] for row in ROWS} == {"taken", "refused"}


def values(given):
    """The numbers of an array, without the package."""
    if isinstance(given, Interface | Dlpack):
        return given.array
    if type(given).__module__.startswith("array_api_strict"):
        return np.from_dlpack(given)
    if hasattr(given, "resolve_conj"):
        return given.detach().clone().resolve_conj().resolve_neg().numpy()
    return np.array(given, subok=False)


def function(given):
    return gtc.conv_transpose(**given)


def prepared(given):
    return gtc.ConvTranspose(given["weight"], given["bias"])(given["x"])


def explained(given):
    return gtc.explain(**given)


@pytest.fixture(autouse=True)
def _quiet(tmp_path):
    """Some of these types warn that they are prototypes or about to go."""
    memmap.folder = tmp_path
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize(("row", "example", "word"), list(cases(2)))
def test_as_an_input(row, example, word, launched):
    _, given, _, message, _ = row
    for role in ROLES.get(given, GIVEN):
        array = GIVEN[role][0] if given in ROLES else GIVEN[role]
        for call in (function, prepared, explained):
            if word == "taken" and call is not explained:
                check_taken(role, example, array, call, message.strip("`"))
            elif word == "refused" and not (call is explained and given.startswith("list")):
                check_refused(role, example, array, call, message.strip("`"))
    assert word == "taken" or launched == []


def check_taken(role, example, array, call, kind):
    seen = []

    def run(given):
        plain = values(given)
        others = {name: other.astype(plain.dtype.newbyteorder("=")) for name, other in GIVEN.items()}
        seen.append(gtc.conv_transpose(**others | {role: plain.copy()}))
        return call(others | {role: given})

    result = example(run, array)
    np.testing.assert_array_equal(values(result), seen[0])
    assert type(result).__name__ == (kind if role == "x" else "ndarray")


def check_refused(role, example, array, call, words):
    def run(given):
        if role == "bias" and given is None:
            raise TypeError("bias must be an array (or None, which is not tried)")
        return call(GIVEN | {role: given})

    with pytest.raises((TypeError, ValueError)) as caught:
        example(run, array)
    message = str(caught.value)
    assert message.startswith(role), message
    assert words in message, message


@pytest.mark.parametrize(("row", "example", "word"), list(cases(4)))
def test_as_out(row, example, word, launched):
    section, given, *_ = row
    partner = tensor if section == "PyTorch" else np.copy
    partner = next((found for name, found in PARTNERS.items() if name in given), partner)
    shape = SHAPE[1:] if given in ROLES else SHAPE
    x = partner(X[0] if given in ROLES else X)
    want = gtc.conv_transpose(values(x).copy(), WEIGHT, BIAS)

    def run(out):
        result = gtc.conv_transpose(x, WEIGHT, BIAS, out=out)
        assert result is out
        np.testing.assert_array_equal(values(out), want)
        return result

    launched.clear()
    if word == "taken":
        example(run, np.zeros(shape, np.float32))
        return
    who = r"^(x|out) must" if given.startswith("inside") else r"^out must"  # a transform concerns the whole call
    with pytest.raises((TypeError, ValueError), match=who):
        example(lambda out: gtc.conv_transpose(x, WEIGHT, BIAS, out=[] if out is None else out), np.zeros(shape, "f4"))
    assert launched == []
