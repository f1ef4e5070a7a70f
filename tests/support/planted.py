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
        return "gradients" if self.name.startswith("gradient: ") else self.file.partition("/")[0].replace("..", "cpu")


#: Tables, layouts and choices of the CPU's kernels: Python that runs before them.
_TABLES = (
    Fault("dilation left out", "../problem/axis.py", "dtype=np.int64) * dilation - pad_low", "dtype=np.int64) - pad_low"),
    Fault("pixels of y as far apart as those of x", "cpu/geometry.py", "y_pixel=cout if last", "y_pixel=cin if last"),
    Fault("slope not passed on", "cpu/geometry.py", "slope=plan.slope", "slope=0.01"),
    Fault("bfloat16 read as float16", "cpu/emit/numbers.py", '"bfloat16": BFLOAT16}', '"bfloat16": FLOAT16}'),
    Fault("smaller chunks as the full ones", "cpu/boxes/stamp_boxes.py", "(channels, max(1, channels - 1))", "(channels,) * 2"),
    Fault("smallest shift taken for zero", "cpu/boxes/stamp_boxes.py", "(stamps.shifts[:, None] - low[2])", "stamps.shifts[:, None]"),
    Fault("direct: depth of a shift left out", "cpu/boxes/box_partition.py", "(shifts[:, 0] * height + shifts[:, 1])", "shifts[:, 1]"),
    Fault("boxes: span of the height forgotten", "cpu/boxes/stamp_boxes.py", "panel_plane = (box[1] + span[1])", "panel_plane = (box[1] + 0 * span[1])"),
    Fault("depthwise: rows and phases of a shift turned round", "cpu/depthwise/channel_boxes.py", "for tap in together\n        for k in ks\n", "for k in ks\n        for tap in together\n"),
    Fault("depthwise: shift of the depth not from the lowest", "cpu/depthwise/channel_boxes.py", "(s_d - low[0]) * plane", "s_d * plane"),
    Fault("depthwise: tall boxes though the width is cut", "cpu/depthwise/channel_boxes.py", "    if box_w < blocks[2]:\n        return box_d, 1, box_w\n", ""),
    Fault("layout: later pieces start a channel late", "cpu/gemm/layout.py", "        first, end = (number * (cout // unit) // pieces * unit for number in (piece, piece + 1))\n        for", "        first, end = (number * (cout // unit) // pieces * unit for number in (piece, piece + 1))\n        first += piece > 0\n        for"),
    Fault("layout: bias in every product of a pair", "cpu/gemm/layout.py", "if part.starts:", "if True:"),
    Fault("layout: padding of the lanes not counted", "cpu/gemm/layout.py", "self.weights += padded * part.taps", "self.weights += rows * part.taps"),
    Fault("pairs: the third product reads its neighbour's input", "cpu/gemm/winograd.py", "[((b,), (shift + 1, 1)) for", "[((b,), (shift, 1)) for"),
    Fault("pairs: taps far apart taken for neighbours", "cpu/gemm/winograd.py", "near + 1 != far for", "near > far for"),
    Fault("pairs: single products start at zero", "cpu/gemm/winograd.py", "product == 1 or len(self.phases[phase]) < 3", "product == 1"),
    Fault("one order: depth of a panel by the length", "cpu/runs/run_partition.py", "fixed_depth(plan) if plan.fixed_order else even(cin, max(1, limit // slots))", "even(cin, max(1, limit // slots))"),
    Fault("one order: a single filter though stamps meet", "../problem/rewrites.py", "inside and (axis.kernel <= axis.tap_step or not fixed_order)", "inside"),
    Fault("one order: depth of scatter by the box", "cpu/boxes/stamp_boxes.py", "even(cin, _FIXED_DEPTH) if plan.fixed_order else room", "room"),
    Fault("packed weights shared by other phases", "cpu/weight_order.py", "_sizeless(axis, axis.pad_low % axis.stride)", "_sizeless(axis, 0)"),
    Fault("simplify: a strided axis merged", "../problem/rewrites.py", "if is_plain(h) and is_plain(w) and", "if is_plain(w) and h.stride < 3 and"),
    Fault("simplify: padded filter taken whole", "../problem/rewrites.py", "None if whole else", "None if plan.batch else"),
    Fault("simplify: dilated filter taken whole", "../problem/rewrites.py", "axis.output_size and dense", "axis.output_size"),
    Fault("bias tiled instead of repeated", "cpu/pack.py", "return bias.astype(order.accumulate).repeat(count // channels)", "return np.tile(bias.astype(order.accumulate), count // channels)"),
    Fault("infinite weights packed", "cpu/pack.py", "source[:0], arguments.table, work) == 0", "source[:0], arguments.table, work) >= 0"),
    Fault("infinite weights of a box packed", "cpu/pack.py", "(ordered.reshape(-1), values) if np.isfinite(ordered).all() else None", "ordered.reshape(-1), values"),
    Fault("pairs not done again for what is not finite", "cpu/launch.py", "if not_finite:", "if not_finite == 7:"),
    Fault("packed weights of pairs for all sizes", "cpu/launch.py", '_SIZELESS = attrgetter("key")', "def _SIZELESS(order): return order.key._replace(paired=())"),
    Fault("packed weights of boxes for all sizes", "cpu/launch.py", '_SIZELESS = attrgetter("key")', "def _SIZELESS(order): return order.key._replace(lane=1)"),
    Fault("boxes by the number of threads", "cpu/boxes/stamp_boxes.py", "box = stamp_box(plan, product, len(layout.chunks), planes)", "box = stamp_box(plan, product, len(layout.chunks) * threads, planes)"),
    Fault("workspace not by dtype", "cpu/runtime/workspace.py", "found = kept.get((shape, dtype))", "found = next((v for k, v in kept.items() if k[0] == shape), None)"),
    Fault("layout made once for all axes", "cpu/weight_order.py", "_sizeless(axis, axis.pad_low)", "_sizeless(axis, 0)"),
    Fault("depthwise, channels last: a part too few", "cpu/depthwise/channels_last.py", "tasks = g.batch * boxes", "tasks = g.batch * boxes - (boxes > 1)"),
    Fault("depthwise, channels last: multipliers taken", "cpu/depthwise/channel_rows.py", "plan.in_channels == plan.out_channels == plan.groups > 1", "plan.in_channels == plan.groups > 1"),
    Fault("couples: a channel alone taken with the next", "cpu/geometry.py", "single.cin % 2", "0"),
    Fault("couples: weights of the second piece behind those of the first", "cpu/gemm/pack_weight.py", "begin = tile + (tap * words + piece.ci // job.unit) * width - low", "begin = tile + (tap * words + piece.ci) * width - low"),
    Fault("rows of boxes for groups", "cpu/costs/cost_last.py", "if plan.groups > 1 or rows > _LAST", "if rows > _LAST"),
)  # fmt: skip
#: What Numba compiles of the CPU's kernels.
_COMPILED = (
    Fault("plain: a row shorter than the stride without bias", "cpu/elementwise.py", " or g.out_w < g.stride_w:", ":"),
    Fault("plain: last input of a stamp missed", "cpu/elementwise.py", "// stride + shift + 1,", "// stride + shift,"),
    Fault("depthwise, channels last: one input too many", "cpu/depthwise/channels_last.py", "(g.in_w - 1 - shift) // step + 1)", "(g.in_w - 1 - shift) // step + 2)"),
    Fault("depthwise: rows beyond the depth", "cpu/depthwise/channels_first.py", "(above, below) if 0 <= i_d < g.in_d else (rows, rows)\n        source", "(above, below)\n        source"),
    Fault("one order: columns of scatter from the first", "cpu/boxes/scatter.py", "vectors - done - step if cut.backwards else done", "done"),
    Fault("scatter: last sum of a row not activated", "cpu/boxes/scatter.py", "cut.plane, box.width, g.activation", "cut.plane, box.width - 1, g.activation"),
    Fault("scatter: bias of the first channels", "cpu/boxes/scatter.py", "bias[channel + i % count]", "bias[channel - lay.chunks[c, at.CHANNEL] + i % count]"),
    Fault("bfloat16 rounded half up", "cpu/emit/row_ir.py", "builder.add(odd, self._constant(0x7FFF))", "self._constant(0x8000)"),
    Fault("couples: one channel twice", "cpu/emit/copy_ir.py", "builder.gep(row, [half_step])", "row"),
    Fault("couples: one weight twice", "cpu/emit/block_ir.py", "rows = row, builder.add(row, source_step)", "rows = row, row"),
    Fault("NaN of bfloat16 becomes infinite", "cpu/emit/row_ir.py", "builder.select(nan, builder.or_(bits, self._constant(0x400000)), rounded)", "rounded"),
    Fault("direct: outputs beyond the depth", "cpu/gemm/store.py", "chunk[at.PHASES_H] if o_d < g.out_d else 0", "chunk[at.PHASES_H]"),
    Fault("lines: bias of the first group", "cpu/lines/scatter_lines.py", "channel = some.group * g.cout + some.first\n    size", "channel = some.first\n    size"),
    Fault("lines: taps before the first result added", "cpu/lines/scatter_lines.py", "max(0, (cut.spread - 1 - o_w) // cut.spread)", "0"),
    Fault("lines: inputs of the first image", "cpu/lines/scatter_lines.py", "address(x, first + n * g.x_batch)", "address(x, first)"),
    Fault("lines: weights of the first slab", "cpu/lines/scatter_lines.py", "begin = ((some.group * g.cin + k0) * g.cout", "begin = ((some.group * g.cin + 0 * k0) * g.cout"),
    Fault("gather: bias of the first group", "cpu/runs/gather.py", "start = slab.group * lay.row_channels.size + row", "start = row"),
    Fault("gather: what comes read from the first image", "cpu/gemm/moves.py", "source = row.block.n * g.x_batch + (i_d", "source = (i_d"),
    Fault("gather: rows of odd tiles too few", "cpu/tiles/gemm_tile.py", "min(t + 1, more)", "min(t, more)"),
    Fault("store: phases of some channels as if of all", "cpu/gemm/store.py", "if count == pixel:", "if count <= pixel:"),
    Fault("tile of 4 vectors multiplies the third twice", "cpu/tiles/tile_frame.py", "self._load(b, self.place(v)) for v in columns]", "self._load(b, self.place(v if v != 3 or self.vectors != 4 else 2)) for v in columns]"),
    Fault("odd strides interleaved with the wrong phase", "cpu/emit/shuffles.py", "indices = [lanes + lane if phase == r else i for", "indices = [lanes + lane if phase == r + (stride > 5) else i for"),
    Fault("transposition of wide strides ends early", "cpu/emit/row_ir.py", "blocks = builder.sdiv(builder.add(outputs, builder.sub(stride, _I64(1))), stride)", "blocks = builder.sdiv(outputs, stride)"),
)  # fmt: skip
#: The CPU's kernels of the two gradients.
_CPU_GRADIENTS = (
    Fault("gradient: last row that a filter meets missed", "cpu/depthwise/thinned.py", "at // dilation + 1)", "at // dilation)"),
    Fault("gradient: one vector too many taken as whole", "cpu/depthwise/thinned.py", "max(begin, min(whole, (w.size - first[2]) // (lanes * w.step)))", "whole"),
    Fault("gradient: step of a single result", "../problem/rewrites.py", "one if axis.size > 1 else replace(one, step=1)", "replace(one, step=1)"),
    Fault("gradient: lines of the first channel for all", "cpu/weight_grad/rows.py", "start = patch.c0 * g.cout * g.volume", "start = 0 * g.cout * g.volume"),
    Fault("gradient: last piece left out", "cpu/weight_grad/store.py", "range(0, job.cut.pieces - step, 2 * step)", "range(0, job.cut.pieces - step - 1, 2 * step)"),
    Fault("gradient: whole pixels though cut off below", "cpu/weight_grad/columns.py", "o_h >= 0 and o_h + last_h < g.out_h", "o_h + last_h < g.out_h"),
)  # fmt: skip
_NUMBA_CUDA = (
    Fault("direct: bias of the first group", "numba_cuda/gather_direct.py", "channel = group * g[at.COUT] + row + r\n                value", "channel = row + r\n                value"),
    Fault("direct: taps of the width a step apart", "numba_cuda/gather_direct.py", "c * g[at.SHIFT_STEP_W]", "c"),
    Fault("gather: inputs of the next image", "numba_cuda/gather.py", "0 <= i_h < g[at.IN_H] and 0 <= i_w < g[at.IN_W]\n            pixel", "0 <= i_w < g[at.IN_W]\n            pixel"),
    Fault("gather: tap of the height not by its step", "numba_cuda/gather.py", "b * g[at.TAP_STEP_H]", "b"),
    Fault("gather: outputs beyond the depth", "numba_cuda/gather.py", "inside = o_d < g[at.OUT_D] and o_h", "inside = o_h"),
    Fault("owned: an input too few reaches a box", "numba_cuda/scatter_owned.py", "high - low + 1))", "high - low))"),
    Fault("owned: no input before the first", "numba_cuda/scatter_owned.py", "g[table + at.FIRST_BLOCK]", "g[table + at.FIRST_BLOCK] + step"),
    Fault("owned: boxes reached as if one smaller", "numba_cuda/geometry.py", "*side.blocks_of_box(phase, box)", "*side.blocks_of_box(phase, box - 1)"),
    Fault("stamps: those of a phase start at its neighbour's", "numba_cuda/geometry.py", "before += phase.taps", "before += 1"),
    Fault("weight: stamps beyond the borders", "numba_cuda/weight_tile.py", "inside = 0 <= o_d < g[at.OUT_D] and 0 <= o_h < g[at.OUT_H] and 0", "inside = 0 <= o_d < g[at.OUT_D] and 0"),
    Fault("weight: zeros beyond the borders times infinity", "numba_cuda/weight_tile.py", "nonfinite = 1", "nonfinite = 0"),
    Fault("weight: pixels of the next part too", "numba_cuda/weight_gather.py", "min(first + g[at.PART_PIXELS], pixels)", "min(first + g[at.PART_PIXELS] + 1, pixels)"),
    Fault("weight: a copy starts at its second block", "numba_cuda/weight_scatter.py", "range(copy * step, pixels", "range((copy + copies) * step, pixels"),
    Fault("weight: the first part counted twice", "numba_cuda/elementwise.py", "partial[part * g[at.RESULT] + e]", "partial[max(part, 1) % g[at.PARTS] * g[at.RESULT] + e]"),
    Fault("atomic: channels of the first group", "numba_cuda/scatter.py", "channel = (group * g[at.COUT] + offsets[at.CHANNEL, r])", "channel = offsets[at.CHANNEL, r]"),
)  # fmt: skip
_CUPY = (
    Fault("line without its phase's remainder", "cupy/src/geometry.cuh", "if (reach % axis.common) return line;", ""),
    Fault("inverse of the tap's step left out", "cupy/src/geometry.cuh", "% axis.tap_step * axis.tap_inverse % axis.tap_step", "% axis.tap_step"),
    Fault("direct: group's weights of the first", "cupy/src/gather_direct.cuh", "weight + (s.group * g.in_channels * g.out_channels * volume + s.channel * g.weight_out)", "weight + (s.channel * g.weight_out)"),
    Fault("direct: width shifted the other way", "cupy/src/gather_direct.cuh", "lw.shift - jw * w.shift_step,", "lw.shift + jw * w.shift_step,"),
    Fault("part of the depth's taps not packed", "cupy/src/geometry.cuh", "tap.packed * axis.kernel + line.first_tap", "tap.packed * axis.kernel + (a ? line.first_tap : 0)"),
    Fault("infinite weights multiplied with the padding", "cupy/src/gather.cuh", "if (load_shared(&block.storage->nonfinite)) redo_slab", "if (false) redo_slab"),
    Fault("TF32 not rounded", "cupy/src/numbers.cuh", "(bits + 0x1000u) & ~0x1fffu", "bits & ~0x1fffu"),
    Fault("rows by pixels as if by channels", "cupy/src/geometry.cuh", "Index unit = g.pixels_first ? index % units : index", "Index unit = index"),
)  # fmt: skip
FAULTS = _TABLES + _COMPILED + _CPU_GRADIENTS + _NUMBA_CUDA + _CUPY
