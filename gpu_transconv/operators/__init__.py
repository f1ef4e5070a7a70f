"""The operator as a matrix: what M detects, what M.T generates, and which convolution M.T is.

M, an ordinary strided cross-correlation, takes a picture to its feature map; M.T is the transposed
convolution. `docs/guide/math.md` carries one small example through all of it. `conv_matrix` imports SciPy when it is
called, and `ConvOperator`, one of SciPy's classes, when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .convolution import Convolution, as_convolution
from .matrix import conv_matrix

if TYPE_CHECKING:
    from .linear import ConvOperator

__all__ = ["ConvOperator", "Convolution", "as_convolution", "conv_matrix"]


def __getattr__(name: str) -> type[ConvOperator]:
    if name == "ConvOperator":
        operator: type[ConvOperator] = import_module(".linear", __name__).ConvOperator
        return operator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
