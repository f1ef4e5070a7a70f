// What gather and scatter share: one tile of the product, from its operands in global memory to its sums in registers.
//
// The reduction runs over taps and, within a tap, chunks of channels; chunks are fetched STAGES - 1 ahead.
#pragma once

#include "tile_mma.cuh"
#include "tile_simt.cuh"

namespace gtc {

// At the beginning of dynamic shared memory: where the tile's rows and pixels read and write.
template <class Tile, class Index>
struct alignas(16) SharedStorage {
    Pixel<Index> pixel[Tile::PIXELS_PER_TILE];
    Row<Index> row[Tile::ROWS];
    alignas(16) uint32_t unit_of_row[Tile::ROWS];
    uint32_t units_of_pixel[Tile::PIXELS_PER_TILE];
    PhaseLines<Index> lines;
    uint32_t nonfinite;  // whether some weight is infinite or NaN
    alignas(16) typename Tile::Result bias[Tile::ROWS];
};

// After it the stages of the pipeline, whose place the results take afterwards.
template <class Tile>
struct Sizes {
    static constexpr int BY_ROW = Tile::SLAB_ROWS * Tile::PLANE_PITCH;
    static constexpr int BY_PIXEL = Tile::PIXELS_PER_TILE * Tile::RESULT_PITCH;
    static constexpr int RESULTS = (BY_ROW > BY_PIXEL ? BY_ROW : BY_PIXEL) * sizeof(typename Tile::Result);
    static constexpr int PIPELINE = Tile::STAGES * sizeof(typename Tile::Stage);
    static constexpr int WORK = ((RESULTS > PIPELINE ? RESULTS : PIPELINE) + 15) / 16 * 16;
};

template <class Tile, class Index>
GTC_DEVICE constexpr int shared_bytes() {
    return sizeof(SharedStorage<Tile, Index>) + Sizes<Tile>::WORK;
}

// The block of one tile: which rows and pixels of which group and phase. It owns the dynamic shared memory; x and the
// packed weights are only read.
template <class Tile, class Index>
struct Mainloop {
    using T = typename Tile::Element;
    using Result = typename Tile::Result;
    using Stage = typename Tile::Stage;

    const Geometry<Index>& g;
    Index group, first_row, first_pixel;
    Index taps;       // of the phase
    const T* x;       // of the group
    const T* weight;  // of the group, packed
    SharedStorage<Tile, Index>* storage;
    unsigned char* work;

    GTC_DEVICE Mainloop(const Geometry<Index>& geometry, Index group_, Index row, Index pixel, const T* x_,
                        const T* weight_, Index packed_taps)
        : g(geometry), group(group_), first_row(row), first_pixel(pixel) {
        x = x_ + group * g.in_channels * g.x_channel;
        weight = weight_ + group * packed_taps * g.in_channels * g.row_pitch;
        storage = reinterpret_cast<SharedStorage<Tile, Index>*>(dynamic_shared());
        work = dynamic_shared() + sizeof(SharedStorage<Tile, Index>);
    }

    // Takes up a phase, and fills the storage unless the tile lies beyond its pixels; a barrier has to follow. The
    // lines are kept in shared memory, where they are read once per tap: registers are for the sums.
    GTC_DEVICE bool begin(Index phase, const T* bias) {
        const PhaseLines<Index> lines = set_phase(phase);
        if (first_pixel >= lines.pixels) return false;
        for (int n = threadIdx.x; n < Tile::PIXELS_PER_TILE; n += Tile::THREADS) {
            const Index index = first_pixel + n;
            const bool exists = index < lines.pixels;
            const Pixel<Index> pixel = exists ? pixel_of(g, lines, index) : no_pixel();
            store_shared(storage->pixel + n, pixel);
            store_shared(storage->units_of_pixel + n, exists ? units_of_pixel(g, lines, pixel) : 0u);
        }
        fill_rows(bias);
        return true;
    }

    GTC_DEVICE PhaseLines<Index> set_phase(Index phase) {
        const PhaseLines<Index> lines = phase_lines(g, phase);
        taps = lines.taps;
        if (threadIdx.x == 0) store_shared(&storage->lines, lines);
        return lines;
    }

    GTC_DEVICE static Pixel<Index> no_pixel() {
        const Index nowhere = -(Index(1) << (8 * sizeof(Index) - 2));
        return {{nowhere, nowhere, nowhere}, 0, -1};
    }

    // Where rows write, and their biases, from global to shared memory; rows beyond the last write nowhere.
    GTC_DEVICE void fill_rows(const T* bias) {
        const Index left = g.rows - first_row;
        for (int m = threadIdx.x; m < Tile::ROWS; m += Tile::THREADS) {
            Row<Index> row{};
            Result first = zero<Result>();
            uint32_t unit = NO_ROW;
            if (m < left) {
                Index channel;
                row = row_of(g, static_cast<Index>(first_row + m), channel, unit);
                row.y += group * g.out_channels * g.y_channel;
                if (bias) first = widen(load_global(bias + group * g.out_channels + channel));
            }
            store_shared(storage->row + m, row);
            store_shared(storage->unit_of_row + m, unit);
            store_shared(storage->bias + m, first);
        }
    }

    GTC_DEVICE Index chunks_per_tap() const { return (g.in_channels + Tile::DEPTH - 1) / Tile::DEPTH; }

    // Sums the chunks [begin, end) of the reduction; the storage is filled, and all threads have passed a
    // barrier. Reads x and the packed weights through the stages in shared memory, and leaves the sums in `tile`.
    GTC_DEVICE void sum_chunks(Tile& tile, Index begin, Index end) {
        typename Tile::template Weights<Index> weights{weight + first_row, g.row_pitch - first_row, g.row_pitch,
                                                       g.in_channels};
        typename Tile::template Inputs<Index> inputs;
        inputs.x = x, inputs.channel_stride = g.x_channel, inputs.channels = g.in_channels;
        GTC_KEEP(inputs.x);
        Stage* stages = reinterpret_cast<Stage*>(work);
        Index tap = begin / chunks_per_tap();
        Index channel = (begin - tap * chunks_per_tap()) * Tile::DEPTH, packed_tap = 0;
        bool new_tap = true;

        const auto fetch = [&](Stage& stage) {
            if (new_tap) {
                const PhaseLines<Index> lines = load_shared(&storage->lines);
                const Tap<Index> next = tap_of(g, lines, TapCount<Index>::of(lines, tap++));
                packed_tap = next.packed;
                inputs.select(g, storage->pixel, next);
            }
            weights.fetch(stage.weight, packed_tap, channel);
            inputs.fetch(stage.input, channel);
            channel += Tile::DEPTH;
            new_tap = channel >= g.in_channels;
            if (new_tap) channel = 0;
        };
        const auto flush = [&](Stage& stage) {
            weights.flush(stage.weight);
            inputs.flush(stage.input);
        };

        Index left = end - begin;  // chunks that are not multiplied yet
        for (int s = 0; s < Tile::STAGES - 1; ++s) {
            if (s < left) {
                fetch(stages[s]);
                flush(stages[s]);
            }
            copy_async_commit();
        }
        int current = 0;
        for (; left > 0; --left) {
            copy_async_wait<Tile::STAGES - 2>();
            __syncthreads();
            const int next = current == 0 ? Tile::STAGES - 1 : current - 1;
            const bool more = left > Tile::STAGES - 1;
            if (more) fetch(stages[next]);
            copy_async_commit();
            tile.multiply(stages[current]);
            if (more) flush(stages[next]);
            current = current + 1 == Tile::STAGES ? 0 : current + 1;
        }
        copy_async_wait<0>();
        __syncthreads();
    }
};

}  // namespace gtc
