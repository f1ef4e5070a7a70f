// Gather: every output element collects its contributions and is written once.
//
// Per phase a product of weights [rows, taps*channels] and inputs [taps*channels, pixels], the inputs read in place.
// Where all phases share their taps (kernel = n*stride), they are rows of one product instead.
#pragma once

#include "block.cuh"

namespace gtc {

// Packed weights begin with this header; `special` is not 0 where some weight is infinite or NaN. Then a tap that
// reads outside the input must be left out: times the zero that stands for it, it would be NaN.
struct PackedHeader {
    uint32_t special;
    uint32_t reserved[63];
};

// One result by the definition: row `row` of the packed weights, at `pixel` of a phase.
template <class T, class Index>
GTC_DEVICE Sum<T> plain_sum(const Geometry<Index>& g, Index phase, const T* x, const T* weight,
                            const Pixel<Index>* pixel, Index row) {
    Sum<T> sum = zero<Sum<T>>();
    if (row >= g.rows) return sum;
    const Pixel<Index> at = load_shared(pixel);
    const Frame<Index> frame = frame_of(g, phase);
    TapCount<Index> count{};
    for (Index t = 0; t < frame.taps; ++t, count.advance(frame)) {
        const Tap<Index> tap = tap_of(g, frame, count);
        if (!is_inside(g, at, tap)) continue;
        const T* from = x + (at.x + tap.x);
        const T* factor = weight + tap.packed * g.in_channels * g.row_pitch + row;
        for (Index c = 0; c < g.in_channels; ++c) {
            multiply_add(sum, widen(load_global(factor + c * g.row_pitch)), widen(load_global(from + c * g.x_channel)));
        }
    }
    return sum;
}

template <class Index>
struct TileIndex {
    Index phase, row_tile, group, pixel_tile;

    // Phases are innermost: those of the same pixels run side by side, share x in the cache, and fill whole lines.
    GTC_DEVICE static TileIndex of(Index block, const Geometry<Index>& g, Index row_tiles) {
        const Index phases = g.axis[0].phase_count * g.axis[1].phase_count * g.axis[2].phase_count;
        TileIndex tile;
        tile.phase = block % phases;
        block /= phases;
        tile.row_tile = block % row_tiles;
        block /= row_tiles;
        tile.group = block % g.groups;
        tile.pixel_tile = block / g.groups;
        return tile;
    }
};

template <class Index>
GTC_DEVICE Index packed_taps(const Geometry<Index>& g) {
    Index taps = 1;
    GTC_UNROLL
    for (int a = 0; a < 3; ++a) taps *= g.single_frame ? g.axis[a].frame_taps : g.axis[a].kernel;
    return taps;
}

// Puts the results of a slab in the place of those that the tile has made. Everything is worked out anew, so that the
// loop of the tile need not keep it in registers.
template <class Tile, class Index>
GTC_NOINLINE void plain_slab(const Geometry<Index>& g, const typename Tile::Element* x, const unsigned char* packed,
                             Index row_tiles, int slab) {
    using T = typename Tile::Element;
    using Result = typename Tile::Result;
    const TileIndex<Index> index = TileIndex<Index>::of(blockIdx.x, g, row_tiles);
    const Block<Tile, Index> block(g, index.group, index.row_tile * Tile::ROWS,
                                   index.pixel_tile * Tile::PIXELS_PER_TILE, x,
                                   reinterpret_cast<const T*>(packed + sizeof(PackedHeader)), packed_taps(g));
    block.walk(slab, [&](int row, int pixel) {
        Result sum = zero<Result>();
        if (blockIdx.y == 0) {
            sum = plain_sum(g, index.phase, block.x, block.weight, block.tables->pixel + pixel,
                            static_cast<Index>(block.first_row + row));
        }
        store_shared(block.place(row - slab * Tile::SLAB_ROWS, pixel), sum);
    });
    __syncthreads();
}

// Bias, activation, and to the output, four channels at once where they lie together.
template <class T, class Block, class Result>
GTC_DEVICE void store_results(const Block& block, int slab, T* out, Result result) {
    const auto& g = block.g;
    const auto finished = [&](int row, int pixel) {
        return finish<T>(result(row, pixel), load_shared(block.tables->bias + row), g.activation, g.slope);
    };
    if (block.by_four(out)) {
        block.template walk<4>(slab, [&](int row, int pixel) {
            const auto to = block.output(row, pixel);
            if (to < 0) return;
            using Four = Vector<T, 4>;
            const Four four{finished(row, pixel), finished(row + 1, pixel), finished(row + 2, pixel),
                            finished(row + 3, pixel)};
            store_global(reinterpret_cast<Four*>(out + to), four);
        });
    } else {
        block.walk(slab, [&](int row, int pixel) {
            const auto to = block.output(row, pixel);
            if (to >= 0) store_global(out + to, finished(row, pixel));
        });
    }
}

// blockIdx.x: tile; blockIdx.y: one of gridDim.y parts of the reduction, whose sums go to `parts` where there are
// several, [part][tile][slab][row][pixel].
template <class Tile, class Index>
GTC_GLOBAL GTC_LAUNCH_BOUNDS(Tile::THREADS, Tile::BLOCKS)
    gather_tile(const GTC_GRID_CONSTANT Geometry<Index> g, const typename Tile::Element* x, const unsigned char* packed,
                const typename Tile::Element* bias, typename Tile::Element* out, typename Tile::Result* parts,
                Index row_tiles) {
    using T = typename Tile::Element;
    using Result = typename Tile::Result;
    const TileIndex<Index> index = TileIndex<Index>::of(blockIdx.x, g, row_tiles);
    Block<Tile, Index> block(g, index.group, index.row_tile * Tile::ROWS, index.pixel_tile * Tile::PIXELS_PER_TILE, x,
                             reinterpret_cast<const T*>(packed + sizeof(PackedHeader)), packed_taps(g));
    if (!block.begin(index.phase, bias)) return;
    if (threadIdx.x == 0) {
        store_shared(&block.tables->special, load_global(&reinterpret_cast<const PackedHeader*>(packed)->special));
    }
    __syncthreads();

    Tile tile;
    tile.clear();
    const Index chunks = block.taps * block.chunks_per_tap();
    const Index begin = chunks * Index(blockIdx.y) / Index(gridDim.y);
    const Index end = chunks * Index(blockIdx.y + 1) / Index(gridDim.y);
    if (begin < end) block.sum_chunks(tile, begin, end);

    GTC_UNROLL
    for (int slab = 0; slab < Tile::SLABS; ++slab) {
        tile.stage_results(slab, [&](int row, int pixel) { return block.place(row, pixel); });
        __syncthreads();
        const int first = slab * Tile::SLAB_ROWS;
        if (load_shared(&block.tables->special)) plain_slab<Tile, Index>(g, x, packed, row_tiles, slab);
        Result* part = parts ? parts + (Index(blockIdx.y) * Index(gridDim.x) + Index(blockIdx.x)) * Tile::ROWS *
                                           Tile::PIXELS_PER_TILE
                             : nullptr;
        const auto result = [&](int row, int pixel) { return load_shared(block.place(row - first, pixel)); };
        if (part) {
            block.walk(slab, [&](int row, int pixel) {
                store_global(part + row * Tile::PIXELS_PER_TILE + pixel, result(row, pixel));
            });
        } else {
            store_results(block, slab, out, result);
        }
        __syncthreads();
    }
}

// Adds the parts of a split reduction, in their order.
template <class Tile, class Index>
GTC_GLOBAL GTC_LAUNCH_BOUNDS(Tile::THREADS, 1)
    gather_add_parts(const GTC_GRID_CONSTANT Geometry<Index> g, const typename Tile::Result* parts,
                     const typename Tile::Element* bias, typename Tile::Element* out, Index row_tiles, int count) {
    using T = typename Tile::Element;
    using Result = typename Tile::Result;
    const TileIndex<Index> index = TileIndex<Index>::of(blockIdx.x, g, row_tiles);
    Block<Tile, Index> block(g, index.group, index.row_tile * Tile::ROWS, index.pixel_tile * Tile::PIXELS_PER_TILE,
                             nullptr, nullptr, 0);
    if (!block.begin(index.phase, bias)) return;
    __syncthreads();
    constexpr int SIZE = Tile::ROWS * Tile::PIXELS_PER_TILE;
    for (int slab = 0; slab < Tile::SLABS; ++slab) {
        store_results(block, slab, out, [&](int row, int pixel) {
            const Result* part = parts + Index(blockIdx.x) * SIZE + row * Tile::PIXELS_PER_TILE + pixel;
            Result sum = zero<Result>();
            for (int i = 0; i < count; ++i) sum = add(sum, load_global(part + Index(i) * Index(gridDim.x) * SIZE));
            return sum;
        });
    }
}

}  // namespace gtc
