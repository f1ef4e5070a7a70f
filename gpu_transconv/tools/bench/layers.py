"""The layers that are measured, those of models and random ones around them, and seeded arrays for each."""

from __future__ import annotations

import json
import math
import random
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ... import reference
from ...arrays import HostArray
from ...problem.arguments import make_params
from ...problem.plan import ArraySpec, Plan, plan_call
from ..console import Report

REAL_LAYERS = Path(__file__).with_name("layers.json")

#: Above this the definition is too slow to check against, and torch in float64, if there, takes its place.
_REFERENCE_GMAC = 0.02
_MAX_RANDOM_BYTES = 2**29


@dataclass(frozen=True)
class Layer:
    """One transposed convolution: sizes and geometry, every tuple with one entry per spatial axis."""

    name: str
    n: int
    cin: int
    cout: int
    spatial: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1
    model: str = ""
    #: What the model is for.
    domain: str = ""
    #: Where the sizes are from: "source" is the model's own code, "pattern" its published description, "derived" an
    #: equal layer that the model computes otherwise, "issue" a report of another project, "unverified" hearsay.
    parameters_from: str = ""

    @property
    def ndim(self) -> int:
        return len(self.spatial)

    @property
    def gmac(self) -> float:
        per_input = self.cout // self.groups * math.prod(self.kernel)
        return self.n * self.cin * math.prod(self.spatial) * per_input / 1e9

    @property
    def geometry(self) -> Report:
        """Keywords of `gpu_transconv.conv_transpose`."""
        names = ("stride", "padding", "output_padding", "dilation", "groups")
        return {name: getattr(self, name) for name in names}

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (self.cin, self.cout // self.groups, *self.kernel)

    def plan(self, dtype: str = "float32", data_format: str = "channels_first") -> Plan:
        """The package's plan, which also says how many operations and bytes the layer needs."""
        last = data_format == "channels_last"
        x = (self.n, *self.spatial, self.cin) if last else (self.n, self.cin, *self.spatial)
        params = make_params(self.ndim, data_format=data_format, **self.geometry)
        bias = ArraySpec((self.cout,), dtype)
        return plan_call(params, ArraySpec(x, dtype), ArraySpec(self.weight_shape, dtype), bias)

    def as_dict(self) -> Report:
        return asdict(self) | {"gmac": self.gmac}


def load_layers(path: Path) -> list[Layer]:
    """Read a JSON list of layers; n, stride, padding, output_padding, dilation and groups have defaults.

    Raises
    ------
    ValueError
        If an entry lacks a field or describes no valid layer; the message names it.
    """
    entries = json.loads(Path(path).read_text(encoding="utf-8"))
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path}: expected a list with at least one layer")
    return [_layer_from(entry, f"{path}, entry {i}") for i, entry in enumerate(entries)]


@cache
def shipped() -> Mapping[str, Layer]:
    """Return the layers of the package by name."""
    return {layer.name: layer for layer in load_layers(REAL_LAYERS)}


def _layer_from(entry: Any, where: str) -> Layer:
    try:
        ndim = len(entry["spatial"])
        ones, zeros = [1] * ndim, [0] * ndim
        defaults = {"n": 1, "stride": ones, "padding": zeros, "output_padding": zeros, "dilation": ones}
        known = {f.name for f in fields(Layer)}
        values: Report = {key: value for key, value in (defaults | entry).items() if key in known}
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        layer = Layer(**values)
        if layer.cin % layer.groups or layer.cout % layer.groups:
            raise ValueError(f"groups must divide the channels, got {layer.groups}, {layer.cin}, {layer.cout}")
        layer.plan()
    except (KeyError, TypeError, ValueError) as error:
        name = entry.get("name", "") if isinstance(entry, dict) else ""
        raise ValueError(f"{where} {name!r} is no valid layer: {error!r}") from None
    return layer


def random_layers(count: int, seed: int, around: Sequence[Layer], max_gmac: float) -> list[Layer]:
    """Draw `count` valid layers whose sizes and geometry vary those of `around`; the seed fixes them."""
    rng = random.Random(seed)
    found: list[Layer] = []
    while len(found) < count:
        layer = _vary(rng, rng.choice(around), f"random_{seed}_{len(found)}")
        try:
            plan = layer.plan()
        except ValueError:  # padding left no output
            continue
        if layer.gmac <= max_gmac and plan.bytes <= _MAX_RANDOM_BYTES:
            found.append(layer)
    return found


def small_layers(count: int, seed: int) -> list[Layer]:
    """Draw `count` layers with few inputs and many weights: up to 8 x 8 or 6 x 6 x 6 inputs, 64 to 1024 channels."""
    rng = random.Random(seed)
    return [_small(rng, f"small_{seed}_{number}") for number in range(count)]


def _small(rng: random.Random, name: str) -> Layer:
    ndim = rng.choice((2, 3))
    side, kernel = rng.randint(1, 8 if ndim == 2 else 6), rng.randint(2, 5 if ndim == 2 else 3)
    stride = rng.choice((1, 2, 2, kernel))
    cin = 8 * round(2 ** rng.uniform(3, 7))
    padding = rng.randint(0, (kernel - 1) // 2) if side > 1 else 0
    cout = max(32, cin // rng.choice((1, 2, 2, 4)))
    spatial, kernels, strides, paddings = ((size,) * ndim for size in (side, kernel, stride, padding))
    return Layer(
        name, 1, cin, cout, spatial, kernels, strides, paddings, (0,) * ndim, (1,) * ndim,
        model="few inputs, many weights",
    )  # fmt: skip


def _vary(rng: random.Random, base: Layer, name: str) -> Layer:
    def near(size: int) -> int:
        return max(1, round(size * math.exp(rng.uniform(math.log(0.4), math.log(2)))))

    groups = base.groups if base.groups > 1 else rng.choice((1, 1, 1, 1, 2, 4))
    axes = range(base.ndim)
    stride = tuple(rng.choice((base.stride[i], base.stride[i], 1, 2, 3, 4)) for i in axes)
    kernel = tuple(
        rng.choice((base.kernel[i], max(1, round(s * rng.choice((0.5, 1, 1.5, 2, 2, 3))))))
        for i, s in zip(axes, stride, strict=True)
    )
    dilation = tuple(rng.choice((*base.dilation[i : i + 1], 1, 1, 1, 2)) for i in axes)
    return Layer(
        name=name,
        n=near(base.n),
        cin=groups * near(max(1, base.cin // groups)),
        cout=groups * near(max(1, base.cout // groups)),
        spatial=tuple(near(size) for size in base.spatial),
        kernel=kernel,
        stride=stride,
        padding=tuple(rng.randint(0, d * (k - 1) // 2) for k, d in zip(kernel, dilation, strict=True)),
        output_padding=tuple(rng.choice((0, rng.randrange(max(s, d)))) for s, d in zip(stride, dilation, strict=True)),
        dilation=dilation,
        groups=groups,
        model=f"around {base.name}",
    )


@dataclass(frozen=True, eq=False)
class Problem:
    """A layer with its arrays."""

    layer: Layer
    dtype: str
    data_format: str
    x: HostArray
    weight: HostArray
    bias: HostArray

    @cached_property
    def plan(self) -> Plan:
        return self.layer.plan(self.dtype, self.data_format)

    @cached_property
    def expected(self) -> HostArray:
        """The result by torch in float64, or by the definition; nothing of the package's kernels."""
        if self.layer.gmac > _REFERENCE_GMAC:
            try:
                return self._expected_of_torch()
            except ImportError:
                pass
        geometry = self.layer.geometry
        geometry["padding"] = [(p, p) for p in geometry["padding"]]
        last = self.data_format == "channels_last"
        return reference.conv_transpose(self.x, self.weight, self.bias, channels_last=last, **geometry)

    def _expected_of_torch(self) -> HostArray:
        import torch

        last = self.data_format == "channels_last"
        x = np.moveaxis(self.x, -1, 1) if last else self.x
        arrays = [torch.from_numpy(np.ascontiguousarray(a, np.float64)) for a in (x, self.weight, self.bias)]
        function = getattr(torch.nn.functional, f"conv_transpose{self.layer.ndim}d")
        result = function(*arrays, **self.layer.geometry).numpy()
        return np.moveaxis(result, 1, -1) if last else result

    @property
    def tolerance(self) -> float:
        """Allowed error over the largest expected value; it grows as the root of the number of products."""
        taps = math.prod(max((len(p.taps) for p in axis.phases), default=0) for axis in self.plan.axes)
        products = taps * self.layer.cin // self.layer.groups
        rounding = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}
        sums = rounding[self.plan.accumulate] * 4 * math.sqrt(products)
        return max(sums, 16 * rounding[self.dtype])

    def error(self, result: HostArray) -> float:
        """Largest error over the largest expected value; infinite for a wrong shape or dtype, or a NaN."""
        expected = self.expected
        if result.shape != expected.shape or result.dtype.name != self.dtype:
            return math.inf
        error = float(np.max(np.abs(result.astype(np.float64) - expected))) / float(np.max(np.abs(expected)))
        return math.inf if math.isnan(error) else error


def make_problem(layer: Layer, dtype: str, data_format: str = "channels_first", seed: int = 0) -> Problem:
    """Fill the arrays with numbers between -1 and 1 that depend on the seed and the layer's name."""
    if dtype == "bfloat16":
        import ml_dtypes  # noqa: F401  (registers the name)
    rng = np.random.default_rng([seed, zlib.crc32(layer.name.encode())])
    x = (layer.n, layer.cin, *layer.spatial)
    if data_format == "channels_last":
        x = (layer.n, *layer.spatial, layer.cin)
    shapes = (x, layer.weight_shape, (layer.cout,))
    arrays = [(rng.random(shape, np.float32) * 2 - 1).astype(dtype) for shape in shapes]
    return Problem(layer, dtype, data_format, *arrays)
