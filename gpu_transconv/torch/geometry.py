"""torch's arguments as the package has them, and as an operator of ``torch.ops`` takes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeAlias

import torch

from ..problem.arguments import Activation, IntOrInts, Ints, Padding, Params, make_params
from ..settings import AUTO, HIGHEST, Settings, resolve

#: Specifications that are kept; as many as plans of the package's own functions.
_MOST = 1024
#: The arguments of an operator of `ops` besides tensors and sizes: stride, padding as (low, high) per axis one after
#: the other (empty for "same"), output_padding, dilation, groups, whether channels are last in any case, precision
#: (empty where torch's switches decide), deterministic, formulation, backend.
Flat: TypeAlias = tuple[Ints, Ints, Ints, Ints, int, bool, str, bool | None, str, str]


@dataclass(frozen=True, eq=False)
class Spec:
    """The arguments of a layer apart from tensors. There is one object per set of arguments, so that it is its own key.

    ``params.data_format`` is "channels_last" where the tensors are to be computed so whatever their strides; their
    shapes are always (N, C, *spatial).
    """

    params: Params
    settings: Settings

    def with_groups(self, groups: int) -> Spec:
        """Return the same with another number of groups."""
        return intern(replace(self.params, groups=groups), self.settings)

    @property
    def bare(self) -> Spec:
        """The same without an activation."""
        return intern(replace(self.params, activation=None, slope=0.0), self.settings)


@lru_cache(maxsize=_MOST)
def intern(params: Params, settings: Settings) -> Spec:
    """Return the one specification of its kind."""
    return Spec(params, settings)


@lru_cache(maxsize=_MOST, typed=True)
def spec_of(
    ndim: int, settings: Settings, stride: IntOrInts, padding: Padding, output_padding: IntOrInts, groups: int,
    dilation: IntOrInts, activation: Activation, data_format: str,
) -> Spec:  # fmt: skip
    """Check torch's arguments, and return them as a specification."""
    named = {"stride": stride, "output_padding": output_padding, "groups": groups, "dilation": dilation}
    for name, value in named.items():
        _check_ints(name, value)
    if not isinstance(padding, str):
        for entry in padding if isinstance(padding, Sequence) else (padding,):
            _check_ints("padding", entry)
    make_params(ndim, data_format=data_format, activation=activation)  # errors about these stay what they are
    with torch_errors():
        params = make_params(ndim, padding=padding, data_format=data_format, activation=activation, **named)
    return intern(params, settings)


def _check_ints(name: str, value: object) -> None:
    """Raise `TypeError` unless `value` is a number or a sequence of numbers that torch would take for ints."""
    for entry in value if isinstance(value, Sequence) and not isinstance(value, str) else (value,):
        if isinstance(entry, bool) or not hasattr(entry, "__index__"):
            raise TypeError(f"{name} must be an int or a sequence of ints, got {value!r}")


def settings_of(
    cuda: bool, precision: str | None, deterministic: bool | None, formulation: str, backend: str
) -> Settings:
    """Merge the words of a call with `gpu_transconv.use`, the environment, and torch's own switches."""
    if not precision:
        precision = "tf32" if cuda and torch.backends.cudnn.allow_tf32 else HIGHEST
    if deterministic is None and torch.are_deterministic_algorithms_enabled():
        deterministic = True
    return resolve(
        AUTO if backend == "auto" else backend, AUTO if formulation == "auto" else formulation, deterministic, precision
    )


def flat_of(spec: Spec) -> Flat:
    """Write a specification as an operator's arguments."""
    s = spec.settings
    return (*flat_params(spec.params), s.precision, s.deterministic, s.formulation, s.backend)


def flat_params(params: Params) -> tuple[Ints, Ints, Ints, Ints, int, bool]:
    """Write what is geometry as an operator's arguments."""
    padding = () if params.padding is None else tuple(end for pair in params.padding for end in pair)
    last = params.data_format == "channels_last"
    return params.stride, padding, params.output_padding, params.dilation, params.groups, last


@lru_cache(maxsize=_MOST)
def params_of(stride: Ints, padding: Ints, output_padding: Ints, dilation: Ints, groups: int, last: bool) -> Params:
    """Read an operator's arguments."""
    with torch_errors():
        return make_params(
            len(stride), stride=stride, padding=tuple(zip(padding[::2], padding[1::2], strict=True)) or "same",
            output_padding=output_padding, dilation=dilation, groups=groups,
            data_format="channels_last" if last else "channels_first",
        )  # fmt: skip


class torch_errors:  # noqa: N801
    """Context in which the errors of a plan become torch's: `RuntimeError`, and the tensor x is called input."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, ValueError | TypeError):
            raise RuntimeError(re.sub(r"\bx\b", "input", str(error))) from None
