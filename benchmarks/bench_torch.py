"""What a call with PyTorch's tensors costs: 1 x 1 x 4 elements, by our function and module, and by torch's.

Run by asv, or as ``python -m benchmarks.bench_torch``, which prints the times beside each other, taken in turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gpu_transconv as gtc

from .harness import ONCE, TIMEOUT

_CALLS, _TRIES = (20, 1) if ONCE else (2000, 15)
OURS, THEIRS = ("ours", "our module"), ("torch.nn.functional", "torch.nn.ConvTranspose1d")
WAYS = OURS + THEIRS
MODES = ("no gradient", "weight", "input and weight", "weight changed before", "forward and backward")


def make_call(way: str, mode: str) -> Callable[[], Any]:
    """Return a call without arguments, whose result has been compared with torch's."""
    try:
        import torch

        conv_transpose1d, module = gtc.torch.conv_transpose1d, gtc.torch.ConvTranspose1d(1, 1, 4)
    except (ImportError, AttributeError) as error:  # no PyTorch, or a commit without
        raise NotImplementedError(str(error)) from None

    layer = torch.nn.ConvTranspose1d(1, 1, 4)
    module.load_state_dict(layer.state_dict())
    x = torch.randn(1, 1, 4, requires_grad=mode in MODES[2:])
    calls = {
        "ours": lambda: conv_transpose1d(x, layer.weight, layer.bias),
        "our module": lambda: module(x),
        "torch.nn.functional": lambda: torch.nn.functional.conv_transpose1d(x, layer.weight, layer.bias),
        "torch.nn.ConvTranspose1d": lambda: layer(x),
    }
    torch.testing.assert_close(calls[way](), layer(x))
    call = calls[way]
    if mode == "no gradient":
        return torch.no_grad()(call)
    if mode == "weight changed before":
        weight = module.weight if way == "our module" else layer.weight
        return lambda: (torch.autograd.graph.increment_version(weight), call())
    if mode == "forward and backward":
        grad = torch.ones_like(layer(x))
        return lambda: call().backward(grad)
    return call


def microseconds(call: Callable[[], Any]) -> float:
    """Mean time of some calls."""
    start = time.perf_counter()
    for _ in range(_CALLS):
        call()
    return (time.perf_counter() - start) / _CALLS * 1e6


class Call:
    """Times of each way on its own."""

    params = (OURS[:1], MODES[-1:]) if ONCE else (WAYS, MODES)
    param_names = ("way", "gradients")
    timeout = TIMEOUT
    unit = "us"

    def setup(self, way: str, mode: str) -> None:
        self.call = make_call(way, mode)

    def track_call(self, way: str, mode: str) -> float:  # noqa: ARG002
        return min(microseconds(self.call) for _ in range(_TRIES))

    track_call.unit = "us"


def main() -> None:
    """Print a row per kind of gradient: minima of several rounds in which the ways take turns."""
    for mode in MODES:
        calls = {way: make_call(way, mode) for way in WAYS}
        rounds = [{way: microseconds(call) for way, call in calls.items()} for _ in range(_TRIES)]
        best = {way: min(times[way] for times in rounds) for way in WAYS}
        for way in OURS:
            ratios = "".join(f"  {best[way] / best[other]:.2f} of {other}" for other in THEIRS)
            print(f"{mode:22} {way:11} {best[way]:7.1f} us{ratios}", flush=True)


if __name__ == "__main__":
    main()
