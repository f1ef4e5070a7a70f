// From the sums of a tile to the output: where results lie in shared memory and in the output, bias and activation.
//
// The tile puts a slab of its rows in the place of the pipeline's stages; then all threads go over those results in the
// order of the output, so that whole lines are written in both data formats.
#pragma once

#include "mainloop.cuh"

namespace gtc {

// Where a slab's result lies in shared memory, neighbours in memory together, no two of a warp in one bank.
template <class Tile, class Index>
GTC_DEVICE typename Tile::Result* result_at(const Mainloop<Tile, Index>& block, int row, int pixel) {
    auto* results = reinterpret_cast<typename Tile::Result*>(block.work);
    return block.g.pixels_first ? results + row * (Tile::PIXELS_PER_TILE + 1) + pixel
                                : results + pixel * Tile::RESULT_PITCH + row;
}

// Calls sink(row in the tile, pixel in the tile) for every result of a slab, in the order in which the outputs lie
// in memory: pixels and the units between them, or channels, of which STEP at a time.
template <int STEP = 1, class Tile, class Index, class Sink>
GTC_DEVICE void for_each_result(const Mainloop<Tile, Index>& block, int slab, Sink sink) {
    const Geometry<Index>& g = block.g;
    constexpr int N = Tile::PIXELS_PER_TILE, M = Tile::SLAB_ROWS / STEP;
    int shift = 0;  // 2^shift neighbouring rows are units that lie side by side
    while (g.pixels_first && g.axis[2].frame_units % (2 << shift) == 0 && M % (2 << shift) == 0) ++shift;
    for (int e = threadIdx.x; e < M * N; e += Tile::THREADS) {
        const int unit = e & ((1 << shift) - 1), rest = e >> shift;
        const int row = g.pixels_first ? ((rest / N) << shift) + unit : e % M * STEP;
        const int pixel = g.pixels_first ? rest % N : e / M;
        sink(slab * Tile::SLAB_ROWS + row, pixel);
    }
}

// Whether four neighbouring rows are channels that lie together in `array`, aligned to 16 bytes.
template <class Tile, class Index, class T>
GTC_DEVICE bool by_four(const Mainloop<Tile, Index>& block, const T* array) {
    const Geometry<Index>& g = block.g;
    return !g.pixels_first && g.out_channels % 4 == 0 && Tile::SLAB_ROWS % 4 == 0 &&
           reinterpret_cast<unsigned long long>(array) % 16 == 0;
}

// Offset of a result in the output, or -1 where there is none.
template <class Tile, class Index>
GTC_DEVICE Index output_of(const Mainloop<Tile, Index>& block, int row, int pixel) {
    const auto* storage = block.storage;
    const Row<Index> r = load_shared(storage->row + row);
    const Pixel<Index> p = load_shared(storage->pixel + pixel);
    if (block.g.is_cut_off ? !is_output(block.g, load_shared(&storage->lines), p, r) : p.y < 0) return -1;
    return r.channel >= 0 ? p.y + r.y : -1;
}

// Adds bias, applies the activation, and writes a slab of `result(row, pixel)` to the output, four channels at once
// where they lie together.
template <class Tile, class Index, class T, class Result>
GTC_DEVICE void store_results(const Mainloop<Tile, Index>& block, int slab, T* out, Result result) {
    const Geometry<Index>& g = block.g;
    const auto finished = [&](int row, int pixel) {
        return finish<T>(result(row, pixel), load_shared(block.storage->bias + row), g.activation, g.slope);
    };
    if (by_four(block, out)) {
        for_each_result<4>(block, slab, [&](int row, int pixel) {
            const auto to = output_of(block, row, pixel);
            if (to < 0) return;
            using Four = Vector<T, 4>;
            const Four four{finished(row, pixel), finished(row + 1, pixel), finished(row + 2, pixel),
                            finished(row + 3, pixel)};
            store_global(reinterpret_cast<Four*>(out + to), four);
        });
    } else {
        for_each_result(block, slab, [&](int row, int pixel) {
            const auto to = output_of(block, row, pixel);
            if (to >= 0) store_global(out + to, finished(row, pixel));
        });
    }
}

}  // namespace gtc
