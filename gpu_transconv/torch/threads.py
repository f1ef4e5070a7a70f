"""torch's threads, which the kernels use in calls with tensors."""

from __future__ import annotations

from pathlib import Path

import torch

from ..kernels.cpu.runtime.openmp import OpenMP


def _find() -> OpenMP | None:
    """GNU's OpenMP as torch's wheels for Linux bring it; None where torch has another one, or was built without."""
    folder = Path(torch.__file__).parent
    for path in (*folder.glob("lib/libgomp*.so*"), *folder.parent.glob("torch.libs/libgomp*.so*")):
        try:
            return OpenMP(str(path))
        except (OSError, AttributeError):  # not in this process, or of another kind
            continue
    return None


OPENMP = _find()
