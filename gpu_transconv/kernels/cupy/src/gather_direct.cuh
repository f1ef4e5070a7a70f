// Gather where a product tile would be mostly padding: few output channels, depthwise layers.
//
// A thread owns CHANNELS neighbouring output channels of one group at PIXELS_ neighbouring pixels of one phase along
// the last axis, so that a weight it reads serves PIXELS_ products and an input CHANNELS; and that in DIRECT_ROWS rows,
// so that the divisions which find its place serve all of them. It reads the weights as the caller has them.
#pragma once

#include "geometry.cuh"
#include "numbers.cuh"

namespace gtc {

constexpr int DIRECT_ROWS = 4;

// Blocks of 128 threads per multiprocessor: as many as leave the registers for the sums.
template <int BYTES>  // of a pixel's sums
constexpr int DIRECT_BLOCKS = BYTES <= 8    ? 7
                              : BYTES <= 32 ? 4
                                            : 2;

// What one thread owns at a time: which phase, pixels and channels.
template <class Index>
struct Share {
    Index phase[3], block[3], batch, group, channel;
};

// Neighbouring threads take neighbouring outputs: channels_last channel by channel, channels_first along the last
// axis, where the phases lie side by side.
template <int CHANNELS, int PIXELS_, class Index>
GTC_DEVICE Share<Index> share_of(const Geometry<Index>& g, Unsigned<Index> e) {
    Share<Index> s;
    const Index channel_blocks = (g.out_channels + CHANNELS - 1) / CHANNELS;
    const auto take = [&](Index count) {
        const Unsigned<Index> of = count, rest = e / of, index = e - rest * of;
        e = rest;
        return static_cast<Index>(index);
    };
    const auto channels = [&] {
        s.channel = take(channel_blocks) * CHANNELS;
        s.group = take(g.groups);
    };
    if (!g.pixels_first) channels();
    GTC_UNROLL
    for (int a = 2; a >= 0; --a) {
        const Axis<Index>& axis = g.axis[a];
        const Index blocks = divide_up(axis.output_size, axis.stride);
        s.phase[a] = take(axis.phase_count);
        const Index each = a == 2 ? PIXELS_ : a == 1 ? DIRECT_ROWS : 1;
        s.block[a] = take((blocks + each - 1) / each) * each;
    }
    if (g.pixels_first) channels();
    s.batch = static_cast<Index>(e);
    return s;
}

// The sums of one share, in registers, and what it reads for them: x and the weights as the caller has them.
template <class T, int CHANNELS, int PIXELS_, class Index>
struct Direct {
    using A = Sum<T>;
    const Geometry<Index>& g;
    const Share<Index>& s;
    const T* x;       // at the group's first channel
    const T* weight;  // at the group's first input and the share's first output channel
    PhaseLine<Index> line[3];
    A sum[PIXELS_][CHANNELS];

    // All channels of one tap; `input` is of the tap and the first pixel on the last axis.
    GTC_DEVICE void add_tap(Index offset, Index input, Index tap) {
        const Index channels = g.out_channels - s.channel;
        bool inside[PIXELS_];
        GTC_UNROLL
        for (int p = 0; p < PIXELS_; ++p) {
            const Index i = input + p * g.axis[2].x_step;
            inside[p] = i >= 0 && i < g.axis[2].size;
        }
        for (Index c = 0; c < g.in_channels; ++c) {
            A w[CHANNELS];
            GTC_UNROLL
            for (int m = 0; m < CHANNELS; ++m) {
                w[m] =
                    m < channels ? widen(load_global(weight + (c * g.weight_in + m * g.weight_out + tap))) : zero<A>();
            }
            GTC_UNROLL
            for (int p = 0; p < PIXELS_; ++p) {
                if (!inside[p]) continue;
                const Index at = offset + c * g.x_channel + (input + p * g.axis[2].x_step) * g.axis[2].x_stride;
                const A value = widen(load_global(x + at));
                GTC_UNROLL
                for (int m = 0; m < CHANNELS; ++m) multiply_add(sum[p][m], w[m], value);
            }
        }
    }

    // All taps of the share's phase whose input is inside, for a row of blocks.
    GTC_DEVICE void add_taps(Index block_row) {
        const Axis<Index>&d = g.axis[0], &h = g.axis[1], &w = g.axis[2];
        const PhaseLine<Index>&ld = line[0], &lh = line[1], &lw = line[2];
        for (Index jd = 0; jd < ld.taps; ++jd) {
            const Index id = s.block[0] * d.x_step + ld.shift - jd * d.shift_step;
            if (id < 0 || id >= d.size) continue;
            for (Index jh = 0; jh < lh.taps; ++jh) {
                const Index ih = block_row * h.x_step + lh.shift - jh * h.shift_step;
                if (ih < 0 || ih >= h.size) continue;
                const Index row =
                    ((ld.first_tap + jd * d.tap_step) * h.kernel + lh.first_tap + jh * h.tap_step) * w.kernel;
                for (Index jw = 0; jw < lw.taps; ++jw) {
                    add_tap(id * d.x_stride + ih * h.x_stride, s.block[2] * w.x_step + lw.shift - jw * w.shift_step,
                            row + lw.first_tap + jw * w.tap_step);
                }
            }
        }
    }
};

// Bias, activation and rounding, and then to the output: `left` of the channels are of the group. They are stored
// together where they lie so.
template <class T, int CHANNELS, class Index>
GTC_DEVICE void store_channels(const Geometry<Index>& g, const Sum<T> (&sum)[CHANNELS],
                               const Vector<Sum<T>, CHANNELS>& bias, T* to, Index left, bool together) {
    Vector<Sum<T>, CHANNELS> sums;
    GTC_UNROLL
    for (int m = 0; m < CHANNELS; ++m) sums.at[m] = sum[m];
    const Vector<T, CHANNELS> finished = finish_all<T>(sums, bias, g.activation, g.slope);
    if (together) {
        store_global(reinterpret_cast<Vector<T, CHANNELS>*>(to), finished);
        return;
    }
    GTC_UNROLL
    for (int m = 0; m < CHANNELS; ++m) {
        if (m < left) store_global(to + m * g.y_channel, finished.at[m]);
    }
}

// Threads go over all shares in strides of the grid; each output is written by the one thread that owns its share.
template <class T, int CHANNELS, int PIXELS_, class Index>
GTC_GLOBAL GTC_LAUNCH_BOUNDS(128, DIRECT_BLOCKS<SUM_BYTES<T> * CHANNELS>)
    gather_direct(const GTC_GRID_CONSTANT Geometry<Index> g, const T* x, const T* weight, const T* bias, T* out,
                  long long shares) {
    using A = Sum<T>;
    const long long stride = static_cast<long long>(gridDim.x) * blockDim.x;
    const bool together = !g.pixels_first && g.out_channels % CHANNELS == 0 && is_aligned<CHANNELS>(out);
    for (long long e = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; e < shares; e += stride) {
        const Share<Index> s = share_of<CHANNELS, PIXELS_, Index>(g, static_cast<Unsigned<Index>>(e));
        const Index od = s.block[0] * g.axis[0].stride + s.phase[0];
        if (od >= g.axis[0].output_size) continue;
        const Index volume = g.axis[0].kernel * g.axis[1].kernel * g.axis[2].kernel;
        const Index first = s.group * g.out_channels + s.channel;  // of all channels
        Direct<T, CHANNELS, PIXELS_, Index> direct{
            g,
            s,
            x + s.batch * g.x_batch + s.group * g.in_channels * g.x_channel,
            weight + (s.group * g.in_channels * g.out_channels * volume + s.channel * g.weight_out),
            {phase_line(g.axis[0], s.phase[0], false), phase_line(g.axis[1], s.phase[1], false),
             phase_line(g.axis[2], s.phase[2], false)},
            {}};
        Vector<A, CHANNELS> b{};
        GTC_UNROLL
        for (int m = 0; m < CHANNELS; ++m) {
            if (bias && s.channel + m < g.out_channels) b.at[m] = widen(load_global(bias + first + m));
        }
        const Index width = s.block[2] * g.axis[2].stride + s.phase[2], step = g.axis[2].stride * g.axis[2].y_stride;
        T* to =
            out + (s.batch * g.y_batch + first * g.y_channel + od * g.axis[0].y_stride + width * g.axis[2].y_stride);
        for (Index row = s.block[1]; row < s.block[1] + DIRECT_ROWS; ++row) {
            const Index oh = row * g.axis[1].stride + s.phase[1];
            if (oh >= g.axis[1].output_size) break;
            GTC_UNROLL
            for (int i = 0; i < PIXELS_ * CHANNELS; ++i) direct.sum[i / CHANNELS][i % CHANNELS] = zero<A>();
            direct.add_taps(row);
            T* const of_row = to + oh * g.axis[1].y_stride;
            GTC_UNROLL
            for (int p = 0; p < PIXELS_; ++p) {
                if (width + p * g.axis[2].stride >= g.axis[2].output_size) break;
                store_channels(g, direct.sum[p], b, of_row + p * step, g.out_channels - s.channel, together);
            }
        }
    }
}

}  // namespace gtc
