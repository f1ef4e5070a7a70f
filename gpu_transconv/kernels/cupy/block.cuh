// What gather and scatter share: the tables of one tile of the product, its pipeline, and the walk over its results.
#pragma once

#include "simt_tile.cuh"
#include "tensor_tile.cuh"

namespace gtc {

template <class Tile, class Index>
struct alignas(16) Tables {
    Pixel<Index> pixel[Tile::PIXELS_PER_TILE];
    Row<Index> row[Tile::ROWS];
    Frame<Index> frame;
    uint32_t special;  // whether some weight is infinite or NaN
    alignas(16) typename Tile::Result bias[Tile::ROWS];
};

// Dynamic shared memory: tables, then the stages of the pipeline, whose place the results take afterwards.
template <class Tile>
struct Sizes {
    static constexpr int RESULTS = Tile::RESULT_PITCH * (Tile::PIXELS_PER_TILE + 1) * sizeof(typename Tile::Result);
    static constexpr int PIPELINE = Tile::STAGES * sizeof(typename Tile::Stage);
    static constexpr int WORK = ((RESULTS > PIPELINE ? RESULTS : PIPELINE) + 15) / 16 * 16;
};

template <class Tile, class Index>
GTC_DEVICE constexpr int shared_bytes() {
    return sizeof(Tables<Tile, Index>) + Sizes<Tile>::WORK;
}

// One tile of the product: which rows and pixels of which group and phase.
template <class Tile, class Index>
struct Block {
    using T = typename Tile::Element;
    using Result = typename Tile::Result;
    using Stage = typename Tile::Stage;

    const Geometry<Index>& g;
    Index group, first_row, first_pixel;
    Index taps;       // of the phase
    const T* x;       // of the group
    const T* weight;  // of the group, packed
    Tables<Tile, Index>* tables;
    unsigned char* work;

    GTC_DEVICE Block(const Geometry<Index>& geometry, Index group_, Index row, Index pixel, const T* x_,
                     const T* weight_, Index packed_taps)
        : g(geometry), group(group_), first_row(row), first_pixel(pixel) {
        x = x_ + group * g.in_channels * g.x_channel;
        weight = weight_ + group * packed_taps * g.in_channels * g.row_pitch;
        tables = reinterpret_cast<Tables<Tile, Index>*>(dynamic_shared());
        work = dynamic_shared() + sizeof(Tables<Tile, Index>);
    }

    // Takes up a phase, and fills the tables unless the tile lies beyond its pixels; a barrier has to follow. The frame
    // is kept in shared memory, where it is read once per tap: registers are for the sums.
    GTC_DEVICE bool begin(Index phase, const T* bias) {
        const Frame<Index> frame = set_frame(phase);
        if (first_pixel >= frame.pixels) return false;
        for (int n = threadIdx.x; n < Tile::PIXELS_PER_TILE; n += Tile::THREADS) {
            const Index index = first_pixel + n;
            store_shared(tables->pixel + n, index < frame.pixels ? pixel_of(g, frame, index) : no_pixel());
        }
        fill_rows(bias);
        return true;
    }

    GTC_DEVICE Frame<Index> set_frame(Index phase) {
        const Frame<Index> frame = frame_of(g, phase);
        taps = frame.taps;
        if (threadIdx.x == 0) store_shared(&tables->frame, frame);
        return frame;
    }

    GTC_DEVICE static Pixel<Index> no_pixel() {
        const Index nowhere = -(Index(1) << (8 * sizeof(Index) - 2));
        return {{nowhere, nowhere, nowhere}, 0, -1};
    }

    GTC_DEVICE void fill_rows(const T* bias) {
        for (int m = threadIdx.x; m < Tile::ROWS; m += Tile::THREADS) {
            Row<Index> row{-1, {0, 0, 0}, 0};
            Result value = zero<Result>();
            if (first_row + m < g.rows) {
                row = row_of(g, static_cast<Index>(first_row + m));
                row.y += group * g.out_channels * g.y_channel;
                if (bias) value = widen(load_global(bias + group * g.out_channels + row.channel));
            }
            store_shared(tables->row + m, row);
            store_shared(tables->bias + m, value);
        }
    }

    GTC_DEVICE Index chunks_per_tap() const { return (g.in_channels + Tile::DEPTH - 1) / Tile::DEPTH; }

    // Sums the chunks [begin, end) of the reduction; the tables are filled, and all threads have passed a barrier.
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
                const Frame<Index> frame = load_shared(&tables->frame);
                const Tap<Index> next = tap_of(g, frame, TapCount<Index>::of(frame, tap++));
                packed_tap = next.packed;
                inputs.select(g, tables->pixel, next);
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

    // Where a slab's result lies in shared memory, neighbours in memory together, no two of a warp in one bank.
    GTC_DEVICE Result* place(int row, int pixel) const {
        Result* results = reinterpret_cast<Result*>(work);
        return g.pixels_first ? results + row * (Tile::PIXELS_PER_TILE + 1) + pixel
                              : results + pixel * Tile::RESULT_PITCH + row;
    }

    // Calls sink(row in the tile, pixel in the tile) for every result of a slab, in the order in which the outputs lie
    // in memory: pixels and the units between them, or channels, of which STEP at a time.
    template <int STEP = 1, class Sink>
    GTC_DEVICE void walk(int slab, Sink sink) const {
        constexpr int N = Tile::PIXELS_PER_TILE, M = Tile::SLAB_ROWS / STEP;
        int shift = 0;  // 2^shift neighbouring rows are units that lie side by side
        while (g.pixels_first && g.axis[2].units % (2 << shift) == 0 && M % (2 << shift) == 0) ++shift;
        for (int e = threadIdx.x; e < M * N; e += Tile::THREADS) {
            const int unit = e & ((1 << shift) - 1), rest = e >> shift;
            const int row = g.pixels_first ? ((rest / N) << shift) + unit : e % M * STEP;
            const int pixel = g.pixels_first ? rest % N : e / M;
            sink(slab * Tile::SLAB_ROWS + row, pixel);
        }
    }

    // Whether four neighbouring rows are channels that lie together in `array`, aligned to 16 bytes.
    template <class T>
    GTC_DEVICE bool by_four(const T* array) const {
        return !g.pixels_first && g.out_channels % 4 == 0 && Tile::SLAB_ROWS % 4 == 0 &&
               reinterpret_cast<unsigned long long>(array) % 16 == 0;
    }

    // Offset of a result in the output, or -1 where there is none.
    GTC_DEVICE Index output(int row, int pixel) const {
        const Row<Index> r = load_shared(tables->row + row);
        const Pixel<Index> p = load_shared(tables->pixel + pixel);
        if (g.cut_off ? !is_output(g, load_shared(&tables->frame), p, r) : p.y < 0) return -1;
        return r.channel >= 0 ? p.y + r.y : -1;
    }
};

}  // namespace gtc
