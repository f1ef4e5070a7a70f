// Gather for one output channel per group: depthwise layers.
//
// A thread owns ROW_OUTPUTS neighbouring outputs of ROWS_OF_THREAD rows, all phases of some blocks, so that it reads
// each input once for all phases, and writes them side by side: channels first of one channel, channels last of LANES
// neighbouring ones, with one input each, which it reads and writes together. Nothing but the stride of the last axis
// is known when the kernel is compiled; taps are not dilated. It reads the weights as the caller has them.
#pragma once

#include "geometry.cuh"
#include "numbers.cuh"

namespace gtc {

constexpr int ROWS_OF_THREAD = 4;
template <int LANES>
constexpr int ROW_OUTPUTS = LANES > 1 ? 4 : 8;

// Blocks of 128 threads per multiprocessor: as many as leave the registers for the sums.
template <class T, class Index, int LANES>
constexpr int ROW_BLOCKS = SUM_BYTES<T> > 8                                     ? 2
                           : SUM_BYTES<T> > 4 || sizeof(Index) > 4 || LANES > 1 ? 4
                                                                                : 6;

// Channels that are read and written together, channels last.
template <class T>
constexpr int LANES_OF = sizeof(T) <= 4 ? 4 : 16 / static_cast<int>(sizeof(T));

// The taps that reach an output on one axis: `tap`, and every stride-th after it, from `input` and those before it.
template <class Index>
struct Reach {
    Index tap, input;

    GTC_DEVICE static Reach of(const Axis<Index>& axis, Index output) {
        const Unsigned<Index> reach = output + axis.pad_low, input = reach / static_cast<Unsigned<Index>>(axis.stride);
        return {static_cast<Index>(reach - input * axis.stride), static_cast<Index>(input)};
    }
};

// The sums of a thread's outputs, in registers.
template <class T, int STRIDE, int LANES, class Index>
struct RowSums {
    using A = Sum<T>;
    using Lanes = Vector<A, LANES>;
    static constexpr int BLOCKS = ROW_OUTPUTS<LANES> / STRIDE, WINDOW = BLOCKS + 2;
    Lanes sum[ROW_OUTPUTS<LANES>];
    Index pitch;   // from pixel to pixel of a row of x, where there are lanes
    Index volume;  // weights of a channel

    GTC_DEVICE static Lanes load_lanes(const T* from) {
        const auto found = load_global(reinterpret_cast<const Vector<T, LANES>*>(from));
        Lanes lanes;
        GTC_UNROLL
        for (int l = 0; l < LANES; ++l) lanes.at[l] = widen(found.at[l]);
        return lanes;
    }

    // Two taps of each phase on the last axis, which read WINDOW inputs of `row` from `first` on; `weight` is at the
    // first of them. INSIDE: all of those inputs exist.
    template <bool INSIDE>
    GTC_DEVICE void add_taps(const T* row, Index first, Index size, const T* weight, int remainder, Index taps) {
        Lanes window[WINDOW];
        bool inside[WINDOW];
        GTC_UNROLL
        for (int i = 0; i < WINDOW; ++i) {
            inside[i] = INSIDE || is_within(first + i, size);
            window[i] = inside[i] ? load_lanes(row + (first + i) * (LANES == 1 ? 1 : pitch)) : Lanes{};
        }
        GTC_UNROLL
        for (int phase = 0; phase < STRIDE; ++phase) {
            const bool next = remainder + phase >= STRIDE;  // reads from the next input on
            const int tap = remainder + phase - (next ? STRIDE : 0);
            GTC_UNROLL
            for (int t = 0; t < 2; ++t) {
                if (tap + t * STRIDE >= taps) continue;
                Lanes w;
                GTC_UNROLL
                for (int l = 0; l < LANES; ++l) w.at[l] = widen(load_global(weight + (tap + t * STRIDE + l * volume)));
                GTC_UNROLL
                for (int b = 0; b < BLOCKS; ++b) {
                    const int here = b + 1 - t;
                    if (!INSIDE && !(next ? inside[here + 1] : inside[here])) continue;
                    GTC_UNROLL
                    for (int l = 0; l < LANES; ++l) {
                        multiply_add(sum[b * STRIDE + phase].at[l], w.at[l],
                                     next ? window[here + 1].at[l] : window[here].at[l]);
                    }
                }
            }
        }
    }

    // All taps of the last axis for the row of x at `row`; the outputs' first is `output`.
    GTC_DEVICE void add_row(const Axis<Index>& axis, const T* row, const T* weight, Index output) {
        const Unsigned<Index> reach = output + axis.pad_low;
        const int remainder = reach % STRIDE;
        Index first = static_cast<Index>(reach / STRIDE) - 1;
        for (Index tap = 0; tap < axis.kernel; tap += 2 * STRIDE, first -= 2) {
            if (first >= 0 && first + WINDOW <= axis.size) {
                add_taps<true>(row, first, axis.size, weight + tap, remainder, axis.kernel - tap);
            } else {
                add_taps<false>(row, first, axis.size, weight + tap, remainder, axis.kernel - tap);
            }
        }
    }
};

// Which outputs a thread owns at a time: of which image and channel, from which row and from where on.
template <class Index>
struct RowShare {
    Index batch, channel, depth, height, width;

    // Neighbouring threads read and write side by side: channels first along a row, channels last from lane to lane.
    template <int LANES>
    GTC_DEVICE static RowShare of(const Geometry<Index>& g, Unsigned<Index> e) {
        const auto take = [&](Index count) {
            const Unsigned<Index> of = count, rest = e / of, index = e - rest * of;
            e = rest;
            return static_cast<Index>(index);
        };
        constexpr int EACH = ROW_OUTPUTS<LANES>;
        RowShare s{};
        if (LANES > 1) s.channel = take(g.groups / LANES) * LANES;
        s.width = take((g.axis[2].output_size + EACH - 1) / EACH) * EACH;
        s.height = take((g.axis[1].output_size + ROWS_OF_THREAD - 1) / ROWS_OF_THREAD) * ROWS_OF_THREAD;
        if (g.axis[0].output_size > 1) s.depth = take(g.axis[0].output_size);
        if (LANES == 1) s.channel = take(g.groups);
        s.batch = static_cast<Index>(e);
        return s;
    }
};

// Bias, activation and rounding, and then to the output: `left` of the sums have a place there.
template <class T, int STRIDE, int LANES, class Index>
GTC_DEVICE void store_row(const Geometry<Index>& g, const RowSums<T, STRIDE, LANES, Index>& row,
                          const Vector<Sum<T>, LANES>& bias, T* to, Index left, bool aligned) {
    constexpr int RUN = LANES > 1 ? 1 : RUN_OF<sizeof(T)>;
    GTC_UNROLL
    for (int first = 0; first < ROW_OUTPUTS<LANES>; first += RUN) {
        Vector<Sum<T>, RUN * LANES> sums;
        GTC_UNROLL
        for (int i = 0; i < RUN * LANES; ++i) sums.at[i] = row.sum[first + i / LANES].at[i % LANES];
        const Vector<T, RUN * LANES> run = finish_all<T>(sums, bias, g.activation, g.slope);
        if constexpr (LANES > 1) {
            if (first < left) store_global(reinterpret_cast<Vector<T, LANES>*>(to + first * g.axis[2].y_stride), run);
        } else if (aligned && left >= ROW_OUTPUTS<LANES>) {
            store_global(reinterpret_cast<Vector<T, RUN>*>(to + first), run);
        } else {
            GTC_UNROLL
            for (int i = 0; i < RUN; ++i) {
                if (first + i < left) store_global(to + first + i, run.at[i]);
            }
        }
    }
}

// Threads go over all shares in strides of the grid; each output is written by the one thread that owns its share.
template <class T, int STRIDE, int LANES, class Index, int BLOCKS = ROW_BLOCKS<T, Index, LANES>>
GTC_GLOBAL GTC_LAUNCH_BOUNDS(128, BLOCKS) gather_rows(const GTC_GRID_CONSTANT Geometry<Index> g, const T* x,
                                                      const T* weight, const T* bias, T* out, long long shares) {
    static_assert(LANES == 1 || LANES == LANES_OF<T>, "as the host counts shares");
    const Axis<Index>&d = g.axis[0], &h = g.axis[1], &w = g.axis[2];
    const bool aligned = w.output_size % RUN_OF<sizeof(T)> == 0 && is_aligned<RUN_OF<sizeof(T)>>(out);
    const long long grid = static_cast<long long>(gridDim.x) * blockDim.x;
    for (long long e = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; e < shares; e += grid) {
        const auto s = RowShare<Index>::template of<LANES>(g, static_cast<Unsigned<Index>>(e));
        const auto rd = Reach<Index>::of(d, s.depth);
        Vector<Sum<T>, LANES> b{};
        if (bias) b = RowSums<T, STRIDE, LANES, Index>::load_lanes(bias + s.channel);
        T* to = out + (s.batch * g.y_batch + s.channel * g.y_channel + s.depth * d.y_stride + s.width * w.y_stride);
        for (Index oh = s.height; oh < s.height + ROWS_OF_THREAD && oh < h.output_size; ++oh) {
            const auto rh = Reach<Index>::of(h, oh);
            RowSums<T, STRIDE, LANES, Index> row{};
            row.pitch = w.x_stride, row.volume = d.kernel * h.kernel * w.kernel;
            for (Index c = s.channel * g.in_channels; c < (s.channel + 1) * g.in_channels; ++c) {
                const T* plane = x + (s.batch * g.x_batch + c * g.x_channel);
                for (Index kd = rd.tap, id = rd.input; kd < d.kernel; kd += d.stride, --id) {
                    if (!is_within(id, d.size)) continue;
                    for (Index kh = rh.tap, ih = rh.input; kh < h.kernel; kh += h.stride, --ih) {
                        if (!is_within(ih, h.size)) continue;
                        row.add_row(w, plane + (id * d.x_stride + ih * h.x_stride),
                                    weight + ((c * d.kernel + kd) * h.kernel + kh) * w.kernel, s.width);
                    }
                }
            }
            store_row(g, row, b, to + oh * h.y_stride, w.output_size - s.width, aligned);
        }
    }
}

}  // namespace gtc
