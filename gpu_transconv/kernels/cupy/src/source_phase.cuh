// The gradient by x as stamps of grad_output: of each phase of its positions by itself.
//
// Outputs o = stride*b + phase meet the same taps, and each leads to an input at a fixed distance from b. So the stamps
// of one phase are those of a transposed convolution with stride 1: column b, units the taps of the phase. This file
// makes that smaller problem, in shared memory, for the kernels that scatter. Phases are numbered by their first tap,
// of which each axis has phase_count, so that none is without taps.
#pragma once

#include "mainloop.cuh"

namespace gtc {

// A problem of one phase, and where its source begins.
template <class Index>
struct SourcePhase {
    Geometry<Index> g;
    Index x;
};

// One axis of a phase, by its first tap. Unit u is the tap u before the phase's last, and lies u*shift_step after it.
// Returns the first output of the phase.
template <class Index>
GTC_DEVICE Index source_axis(const Axis<Index>& from, Index first_tap, Axis<Index>* to) {
    const Index reach = first_tap * from.dilation - from.pad_low, block = floor_divide(reach, from.stride);
    const Index phase = reach - block * from.stride;
    const Index taps = (from.kernel - first_tap + from.tap_step - 1) / from.tap_step;
    *to = from;
    to->size = phase < from.size ? (from.size - phase + from.stride - 1) / from.stride : 0;
    to->kernel = to->frame_units = taps;
    to->stride = to->phase_count = to->common = to->tap_step = 1;
    to->dilation = to->frame_unit_step = from.shift_step;
    to->pad_low = block + (taps - 1) * from.shift_step;
    to->frame_out = -to->pad_low;
    to->tap_inverse = 0;
    to->frame_count = to->size;
    to->x_stride = from.x_stride * from.stride;
    return phase;
}

// Makes the problem of one phase; one thread calls it.
template <class Index>
GTC_DEVICE void make_source_phase(const Geometry<Index>& g, Index phase, SourcePhase<Index>* to) {
    to->g = g;
    to->x = 0;
    to->g.rows = g.out_channels;
    to->g.is_cut_off = 1;
    GTC_UNROLL
    for (int a = 2; a >= 0; --a) {
        const Axis<Index>& axis = g.axis[a];
        const Index next = phase / axis.phase_count;
        to->x += source_axis<Index>(axis, phase - next * axis.phase_count, to->g.axis + a) * axis.x_stride;
        to->g.rows *= to->g.axis[a].frame_units;
        phase = next;
    }
}

// The phase's packed weights, [phase][group][output channel][row] after the header.
template <class T, class Index>
GTC_DEVICE const T* phase_weights(const Geometry<Index>& g, const unsigned char* packed, Index phase) {
    return reinterpret_cast<const T*>(packed + sizeof(PackedHeader)) + phase * g.groups * g.in_channels * g.row_pitch;
}

// Behind the work of a tile in dynamic shared memory.
template <class Tile, class Index>
GTC_DEVICE SourcePhase<Index>* source_phase() {
    return reinterpret_cast<SourcePhase<Index>*>(dynamic_shared() + shared_bytes<Tile, Index>());
}

}  // namespace gtc
