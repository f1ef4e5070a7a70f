"""What the kernels need of Numba and its settings, so that a call is refused in words instead of failing inside."""

from __future__ import annotations

from importlib import import_module

from numba import config

from .threads import GROUPS, LAYERS, choose_layer

_INSTEAD = 'or ask for backend="reference" (GPU_TRANSCONV_BACKEND=reference), which is slow'


def unmet() -> str | None:
    """Return the first requirement that does not hold, or None."""
    if config.DISABLE_JIT:
        return f"NUMBA_DISABLE_JIT is set, and its kernels exist as machine code only; unset it, {_INSTEAD}"
    if config.NUMBA_NUM_THREADS < 1:
        return f"NUMBA_NUM_THREADS must be a number >= 1, got {config.NUMBA_NUM_THREADS}"
    features = config.CPU_FEATURES
    if any(word.strip()[:1] not in "+-" for word in (features or "").split(",")):  # LLVM would end the process
        return f"NUMBA_CPU_FEATURES must be names after + or -, such as +avx2,-avx512f, got {features!r}"
    priority = config.THREADING_LAYER_PRIORITY
    if sorted(priority) != sorted(LAYERS):
        given = " ".join(map(str, priority))
        return f"NUMBA_THREADING_LAYER_PRIORITY must be {', '.join(LAYERS)} in some order, got {given!r}"
    choose_layer()
    layer = str(config.THREADING_LAYER).lower()
    if layer not in (*LAYERS, *GROUPS):
        return f"NUMBA_THREADING_LAYER must be one of {', '.join((*LAYERS, *GROUPS))}, got {layer!r}"
    return _unloadable(layer)


def _unloadable(layer: str) -> str | None:
    """Why the layer that was named, or the one that a group stands for, cannot be loaded."""
    try:
        import_module(f"numba.np.ufunc.{LAYERS[{'safe': 'tbb'}.get(layer, layer)]}")
    except KeyError:  # a group with several layers
        return None
    except ImportError as error:
        return (
            f"the threading layer of NUMBA_THREADING_LAYER={layer} cannot be loaded ({error}); install tbb or unset it"
        )
    return None
