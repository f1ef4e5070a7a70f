// The gradient by x, scattered: the forward scatter of every phase of grad_output, see source_phase.cuh.
#pragma once

#include "scatter.cuh"
#include "scatter_owned.cuh"
#include "source_phase.cuh"

namespace gtc {

// Adds one tile of the stamps of one phase (blockIdx.x) into `sums`, which begins as zeros.
template <class Tile, class Index>
GTC_GLOBAL GTC_LAUNCH_BOUNDS(Tile::THREADS, 1)
    input_grad_atomic(const GTC_GRID_CONSTANT Geometry<Index> g, const typename Tile::Element* grad_output,
                      const unsigned char* packed, typename Tile::Result* sums, Index row_tiles) {
    using T = typename Tile::Element;
    const ScheduledTile<Index> index = ScheduledTile<Index>::of(blockIdx.x, g, row_tiles);
    SourcePhase<Index>* source = source_phase<Tile, Index>();
    if (threadIdx.x == 0) make_source_phase(g, index.phase, source);
    __syncthreads();
    const Index first_row = index.row_tile * Tile::ROWS;
    if (first_row >= source->g.rows) return;
    Mainloop<Tile, Index> block(source->g, index.group, first_row, index.pixel_tile * Tile::PIXELS_PER_TILE,
                                grad_output + source->x, phase_weights<T>(g, packed, index.phase), 1);
    if (!block.begin(0, nullptr)) return;
    __syncthreads();
    add_stamps<false>(block, static_cast<T*>(nullptr), sums);
}

// A block owns one box of the gradient for some channels, whose sums it has in shared memory behind the problem of the
// phase at hand; it goes through all phases, and writes each element once.
template <class Tile, class Index>
GTC_GLOBAL GTC_LAUNCH_BOUNDS(Tile::THREADS, 1)
    input_grad_owned(const GTC_GRID_CONSTANT Geometry<Index> g, const GTC_GRID_CONSTANT OwnedBoxes<Index> owned,
                     const typename Tile::Element* grad_output, const unsigned char* packed,
                     typename Tile::Element* out) {
    using T = typename Tile::Element;
    using Result = typename Tile::Result;
    SourcePhase<Index>* source = source_phase<Tile, Index>();
    if (threadIdx.x == 0) make_source_phase(g, Index(0), source);
    __syncthreads();
    BoxOwner<Tile, Index> owner(source->g, 0, 0, 0, grad_output, nullptr, 1);
    owner.owned = &owned;
    owner.locate(blockIdx.x);
    owner.sums = reinterpret_cast<Result*>(reinterpret_cast<unsigned char*>(source) +
                                           (sizeof(SourcePhase<Index>) + 15) / 16 * 16);
    owner.clear_sums();
    const Index phases = g.axis[0].phase_count * g.axis[1].phase_count * g.axis[2].phase_count;
    for (Index phase = 0; phase < phases; ++phase) {
        __syncthreads();
        if (threadIdx.x == 0) make_source_phase(g, phase, source);
        __syncthreads();
        owner.x = grad_output + source->x + owner.group * g.in_channels * g.x_channel;
        owner.weight = phase_weights<T>(g, packed, phase) + owner.group * g.in_channels * g.row_pitch;
        owner.set_phase(0);
        owner.stamp_all();
    }
    __syncthreads();
    owner.write(static_cast<const T*>(nullptr), out);
}

}  // namespace gtc
