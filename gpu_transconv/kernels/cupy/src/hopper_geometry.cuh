// The product as the kernel for Hopper cuts it: rows in blocks of 64 of one phase, pixels in boxes of 128, and the
// input shifts that a tile of several blocks goes through.
//
// Output o = stride*b + unit - origin of block b reads input step*b + shift for the tap k with
// k*dilation = unit - stride*shift + low, if there is one. Here a unit is a phase, counted from the origin.
#pragma once

#include "geometry.cuh"
#include "numbers.cuh"

namespace gtc {

constexpr int BLOCK_ROWS = 64, BOX_PIXELS = 128;
constexpr int LINE_BYTES = 128;                      // of a chunk of channels
constexpr int SLOT_BYTES = BLOCK_ROWS * LINE_BYTES;  // weights of a block and a chunk

// Channels of a chunk: 64 of a half type, 32 of float, whose products are of TF32 numbers.
template <class T>
constexpr int CHUNK = LINE_BYTES / sizeof(T);

// A number as the matrix unit takes it, which only cuts off what TF32 has no bits for.
template <class T>
GTC_DEVICE T as_operand(T value) {
    return value;
}
GTC_DEVICE float as_operand(float value) { return round_to_tf32(value); }

struct HopperAxis {
    int size, output_size, kernel, stride, dilation, low, origin, units;
    int first;            // block that has an output
    int step;             // from block to block, in the input
    int box_log2, boxes;  // pixels of a box on the axis, as a power of two, and the number of boxes
    int x_stride, y_stride;
};

// How neighbouring results of a thread lie in the output.
enum Together {
    APART,         // each is stored on its own
    PIXELS_2,      // two pixels of a row
    UNITS_2,       // two rows' units of a pixel
    UNITS_PIXELS,  // two units of each of two pixels
    CHANNELS_2     // two channels
};

struct HopperGeometry {
    HopperAxis axis[3];
    int batch, groups, in_channels, out_channels;  // channels of one group
    int x_batch, x_channel, y_batch, y_channel;
    int weight_in, weight_out;
    int batch_log2;              // images of a box, as a power of two
    int units, blocks;           // units of all axes; blocks of 64 rows
    int row_tiles, pixel_tiles;  // of a group
    int steps;                   // most that a tile has, and one that ends them
    int chunks;                  // of the channels of a group
    int slots;                   // of a group's packed weights
    int group_axis;              // not 0: the group is a coordinate of the tensor map, in the place of depth
    int line_log2;               // pixels of a line of shared memory, channels first, as a power of two
    int together, activation;
    float slope;
};

// One input shift of a tile of rows: which of its blocks have a tap there, and where their weights begin.
struct alignas(16) Step {
    int shift[3];
    int mask, slot;
    int reserved[3];
};

// Packed weights: a header, the steps of every tile of rows, then [group][tile][step][chunk][block of the mask], each
// a slot of shared memory as products read it.
GTC_DEVICE const Step* steps_of(const HopperGeometry& g, const unsigned char* packed, int row_tile) {
    return reinterpret_cast<const Step*>(packed + sizeof(PackedHeader)) + row_tile * g.steps;
}

GTC_DEVICE long long slots_begin(const HopperGeometry& g) {
    const long long end = sizeof(PackedHeader) + static_cast<long long>(g.row_tiles) * g.steps * sizeof(Step);
    return (end + 127) / 128 * 128;
}

// Input shift of a tap, and its unit.
GTC_DEVICE int shift_of(const HopperAxis& axis, int tap) {
    return -floor_divide(tap * axis.dilation - axis.low, axis.stride);
}

// The tap that reaches a unit from a shift, or -1.
GTC_DEVICE int tap_at(const HopperAxis& axis, int shift, int unit) {
    const int distance = unit - axis.stride * shift + axis.low;
    const int tap = distance / axis.dilation;
    return tap * axis.dilation == distance && tap >= 0 && tap < axis.kernel ? tap : -1;
}

// A block of 64 rows: one unit of every axis, and 64 output channels of the group.
struct Block {
    int unit[3];
    int channel;
};

GTC_DEVICE Block block_of(const HopperGeometry& g, int index) {
    Block block;
    block.channel = index / g.units * BLOCK_ROWS;
    int unit = index % g.units;
    GTC_UNROLL
    for (int a = 2; a >= 0; --a) {
        block.unit[a] = unit % g.axis[a].units;
        unit /= g.axis[a].units;
    }
    return block;
}

// Output channel of a row of a block, after the block's first; rows 8 apart are in one thread.
GTC_DEVICE int channel_of_row(const HopperGeometry& g, int row) {
    return g.together == CHANNELS_2 ? row / 16 * 16 + row % 8 * 2 + row / 8 % 2 : row;
}

// A tile of the persistent kernel: a tile of rows of a group, and a box of pixels. Tiles of the same pixels follow each
// other, so that they share x in the cache and fill whole lines of the output together.
struct HopperTile {
    int row_tile, group, image;
    int block[3];  // the box's first

    GTC_DEVICE static HopperTile of(const HopperGeometry& g, int index) {
        HopperTile tile;
        tile.row_tile = index % g.row_tiles;
        index /= g.row_tiles;
        tile.group = index % g.groups;
        index /= g.groups;
        GTC_UNROLL
        for (int a = 2; a >= 0; --a) {
            tile.block[a] = g.axis[a].first + (index % g.axis[a].boxes << g.axis[a].box_log2);
            index /= g.axis[a].boxes;
        }
        tile.image = index << g.batch_log2;
        return tile;
    }
};

// A pixel of a box, relative to the box's first.
struct BoxPixel {
    int at[3];
    int image;

    GTC_DEVICE static BoxPixel of(const HopperGeometry& g, int pixel) {
        BoxPixel p;
        GTC_UNROLL
        for (int a = 2; a >= 0; --a) {
            p.at[a] = pixel & ((1 << g.axis[a].box_log2) - 1);
            pixel >>= g.axis[a].box_log2;
        }
        p.image = pixel;
        return p;
    }
};

}  // namespace gtc
