"""Bringing the input into the order in which the tiles read it, and how rows are cut into tiles."""

from __future__ import annotations

from .compiled import inner
from .microkernel import registers, tile_shapes
from .vectors import (
    address,
    copy_differences,
    copy_differences_less,
    copy_every_second,
    copy_every_second_less,
    copy_row,
    copy_rows,
    copy_rows_less,
)

VECTOR_BYTES = registers()[0]
#: Most rows of a tile that is two vectors wide, the common shape.
TILE_ROWS = tile_shapes()[2]
_ROWS_OF_4, _ROWS_OF_8 = tile_shapes().get(4, 0), tile_shapes().get(8, 0)


@inner
def tile_count(rows, lane):
    """Number of tiles that cover the rows of a set."""
    step = TILE_ROWS if lane == 1 else 2 * lane
    return (rows + step - 1) // step


@inner
def tile_range(rows, lane, t):
    """Rows of tile `t`: even parts where they are its rows, pairs of vectors where they are its columns."""
    if lane == 1:
        tiles = tile_count(rows, lane)
        least, more = rows // tiles, rows % tiles
        return t * least + min(t, more), (t + 1) * least + min(t + 1, more)
    padded = (rows + lane - 1) // lane * lane
    return t * 2 * lane, min((t + 1) * 2 * lane, padded)


@inner
def tile_vectors(rows, left):
    """Vectors of columns of the next tile, of `left` still to do: as many as the registers take."""
    if rows <= _ROWS_OF_8 and left >= 8:
        return 8
    if rows <= _ROWS_OF_4 and left >= 4:
        return 4
    return min(2, left)


@inner
def pack_input(x, panel, g, lay, b, group, k0, depth, first, count):
    """Copy the input pixels that the blocks ``first ... first + count`` read, zero outside the input.

    The panel is ordered slot, channel, block; with channels last slot, block, channel.
    """
    if b.flat:
        _copy_pixels(x, panel, g, b, group, k0, depth, first, count)
        return
    q = 0
    while q < count:
        p = first + q
        b_w, rest = p % b.blocks_w, p // b.blocks_w
        b_h, rest = rest % b.blocks_h, rest // b.blocks_h
        b_d, n = rest % b.blocks_d, rest // b.blocks_d
        length = min(b.blocks_w - b_w, count - q)
        for slot in range(lay.slots.shape[0]):
            shift_d, shift_h, shift_w, less_h, less_w = lay.slots[slot]
            i_d, i_h, i_w = b_d + shift_d, b_h * lay.paired_h + shift_h, b_w * lay.paired_w + shift_w
            inside = 0 <= i_d < g.in_d and 0 <= i_h < g.in_h
            below = less_h and 0 <= i_d < g.in_d and 0 <= i_h + 1 < g.in_h
            wide = length * lay.paired_w
            low = min(max(0, -i_w), wide)
            end = max(low, min(wide, g.in_w - i_w))
            high = end if inside else low
            source = (
                n * g.x_batch + (group * g.cin + k0) * g.x_channel + ((i_d * g.in_h + i_h) * g.in_w + i_w) * g.x_pixel
            )
            if g.last:
                for j in range(length):
                    target = address(panel, ((slot * b.pixels) + q + j) * b.depth)
                    present = depth if low <= j < high else 0
                    copy_row(target, address(x, source + j * g.x_pixel), 0, present, depth, g.half)
            else:
                target = address(panel, slot * b.depth * b.pixels + q)
                row = address(x, source)
                if less_h:
                    _read_less(target, row, g, lay, b, depth, low, high, length, end if below else low, less_w)
                else:
                    _read_rows(target, row, g, lay, b, depth, low, high, length, less_w)
        q += length


@inner
def _read_rows(target, row, g, lay, b, depth, low, high, length, less):
    if lay.paired_w == 1:
        copy_rows(target, b.pixels, row, g.x_channel, depth, low, high, length, g.half)
    elif less:
        copy_differences(target, b.pixels, row, g.x_channel, depth, low, high, length, g.half)
    else:
        copy_every_second(target, b.pixels, row, g.x_channel, depth, low, high, length, g.half)


@inner
def _read_less(target, row, g, lay, b, depth, low, high, length, end, less):
    """The same less the row below, which is read up to `end`."""
    if lay.paired_w == 1:
        copy_rows_less(target, b.pixels, row, g.x_channel, depth, low, high, length, g.in_w, end, g.half)
    elif less:
        copy_differences_less(target, b.pixels, row, g.x_channel, depth, low, high, length, g.in_w, end, g.half)
    else:
        copy_every_second_less(target, b.pixels, row, g.x_channel, depth, low, high, length, g.in_w, end, g.half)


@inner
def _copy_pixels(x, panel, g, b, group, k0, depth, first, count):
    """The same where a block reads the one pixel that has its number: whole runs at once, whatever the rows."""
    pixels = g.in_d * g.in_h * g.in_w
    q = 0
    while q < count:
        p, n = (first + q) % pixels, (first + q) // pixels
        length = min(pixels - p, count - q)
        source = n * g.x_batch + (group * g.cin + k0) * g.x_channel + p * g.x_pixel
        if g.last:
            for j in range(length):
                row = address(x, source + j * g.x_pixel)
                copy_row(address(panel, (q + j) * b.depth), row, 0, depth, depth, g.half)
        else:
            target = address(panel, q)
            copy_rows(target, b.pixels, address(x, source), g.x_channel, depth, 0, length, length, g.half)
        q += length
