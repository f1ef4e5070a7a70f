"""PyTorch: the operator on tensors, differentiable, and in place of torch's own.

``accelerate``  whole models: modules change their class in place
``patch``       functional calls: torch's functions are replaced, until they are not
``modules``     `ConvTranspose1d`, `ConvTranspose2d`, `ConvTranspose3d`: torch's own with another `forward`
``classes``     which class a module changes to, and the way back
``streaming``   `StreamingConvTranspose`: a module whose input comes in chunks, on a layer's weights
``weights``     the weight of a module, where it is worked out from other tensors
``functional``  `conv_transpose1d`, `conv_transpose2d`, `conv_transpose3d`
``routes``      which way a call goes
``functions``   gradients, forward and reverse, of any order, and batches of calls: three maps, each by the other two
``batches``     what a batch of calls is as one call
``ops``         the operators of ``torch.ops.gpu_transconv``: for compilers, exporters, tensors without values
``kernels``     tensors to the package's launcher, without a copy
``threads``     torch's threads, which the kernels use
``packed``      weights in the kernels' order, kept as long as their tensor lives and holds the same values
``ready``       small layers called before, without a second look at their arguments
``views``       tensors on the CPU as NumPy's arrays
``decisions``   tensors' shapes and strides as plans of the package, with a kernel for each
``geometry``    torch's arguments, checked
``casting``     autocast
"""

from __future__ import annotations

from ..errors import missing_library

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise missing_library("PyTorch", "torch") from error

from .accelerate import accelerate, explain, restore
from .functional import conv_transpose1d, conv_transpose2d, conv_transpose3d
from .modules import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from .patch import patch, unpatch
from .streaming import StreamingConvTranspose

__all__ = [
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "StreamingConvTranspose",
    "accelerate",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "explain",
    "patch",
    "restore",
    "unpatch",
]
