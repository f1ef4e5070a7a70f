// Scatter: every input multiplies the whole filter, and adds that stamp into the output.
//
// All stamps together are one product: weights [taps and output channels, input channels] times inputs, read once.
// What differs is how stamps that overlap are added: by atomics, or by the owner of a tile of the output.
#pragma once

#include "epilogue.cuh"
#include "scheduler.cuh"

namespace gtc {

// Four channels that lie together, in one reduction where the architecture has it.
template <class A>
GTC_DEVICE void add_four(A* to, A a, A b, A c, A d) {
    atomic_add(to, a), atomic_add(to + 1, b), atomic_add(to + 2, c), atomic_add(to + 3, d);
}
GTC_DEVICE void add_four(float* to, float a, float b, float c, float d) { atomic_add_4(to, float4{a, b, c, d}); }

// Adds results to sums by atomics, four channels that lie together at once.
template <class A>
struct AddResults {
    A* out;

    template <int ROWS>
    GTC_DEVICE int of_rows(int) const {
        return 0;
    }

    template <int COUNT>
    GTC_DEVICE const Vector<A, COUNT>& finish(const Vector<A, COUNT>& values, int) const {
        return values;
    }

    template <int COUNT>
    GTC_DEVICE void put(A* to, const Vector<A, COUNT>& values) const {
        if constexpr (COUNT == 4) {
            add_four(to, values.at[0], values.at[1], values.at[2], values.at[3]);
        } else {
            atomic_add(to, values.at[0]);
        }
    }
};

// Makes the stamps of one tile and adds them into `sums`, or, EXCLUSIVE, stores them finished to `out`. `block` has
// filled its tables, and the threads have passed a barrier.
template <bool EXCLUSIVE, class Tile, class Index, class T>
GTC_DEVICE void add_stamps(Mainloop<Tile, Index>& block, T* out, typename Tile::Result* sums) {
    Tile tile;
    tile.clear();
    block.sum_chunks(tile, 0, block.chunks_per_tap());

    GTC_UNROLL_BY(Tile::SLABS_AT_ONCE)
    for (int slab = 0; slab < Tile::SLABS; ++slab) {
        stage_results(block, tile, slab);
        __syncthreads();
        if constexpr (EXCLUSIVE) {
            store_results(block, slab, out, staged_results(block));
        } else {
            walk_results(block, slab, staged_results(block), AddResults<typename Tile::Result>{sums});
        }
        __syncthreads();
    }
}

// Adds into `sums`, which begins as zeros or the bias. Where no two stamps overlap (EXCLUSIVE) they are finished
// instead and stored to `out`, without atomics. blockIdx.x: tile.
template <class Tile, bool EXCLUSIVE, class Index>
GTC_GLOBAL GTC_LAUNCH_BOUNDS(Tile::THREADS, Tile::BLOCKS)
    scatter_atomic(const GTC_GRID_CONSTANT Geometry<Index> g, const typename Tile::Element* x,
                   const unsigned char* packed, const typename Tile::Element* bias, typename Tile::Element* out,
                   typename Tile::Result* sums, Index row_tiles) {
    using T = typename Tile::Element;
    const ScheduledTile<Index> index = ScheduledTile<Index>::of(blockIdx.x, g, row_tiles);
    Mainloop<Tile, Index> block(g, index.group, index.row_tile * Tile::ROWS, index.pixel_tile * Tile::PIXELS_PER_TILE,
                                x, reinterpret_cast<const T*>(packed + sizeof(PackedHeader)), 1);
    block.begin(0, bias);
    __syncthreads();
    add_stamps<EXCLUSIVE>(block, out, sums);
}

template <class Index>
GTC_DEVICE Index channel_of(const Geometry<Index>& g, Index e) {
    return e % g.y_batch / g.y_channel % (g.groups * g.out_channels);
}

// The bias everywhere, or zero: what stamps are added to where the output itself holds the sums. With `finished` the
// results of a bias alone: what stays where no stamp is stored.
template <class T, class Index>
GTC_GLOBAL scatter_begin(const GTC_GRID_CONSTANT Geometry<Index> g, const T* bias, T* out, int finished) {
    const Index size = g.batch * g.y_batch;
    for (Index e = Index(blockIdx.x) * blockDim.x + threadIdx.x; e < size; e += Index(gridDim.x) * blockDim.x) {
        const T value = bias ? load_global(bias + channel_of(g, e)) : T{};
        store_global(out + e, finished ? finish<T>(zero<Sum<T>>(), widen(value), g.activation, g.slope) : value);
    }
}

// Bias and activation once all stamps are added. `sums` may be `out` itself, which then holds the bias already.
template <class T, class Index>
GTC_GLOBAL scatter_finish(const GTC_GRID_CONSTANT Geometry<Index> g, const Sum<T>* sums, const T* bias, T* out) {
    const Index size = g.batch * g.y_batch;
    for (Index e = Index(blockIdx.x) * blockDim.x + threadIdx.x; e < size; e += Index(gridDim.x) * blockDim.x) {
        const Sum<T> b = bias ? widen(load_global(bias + channel_of(g, e))) : zero<Sum<T>>();
        store_global(out + e, finish<T>(load_global(sums + e), b, g.activation, g.slope));
    }
}

}  // namespace gtc
