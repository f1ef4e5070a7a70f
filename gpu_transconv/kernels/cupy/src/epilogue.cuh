// From the sums of a tile to the output: where results lie in shared memory and in the output, bias and activation.
//
// The tile puts a slab of its rows in the place of the pipeline's stages; then all threads go over those results in the
// order of the output, so that whole lines are written in both data formats. What a thread needs of a pixel, or of
// channels that lie together, it reads once; then it goes from row to row, or from pixel to pixel, by fixed steps.
#pragma once

#include "mainloop.cuh"

namespace gtc {

// A slab's results in shared memory; PLANES: those of a row lie together, else those of a pixel.
template <class Tile>
struct StagedResults {
    using Result = typename Tile::Result;
    Result* results;

    // COUNT neighbours: pixels of a row (PLANES), or rows of a pixel.
    template <bool PLANES, int COUNT>
    GTC_DEVICE Vector<Result, COUNT> load(int row, int pixel) const {
        const Result* from = results + Tile::template place<PLANES>(row, pixel);
        if constexpr (PLANES || Tile::RESULT_PITCH % COUNT == 0) {
            return load_shared(reinterpret_cast<const Vector<Result, COUNT>*>(from));
        } else {
            Vector<Result, COUNT> found;
            GTC_UNROLL
            for (int i = 0; i < COUNT; ++i) found.at[i] = load_shared(from + i);
            return found;
        }
    }
};

template <class Tile, class Index>
GTC_DEVICE StagedResults<Tile> staged_results(const Mainloop<Tile, Index>& block) {
    return {reinterpret_cast<typename Tile::Result*>(block.work)};
}

// Puts a slab of the tile's results in shared memory; a barrier has to follow.
template <class Tile, class Index>
GTC_DEVICE void stage_results(const Mainloop<Tile, Index>& block, const Tile& tile, int slab) {
    if (block.g.pixels_first) {
        tile.template stage_results<true>(slab, staged_results(block).results);
    } else {
        tile.template stage_results<false>(slab, staged_results(block).results);
    }
}

// Bias, activation and rounding, and then to the output, or, of a row, COUNT neighbours at once.
template <class T, class Index>
struct StoreResults {
    using A = Sum<T>;
    const Geometry<Index>& g;
    const A* bias;  // of the slab's rows
    T* out;

    template <int ROWS>
    GTC_DEVICE Vector<A, ROWS> of_rows(int row) const {
        return load_shared(reinterpret_cast<const Vector<A, ROWS>*>(bias + row));
    }

    // `biases` has one for all of them, or one for each.
    template <int COUNT, int BIASES>
    GTC_DEVICE Vector<T, COUNT> finish(Vector<A, COUNT> sums, const Vector<A, BIASES>& biases) const {
        return finish_all<T>(sums, biases, g.activation, g.slope);
    }

    template <int COUNT>
    GTC_DEVICE void put(T* to, const Vector<T, COUNT>& finished) const {
        store_global(reinterpret_cast<Vector<T, COUNT>*>(to), finished);
    }
};

// Rows of the slab that there are.
template <class Tile, class Index>
GTC_DEVICE int rows_of_slab(const Mainloop<Tile, Index>& block, int slab) {
    const Index left = block.g.rows - block.first_row - slab * Tile::SLAB_ROWS;
    return left < Tile::SLAB_ROWS ? static_cast<int>(left) : Tile::SLAB_ROWS;
}

// On each axis of the output, where a pixel's block lies: `after` the multiple of the stride.
template <class Index>
GTC_DEVICE void block_of(const Geometry<Index>& g, const Pixel<Index>& pixel, const Index (&after)[3], Index (&o)[3]) {
    GTC_UNROLL
    for (int a = 0; a < 3; ++a) o[a] = pixel.at[a] * g.axis[a].stride + after[a];
}

template <class Index>
GTC_DEVICE bool is_output(const Geometry<Index>& g, const Index (&o)[3], const Index (&after)[3]) {
    bool inside = true;
    GTC_UNROLL
    for (int a = 0; a < 3; ++a) inside = inside && is_within(o[a] + after[a], g.axis[a].output_size);
    return inside;
}

// Results one by one, pixels of a row side by side: a warp has some rows at a time, a thread every 32nd pixel of them.
// Which of them have an output is known by bits, or, where there are more units than BITS, by the outputs' places.
template <bool BITS, class Tile, class Index, class Results, class Sink>
GTC_DEVICE void walk_elements(const Mainloop<Tile, Index>& block, int slab, const Results& results, const Sink& sink) {
    using Result = typename Tile::Result;
    constexpr int COLUMNS = Tile::PIXELS_PER_TILE / 32, ROWS = COLUMNS < 4 ? 4 / COLUMNS : 1;
    constexpr int STEP = Tile::THREADS / 32 * ROWS;
    static_assert(Tile::SLAB_ROWS % STEP == 0, "all rows at once are of the slab");
    const int lane = threadIdx.x % 32, rows = rows_of_slab(block, slab);
    const Row<Index>* table = block.storage->row + slab * Tile::SLAB_ROWS;
    const uint32_t* units = block.storage->unit_of_row + slab * Tile::SLAB_ROWS;
    const PhaseLine<Index>* lines = block.storage->lines.axis;
    const Index first[3] = {load_shared(&lines[0].out), load_shared(&lines[1].out), load_shared(&lines[2].out)};
    decltype(sink.out) to[COLUMNS];
    Index o[COLUMNS][3];
    uint32_t missing[COLUMNS];
    GTC_UNROLL
    for (int n = 0; n < COLUMNS; ++n) {
        const Pixel<Index> pixel = load_shared(block.storage->pixel + lane + 32 * n);
        to[n] = sink.out + pixel.y;
        GTC_KEEP(to[n]);
        missing[n] = ~load_shared(block.storage->units_of_pixel + lane + 32 * n);
        if (!BITS) block_of(block.g, pixel, first, o[n]);
    }
    for (int row = threadIdx.x / 32 * ROWS; row < rows; row += STEP) {
        Vector<Result, ROWS * COLUMNS> sums;
        GTC_UNROLL
        for (int i = 0; i < ROWS * COLUMNS; ++i) {
            sums.at[i] = results.template load<true, 1>(row + i % ROWS, lane + 32 * (i / ROWS)).at[0];
        }
        const auto finished = sink.finish(sums, sink.template of_rows<ROWS>(row));
        const auto unit = load_shared(reinterpret_cast<const Vector<uint32_t, ROWS>*>(units + row));
        GTC_UNROLL
        for (int r = 0; r < ROWS; ++r) {
            const Index y = load_shared(&table[row + r].y);
            GTC_UNROLL
            for (int n = 0; n < COLUMNS; ++n) {
                if (missing[n] & unit.at[r]) continue;
                if (!BITS && !is_output(block.g, o[n], load_shared(table + row + r).out)) continue;
                sink.template put<1>(to[n] + y, {finished.at[n * ROWS + r]});
            }
        }
    }
}

// Results by runs of UNITS neighbouring rows, units of a channel, times RUN / UNITS neighbouring pixels, which lie
// together; none of them is cut off.
template <int RUN, int UNITS, class Tile, class Index, class Results, class Sink>
GTC_DEVICE void walk_runs(const Mainloop<Tile, Index>& block, int slab, const Results& results, const Sink& sink) {
    using Result = typename Tile::Result;
    constexpr int ALONG = RUN / UNITS, COLUMNS = Tile::PIXELS_PER_TILE / ALONG, STEP = Tile::THREADS / COLUMNS * UNITS;
    static_assert(Tile::THREADS % COLUMNS == 0 && Tile::SLAB_ROWS % UNITS == 0, "a thread keeps its pixels");
    const int pixel = threadIdx.x % COLUMNS * ALONG, rows = rows_of_slab(block, slab);
    const Row<Index>* table = block.storage->row + slab * Tile::SLAB_ROWS;
    const Index y = load_shared(&block.storage->pixel[pixel].y);
    if (y < 0) return;
    auto* to = sink.out + y;
    GTC_KEEP(to);
    for (int row = threadIdx.x / COLUMNS * UNITS; row < rows; row += STEP) {
        Vector<Result, ALONG> unit[UNITS];
        GTC_UNROLL
        for (int u = 0; u < UNITS; ++u) unit[u] = results.template load<true, ALONG>(row + u, pixel);
        Vector<Result, RUN> run;
        GTC_UNROLL
        for (int i = 0; i < RUN; ++i) run.at[i] = unit[i % UNITS].at[i / UNITS];
        sink.put(to + load_shared(&table[row].y), sink.finish(run, sink.template of_rows<1>(row)));
    }
}

// Results by COUNT neighbouring rows, channels that lie together: a thread keeps its channels and goes through pixels.
template <int COUNT, class Tile, class Index, class Results, class Sink>
GTC_DEVICE void walk_channels(const Mainloop<Tile, Index>& block, int slab, const Results& results, const Sink& sink) {
    constexpr int GROUPS = Tile::SLAB_ROWS / COUNT, STEP = Tile::THREADS / GROUPS;
    static_assert(Tile::THREADS % GROUPS == 0, "a thread keeps its rows");
    const int row = threadIdx.x % GROUPS * COUNT;
    if (row >= rows_of_slab(block, slab)) return;
    const Row<Index> r = load_shared(block.storage->row + slab * Tile::SLAB_ROWS + row);
    const auto about = sink.template of_rows<COUNT>(row);
    const Index none[3] = {0, 0, 0};
    Index o[3], after[3];
    GTC_UNROLL
    for (int a = 0; a < 3; ++a) after[a] = load_shared(&block.storage->lines.axis[a].out) + r.out[a];
    for (int n = threadIdx.x / GROUPS; n < Tile::PIXELS_PER_TILE; n += STEP) {
        const Pixel<Index>* pixel = block.storage->pixel + n;
        const Index y = load_shared(&pixel->y);
        if (block.g.is_cut_off) {
            block_of(block.g, load_shared(pixel), after, o);
            if (!is_output(block.g, o, none)) continue;
        } else if (y < 0) {
            continue;
        }
        sink.put(sink.out + (y + r.y), sink.finish(results.template load<false, COUNT>(row, n), about));
    }
}

// Hands every result of a slab that the output has to `sink`, as many at once as lie together.
template <class Tile, class Index, class Results, class Sink>
GTC_DEVICE void walk_results(const Mainloop<Tile, Index>& block, int slab, const Results& results, const Sink& sink) {
    const Geometry<Index>& g = block.g;
    if (!g.pixels_first) {
        if (Tile::SLAB_ROWS % 4 == 0 && g.out_channels % 4 == 0 && is_aligned<4>(sink.out)) {
            walk_channels<4>(block, slab, results, sink);
        } else {
            walk_channels<1>(block, slab, results, sink);
        }
    } else if (!g.is_cut_off || units_are_bits(g)) {
        walk_elements<true>(block, slab, results, sink);
    } else {
        walk_elements<false>(block, slab, results, sink);
    }
}

// Adds bias, applies the activation, and writes a slab of results to the output.
template <class Tile, class Index, class T, class Results>
GTC_DEVICE void store_results(const Mainloop<Tile, Index>& block, int slab, T* out, const Results& results) {
    constexpr int RUN = RUN_OF<sizeof(T)>;
    const Geometry<Index>& g = block.g;
    const StoreResults<T, Index> sink{g, block.storage->bias + slab * Tile::SLAB_ROWS, out};
    if (RUN > 1 && g.run_units && is_aligned<RUN>(out)) {
        if (g.run_units == 1) {
            walk_runs<RUN, 1>(block, slab, results, sink);
        } else if (g.run_units == 2) {
            walk_runs < RUN, RUN<2 ? 1 : 2>(block, slab, results, sink);
        } else {
            walk_runs<RUN, RUN>(block, slab, results, sink);
        }
    } else {
        walk_results(block, slab, results, sink);
    }
}

}  // namespace gtc
