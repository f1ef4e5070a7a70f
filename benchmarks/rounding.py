"""Layers with arrays on which rounding errors are measured, the measures, and the bounds of docs/guide/accuracy.md."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from gpu_transconv import reference
from gpu_transconv.tools.bench.layers import Layer, shipped

#: dtype -> its eps, and the eps of the type in which sums are kept
EPS = {
    "float32": (2.0**-23, 2.0**-23),
    "float64": (2.0**-52, 2.0**-52),
    "float16": (2.0**-10, 2.0**-23),
    "bfloat16": (2.0**-7, 2.0**-23),
    "complex64": (2.0**-23, 2.0**-23),
}
#: Smallest number with all its digits, where others are not out of reach; below it rounding is not relative.
SMALLEST = {"float16": 2.0**-14}
#: Roundings and growth of two axes read in pairs, at worst, by the bound in `gpu_transconv.kernels.cpu.gemm.winograd`.
FAST_ROUNDINGS, FAST_GROWTH = 6, 9


class Error(NamedTuple):
    """Errors in multiples of eps: over the rms and the largest of the exact result, and over the products."""

    rms: float
    largest: float
    products: float


@dataclass(frozen=True)
class Problem:
    """A layer with arrays of one dtype."""

    layer: Layer
    x: Any
    weight: Any

    @property
    def dtype(self) -> str:
        return str(self.x.dtype.name)

    @property
    def terms(self) -> int:
        """The largest number of products that an output sums; a complex one counts as two."""
        taps = [math.ceil(k / s) for k, s in zip(self.layer.kernel, self.layer.stride, strict=True)]
        return math.prod(taps) * self.layer.cin // self.layer.groups * (2 if self.dtype == "complex64" else 1)

    def define(self, x: Any, weight: Any) -> Any:
        """The definition, on other arrays."""
        geometry = self.layer.geometry | {"padding": [(p, p) for p in self.layer.padding]}
        return reference.conv_transpose(x, weight, **geometry)

    @cached_property
    def exact(self) -> Any:
        """The result in a type wide enough that its own rounding does not show."""
        wide = {"complex64": "complex128", "float64": "longdouble"}.get(self.dtype, "float64")
        return self.define(self.x.astype(wide), self.weight.astype(wide))

    @cached_property
    def products(self) -> Any:
        """Per output the sum of the absolute products that reach it."""
        return self.define(*(_magnitude(array) for array in (self.x, self.weight)))

    @cached_property
    def weights(self) -> Any:
        """Per output channel the largest sum of absolute weights that reach an output, times the largest input."""
        x = _magnitude(self.x)
        sums = self.define(np.full_like(x, x.max()), _magnitude(self.weight))
        return sums.max(axis=(0, *range(2, sums.ndim)), keepdims=True)

    def error(self, got: Any) -> Error:
        """Hold a result against the exact one.

        Raises
        ------
        ValueError
            If its shape or dtype is another one, or it is not finite.
        """
        if got.shape != self.exact.shape or got.dtype != self.x.dtype or not np.isfinite(got).all():
            raise ValueError(f"{self.layer.name}, {self.dtype}: got {got.dtype} of shape {got.shape}, or not finite")
        eps, wrong, right = EPS[self.dtype][0], np.abs(got.astype(self.exact.dtype) - self.exact), np.abs(self.exact)
        if wrong[self.products == 0].any():
            raise ValueError(f"{self.layer.name}, {self.dtype}: an output that no input reaches is not zero")
        rms = math.sqrt(np.mean(wrong**2) / np.mean(right**2))
        reached = self.products >= SMALLEST.get(self.dtype, 2.0**-126)
        by_products = np.max(wrong[reached] / self.products[reached])
        return Error(*(float(v) / eps for v in (rms, wrong.max() / right.max(), by_products)))

    def bound(self, worst: bool = False) -> float:
        """What `precision="highest"` keeps `Error.products` below: as stated, or as proven for the worst case."""
        complex_ = math.sqrt(2) if self.dtype == "complex64" else 1.0
        return self._rounded(self.terms / 2 * complex_ if worst else 1 + math.sqrt(self.terms) / 2)

    @property
    def rms_bound(self) -> float:
        """What `Error.rms` stays below where the data is not adverse."""
        return self._rounded(math.sqrt(self.terms) / 5) + 0.4

    def fast_share(self, got: Any, worst: bool = False) -> float:
        """Largest error over what is stated, or proven, for `precision="fast"`."""
        bound = self._rounded(FAST_GROWTH * (self.terms + FAST_ROUNDINGS) / 2) if worst else self.bound()
        wrong = np.abs(got.astype(self.exact.dtype) - self.exact)
        return float(np.max(wrong / (EPS[self.dtype][0] * bound * self.weights)))

    def _rounded(self, bound: float) -> float:
        """Give the bound of a sum in multiples of the dtype's eps, with the rounding to a shorter type."""
        eps, sums = EPS[self.dtype]
        return bound * sums / eps + (0.5 if sums < eps else 0.0)


def _magnitude(array: Any) -> Any:
    wide = np.abs(array.astype("complex128" if array.dtype.kind == "c" else "float64"))
    return wide.astype(np.longdouble) if array.dtype == np.float64 else wide


#: name -> (the shipped layer it is made of, what is smaller)
LAYERS: dict[str, tuple[str, dict[str, Any]]] = {
    "dcgan_l2": ("dcgan_l2", {"n": 8, "cout": 16}),
    "encodec24_up1": ("encodec24_up1", {"spatial": (64,), "cout": 16}),
    "hifigan_v1_up3": ("hifigan_v1_up3", {"spatial": (512,), "cout": 16}),
    "unet_up1": ("unet_up1", {"spatial": (8, 8), "cout": 32}),
    "dcae_equiv": ("dcae_equiv", {"spatial": (6, 6), "cout": 8}),
    "nnunet3d_m": ("nnunet3d_m", {"n": 1, "spatial": (6, 6, 6), "cout": 16}),
    "centernet_dla_ida2 (depthwise)": ("centernet_dla_ida2", {"spatial": (16, 16)}),
    "fsrcnn_x3": ("fsrcnn_x3", {"spatial": (16, 16)}),
    "positive, dcgan_l2": ("dcgan_l2", {"n": 8, "cout": 16}),
    "positive, dcae_equiv": ("dcae_equiv", {"spatial": (6, 6), "cout": 8}),
    "bilinear": ("centernet_r18_d3", {"cin": 64, "cout": 64, "spatial": (12, 12)}),
    "outliers": ("centernet_r18_d3", {"cin": 64, "cout": 64, "spatial": (12, 12)}),
    "outliers, dense": ("centernet_r18_d3", {"cin": 64, "cout": 32, "spatial": (12, 12)}),
}


def problem(name: str, dtype: str) -> Problem:
    """One of `LAYERS` with its arrays: Gaussian, unless the name says otherwise."""
    base, smaller = LAYERS[name]
    layer = replace(shipped()[base], **smaller)
    rng = np.random.default_rng(list(LAYERS).index(name))
    x, weight = (_gaussian(rng, s, dtype) for s in ((layer.n, layer.cin, *layer.spatial), layer.weight_shape))
    weight /= math.sqrt(math.prod(layer.kernel) * layer.cin / layer.groups)
    if name.startswith(
        "positive"
    ):  # all products of one sign: partial sums, and their roundings, are as large as can be
        x, weight = np.abs(x), np.abs(weight)
    elif name == "bilinear":  # what upsampling layers are initialised with, behind a ReLU
        x, weight = np.maximum(x.real, 0), _diagonal(layer, [1, 3, 3, 1]) / 16
    elif name == "outliers":  # one product per output: the definition rounds nothing
        x, weight = np.full_like(x, 3.3), _diagonal(layer, [0, 1, 1, 0])
    elif name == "outliers, dense":
        weight *= np.outer([0, 1, 1, 0], [0, 1, 1, 0])
    if name.startswith("outliers"):
        x[..., ::3] = -1e4 if dtype == "float16" else -1e9
    return Problem(layer, *(array.astype(_numpy(dtype)) for array in (x, weight)))


def _gaussian(rng: Any, shape: tuple[int, ...], dtype: str) -> Any:
    values = rng.standard_normal(shape)
    return values + 1j * rng.standard_normal(shape) if dtype == "complex64" else values


def _diagonal(layer: Layer, taps: list[int]) -> Any:
    weight = np.zeros(layer.weight_shape)
    weight[np.arange(layer.cin), np.arange(layer.cin)] = np.outer(taps, taps)
    return weight


def _numpy(dtype: str) -> Any:
    if dtype == "bfloat16":
        import ml_dtypes

        return ml_dtypes.bfloat16
    return np.dtype(dtype)
