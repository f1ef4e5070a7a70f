"""Which backend, formulation, determinism and precision apply where a call does not say, and how many threads.

An explicit argument beats the innermost `use` block, which beats the environment, which beats the default.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import index
from typing import Any, SupportsIndex

from .words import did_you_mean

#: What callers may ask for; `gpu_transconv.kernels.registry` has the same backends.
BACKENDS = ("cpu", "numba-cuda", "cupy", "reference")
FORMULATIONS = ("gather", "scatter")
PRECISIONS = ("highest", "tf32", "fast")

_VARIABLES = ("GPU_TRANSCONV_BACKEND", "GPU_TRANSCONV_FORMULATION", "GPU_TRANSCONV_DETERMINISTIC")
# Straight from where os.environ keeps them, where that is known: a look-up takes a tenth of the time.
_STORE: Any = getattr(os.environ, "_data", os.environ)
_KEYS = _VARIABLES if _STORE is os.environ else tuple(map(os.environ.encodekey, _VARIABLES))
_look_up, (_BACKEND, _FORMULATION, _DETERMINISTIC) = _STORE.get, _KEYS
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
_POOL_BYTES = "GPU_TRANSCONV_POOL_BYTES"
_SIZE = re.compile(r"(\d+)\s*([kmgt]?)(?:i?b)?", re.ASCII | re.IGNORECASE)
_FACTORS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


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
# Apart from the settings: no choice and no plan depends on it.
_threads: ContextVar[int | None] = ContextVar("gpu_transconv_threads", default=None)


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(map(repr, choices))
        raise ValueError(f"{name} must be one of {listed}, got {value!r}{did_you_mean(value, choices)}")


def _check(settings: Settings, prefix: str = "") -> Settings:
    _check_choice(prefix + "backend", settings.backend, ("auto", *BACKENDS))
    _check_choice(prefix + "formulation", settings.formulation, ("auto", *FORMULATIONS))
    _check_choice(prefix + "precision", settings.precision, PRECISIONS)
    if not isinstance(settings.deterministic, bool | None):
        raise ValueError(f"{prefix}deterministic must be None, True or False, got {settings.deterministic!r}")
    return settings


def _from_environment(*words: str) -> Settings:
    """Read the values of `_VARIABLES`, and refuse what is wrong elsewhere in the environment."""
    pool_bytes()
    backend, formulation, deterministic = (word.strip().lower() for word in words)
    settings = Settings(backend=backend or AUTO, formulation=formulation or AUTO)
    _check_choice(_VARIABLES[0], settings.backend, ("auto", *BACKENDS))
    _check_choice(_VARIABLES[1], settings.formulation, ("auto", *FORMULATIONS))
    if deterministic and deterministic not in _TRUE + _FALSE:
        raise ValueError(f"{_VARIABLES[2]} must be one of {', '.join(_TRUE + _FALSE)}, got {deterministic!r}")
    return replace(settings, deterministic=deterministic in _TRUE) if deterministic else settings


def pool_bytes() -> int:
    """Return how many bytes of results are held for later: ``GPU_TRANSCONV_POOL_BYTES``, or 1 GiB.

    The variable is a number of bytes, or of K, M, G or T, the powers of 1024: 0, 67108864, 512M, 2 GiB.
    """
    word = os.environ.get(_POOL_BYTES, "").strip() or "1G"
    found = _SIZE.fullmatch(word)
    if found is None:
        raise ValueError(f"{_POOL_BYTES} must be a number of bytes such as 0, 67108864, 512M or 2G, got {word!r}")
    return int(found[1]) * _FACTORS[found[2].lower()]


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
    arguments = *in_force(), backend, formulation, deterministic, precision
    try:
        return _merge(*arguments)
    except TypeError:  # an argument that cannot be a key; the check names it
        return _merge.__wrapped__(*arguments)


def in_force() -> tuple[Settings | None, tuple[str | bytes | None, ...]]:
    """What `resolve` adds to a call's arguments, as the key of a cache: the innermost `use` block, the environment."""
    return _active.get(), (_look_up(_BACKEND), _look_up(_FORMULATION), _look_up(_DETERMINISTIC))


@lru_cache(maxsize=256, typed=True)  # typed: a caller's "auto" is not the default "auto"
def _merge(
    active: Settings | None,
    environment: tuple[str | bytes | None, ...],
    backend: str,
    formulation: str,
    deterministic: bool | None,
    precision: str,
) -> Settings:
    base = active or _from_environment(*(os.fsdecode(word or "") for word in environment))
    return _check(
        Settings(
            base.backend if isinstance(backend, Default) else backend,
            base.formulation if isinstance(formulation, Default) else formulation,
            base.deterministic if deterministic is None else deterministic,
            base.precision if isinstance(precision, Default) else precision,
        )
    )


def most_threads() -> int | None:
    """How many threads the innermost `use` block that says so allows a CPU kernel; None outside of such blocks."""
    return _threads.get()


def _check_threads(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, SupportsIndex) or index(value) < 1:
        raise ValueError(f"threads must be None or an int >= 1, got {value!r}")
    return index(value)


@contextmanager
def use(
    *,
    backend: str = AUTO,
    formulation: str = AUTO,
    deterministic: bool | None = None,
    precision: str = HIGHEST,
    threads: int | None = None,
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
    precision : {"highest", "tf32", "fast"}, optional
        Whether tensor cores may round float32 operands.
    threads : int, optional
        Threads of a CPU kernel, at least 1. More than Numba has (``NUMBA_NUM_THREADS``, by default one per core) are
        as many as it has. Numba's own number, and that of other libraries, stays what it is. Results do not depend
        on it.

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
    count = most_threads() if threads is None else _check_threads(threads)
    token, threads_token = _active.set(resolve(backend, formulation, deterministic, precision)), _threads.set(count)
    try:
        yield
    finally:
        _active.reset(token)
        _threads.reset(threads_token)
