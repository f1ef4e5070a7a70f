"""Which backend, formulation, determinism and precision apply where a call does not say.

An explicit argument beats the innermost `use` block, which beats the environment, which beats the default.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

BACKENDS = ("cpu", "numba-cuda", "cupy", "reference")
FORMULATIONS = ("gather", "scatter")
PRECISIONS = ("highest", "tf32")

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


class Default(str):
    """The default of a keyword, which compares equal to its word but can be told from a caller's own."""

    __slots__ = ()


AUTO = Default("auto")
HIGHEST = Default("highest")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a call runs with once arguments, context and environment are merged."""

    backend: str = AUTO
    formulation: str = AUTO
    deterministic: bool | None = None
    precision: str = HIGHEST


_active: ContextVar[Settings | None] = ContextVar("gpu_transconv_settings", default=None)


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def _check(settings: Settings, prefix: str = "") -> Settings:
    _check_choice(prefix + "backend", settings.backend, ("auto", *BACKENDS))
    _check_choice(prefix + "formulation", settings.formulation, ("auto", *FORMULATIONS))
    _check_choice(prefix + "precision", settings.precision, PRECISIONS)
    if not isinstance(settings.deterministic, bool | None):
        raise ValueError(f"{prefix}deterministic must be None, True or False, got {settings.deterministic!r}")
    return settings


def _from_environment() -> Settings:
    def read(name: str) -> str:
        return os.environ.get(f"GPU_TRANSCONV_{name}", "").strip().lower()

    settings = Settings(backend=read("BACKEND") or AUTO, formulation=read("FORMULATION") or AUTO)
    for name, value, valid in (
        ("GPU_TRANSCONV_BACKEND", settings.backend, ("auto", *BACKENDS)),
        ("GPU_TRANSCONV_FORMULATION", settings.formulation, ("auto", *FORMULATIONS)),
    ):
        _check_choice(name, value, valid)
    word = read("DETERMINISTIC")
    if word and word not in _TRUE + _FALSE:
        raise ValueError(f"GPU_TRANSCONV_DETERMINISTIC must be one of {', '.join(_TRUE + _FALSE)}, got {word!r}")
    return replace(settings, deterministic=word in _TRUE) if word else settings


def resolve(
    backend: str = AUTO,
    formulation: str = AUTO,
    deterministic: bool | None = None,
    precision: str = HIGHEST,
) -> Settings:
    """Merge a call's arguments with the active `use` blocks and the environment.

    Raises
    ------
    ValueError
        If a name is not one of the valid ones; the message lists them.
    """
    base = _active.get() or _from_environment()
    return _check(
        Settings(
            base.backend if isinstance(backend, Default) else backend,
            base.formulation if isinstance(formulation, Default) else formulation,
            base.deterministic if deterministic is None else deterministic,
            base.precision if isinstance(precision, Default) else precision,
        )
    )


@contextmanager
def use(
    *,
    backend: str = AUTO,
    formulation: str = AUTO,
    deterministic: bool | None = None,
    precision: str = HIGHEST,
) -> Iterator[None]:
    """Set the defaults of every call inside the ``with`` block, in this thread only.

    Parameters
    ----------
    backend : {"auto", "cpu", "numba-cuda", "cupy", "reference"}, optional
        Backend of the calls that name none.
    formulation : {"auto", "gather", "scatter"}, optional
        Formulation of the calls that name none.
    deterministic : bool, optional
        Whether results must be bitwise repeatable.
    precision : {"highest", "tf32"}, optional
        Whether tensor cores may round float32 operands.

    Raises
    ------
    ValueError
        If a value is not one of those listed.

    Examples
    --------
    >>> import numpy as np, gpu_transconv as gtc
    >>> with gtc.use(backend="reference"):
    ...     gtc.conv_transpose1d(np.ones((1, 1, 2)), np.ones((1, 1, 2)), stride=2)
    array([[[1., 1., 1., 1.]]])
    """
    token = _active.set(resolve(backend, formulation, deterministic, precision))
    try:
        yield
    finally:
        _active.reset(token)
