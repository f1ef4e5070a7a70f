"""PyTorch: the operator on tensors, differentiable, and in place of torch's own.

``functional``  `conv_transpose1d`, `conv_transpose2d`, `conv_transpose3d`: which way a call goes
``functions``   gradients, forward and reverse, of any order, and batches of calls: three maps, each by the other two
``batches``     what a batch of calls is as one call
``ops``         the operators of ``torch.ops.gpu_transconv``: for compilers, exporters, tensors without values
``kernels``     tensors to the package's launcher, without a copy
``packed``      weights in the kernels' order, kept as long as their tensor lives and holds the same values
``geometry``    torch's arguments and tensors' strides as plans of the package
"""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        "gpu_transconv.torch needs PyTorch, which is not installed: pip install 'gpu_transconv[torch]'"
    ) from error

from .functional import conv_transpose1d, conv_transpose2d, conv_transpose3d

__all__ = ["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]
