// What the kernel for Hopper reads beside x: the steps of its tiles, and weights as products read them.
#pragma once

#include "hopper_geometry.cuh"

namespace gtc {

// Calls sink(tap) for one tap of every distinct shift of an axis: shifts fall, or rise, from tap to tap.
template <class Sink>
GTC_DEVICE void for_each_shift(const HopperAxis& axis, Sink sink) {
    for (int tap = 0; tap < axis.kernel; ++tap) {
        const int shift = shift_of(axis, tap);
        if (tap == 0 || shift != shift_of(axis, tap - 1)) sink(shift);
    }
}

// Taps of all axes that reach a block.
GTC_DEVICE int taps_of(const HopperGeometry& g, const Block& block) {
    int taps = 1;
    GTC_UNROLL
    for (int a = 0; a < 3; ++a) {
        int count = 0;
        for_each_shift(g.axis[a], [&](int shift) { count += tap_at(g.axis[a], shift, block.unit[a]) >= 0; });
        taps *= count;
    }
    return taps;
}

// Writes the steps of every tile of rows, a thread each: [tile][step], a step without blocks at the end.
template <int BLOCKS>
GTC_GLOBAL hopper_steps(const GTC_GRID_CONSTANT HopperGeometry g, unsigned char* packed) {
    const int row_tile = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (row_tile >= g.row_tiles) return;
    Step* step = const_cast<Step*>(steps_of(g, packed, row_tile));
    const int first = row_tile * BLOCKS, whole = first / g.units;  // channels' blocks, all of whose units come before
    int slot = whole * (g.slots / (g.blocks / g.units));
    for (int block = whole * g.units; block < first; ++block) slot += taps_of(g, block_of(g, block)) * g.chunks;
    const HopperAxis(&axis)[3] = g.axis;
    for_each_shift(axis[0], [&](int d) {
        for_each_shift(axis[1], [&](int h) {
            for_each_shift(axis[2], [&](int w) {
                int mask = 0, count = 0;
                for (int b = 0; b < BLOCKS && row_tile * BLOCKS + b < g.blocks; ++b) {
                    const Block block = block_of(g, row_tile * BLOCKS + b);
                    const bool reached = tap_at(axis[0], d, block.unit[0]) >= 0 &&
                                         tap_at(axis[1], h, block.unit[1]) >= 0 &&
                                         tap_at(axis[2], w, block.unit[2]) >= 0;
                    mask |= reached << b;
                    count += reached;
                }
                if (!mask) return;
                store_global(step++, Step{{d, h, w}, mask, slot, {0, 0, 0}});
                slot += count * g.chunks;
            });
        });
    });
    store_global(step, Step{{0, 0, 0}, 0, slot, {0, 0, 0}});
}

// Writes one slot: rows of a chunk of channels, 128 bytes each, their 16 bytes exchanged as the 128-byte swizzle has
// it; float as TF32 numbers, or as two of them. Grid: [chunk][block of a tile][step], tiles of rows and groups.
template <class T, int BLOCKS, int IMAGES = 1>
GTC_GLOBAL hopper_pack(const GTC_GRID_CONSTANT HopperGeometry g, const T* weight, unsigned char* packed) {
    const int row_tile = static_cast<int>(blockIdx.y) % g.row_tiles;
    const int group = static_cast<int>(blockIdx.y) / g.row_tiles;
    const int chunk = static_cast<int>(blockIdx.x) % g.chunks;
    const int b = static_cast<int>(blockIdx.x) / g.chunks % BLOCKS;
    const int number = static_cast<int>(blockIdx.x) / g.chunks / BLOCKS;
    const Step* steps = steps_of(g, packed, row_tile);
    for (int i = 0; i < number; ++i) {
        if (!load_global(&steps[i].mask)) return;
    }
    const Step step = load_global(steps + number);
    if (!(step.mask >> b & 1)) return;

    int before = 0, blocks = 0;
    for (int i = 0; i < BLOCKS; ++i) {
        before += i < b && (step.mask >> i & 1);
        blocks += step.mask >> i & 1;
    }
    const long long slot = static_cast<long long>(group) * g.slots + step.slot + chunk * blocks + before;
    T* to = reinterpret_cast<T*>(packed + slots_begin(g) + slot * (SLOT_BYTES * IMAGES));
    const Block block = block_of(g, row_tile * BLOCKS + b);
    long long tap = 0, volume = 1;
    GTC_UNROLL
    for (int a = 2; a >= 0; --a) {
        tap += tap_at(g.axis[a], step.shift[a], block.unit[a]) * volume;
        volume *= g.axis[a].kernel;
    }
    const T* from = weight + group * volume * g.in_channels * g.out_channels + tap;
    bool nonfinite = false;
    constexpr int EACH = 16 / sizeof(T);
    for (int e = static_cast<int>(threadIdx.x); e < BLOCK_ROWS * CHUNK<T>; e += static_cast<int>(blockDim.x)) {
        const int row = e / CHUNK<T>, k = e % CHUNK<T>;
        const int out_channel = block.channel + channel_of_row(g, row), channel = chunk * CHUNK<T> + k;
        T value{};
        if (out_channel < g.out_channels && channel < g.in_channels) {
            value = load_global(from + static_cast<long long>(channel) * g.weight_in +
                                static_cast<long long>(out_channel) * g.weight_out);
        }
        const T high = as_operand(value);
        T* const place = to + row * CHUNK<T> + ((k / EACH) ^ (row % 8)) * EACH + k % EACH;
        nonfinite = nonfinite || !is_finite(widen(high));
        store_global(place, high);
        if constexpr (IMAGES == 2) store_global(place + SLOT_BYTES / sizeof(T), as_operand(value - high));
    }
    if (nonfinite) atomic_or(&reinterpret_cast<PackedHeader*>(packed)->nonfinite, 1u);
}

}  // namespace gtc
