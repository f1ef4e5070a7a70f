"""One or more examples of every row of the tables of docs/guide/arrays.md.

Each takes a function and the values, and calls it with what the row is about.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest


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
    class Wrapper(torch_().Tensor):
        @staticmethod
        def __new__(cls, inner):
            made = torch_().Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)
            made.inner = inner
            return made

        @classmethod
        def __torch_dispatch__(cls, function, types, arguments=(), keywords=None):
            raise AssertionError("computed with what may be anything")

    return Wrapper(tensor(array))


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
