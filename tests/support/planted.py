# ruff: noqa: E501 (a table, a line for each fault)
"""Faults to plant in the kernels, one at a time: what `python -m tests.support.mutants` runs the tests against.

Each is a place of a kernel's source and what it reads instead; the place must be unique in its file. They are the
faults that such kernels are prone to: a wrong shift or phase, a missed tail, a wrong base of channels or groups, a
missing bias, borders, rounding, what is kept between calls.
"""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """One edit of a file below gpu_transconv/kernels, or beside that."""

    name: str
    file: str
    old: str
    new: str

    @property
    def backend(self) -> str:
        """Whose tests should notice; what is made beside the kernels is read by the CPU's."""
        return self.file.partition("/")[0].replace("..", "cpu")


#: Tables, layouts and choices of the CPU's kernels: Python that runs before them.
_TABLES = (
    Fault("dilation left out", "../problem/axis.py", "dtype=np.int64) * dilation - pad_low", "dtype=np.int64) - pad_low"),
    Fault("pixels of y as far apart as those of x", "cpu/geometry.py", "y_pixel=cout if last", "y_pixel=cin if last"),
    Fault("slope not passed on", "cpu/geometry.py", "slope=plan.slope", "slope=0.01"),
    Fault("bfloat16 read as float16", "cpu/halves.py", '"bfloat16": 2}', '"bfloat16": 1}'),
    Fault("smaller chunks as the full ones", "cpu/blocking.py", "(channels, max(1, channels - 1))", "(channels,) * 2"),
    Fault("smallest shift taken for zero", "cpu/blocking.py", "(stamps.shifts[:, None] - low[2])", "stamps.shifts[:, None]"),
    Fault("direct: depth of a shift left out", "cpu/blocking.py", "(shifts[:, 0] * height + shifts[:, 1])", "shifts[:, 1]"),
    Fault("boxes: span of the height forgotten", "cpu/blocking.py", "panel_plane = (box_h + span[1])", "panel_plane = (box_h + 0 * span[1])"),
    Fault("depthwise: a phase's own taps turned round", "cpu/channel_boxes.py", "for shift in own]\n    return", "for shift in own[::-1]]\n    return"),
    Fault("depthwise: shift of the depth not from the lowest", "cpu/channel_boxes.py", "(s_d - low[0]) * plane", "s_d * plane"),
    Fault("depthwise: tall boxes though the width is cut", "cpu/channel_boxes.py", " if box_w == blocks[2] else 1", ""),
    Fault("layout: later pieces start a channel late", "cpu/layout.py", "            first, end = piece * cout // pieces, (piece + 1) * cout // pieces\n            tables", "            first, end = piece * cout // pieces + (piece > 0), (piece + 1) * cout // pieces\n            tables"),
    Fault("layout: bias in every product of a pair", "cpu/layout.py", "if part.starts:", "if True:"),
    Fault("layout: padding of the lanes not counted", "cpu/layout.py", "self.weights += padded * part.taps", "self.weights += rows * part.taps"),
    Fault("pairs: the third product reads its neighbour's input", "cpu/pairs.py", "[((b,), (shift + 1, 1))]", "[((b,), (shift, 1))]"),
    Fault("pairs: taps far apart taken for neighbours", "cpu/pairs.py", " or (len(some) == 2 and abs(some[0][1] - some[1][1]) != 1)", ""),
    Fault("pairs: single products start at zero", "cpu/pairs.py", "product == 1 or len(self.phases[phase]) < 3", "product == 1"),
    Fault("simplify: a strided axis merged", "../problem/rewrites.py", "if _is_plain(h) and _is_plain(w) and", "if _is_plain(w) and h.stride < 3 and"),
    Fault("simplify: padded filter taken whole", "../problem/rewrites.py", "None if whole else", "None if plan.batch else"),
    Fault("simplify: dilated filter taken whole", "../problem/rewrites.py", "<= axis.kernel and dense", "<= axis.kernel"),
    Fault("bias tiled instead of repeated", "cpu/prepare.py", "return bias.astype(order.accumulate).repeat(count // channels)", "return np.tile(bias.astype(order.accumulate), count // channels)"),
    Fault("infinite weights packed", "cpu/prepare.py", "source[:0], arguments.table, work) == 0", "source[:0], arguments.table, work) >= 0"),
    Fault("infinite weights of a box packed", "cpu/prepare.py", "(ordered.reshape(-1), values) if np.isfinite(ordered).all() else None", "ordered.reshape(-1), values"),
    Fault("pairs not done again for what is not finite", "cpu/launch.py", '_job_of("gather", plan), packed, x, out):', '_job_of("gather", plan), packed, x, out) == 7:'),
    Fault("packed weights of pairs for all sizes", "cpu/launch.py", "packing_gather = gather_order", "packing_gather = lambda plan: gather_order(plan)._replace(paired=())"),
    Fault("packed weights of boxes for all sizes", "cpu/launch.py", "packing_gather = gather_order", "packing_gather = lambda plan: gather_order(plan)._replace(lane=1)"),
    Fault("boxes by the number of threads", "cpu/blocking.py", "least = _least_tasks(plan)", "least = 2 * threads"),
    Fault("workspace not by dtype", "cpu/workspace.py", "found = kept.get((shape, dtype))", "found = next((v for k, v in kept.items() if k != 'bytes' and k[0] == shape), None)"),
    Fault("layout made once for all axes", "cpu/weight_order.py", "replace(axis, size=1, output_size=1)", "replace(axis, size=1, output_size=1, pad_low=0)"),
    Fault("depthwise, channels last: a part too few", "cpu/depthwise_last.py", "-(-width // length), threads", "max(1, width // length), threads"),
    Fault("depthwise, channels last: multipliers taken", "cpu/depthwise_last.py", "plan.in_channels == plan.out_channels == plan.groups > 1", "plan.in_channels == plan.groups > 1"),
    Fault("rows of boxes for groups", "cpu/cost.py", "elif plan.groups == 1 and cout", "elif cout"),
)  # fmt: skip
#: What Numba compiles of the CPU's kernels.
_COMPILED = (
    Fault("plain: a row shorter than the stride without bias", "cpu/plain.py", " or g.out_w < g.stride_w:", ":"),
    Fault("plain: last input of a stamp missed", "cpu/plain.py", "// stride + shift + 1,", "// stride + shift,"),
    Fault("depthwise, channels last: one input too many", "cpu/depthwise_last.py", "// g.stride_w + 1, g.in_w - shift)", "// g.stride_w + 1, g.in_w - shift + 1)"),
    Fault("depthwise: rows beyond the depth", "cpu/depthwise.py", "high if 0 <= i_d < g.in_d and", "high if"),
    Fault("scatter: last sum of a row not activated", "cpu/scatter.py", "source + i * b.plane + width)", "source + i * b.plane + width - 1)"),
    Fault("scatter: bias of the first channels", "cpu/scatter.py", "bias[channel + i % count]", "bias[channel - lay.chunks[c, 2] + i % count]"),
    Fault("bfloat16 rounded half up", "cpu/rows.py", "builder.add(odd, self._constant(0x7FFF))", "self._constant(0x8000)"),
    Fault("NaN of bfloat16 becomes infinite", "cpu/rows.py", "builder.select(nan, builder.or_(bits, self._constant(0x400000)), rounded)", "rounded"),
    Fault("direct: outputs beyond the depth", "cpu/direct.py", "chunk[7] if o_d < g.out_d else 0", "chunk[7]"),
    Fault("gather: bias of the first group", "cpu/gather.py", "start = group * lay.row_channels.size + chunk[6]", "start = chunk[6]"),
    Fault("gather: rows of odd tiles too few", "cpu/packing.py", "min(t + 1, more)", "min(t, more)"),
    Fault("store: phases of some channels as if of all", "cpu/store.py", "if count == pixel:", "if count <= pixel:"),
    Fault("tile of 4 vectors multiplies the third twice", "cpu/microkernel.py", "columns = [load(b_row, v) for v", "columns = [load(b_row, v if v != 3 or vectors != 4 else 2) for v"),
    Fault("odd strides interleaved with the wrong phase", "cpu/rows.py", "indices = [lanes + lane if phase == r else i for", "indices = [lanes + lane if phase == r + (stride > 5) else i for"),
    Fault("transposition of wide strides ends early", "cpu/rows.py", "blocks = builder.sdiv(builder.add(outputs, builder.sub(stride, _I64(1))), stride)", "blocks = builder.sdiv(outputs, stride)"),
)  # fmt: skip
_NUMBA_CUDA = (
    Fault("direct: bias of the first group", "numba_cuda/gather_direct.py", "channel = group * g[at.COUT] + row + r\n                value", "channel = row + r\n                value"),
    Fault("direct: taps of the width a step apart", "numba_cuda/gather_direct.py", "c * g[at.SHIFT_STEP_W]", "c"),
    Fault("gather: inputs of the next image", "numba_cuda/gather.py", "0 <= i_h < g[at.IN_H] and 0 <= i_w < g[at.IN_W]\n            pixel", "0 <= i_w < g[at.IN_W]\n            pixel"),
    Fault("gather: tap of the height not by its step", "numba_cuda/gather.py", "b * g[at.TAP_STEP_H]", "b"),
    Fault("gather: outputs beyond the depth", "numba_cuda/gather.py", "inside = o_d < g[at.OUT_D] and o_h", "inside = o_h"),
    Fault("owned: an input too few reaches a box", "numba_cuda/scatter_owned.py", "high - low + 1))", "high - low))"),
    Fault("owned: no input before the first", "numba_cuda/scatter_owned.py", "g[at.FIRST_INPUT_D + axis]", "g[at.FIRST_INPUT_D + axis] + g[at.STRIDE_D + axis]"),
    Fault("owned: reach of the undilated stamp", "numba_cuda/geometry.py", "\"FIRST_INPUT\": first", "\"FIRST_INPUT\": first + axis.stamp_size - axis.kernel"),
    Fault("atomic: channels of the first group", "numba_cuda/scatter.py", "channel = (group * g[at.COUT] + offsets[at.CHANNEL, r])", "channel = offsets[at.CHANNEL, r]"),
)  # fmt: skip
_CUPY = (
    Fault("line without its phase's remainder", "cupy/src/geometry.cuh", "if (reach % axis.common) return line;", ""),
    Fault("inverse of the tap's step left out", "cupy/src/geometry.cuh", "% axis.tap_step * axis.tap_inverse % axis.tap_step", "% axis.tap_step"),
    Fault("direct: group's weights of the first", "cupy/src/gather_direct.cuh", "weight + (s.group * g.in_channels * g.out_channels + s.channel)", "weight + (s.channel)"),
    Fault("direct: width shifted the other way", "cupy/src/gather_direct.cuh", "lw.shift - jw * w.shift_step,", "lw.shift + jw * w.shift_step,"),
    Fault("part of the depth's taps not packed", "cupy/src/geometry.cuh", "tap.packed * axis.kernel + line.first_tap", "tap.packed * axis.kernel + (a ? line.first_tap : 0)"),
    Fault("infinite weights multiplied with the padding", "cupy/src/gather.cuh", "if (load_shared(&block.storage->nonfinite)) redo_slab", "if (false) redo_slab"),
    Fault("TF32 not rounded", "cupy/src/numbers.cuh", "(bits + 0x1000u) & ~0x1fffu", "bits & ~0x1fffu"),
    Fault("rows by pixels as if by channels", "cupy/src/geometry.cuh", "Index unit = g.pixels_first ? index % units : index", "Index unit = index"),
)  # fmt: skip
FAULTS = _TABLES + _COMPILED + _NUMBA_CUDA + _CUPY
