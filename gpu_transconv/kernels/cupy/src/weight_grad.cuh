// The gradient by the weight: for every tap the product of x [input channel, pixel] and of what grad_output has there,
// [pixel, output channel], summed over the pixels of all images.
//
// Gather: a block owns a tile of weights of one tap, and all pixels or one of a fixed number of parts of them. Scatter:
// a block owns a part of the pixels, and brings what they add to every tap. The tiles are those of the forward kernels.
#pragma once

#include "mainloop.cuh"
#include "pixel_panels.cuh"

namespace gtc {

// A tile of weights: rows are input channels, columns output channels of a group, at one tap.
template <class Index>
struct WeightTile {
    Index group, row, column, tap_index, tap[3];

    GTC_DEVICE void set_tap(const Geometry<Index>& g, Index index) {
        tap_index = index;
        GTC_UNROLL
        for (int a = 2; a >= 0; --a) {
            const Index next = index / g.axis[a].kernel;
            tap[a] = index - next * g.axis[a].kernel;
            index = next;
        }
    }
};

template <class Index>
GTC_DEVICE Index tap_count(const Geometry<Index>& g) {
    return g.axis[0].kernel * g.axis[1].kernel * g.axis[2].kernel;
}

// Which tiles there are: those of rows and of columns in a group.
template <class Tile, class Index>
GTC_DEVICE WeightTile<Index> weight_tile(const Geometry<Index>& g, Index index) {
    const Index row_tiles = (g.in_channels + Tile::ROWS - 1) / Tile::ROWS;
    const Index column_tiles = (g.out_channels + Tile::PIXELS_PER_TILE - 1) / Tile::PIXELS_PER_TILE;
    WeightTile<Index> tile;
    tile.row = index % row_tiles * Tile::ROWS;
    index /= row_tiles;
    tile.column = index % column_tiles * Tile::PIXELS_PER_TILE;
    tile.group = index / column_tiles;
    return tile;
}

// In dynamic shared memory: two panels of meetings, a pixel for each thread, and then the stages, whose place the
// results take afterwards.
template <class Tile, class Index>
struct alignas(16) PanelStorage {
    Meeting<Index> meeting[2][Tile::THREADS];
};

template <class Tile, class Index>
GTC_DEVICE constexpr int panel_bytes() {
    return sizeof(PanelStorage<Tile, Index>) + Sizes<Tile>::WORK;
}

// One part of the pixels, in whole chunks.
template <class Index>
struct Chunks {
    Index begin, end;

    template <class Tile>
    GTC_DEVICE static Chunks of_part(const Geometry<Index>& g, Index part, Index parts) {
        const Index pixels = g.batch * g.axis[0].size * g.axis[1].size * g.axis[2].size;
        const Index chunks = (pixels + Tile::DEPTH - 1) / Tile::DEPTH, each = (chunks + parts - 1) / parts;
        const Index begin = part * each, end = begin + each;
        return {begin, end < chunks ? end : chunks};
    }
};

// Sums the products of some chunks of pixels into `tile`, in their order. All threads take part; the block's shared
// memory is free when it returns.
template <class Tile, Input INPUT, class Index>
GTC_DEVICE void sum_pixels(Tile& tile, const Geometry<Index>& g, const WeightTile<Index>& at,
                           const typename Tile::Element* x, const typename Tile::Element* grad_output,
                           Chunks<Index> chunks) {
    using T = typename Tile::Element;
    using S = typename Tile::Shared;
    using Stage = typename Tile::Stage;
    constexpr int THREADS = Tile::THREADS, DEPTH = Tile::DEPTH, PER_PANEL = THREADS / DEPTH;
    static_assert(THREADS % DEPTH == 0 && PER_PANEL > 1, "a panel is made while the one before it is read");
    auto* meetings = reinterpret_cast<Meeting<Index>*>(dynamic_shared());
    Stage* stages = reinterpret_cast<Stage*>(dynamic_shared() + sizeof(PanelStorage<Tile, Index>));
    PanelLoader<T, S, Tile::ROWS, DEPTH, Tile::WEIGHT_PITCH, THREADS, INPUT, Tile::TF32, Index> rows{
        x + (at.group * g.in_channels + at.row) * g.x_channel, g.x_channel, g.in_channels - at.row, {}};
    PanelLoader<T, S, Tile::PIXELS_PER_TILE, DEPTH, Tile::INPUT_PITCH, THREADS, INPUT, false, Index> columns{
        grad_output + (at.group * g.out_channels + at.column) * g.y_channel,
        g.y_channel,
        g.out_channels - at.column,
        {}};

    const auto meet = [&](Index panel) {
        const Index pixel = (chunks.begin + panel * PER_PANEL) * DEPTH + threadIdx.x;
        store_shared(meetings + panel % 2 * THREADS + threadIdx.x, meeting_of(g, at.tap, pixel));
    };
    const auto fetch = [&](Index chunk) {
        const Meeting<Index>* from = meetings + chunk / PER_PANEL % 2 * THREADS + chunk % PER_PANEL * DEPTH;
        rows.fetch([&](int pixel) { return load_shared(&from[pixel].x); });
        columns.fetch([&](int pixel) { return load_shared(&from[pixel].y); });
    };
    const auto flush = [&](Stage& stage) {
        rows.flush(stage.weight);
        columns.flush(stage.input);
    };

    const Index count = chunks.end - chunks.begin;
    if (count <= 0) return;
    meet(0);
    __syncthreads();
    fetch(0);
    flush(stages[0]);
    meet(1);
    __syncthreads();
    for (Index chunk = 0; chunk < count; ++chunk) {
        const bool more = chunk + 1 < count;
        if (more) fetch(chunk + 1);
        if (chunk && chunk % PER_PANEL == 0) meet(chunk / PER_PANEL + 1);
        tile.multiply(stages[chunk % 2]);
        if (more) flush(stages[(chunk + 1) % 2]);
        __syncthreads();
    }
}

// Calls sink(place in the gradient, sum) for every weight of the tile; the sums pass through shared memory, which is
// free when it returns.
template <class Tile, class Index, class Sink>
GTC_DEVICE void for_each_weight(const Tile& tile, const Geometry<Index>& g, const WeightTile<Index>& at, Sink sink) {
    using Result = typename Tile::Result;
    constexpr int COLUMNS = Tile::PIXELS_PER_TILE;
    auto* results = reinterpret_cast<Result*>(dynamic_shared() + sizeof(PanelStorage<Tile, Index>));
    GTC_UNROLL
    for (int slab = 0; slab < Tile::SLABS; ++slab) {
        tile.template stage_results<true>(slab, results);
        __syncthreads();
        for (int e = threadIdx.x; e < Tile::SLAB_ROWS * COLUMNS; e += Tile::THREADS) {
            const int row = e / COLUMNS, column = e % COLUMNS;
            const Index from = at.row + slab * Tile::SLAB_ROWS + row, to = at.column + column;
            if (from >= g.in_channels || to >= g.out_channels) continue;
            const Index filter = (at.group * g.in_channels + from) * g.out_channels + to;
            sink(filter * tap_count(g) + at.tap_index, load_shared(results + Tile::template place<true>(row, column)));
        }
        __syncthreads();
    }
}

// Gather: owns one tile of weights of one tap (blockIdx.x), or what one of gridDim.y parts of the pixels brings to it
// (blockIdx.y), which goes to `parts`, [part][weight], where there are several.
template <class Tile, Input INPUT, class Index>
GTC_GLOBAL GTC_LAUNCH_BOUNDS(Tile::THREADS, 1)
    weight_grad_tile(const GTC_GRID_CONSTANT Geometry<Index> g, const typename Tile::Element* x,
                     const typename Tile::Element* grad_output, typename Tile::Element* out,
                     typename Tile::Result* parts, Index weights) {
    using T = typename Tile::Element;
    using Result = typename Tile::Result;
    const Index taps = tap_count(g), block = blockIdx.x;
    WeightTile<Index> at = weight_tile<Tile, Index>(g, block / taps);
    at.set_tap(g, block % taps);
    Tile tile;
    tile.clear();
    sum_pixels<Tile, INPUT>(tile, g, at, x, grad_output,
                            Chunks<Index>::template of_part<Tile>(g, blockIdx.y, gridDim.y));
    Result* part = parts ? parts + Index(blockIdx.y) * weights : nullptr;
    for_each_weight(tile, g, at, [&](Index place, Result sum) {
        if (part) {
            store_global(part + place, sum);
        } else {
            store_global(out + place, Narrow<T>::from(sum));
        }
    });
}

// Scatter: owns a part of the pixels (blockIdx.y) for the channels of one tile (blockIdx.x), and goes through all taps.
// What they bring is added to `sums` by atomics (ATOMIC), or stored in the part's own copy of the gradient there.
// Without `sums` there is one part, and the gradient is finished.
template <class Tile, Input INPUT, bool ATOMIC, class Index>
GTC_GLOBAL GTC_LAUNCH_BOUNDS(Tile::THREADS, 1)
    weight_grad_scatter(const GTC_GRID_CONSTANT Geometry<Index> g, const typename Tile::Element* x,
                        const typename Tile::Element* grad_output, typename Tile::Element* out,
                        typename Tile::Result* sums, Index weights) {
    using T = typename Tile::Element;
    using Result = typename Tile::Result;
    const Index taps = tap_count(g);
    WeightTile<Index> at = weight_tile<Tile, Index>(g, blockIdx.x);
    const auto chunks = Chunks<Index>::template of_part<Tile>(g, blockIdx.y, gridDim.y);
    Result* part = ATOMIC || !sums ? sums : sums + Index(blockIdx.y) * weights;
    for (Index tap = 0; tap < taps; ++tap) {
        at.set_tap(g, tap);
        Tile tile;
        tile.clear();
        sum_pixels<Tile, INPUT>(tile, g, at, x, grad_output, chunks);
        for_each_weight(tile, g, at, [&](Index place, Result sum) {
            if (!part) {
                store_global(out + place, Narrow<T>::from(sum));
            } else if constexpr (ATOMIC) {
                atomic_add(part + place, sum);
            } else {
                store_global(part + place, sum);
            }
        });
    }
}

// Adds `count` parts in their order, rounds once, and writes the gradient; with no part it is zero.
template <class T, class Index>
GTC_GLOBAL weight_grad_add_parts(const Sum<T>* parts, T* out, Index weights, int count) {
    for (Index e = Index(blockIdx.x) * blockDim.x + threadIdx.x; e < weights; e += Index(gridDim.x) * blockDim.x) {
        Sum<T> sum = zero<Sum<T>>();
        for (int i = 0; i < count; ++i) sum = add(sum, load_global(parts + Index(i) * weights + e));
        store_global(out + e, Narrow<T>::from(sum));
    }
}

}  // namespace gtc
