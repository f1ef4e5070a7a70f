"""From finished sums to the output: activation, rounding, and the interleaving of the phases."""

from __future__ import annotations

from ...problem.rewrites import MOST_PHASES
from .activation import activate
from .compiled import inner
from .packing import VECTOR_BYTES
from .vectors import address, interleave_rows, lanes_past

#: Elements of a row that is put together before it is stored.
LINE = MOST_PHASES
#: Outputs from which a misaligned row is worth that.
_LONG = 1024


@inner
def store_chunk(out, c, line, g, lay, b, group, chunk, width, first, count):
    """Store a chunk for the blocks ``first ... first + count``.

    `c` holds the chunk's rows, or with channels last one line per block.
    """
    if g.activation:
        for i in range(count if g.last else width):
            row = i * (width if g.last else b.pixels)
            for j in range(width if g.last else count):
                c[row + j] = activate(c[row + j], g.activation, g.slope)
    if not g.last and g.stream and not g.half and g.out_w % (VECTOR_BYTES // c.itemsize) and g.out_w < _LONG:
        for k in range(chunk[3]):
            _stream_channel(out, line, c, k, g, lay, b, group * g.cout + chunk[2] + k, chunk, first, count)
        return
    stride_h, stride_w = g.stride_h * lay.paired_h, g.stride_w * lay.paired_w
    q = 0
    while q < count:
        p = first + q
        b_w, rest = p % b.blocks_w, p // b.blocks_w
        b_h, rest = rest % b.blocks_h, rest // b.blocks_h
        b_d, n = rest % b.blocks_d, rest // b.blocks_d
        length = min(b.blocks_w - b_w, count - q)
        o_d, o_w = b_d * g.stride_d + chunk[0], b_w * stride_w
        for phase in range(chunk[7] * lay.paired_h):
            o_h = b_h * stride_h + chunk[1] + phase
            if o_d >= g.out_d or o_h >= g.out_h:
                continue
            channel = group * g.cout + chunk[2]
            target = n * g.y_batch + channel * g.y_channel + ((o_d * g.out_h + o_h) * g.out_w + o_w) * g.y_pixel
            outputs = min(length * stride_w, g.out_w - o_w)
            if g.last:
                _copy_blocks(
                    out, target, c, q * width, lay.sets, chunk, width, g.stride_w, g.y_pixel, outputs, g.half, g.stream
                )  # fmt: skip
            else:
                source = _first_row(lay, chunk, phase) * b.pixels + q
                interleave(
                    out, target, g.y_channel, c, source, b.pixels, chunk[3], stride_w, outputs, g.half, g.stream, line
                )  # fmt: skip
        q += length


@inner
def _stream_channel(out, line, c, k, g, lay, b, channel, chunk, first, count):
    """Store one channel of a chunk past the caches, though its rows begin and end anywhere.

    Rows that follow each other in memory are put together in `line`, from which whole aligned vectors leave.
    """
    lanes = VECTOR_BYTES // c.itemsize
    b_w, rest = first % b.blocks_w, first // b.blocks_w
    b_h, rest = rest % b.blocks_h, rest // b.blocks_h
    b_d, n = rest % b.blocks_d, rest // b.blocks_d
    start, filled = 0, 0  # where the line's first element goes, and how many there are
    stride_h, stride_w = g.stride_h * lay.paired_h, g.stride_w * lay.paired_w
    q = 0
    while q < count:
        length = min(b.blocks_w - b_w, count - q)
        o_d, o_w = b_d * g.stride_d + chunk[0], b_w * stride_w
        outputs = min(length * stride_w, g.out_w - o_w)
        for phase in range(chunk[7] * lay.paired_h if o_d < g.out_d else 0):
            o_h = b_h * stride_h + chunk[1] + phase
            if o_h >= g.out_h:
                break
            to = n * g.y_batch + channel * g.y_channel + (o_d * g.out_h + o_h) * g.out_w + o_w
            if to != start + filled or filled + outputs > LINE:
                _flush(out, start, line, filled, lanes)
                start, filled = to, 0
            source = (_first_row(lay, chunk, phase) + k) * b.pixels + q
            place = address(line, lanes_past(out, start) + filled)
            interleave_rows(place, address(c, source), chunk[3] * b.pixels, stride_w, outputs, 0, 0)
            filled += outputs
        q += length
        b_w, b_h = 0, b_h + 1
        if b_h == b.blocks_h:
            b_h, b_d = 0, b_d + 1
            if b_d == b.blocks_d:
                b_d, n = 0, n + 1
    _flush(out, start, line, filled, lanes)


@inner
def _first_row(lay, chunk, part):
    """First of a chunk's rows that hold the outputs of a phase_h, of the second block of a pair after the first's."""
    phase, block = chunk[1] + part % chunk[7], part // chunk[7]
    return (lay.products_h[phase] - lay.products_h[chunk[1]] + block) * lay.products_w * chunk[3]


@inner
def _flush(out, start, line, count, lanes):
    past = lanes_past(out, start)
    head = min((lanes - past) % lanes, count)
    interleave_rows(address(out, start), address(line, past), 0, 1, head, 0, 0)
    interleave_rows(address(out, start + head), address(line, past + head), 0, 1, count - head, 0, 1)


@inner
def interleave(out, target, channel, c, source, row, channels, stride, outputs, half, stream, line):
    """Write ``out[k*channel + j*stride + phase] = c[phase][k][j]`` for every channel k.

    Stores that bypass the caches must be whole aligned vectors. Where a long row starts between two, it is put
    together in `line` first, with the same misalignment; a short one, which would be mostly ends, takes the way
    through the caches.
    """
    lanes = VECTOR_BYTES // c.itemsize
    for k in range(channels):
        to, at = target + k * channel, source + k * row
        past = lanes_past(out, to)
        if not stream or half or past == 0 or outputs < _LONG:
            interleave_rows(address(out, to), address(c, at), channels * row, stride, outputs, half, stream)
            continue
        done, part = 0, max(1, LINE // stride) * stride
        while done < outputs:
            count = min(part, outputs - done)
            head = min(lanes - past, count)
            blocks = address(c, at + done // stride)
            interleave_rows(address(line, past), blocks, channels * row, stride, count, half, 0)
            interleave_rows(address(out, to + done), address(line, past), 0, 1, head, half, 0)
            rest = address(out, to + done + head)
            interleave_rows(rest, address(line, past + head), 0, 1, count - head, half, 1)
            done += count
            past = (past + count) % lanes


@inner
def _copy_blocks(out, target, c, source, sets, chunk, width, stride, pixel, outputs, half, stream):
    """Channels last: a block holds, per set, its phases of the chunk's channels in the order of memory."""
    count = chunk[3]
    phase = 0
    for s in range(chunk[4], chunk[5]):
        row0, phases = sets[s, 0], sets[s, 1] // count
        for j in range((outputs - phase + stride - 1) // stride):
            o = j * stride + phase
            present = min(phases, outputs - o)
            at = source + j * width + row0
            if count == pixel:  # the phases of all channels are one run of memory
                interleave_rows(address(out, target + o * count), address(c, at), 0, 1, present * count, half, stream)
            else:
                for r in range(present):
                    to = address(out, target + (o + r) * pixel)
                    interleave_rows(to, address(c, at + r * count), 0, 1, count, half, stream)
        phase += phases
