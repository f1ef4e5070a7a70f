// Gather: every output element collects its contributions and is written once.
//
// Per phase a product of weights [rows, taps*channels] and inputs [taps*channels, pixels], the inputs read in place.
// Where all phases share their taps (kernel = n*stride), they are rows of one product instead.
#pragma once

#include "epilogue.cuh"
#include "scheduler.cuh"

namespace gtc {

// One result by the definition: row `row` of the packed weights, at `pixel` of a phase.
template <class T, class Index>
GTC_DEVICE Sum<T> defined_sum(const Geometry<Index>& g, Index phase, const T* x, const T* weight,
                              const Pixel<Index>* pixel, Index row) {
    Sum<T> sum = zero<Sum<T>>();
    if (row >= g.rows) return sum;
    const Pixel<Index> at = load_shared(pixel);
    const PhaseLines<Index> lines = phase_lines(g, phase);
    TapCount<Index> count{};
    for (Index t = 0; t < lines.taps; ++t, count.advance(lines)) {
        const Tap<Index> tap = tap_of(g, lines, count);
        if (!is_inside(g, at, tap)) continue;
        const T* from = x + (at.x + tap.x);
        const T* factor = weight + tap.packed * g.in_channels * g.row_pitch + row;
        for (Index c = 0; c < g.in_channels; ++c) {
            multiply_add(sum, widen(load_global(factor + c * g.row_pitch)), widen(load_global(from + c * g.x_channel)));
        }
    }
    return sum;
}

// Where a weight is not finite: puts results by the definition in the place of a slab of those that the tile has made,
// in shared memory. Everything is worked out anew, so that the loop of the tile need not keep it in registers.
template <class Tile, class Index>
GTC_NOINLINE void redo_slab(const Geometry<Index>& g, const typename Tile::Element* x, const unsigned char* packed,
                            Index row_tiles, int slab) {
    using T = typename Tile::Element;
    using Result = typename Tile::Result;
    const ScheduledTile<Index> index = ScheduledTile<Index>::of(blockIdx.x, g, row_tiles);
    const Mainloop<Tile, Index> block(g, index.group, index.row_tile * Tile::ROWS,
                                      index.pixel_tile * Tile::PIXELS_PER_TILE, x,
                                      reinterpret_cast<const T*>(packed + sizeof(PackedHeader)), packed_taps(g));
    auto* results = staged_results(block).results;
    for (int e = threadIdx.x; e < Tile::SLAB_ROWS * Tile::PIXELS_PER_TILE; e += Tile::THREADS) {
        const int row = e / Tile::PIXELS_PER_TILE, pixel = e % Tile::PIXELS_PER_TILE;
        Result sum = zero<Result>();
        if (blockIdx.y == 0) {
            sum = defined_sum(g, index.phase, block.x, block.weight, block.storage->pixel + pixel,
                              static_cast<Index>(block.first_row + slab * Tile::SLAB_ROWS + row));
        }
        const bool planes = g.pixels_first != 0;
        store_shared(
            results + (planes ? Tile::template place<true>(row, pixel) : Tile::template place<false>(row, pixel)), sum);
    }
    __syncthreads();
}

// Writes a slab of this block's part of a split reduction.
template <class Tile, class Index>
GTC_DEVICE void store_part(const Mainloop<Tile, Index>& block, int slab, typename Tile::Result* parts) {
    constexpr int N = Tile::PIXELS_PER_TILE;
    const auto* results = staged_results(block).results;
    auto* part =
        parts + ((Index(blockIdx.y) * Index(gridDim.x) + Index(blockIdx.x)) * Tile::ROWS + slab * Tile::SLAB_ROWS) * N;
    for (int e = threadIdx.x; e < Tile::SLAB_ROWS * N; e += Tile::THREADS) {
        const int row = e / N, pixel = e % N;
        const int at =
            block.g.pixels_first ? Tile::template place<true>(row, pixel) : Tile::template place<false>(row, pixel);
        store_global(part + e, load_shared(results + at));
    }
}

// Owns one tile of outputs (blockIdx.x), or one of gridDim.y parts of its reduction (blockIdx.y), whose sums go to
// `parts` where there are several, [part][tile][slab][row][pixel].
template <class Tile, class Index>
GTC_GLOBAL GTC_LAUNCH_BOUNDS(Tile::THREADS, Tile::BLOCKS)
    gather_tile(const GTC_GRID_CONSTANT Geometry<Index> g, const typename Tile::Element* x, const unsigned char* packed,
                const typename Tile::Element* bias, typename Tile::Element* out, typename Tile::Result* parts,
                Index row_tiles) {
    using T = typename Tile::Element;
    const ScheduledTile<Index> index = ScheduledTile<Index>::of(blockIdx.x, g, row_tiles);
    Mainloop<Tile, Index> block(g, index.group, index.row_tile * Tile::ROWS, index.pixel_tile * Tile::PIXELS_PER_TILE,
                                x, reinterpret_cast<const T*>(packed + sizeof(PackedHeader)), packed_taps(g));
    if (!block.begin(index.phase, bias)) return;
    if (threadIdx.x == 0) {
        store_shared(&block.storage->nonfinite, load_global(&reinterpret_cast<const PackedHeader*>(packed)->nonfinite));
    }
    __syncthreads();

    Tile tile;
    tile.clear();
    const Index chunks = block.taps * block.chunks_per_tap();
    const Index begin = chunks * Index(blockIdx.y) / Index(gridDim.y);
    const Index end = chunks * Index(blockIdx.y + 1) / Index(gridDim.y);
    if (begin < end) block.sum_chunks(tile, begin, end);

    GTC_UNROLL_BY(Tile::SLABS_AT_ONCE)
    for (int slab = 0; slab < Tile::SLABS; ++slab) {
        stage_results(block, tile, slab);
        __syncthreads();
        if (load_shared(&block.storage->nonfinite)) redo_slab<Tile, Index>(g, x, packed, row_tiles, slab);
        if (parts) {
            store_part(block, slab, parts);
        } else {
            store_results(block, slab, out, staged_results(block));
        }
        __syncthreads();
    }
}

// Results as parts in global memory, [part][tile][row][pixel], from a slab's first on.
template <class Result, class Index>
struct PartResults {
    const Result* parts;
    Index pitch, part;  // results of a row, and of a part
    int count;

    template <bool PLANES, int COUNT>
    GTC_DEVICE Vector<Result, COUNT> load(int row, int pixel) const {
        const Result* from = parts + (row * pitch + pixel);
        Vector<Result, COUNT> sums{};
        for (int i = 0; i < count; ++i) {
            GTC_UNROLL
            for (int n = 0; n < COUNT; ++n) {
                sums.at[n] = add(sums.at[n], load_global(from + (i * part + n * (PLANES ? 1 : pitch))));
            }
        }
        return sums;
    }
};

// Adds the parts of a split reduction, in their order. A block owns a piece of a tile, of the size of the smaller
// `Piece`; `rows` and `pixels` are those of the tile.
template <class Piece, class Index>
GTC_GLOBAL GTC_LAUNCH_BOUNDS(Piece::THREADS, 1)
    gather_add_parts(const GTC_GRID_CONSTANT Geometry<Index> g, const typename Piece::Result* parts,
                     const typename Piece::Element* bias, typename Piece::Element* out, Index row_tiles, int count,
                     int rows, int pixels) {
    const int by_row = rows / Piece::ROWS, pieces = by_row * (pixels / Piece::PIXELS_PER_TILE);
    const Index number = blockIdx.x / pieces, size = rows * pixels;
    const int piece = blockIdx.x % pieces, row = piece % by_row * Piece::ROWS;
    const int pixel = piece / by_row * Piece::PIXELS_PER_TILE;
    const ScheduledTile<Index> index = ScheduledTile<Index>::of(number, g, row_tiles);
    Mainloop<Piece, Index> block(g, index.group, index.row_tile * rows + row, index.pixel_tile * pixels + pixel,
                                 nullptr, nullptr, 0);
    if (!block.begin(index.phase, bias)) return;
    __syncthreads();
    PartResults<typename Piece::Result, Index> results{parts + (number * size + row * pixels + pixel), pixels,
                                                       static_cast<Index>(gridDim.x / pieces) * size, count};
    for (int slab = 0; slab < Piece::SLABS; ++slab) {
        store_results(block, slab, out, results);
        results.parts += Piece::SLAB_ROWS * pixels;
    }
}

}  // namespace gtc
