"""Transposed convolution as an accelerated operator: gather and scatter, on the CPU; on GPUs untried.

The functions take and return arrays of the caller's own kind:

>>> import numpy as np
>>> import gpu_transconv as gtc
>>> x = np.ones((1, 8, 16, 16), np.float32)
>>> weight = np.ones((8, 4, 4, 4), np.float32)
>>> gtc.conv_transpose2d(x, weight, stride=2, padding=1).shape
(1, 4, 32, 32)

`conv_transpose1d`, `conv_transpose2d`, `conv_transpose3d` and `conv_transpose` are the operator, `ConvTranspose` is one
with fixed weights. `use` sets defaults, `backends` tells what can run here, `explain` what would run and why, and
`last_choice` what did. `StreamingConvTranspose` takes its input in chunks. Imported when first used: `operators`, the
operator as a matrix; `signal`, SciPy's `upfirdn`; `onnx`, an operator for ONNX's reference evaluator; `torch`, the
operator on PyTorch's tensors, with gradients, and in whole models; `jax`, `openvino` and `dask`, the operator there.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

from . import api, dynamo
from ._version import __version__
from .api import conv_transpose, conv_transpose1d, conv_transpose2d, conv_transpose3d
from .dispatch.select import last_choice
from .errors import BackendUnavailableError, CacheWarning
from .gradients import conv_transpose_input_grad, conv_transpose_weight_grad
from .kernels.registry import backends
from .prepared import ConvTranspose
from .settings import use
from .streaming import StreamingConvTranspose
from .words import did_you_mean as _did_you_mean

if _TYPE_CHECKING:
    from . import dask as dask
    from . import jax as jax
    from . import onnx as onnx
    from . import openvino as openvino
    from . import operators, signal
    from . import torch as torch
    from .dispatch.explain import Explanation, explain

dynamo.stay_out((api, "_run"), (ConvTranspose, "__call__"), (ConvTranspose, "tune"))

__all__ = [
    "BackendUnavailableError",
    "CacheWarning",
    "ConvTranspose",
    "Explanation",
    "StreamingConvTranspose",
    "__version__",
    "backends",
    "conv_transpose",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "conv_transpose_input_grad",
    "conv_transpose_weight_grad",
    "explain",
    "last_choice",
    "operators",
    "signal",
    "use",
]

#: What is imported when first used: names, and the module that has each, or is it.
_LAZY = {
    "Explanation": ".dispatch.explain",
    "dask": ".dask",
    "explain": ".dispatch.explain",
    "jax": ".jax",
    "onnx": ".onnx",
    "openvino": ".openvino",
    "operators": ".operators",
    "signal": ".signal",
    "torch": ".torch",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{_did_you_mean(name, (*__all__, *_LAZY))}")
    module = _import_module(_LAZY[name], __name__)
    # An adapter has its library under the very name by which the package has the adapter.
    globals()[name] = found = getattr(module, name) if _LAZY[name].startswith(".dispatch.") else module
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
