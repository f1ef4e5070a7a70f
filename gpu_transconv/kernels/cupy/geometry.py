"""A product as kernels read it: struct Geometry of geometry.cuh, field for field, and how its weights are packed."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import lru_cache

from ...problem.arguments import ACTIVATIONS
from ...problem.axis import Axis
from ...problem.dtypes import DTYPES
from ...problem.plan import Plan
from ...problem.product import AxisFrame, Product
from ...problem.rewrites import kernel_axes

#: Activation name -> its code in numbers.cuh.
ACTIVATION_CODES: dict[str | None, int] = {None: 0, **{name: code for code, name in enumerate(ACTIVATIONS, 1)}}
#: Packed rows are a multiple of this, so that a channel's rows begin at 16 bytes for every dtype, the shortest of 2.
_ROW_MULTIPLE = 8
#: Bytes and elements of a run of results at most.
_RUN_BYTES, _MOST_RUN = 16, 4
#: Bound of positions on an axis, and of packed elements, below which indices are C's int: the kernels add two
#: positions, and a position outside the input is marked by -2^30.
_MOST_POSITIONS, _MOST_ELEMENTS = 1 << 29, 1 << 30


@dataclass(frozen=True)
class PackedProduct:
    """A product whose weights are packed, [group][tap][input channel][row], and the order of its rows.

    The columns of the product are the kernels' pixels.

    Attributes
    ----------
    product : Product
    pixels_first : bool
        Whether results are walked pixel by pixel, with row = channel*units + unit; else row = unit*channels + channel,
        and results are walked channel by channel.
    """

    product: Product
    pixels_first: bool

    @property
    def plan(self) -> Plan:
        """The plan of the product."""
        return self.product.plan

    @property
    def row_pitch(self) -> int:
        """Rows as packed, a multiple of 16 bytes for every dtype."""
        return _padded(self.product.rows)

    @property
    def elements(self) -> int:
        """Elements of the packed weights."""
        return self.product.taps * self.plan.in_channels * self.row_pitch


def pack_product(product: Product, channel_major: bool = False) -> PackedProduct:
    """Order rows as the output lies in memory, or with the units of each channel together where `channel_major`."""
    return PackedProduct(product, channel_major or not product.plan.channels_last)


@lru_cache(maxsize=512)
def is_covered(axis: Axis) -> bool:
    """Whether stamps that do not meet fill an axis: each hits as many outputs as there are."""
    return sum(len(axis.inputs_of(tap)) for tap in range(axis.kernel)) == axis.output_size


def index_type(plan: Plan) -> str:
    """C type of indices: int where all positions and offsets fit, with room to add two of them."""
    # The packed weights have at most so many elements in any product: rows are padded, see `PackedProduct.row_pitch`.
    taps = math.prod(axis.first_taps * axis.most_taps for axis in plan.axes)
    packed = taps * plan.in_channels * _padded(plan.out_channels // plan.groups)
    reach = max(axis.extent + axis.output_size for axis in plan.axes)
    steps = max(a.stride for a in kernel_axes(plan)) ** 2
    narrow = plan.index_bits == 32 and max(reach, steps) < _MOST_POSITIONS and packed < _MOST_ELEMENTS
    return "int" if narrow else "long long"


def index_bytes(plan: Plan) -> int:
    """Bytes of one index in the kernels."""
    return 4 if index_type(plan) == "int" else 8


def index_format(plan: Plan) -> str:
    """Letter of one index for `struct.pack`."""
    return "i" if index_type(plan) == "int" else "q"


def _padded(rows: int) -> int:
    return -(-rows // _ROW_MULTIPLE) * _ROW_MULTIPLE


def geometry_bytes(packed: PackedProduct) -> bytes:
    """Lay a product out as struct Geometry."""
    product, plan = packed.product, packed.plan
    numbers: list[int] = []
    inputs, outputs = math.prod(plan.in_spatial), math.prod(plan.out_spatial)
    last = plan.channels_last
    x_step, y_step = channel_steps(plan)
    for a, axis in enumerate(product.axes):
        x_stride = math.prod(plan.in_spatial[a + 1 :]) * x_step
        y_stride = math.prod(plan.out_spatial[a + 1 :]) * y_step
        numbers += _axis_numbers(axis, product.frame[a] if product.frame else None)
        numbers += [axis.step, x_stride, y_stride]
    numbers += [plan.batch, plan.groups, plan.in_channels // plan.groups, plan.out_channels // plan.groups]
    numbers += [plan.in_channels * inputs, 1 if last else inputs, plan.out_channels * outputs, 1 if last else outputs]
    numbers += weight_steps(product)
    numbers += [product.rows, packed.row_pitch, int(packed.pixels_first), int(product.frame is not None)]
    numbers += [int(product.is_cut_off), run_units(packed)]
    # 0d: the struct ends where another double could begin.
    layout = f"@{len(numbers)}{index_format(plan)}di0d"
    return struct.pack(layout, *numbers, plan.slope, ACTIVATION_CODES[plan.activation])


def run_units(packed: PackedProduct) -> int:
    """Units of a run of results, RUN_OF in geometry.cuh, or 0 where results do not lie in aligned runs.

    A run is so many neighbouring units of some neighbouring pixels. Both lie together where the units of the last axis
    fill its stride, and whole runs make a line.
    """
    product, plan = packed.product, packed.plan
    run = min(_RUN_BYTES // DTYPES[plan.dtype].size, _MOST_RUN)
    if run < 2 or plan.channels_last or not packed.pixels_first or product.is_cut_off:
        return 0
    axis, frame = product.axes[2], product.frame[2] if product.frame else AxisFrame()
    units, pixels = frame.units, frame.count if product.frame else axis.blocks
    if units != axis.stride or (units > 1 and frame.unit_step != 1) or axis.output_size != pixels * units:
        return 0
    of_run = math.gcd(units, run)
    neighbours = run // of_run  # pixels, which lie together where all of their units are in the run
    return of_run if pixels % neighbours == 0 and (neighbours == 1 or of_run == units) else 0


def channel_steps(plan: Plan) -> tuple[int, int]:
    """Steps from pixel to pixel on the last axis, in x and in the output."""
    return (plan.in_channels, plan.out_channels) if plan.channels_last else (1, 1)


def weight_steps(product: Product) -> tuple[int, int]:
    """Steps in the caller's weights from one depth channel of the product, and from one row channel, to the next."""
    plan, taps = product.plan, math.prod(product.plan.kernel)
    swapped = (taps, plan.in_channels // plan.groups * taps)
    return swapped if product.is_swapped else (plan.out_channels // plan.groups * taps, taps)


def _axis_numbers(axis: Axis, frame: AxisFrame | None) -> list[int]:
    numbers = [axis.size, axis.output_size, axis.kernel, axis.stride, axis.dilation, axis.pad_low]
    numbers += [
        frame.phases if frame else axis.phase_count,
        axis.common,
        axis.tap_step,
        axis.shift_step,
        axis.tap_inverse,
    ]
    frame = frame or AxisFrame()
    return [*numbers, frame.units, frame.unit_step, frame.count, frame.taps, frame.shift, frame.out]
