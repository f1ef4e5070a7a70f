// Weights in the order in which the tiles read them: header, then [group][tap][input channel][row], rows padded.
#pragma once

#include "geometry.cuh"
#include "numbers.cuh"

namespace gtc {

// Reads the weights as the caller has them, [input channel][output channel][tap], and writes the packed ones, a
// thread every so many-th, and the header's flag. ROUND_TF32: rounded as the matrix instructions want them.
template <class T, bool ROUND_TF32, class Index>
GTC_GLOBAL pack_weight(const GTC_GRID_CONSTANT Geometry<Index> g, const T* weight, unsigned char* packed) {
    T* to = reinterpret_cast<T*>(packed + sizeof(PackedHeader));
    const Index taps = packed_taps(g), size = g.groups * taps * g.in_channels * g.row_pitch;
    bool nonfinite = false;
    for (Index e = Index(blockIdx.x) * blockDim.x + threadIdx.x; e < size; e += Index(gridDim.x) * blockDim.x) {
        const Index row = e % g.row_pitch;
        Index tap = e / g.row_pitch / g.in_channels;
        const Index channel = tap / taps * g.in_channels + e / g.row_pitch % g.in_channels;
        tap %= taps;
        T value{};
        if (row < g.rows) {
            const Index units = g.rows / g.out_channels;
            Index unit = g.pixels_first ? row % units : row / g.out_channels;
            const Index out_channel = g.pixels_first ? row / units : row % g.out_channels;
            Index at = 0, volume = 1;
            GTC_UNROLL
            for (int a = 2; a >= 0; --a) {
                const Axis<Index>& axis = g.axis[a];
                const Index count = g.single_frame ? axis.frame_taps : axis.kernel;
                at += (unit % axis.frame_units + tap % count * (g.single_frame ? axis.stride : 1)) * volume;
                unit /= axis.frame_units;
                tap /= count;
                volume *= axis.kernel;
            }
            const Index group = channel / g.in_channels;
            const Index channels = group * g.in_channels * g.out_channels * volume +
                                   (channel - group * g.in_channels) * g.weight_in + out_channel * g.weight_out;
            value = load_global(weight + channels + at);
        }
        nonfinite = nonfinite || !is_finite(widen(value));
        if constexpr (ROUND_TF32) value = round_to_tf32(value);
        store_global(to + e, value);
    }
    if (nonfinite) atomic_or(&reinterpret_cast<PackedHeader*>(packed)->nonfinite, 1u);
}

// The same for the stamps of grad_output, [phase][group][output channel][row]; phases and units as in
// source_phase.cuh.
template <class T, bool ROUND_TF32, class Index>
GTC_GLOBAL pack_tap_stamps(const GTC_GRID_CONSTANT Geometry<Index> g, const T* weight, unsigned char* packed) {
    T* to = reinterpret_cast<T*>(packed + sizeof(PackedHeader));
    const Index volume = g.axis[0].kernel * g.axis[1].kernel * g.axis[2].kernel;
    const Index phases = g.axis[0].phase_count * g.axis[1].phase_count * g.axis[2].phase_count;
    const Index size = phases * g.groups * g.in_channels * g.row_pitch;
    for (Index e = Index(blockIdx.x) * blockDim.x + threadIdx.x; e < size; e += Index(gridDim.x) * blockDim.x) {
        Index rest = e / g.row_pitch;
        const Index row = e - rest * g.row_pitch, channel = rest % g.in_channels;
        rest /= g.in_channels;
        const Index group = rest % g.groups;
        Index phase = rest / g.groups, first[3], taps[3], units = 1;
        GTC_UNROLL
        for (int a = 2; a >= 0; --a) {
            first[a] = phase % g.axis[a].phase_count;
            phase /= g.axis[a].phase_count;
            taps[a] = (g.axis[a].kernel - first[a] + g.axis[a].tap_step - 1) / g.axis[a].tap_step;
            units *= taps[a];
        }
        T value{};
        if (row < g.out_channels * units) {
            Index unit = g.pixels_first ? row % units : row / g.out_channels;
            const Index out_channel = g.pixels_first ? row / units : row % g.out_channels;
            Index at = 0, step = 1;
            GTC_UNROLL
            for (int a = 2; a >= 0; --a) {
                at += (first[a] + (taps[a] - 1 - unit % taps[a]) * g.axis[a].tap_step) * step;
                unit /= taps[a];
                step *= g.axis[a].kernel;
            }
            const Index channels =
                group * g.in_channels * g.out_channels * volume + channel * g.weight_in + out_channel * g.weight_out;
            value = load_global(weight + channels + at);
        }
        if constexpr (ROUND_TF32) value = round_to_tf32(value);
        store_global(to + e, value);
    }
}

}  // namespace gtc
