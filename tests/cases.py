"""The named problems that every kernel is held against."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FLOATS = ("float16", "bfloat16", "float32", "float64")
COMPLEX = ("complex64", "complex128")
INTEGERS = ("int32", "int64")
DATA_FORMATS = ("channels_first", "channels_last")


@dataclass(frozen=True)
class Case:
    """One problem; `x` is the channels-first shape, `keywords` go to the public function as they are."""

    name: str
    x: tuple[int, ...]
    weight: tuple[int, ...]
    bias: bool = False
    core: bool = False
    keywords: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ndim(self) -> int:
        return len(self.weight) - 2

    @property
    def unbatched(self) -> bool:
        return len(self.x) == self.ndim + 1

    @property
    def out_channels(self) -> int:
        return self.weight[1] * self.keywords.get("groups", 1)

    @property
    def geometry(self) -> dict[str, Any]:
        """Keywords of `reference.conv_transpose`, worked out here and not by the package."""
        given = dict(self.keywords)
        sizes, kernel = self.x[-self.ndim :], self.weight[2:]
        stride, dilation, extra = (_per_axis(given.pop(k, d), self.ndim) for k, d in _DEFAULTS.items())
        full = [(i - 1) * s + d * (k - 1) + 1 for i, s, d, k in zip(sizes, stride, dilation, kernel, strict=True)]
        padding = given.pop("padding", 0)
        if padding == "same":
            surplus = [f - i * s for f, i, s in zip(full, sizes, stride, strict=True)]
            pairs = [(max(v, 0) // 2, max(v, 0) - max(v, 0) // 2) for v in surplus]
            extra = [max(-v, 0) for v in surplus]
        else:
            entries = _per_axis(0 if padding == "valid" else padding, self.ndim)
            pairs = [(v, v) if isinstance(v, int) else v for v in entries]
        wanted = given.pop("output_size", None)
        if wanted is not None:
            least = [f - low - high for f, (low, high) in zip(full, pairs, strict=True)]
            extra = [w - v for w, v in zip(_per_axis(wanted, self.ndim), least, strict=True)]
        activation = given.pop("activation", None)
        if isinstance(activation, tuple):
            activation, given["slope"] = activation
        given |= {"stride": stride, "dilation": dilation, "output_padding": extra, "padding": pairs}
        return given | {"activation": activation}

    @property
    def reduction(self) -> int:
        """The largest number of products that one output element sums."""
        taps = [
            math.ceil(k / (s // math.gcd(s, d)))
            for k, s, d in zip(self.weight[2:], self.geometry["stride"], self.geometry["dilation"], strict=True)
        ]
        return self.weight[0] // self.keywords.get("groups", 1) * math.prod(taps)

    def takes(self, dtype: str) -> bool:
        """Whether the activation means something for `dtype`."""
        activation = self.geometry["activation"]
        if dtype in INTEGERS:
            return activation in (None, "relu")
        return dtype in FLOATS or activation in (None, "tanh", "sigmoid", "silu")


_DEFAULTS = {"stride": 1, "dilation": 1, "output_padding": 0}


def _per_axis(value: Any, ndim: int) -> list[Any]:
    return [value] * ndim if isinstance(value, int) else list(value)


def _case(name: str, x: tuple[int, ...], weight: tuple[int, ...], *flags: str, **keywords: Any) -> Case:
    assert set(flags) <= {"bias", "core"}, flags
    return Case(name, x, weight, "bias" in flags, "core" in flags, keywords)


CASES = (
    _case("1d-plain", (1, 2, 5), (2, 3, 3)),
    _case("1d-kernel-1", (2, 3, 9), (3, 4, 1), "bias"),
    _case("1d-kernel-is-stride", (1, 3, 7), (3, 4, 2), "core", stride=2),
    _case("1d-kernel-is-twice-stride", (1, 3, 7), (3, 4, 4), "bias", "core", stride=2, padding=1),
    _case("1d-kernel-below-stride", (1, 3, 6), (3, 2, 2), "bias", stride=5),
    _case("1d-kernel-no-multiple", (2, 3, 6), (3, 2, 5), stride=3, padding=1),
    _case("1d-long-kernel", (1, 4, 30), (4, 1, 40), "bias", "core", stride=10, padding=15),
    _case("1d-wide-row", (1, 5, 131), (5, 6, 16), "bias", stride=8, padding=4),
    _case("1d-wide-row-one-channel", (1, 1, 200), (1, 1, 7), stride=2, padding=3, output_padding=1),
    _case("1d-dilated-co-prime", (1, 3, 8), (3, 4, 3), stride=2, dilation=3, padding=2),
    _case("1d-dilated-shared-factor", (1, 3, 8), (3, 4, 3), "bias", stride=4, dilation=6, padding=1),
    _case("1d-dilation-is-stride", (1, 3, 8), (3, 4, 4), "bias", stride=3, dilation=3),
    _case("1d-audio-crop", (1, 6, 21), (6, 3, 9), stride=5, padding=[(4, 0)]),
    _case("1d-grouped", (2, 6, 9), (6, 2, 4), "bias", stride=2, padding=1, groups=3),
    _case("1d-stride-above-input", (1, 2, 3), (2, 2, 4), "bias", stride=7),
    _case("1d-output-size", (1, 2, 6), (2, 3, 3), stride=4, output_size=25),
    _case("1d-unbatched", (3, 7), (3, 4, 3), "bias", stride=2),
    _case("1d-one-element", (1, 4, 1), (4, 5, 1)),
    _case("1d-one-element-shifted", (2, 3, 1), (3, 4, 4), "bias", stride=3, padding=[(1, 0)], output_padding=1),
    _case("1d-one-element-dilated", (1, 3, 1), (3, 4, 3), "bias", dilation=2, padding=[(0, 2)]),
    _case("1d-same-odd-surplus", (1, 2, 9), (2, 2, 5), stride=2, padding="same"),
    _case("1d-padding-over-kernel", (1, 2, 9), (2, 3, 3), stride=2, padding=4),
    _case("2d-plain", (1, 2, 4, 5), (2, 3, 3, 3)),
    _case("2d-kernel-1", (2, 5, 4, 6), (5, 7, 1, 1), "bias"),
    _case("2d-kernel-1-strided", (1, 3, 4, 5), (3, 4, 1, 1), "bias", stride=2),
    _case("2d-kernel-is-stride", (1, 4, 6, 5), (4, 6, 2, 2), "bias", "core", stride=2),
    _case("2d-kernel-is-stride-4", (1, 3, 4, 5), (3, 2, 4, 4), stride=4),
    _case("2d-kernel-is-twice-stride", (2, 5, 8, 7), (5, 6, 4, 4), "bias", "core", stride=2, padding=1),
    _case("2d-kernel-is-twice-stride-8", (1, 2, 3, 4), (2, 3, 8, 8), stride=4, padding=2),
    _case("2d-kernel-below-stride", (1, 3, 4, 5), (3, 4, 2, 2), "bias", "core", stride=3),
    _case("2d-kernel-no-multiple", (1, 3, 5, 4), (3, 4, 3, 3), "bias", stride=2, padding=1, output_padding=1),
    _case("2d-kernel-5-stride-3", (1, 2, 5, 6), (2, 3, 5, 5), stride=3, padding=2),
    _case("2d-stride-1", (1, 6, 9, 8), (6, 7, 3, 3), "bias", padding=1),
    _case("2d-stride-per-axis", (1, 3, 5, 6), (3, 4, 3, 4), stride=(1, 3), padding=(0, 2), output_padding=(0, 1)),
    _case("2d-not-square", (2, 3, 2, 11), (3, 4, 5, 2), "bias", stride=(3, 2), padding=(2, 0), dilation=(1, 2)),
    _case("2d-dilated-co-prime", (1, 3, 5, 5), (3, 4, 3, 3), stride=3, dilation=2, padding=2, output_padding=2),
    _case(
        "2d-dilated-shared-factor",
        (1, 3, 5, 4),
        (3, 4, 3, 3),
        "bias",
        "core",
        stride=2,
        dilation=2,
        padding=1,
    ),
    _case("2d-dilated-factor-per-axis", (1, 2, 4, 5), (2, 3, 3, 2), "bias", stride=(4, 6), dilation=(2, 9)),
    _case("2d-dilated-stride-1", (1, 3, 6, 7), (3, 4, 3, 3), dilation=(2, 3), padding=(2, 3)),
    _case("2d-grouped", (2, 8, 5, 4), (8, 3, 4, 4), "bias", "core", stride=2, padding=1, groups=2),
    _case("2d-grouped-odd", (1, 9, 4, 5), (9, 5, 3, 3), stride=2, groups=3, output_padding=1),
    _case("2d-depthwise", (1, 7, 6, 5), (7, 1, 4, 4), "bias", "core", stride=2, padding=1, groups=7),
    _case("2d-depthwise-bilinear", (1, 3, 5, 5), (3, 1, 16, 16), stride=8, padding=4, groups=3),
    _case("2d-depthwise-dilated", (1, 4, 5, 6), (4, 1, 2, 3), "bias", stride=2, dilation=2, padding=1, groups=4),
    _case("2d-depthwise-multiplier", (2, 5, 4, 6), (5, 3, 3, 3), "bias", stride=2, padding=1, groups=5),
    _case("2d-asymmetric-padding", (1, 3, 5, 6), (3, 4, 4, 5), "core", stride=2, padding=[(0, 3), (2, 1)]),
    _case(
        "2d-asymmetric-with-extra",
        (1, 2, 4, 4),
        (2, 3, 3, 3),
        stride=3,
        padding=[(2, 0), (0, 2)],
        output_padding=(2, 1),
    ),
    _case("2d-same-odd-surplus", (1, 3, 5, 6), (3, 4, 3, 5), "bias", stride=2, padding="same"),
    _case("2d-same-even-surplus", (1, 3, 5, 6), (3, 4, 4, 4), stride=2, padding="same"),
    _case("2d-same-kernel-below-stride", (1, 3, 4, 3), (3, 2, 2, 1), "bias", stride=3, padding="same"),
    _case("2d-same-dilated", (1, 2, 5, 4), (2, 3, 3, 2), stride=(2, 3), dilation=(3, 2), padding="same"),
    _case("2d-valid", (1, 2, 3, 4), (2, 2, 3, 2), stride=2, padding="valid"),
    _case("2d-extra-per-axis", (1, 3, 3, 4), (3, 2, 2, 3), "bias", stride=(4, 2), output_padding=(3, 1)),
    _case(
        "2d-extra-from-dilation",
        (1, 2, 4, 4),
        (2, 3, 2, 3),
        stride=1,
        dilation=4,
        output_padding=(3, 2),
        padding=1,
    ),
    _case("2d-output-size", (1, 3, 4, 5), (3, 2, 3, 3), stride=3, padding=1, output_size=(11, 13)),
    _case("2d-padding-over-kernel", (1, 2, 7, 8), (2, 3, 3, 2), "bias", stride=2, padding=(5, 4)),
    _case("2d-one-by-one-map", (2, 6, 1, 1), (6, 9, 4, 4), "bias", "core"),
    _case("1d-kernel-1-shifted", (2, 3, 1), (3, 4, 1), dilation=2, padding=[(1, 0)], output_padding=1),
    _case("1d-one-output-of-the-last-input", (2, 3, 5), (3, 4, 4), padding=[(7, 0)]),
    _case("1d-empty-batch-of-one-element", (0, 4, 1), (4, 5, 1)),
    _case("2d-one-output-of-one-input", (2, 3, 1, 1), (3, 4, 3, 2), "bias", "core", padding=[(1, 1), (1, 0)]),
    _case("2d-one-pixel-left", (1, 3, 2, 2), (3, 4, 2, 2), "bias", stride=2, padding=[(1, 2), (2, 1)]),
    _case("2d-one-output-channel", (1, 11, 6, 7), (11, 1, 4, 4), "bias", "core", stride=2, padding=1),
    _case("2d-one-input-channel", (1, 1, 6, 7), (1, 9, 3, 3), stride=2),
    _case("2d-rgb", (1, 8, 9, 10), (8, 3, 6, 6), "bias", "core", stride=3, padding=2, activation="tanh"),
    _case("2d-unbatched", (3, 5, 6), (3, 4, 3, 3), "core", stride=2, padding=1),
    _case("2d-batch-3", (3, 4, 5, 5), (4, 5, 4, 4), stride=2, padding=1),
    _case("2d-wide-row", (1, 3, 2, 70), (3, 2, 4, 4), "bias", stride=2, padding=1),
    _case("2d-tall", (1, 2, 75, 1), (2, 3, 3, 1), stride=(2, 1)),
    _case("2d-stride-above-input", (1, 3, 2, 3), (3, 4, 3, 2), "bias", stride=(5, 4), padding=1),
    _case("2d-kernel-above-input", (1, 2, 2, 3), (2, 3, 7, 9), stride=2, padding=(3, 4)),
    _case(
        "2d-many-channels",
        (1, 37, 4, 5),
        (37, 45, 3, 3),
        "bias",
        "core",
        stride=2,
        padding=1,
        output_padding=1,
    ),
    _case("2d-many-channels-twice-stride", (1, 33, 5, 7), (33, 66, 4, 4), stride=2, padding=1),
    _case("2d-many-channels-one-by-one", (2, 50, 3, 3), (50, 35, 2, 2), "bias", stride=2, activation="relu"),
    _case("2d-empty-batch", (0, 3, 4, 5), (3, 4, 3, 3), "bias", stride=2),
    _case("2d-relu", (1, 3, 4, 5), (3, 4, 4, 4), "core", stride=2, padding=1, activation="relu"),
    _case("2d-leaky-relu", (1, 3, 4, 5), (3, 4, 4, 4), "bias", stride=2, activation="leaky_relu"),
    _case("2d-leaky-relu-slope", (1, 3, 4, 5), (3, 4, 2, 2), "bias", stride=3, activation=("leaky_relu", 0.2)),
    _case("2d-sigmoid", (1, 3, 4, 5), (3, 4, 4, 4), "bias", "core", stride=2, padding=1, activation="sigmoid"),
    _case("2d-silu-no-tap-phases", (1, 3, 4, 5), (3, 4, 2, 2), "bias", "core", stride=3, activation="silu"),
    _case("2d-gelu", (1, 3, 4, 5), (3, 4, 3, 3), "bias", stride=2, groups=1, activation="gelu"),
    _case("3d-plain", (1, 2, 3, 2, 4), (2, 3, 2, 3, 2)),
    _case("3d-kernel-is-stride", (1, 3, 2, 3, 4), (3, 4, 2, 2, 2), "bias", "core", stride=2),
    _case("3d-kernel-is-twice-stride", (1, 3, 3, 4, 3), (3, 2, 4, 4, 4), "core", stride=2, padding=1),
    _case("3d-kernel-below-stride", (1, 2, 2, 3, 2), (2, 3, 1, 2, 2), "bias", stride=(2, 3, 3)),
    _case(
        "3d-mixed",
        (2, 4, 2, 3, 4),
        (4, 3, 3, 2, 3),
        "bias",
        "core",
        stride=(1, 2, 3),
        dilation=(2, 1, 3),
        groups=2,
        padding=[(1, 2), (0, 1), (3, 0)],
        output_padding=(1, 0, 2),
    ),
    _case("3d-depthwise", (1, 4, 2, 3, 4), (4, 1, 3, 3, 3), stride=2, padding=1, output_padding=1, groups=4),
    _case("3d-same", (1, 2, 3, 2, 4), (2, 3, 3, 4, 1), "bias", stride=2, padding="same"),
    _case("3d-unbatched-one-channel", (1, 3, 4, 5), (1, 1, 3, 3, 3), stride=2, activation="gelu"),
    _case("3d-one-by-one-map", (2, 5, 1, 1, 1), (5, 6, 2, 3, 2), "bias", stride=2),
)
CORE = tuple(case for case in CASES if case.core)


def named(name: str) -> Case:
    """The case of that name."""
    return next(case for case in CASES if case.name == name)
