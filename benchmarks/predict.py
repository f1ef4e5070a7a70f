"""Predict times on an H100 from the launches that it would get; nothing is measured.

::

    python -m benchmarks.predict > docs/speed/performance-gpu.md

Per layer and precision: operations and bytes of the launches, tile by tile, against published peaks.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from gpu_transconv.kernels.cupy.choose import DirectGather, choose_gather
from gpu_transconv.kernels.cupy.hopper import best_gather_launches, choose_hopper
from gpu_transconv.kernels.cupy.hopper_product import BLOCK_ROWS, BOX_PIXELS
from gpu_transconv.kernels.cupy.launch_plan import Buffer, KernelLaunch, gather_launches, scatter_owned_launches
from gpu_transconv.kernels.cupy.owned_boxes import cheaper, cut_output
from gpu_transconv.kernels.cupy.tile_shapes import DeviceProperties
from gpu_transconv.problem.plan import Plan
from gpu_transconv.tools.bench.layers import REAL_LAYERS, Layer, load_layers
from gpu_transconv.tools.bench.report import geometric_mean

#: FLOP/s without sparsity and bytes per second of an H100 SXM5, https://www.nvidia.com/en-us/data-center/h100/
PEAK = {"float32": 67e12, "tf32": 494.5e12, "float16": 989.5e12}
BANDWIDTH = 3.35e12
#: What a product could reach: of float32 by ordinary multiply-adds, or by three of TF32 numbers.
ROOF = PEAK | {"float32": max(PEAK["float32"], PEAK["tf32"] / 3)}
#: What mma.sync reaches of the tensor cores' peak on Hopper, on average: Luo et al., arXiv:2402.13499.
MATRIX_FRACTION = 0.629
#: Assumed: from one kernel's end to the next one's first work.
LAUNCH_SECONDS = 2e-6
H100 = DeviceProperties(has_warpgroups=True)

_TEXT = """# Predicted: H100

No figure on this page has been measured. It is what `python -m benchmarks.predict` works out from the launches that an
H100 SXM5 would get, to be checked against `python -m benchmarks.gpu_check measure`.

- **Roofline**: the larger of the useful operations over the published peak (TF32 494.5, float16 989.5 TFLOP/s, without
  sparsity; float32 a third of the former, since three products of TF32 numbers are one of float32, where ordinary
  multiply-adds reach 67) and the compulsory bytes over 3.35 TB/s
  ([NVIDIA](https://www.nvidia.com/en-us/data-center/h100/)).
- **Predicted**: per launch, the larger of its arithmetic and its bytes, plus {launch:g} microseconds between kernels
  (assumed). Arithmetic counts whole tiles, padding and edges included, the last wave of blocks, idle multiprocessors,
  and what reads from shared memory cost beside the products. float32 is held against 67 TFLOP/s; TF32 and float16
  against {fraction:.1%} of the tensor cores' peak, which is what `mma.sync` reached on this architecture
  ([Luo et al., 2024](https://arxiv.org/abs/2402.13499)), or, where the kernel is `wgmma`, against the whole peak and
  the shares of it that `hopper_product.py` assumes; float32 there against that of TF32, with three times the work.
  Bytes are the compulsory ones, and scratch memory written and read once; all other reads are taken to come from the
  cache for nothing, and a copy is taken to reach the published bandwidth.
- **Kernel**: `rows x pixels` of a tile, `merged` where all phases are rows of one product, `/n` for a reduction
  split into n parts, `direct` and `rows` for the kernels without tiles, `owned` for scatter into tiles of the output,
  `wgmma` for the kernel of Hopper's matrix unit, with `loads` where threads load x, and `x3` where a product of float32
  is three of TF32 numbers; then the share of the products that is useful.
- **Instructions** of sm_90, counted in the machine code, not measured on a GPU: `tests/kernels/cupy/test_sass.py`
  holds the most of each. The loop of the 128x128 tile in float16 has 322 for 32 matrix instructions where the tile
  reads single pixels of channels, 216 where it reads 16 bytes of them (kernel = stride), and 235 with the channels
  last. A result takes 7 to be stored, four at once, where the phases of the last axis fill its stride (12 where they
  do not, or where some are cut off), and 10 with the channels last. A depthwise layer with kernel 4 and stride 2 on
  two axes takes 35 (float32) or 38 (float16) per output, products included, and 33 or 38 with the channels last. A
  layer of few channels takes 19 or 21 per output for its first product.

Channels first, batch as in `tools/bench/layers.json`, bias, the formulation that `auto` takes. Milliseconds.

"""


class Prediction(NamedTuple):
    """What a layer would take in one precision."""

    roofline: float
    seconds: float
    kernel: str
    useful: float


def predict(layer: Layer, precision: str, device: DeviceProperties = H100) -> Prediction:
    """Predict one layer, channels first."""
    dtype = "float32" if precision == "tf32" else precision
    plan = replace(layer.plan(dtype), precision="tf32" if precision == "tf32" else "highest")
    roofline = max(plan.flops / ROOF[precision], plan.bytes / BANDWIDTH)
    peak = PEAK[precision] * (1 if precision == "float32" else MATRIX_FRACTION)
    if cut := choose_hopper(plan, device):
        unit = "tf32" if cut.images == 2 else precision
        seconds, launches = 2 * cut.cost(device) / PEAK[unit], best_gather_launches(plan, device).launch
        executed = cut.work
        kernel = f"wgmma {cut.tile_blocks * BLOCK_ROWS}x{BOX_PIXELS}" + (" loads" if "LOAD" in cut.source else "")
        kernel += " x3" if cut.images == 2 else ""
    elif cheaper(plan, device) == "scatter":
        owned = cut_output(plan, device)
        seconds = 2 * owned.cost / peak
        executed = owned.work
        kernel = f"owned {owned.tile.shape.rows}x{owned.tile.shape.pixels}"
        launches = scatter_owned_launches(plan, device).launch
    else:
        chosen, launches = choose_gather(plan, device), gather_launches(plan, device).launch
        seconds = 2 * chosen.cost / (PEAK["float32"] if isinstance(chosen, DirectGather) else peak)
        executed, kernel = _executed(plan, device)
    memory = (plan.bytes + 2 * _scratch(launches)) / BANDWIDTH
    total = max(seconds, memory) + LAUNCH_SECONDS * len(launches)
    return Prediction(roofline, total, kernel, plan.flops / 2 / executed)


def _executed(plan: Plan, device: DeviceProperties) -> tuple[float, str]:
    """Multiply-adds that gather executes, and the name of its kernel."""
    chosen = choose_gather(plan, device)
    if isinstance(chosen, DirectGather):
        return plan.flops / 2, "rows" if chosen.row_stride else f"direct {chosen.channels}x{chosen.pixels}"
    shape, product = chosen.tile.shape, chosen.packed.product
    chunks = math.ceil(plan.in_channels // plan.groups / chosen.tile.depth)
    per_chunk = shape.rows * shape.pixels * chosen.tile.depth
    tiles = [
        count * math.ceil(columns / shape.pixels) * chosen.row_tiles * plan.groups * taps
        for count, columns, taps in product.alike()
    ]
    name = f"{shape.rows}x{shape.pixels}" + (" merged" if product.frame else "")
    return sum(tiles) * chunks * per_chunk, name + (f" /{chosen.parts}" if chosen.parts > 1 else "")


def _scratch(launches: Sequence[KernelLaunch]) -> int:
    """Bytes of the memory that launches hand on to each other."""
    buffers = {argument for launch in launches for argument in launch.arguments if isinstance(argument, Buffer)}
    return sum(buffer.size for buffer in buffers if buffer.name != "packed")


def make_page(layers: Sequence[Layer]) -> str:
    """Write the page: text, geometric means, and one line per layer."""
    found = {layer.name: {precision: predict(layer, precision) for precision in PEAK} for layer in layers}
    lines = [_TEXT.format(launch=LAUNCH_SECONDS * 1e6, fraction=MATRIX_FRACTION)]
    means = []
    for precision in PEAK:
        ratio = geometric_mean([row[precision].roofline / row[precision].seconds for row in found.values()])
        means.append(f"{precision} {ratio:.0%}")
    lines.append(f"Of the roofline, geometric mean over {len(layers)} layers: {', '.join(means)}.\n\n")
    head = [f"{precision} {what}" for precision in PEAK for what in ("roofline", "predicted", "kernel")]
    lines.append("| " + " | ".join(["layer", *head]) + " |\n")
    lines.append("| --- " * (1 + len(head)) + "|\n")
    for name, row in found.items():
        cells = [name]
        for one in row.values():
            cells += [f"{one.roofline * 1e3:.3g}", f"{one.seconds * 1e3:.3g}", f"{one.kernel}, {one.useful:.0%}"]
        lines.append("| " + " | ".join(cells) + " |\n")
    return "".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.predict", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--layers", type=Path, default=REAL_LAYERS, metavar="FILE", help="JSON list of layers")
    options = parser.parse_args(arguments)
    try:
        layers = load_layers(options.layers)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(make_page(layers), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
