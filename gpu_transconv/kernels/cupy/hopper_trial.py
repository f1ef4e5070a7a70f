"""A trial of the kernel for Hopper on the device at hand, before anything relies on it."""

from __future__ import annotations

import warnings

import numpy as np

from ...problem.arguments import make_params
from ...problem.plan import make_plan
from .bound_launch import bind_launch, run_launches
from .hopper import hopper_launches
from .memory import empty, refuse_capture
from .tile_shapes import DeviceProperties

#: Sizes for which tensor copies read halves of x, in more than one block of rows and of pixels.
_CHANNELS, _HEIGHT, _WIDTH, _OUT_CHANNELS, _STRIDE = 64, 4, 64, 40, 2
#: dtype, precision, data format: every way to read x, and to multiply.
_TRIALS = (
    ("float16", "highest", "channels_first"),
    ("float16", "highest", "channels_last"),
    ("float32", "tf32", "channels_first"),
    ("float32", "highest", "channels_last"),
)


def passes_trial(device: DeviceProperties, number: int) -> bool:
    """Whether the kernel computes small layers of all kinds as the definition does; if not, warn.

    Nothing but a device shows whether its matrix unit reads descriptors, and the driver maps, as is thought here. The
    numbers are small and whole, so that results are exact. It waits for the device, once per process.

    Raises
    ------
    RuntimeError
        If the current stream is being captured.
    """
    refuse_capture("the kernel for Hopper has not been tried on this device yet")
    try:
        wrong = [" ".join(trial) for trial in _TRIALS if not _is_right(device, number, *trial)]
    except RuntimeError as error:
        reason = str(error)
    else:
        if not wrong:
            return True
        reason = f"wrong results with {' and '.join(wrong)}"
    warnings.warn(
        f"device {number} computes without the kernel for Hopper's matrix unit, which failed its trial there: {reason}",
        RuntimeWarning,
        stacklevel=2,
    )
    return False


def _is_right(device: DeviceProperties, number: int, dtype: str, precision: str, data_format: str) -> bool:
    import cupy

    rng = np.random.default_rng(0)
    x = rng.integers(-2, 3, (1, _CHANNELS, _HEIGHT, _WIDTH)).astype(dtype)
    weight = rng.integers(-2, 3, (_CHANNELS, _OUT_CHANNELS, _STRIDE, _STRIDE)).astype(dtype)
    stamps = np.einsum("nchw,cokl->nohkwl", x, weight, dtype=np.float32)
    want = stamps.reshape(1, _OUT_CHANNELS, _STRIDE * _HEIGHT, _STRIDE * _WIDTH)
    if data_format == "channels_last":
        x, want = (np.ascontiguousarray(np.moveaxis(array, 1, -1)) for array in (x, want))
    params = make_params(2, stride=_STRIDE, data_format=data_format)
    plan = make_plan(params, x.shape, weight.shape, dtype, has_bias=False, precision=precision)
    planned = hopper_launches(plan, device)
    arrays = {"x": cupy.asarray(x), "weight": cupy.asarray(weight), "out": empty(want.shape, dtype), "bias": None}
    for buffer in planned.buffers:
        arrays[buffer.name] = cupy.zeros((buffer.size,), "uint8")
    run_launches([bind_launch(launch, number) for launch in (*planned.pack, *planned.launch)], arrays)
    return bool(np.array_equal(arrays["out"].get(), want))
