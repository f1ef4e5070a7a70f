// The gradient by the weight where a product tile would be mostly padding: few channels, depthwise layers.
//
// A block owns TAPS neighbouring taps on the last axis of CHANNELS output channels and one input channel, so that an
// element of x it reads serves all of them. Its threads share the pixels out, and add their sums pairwise.
#pragma once

#include "geometry.cuh"
#include "numbers.cuh"

namespace gtc {

// What a block owns: its first tap on each axis, and its channels.
template <class Index>
struct WeightShare {
    Index tap[3], group, in_channel, out_channel;

    template <int CHANNELS, int TAPS>
    GTC_DEVICE static WeightShare of(const Geometry<Index>& g, Index index) {
        const auto take = [&](Index count) {
            const Index next = index / count, taken = index - next * count;
            index = next;
            return taken;
        };
        WeightShare share;
        share.tap[2] = take((g.axis[2].kernel + TAPS - 1) / TAPS) * TAPS;
        share.tap[1] = take(g.axis[1].kernel);
        share.tap[0] = take(g.axis[0].kernel);
        share.out_channel = take((g.out_channels + CHANNELS - 1) / CHANNELS) * CHANNELS;
        share.in_channel = take(g.in_channels);
        share.group = index;
        return share;
    }
};

// Adds one pixel's products to a thread's sums; grad_output begins at the share's first channel, x at its channel.
template <class T, int CHANNELS, int TAPS, class Index>
GTC_DEVICE void add_pixel(const Geometry<Index>& g, const WeightShare<Index>& share, const T* x, const T* grad_output,
                          Index pixel, Sum<T> (&sum)[CHANNELS][TAPS]) {
    const Axis<Index>& w = g.axis[2];
    Index from = 0, to = 0, last = 0;
    bool inside = true;
    GTC_UNROLL
    for (int a = 2; a >= 0; --a) {
        const Axis<Index>& axis = g.axis[a];
        const Index next = pixel / axis.size, i = pixel - next * axis.size;
        const Index o = i * axis.stride - axis.pad_low + share.tap[a] * axis.dilation;
        pixel = next;
        from += i * axis.x_stride;
        to += o * axis.y_stride;
        if (a == 2) {
            last = o;
        } else {
            inside = inside && o >= 0 && o < axis.output_size;
        }
    }
    if (!inside) return;
    const Sum<T> value = widen(load_global(x + (from + pixel * g.x_batch)));
    GTC_UNROLL
    for (int t = 0; t < TAPS; ++t) {
        const Index o = last + t * w.dilation;
        if (o < 0 || o >= w.output_size || share.tap[2] + t >= w.kernel) continue;
        GTC_UNROLL
        for (int m = 0; m < CHANNELS; ++m) {
            if (share.out_channel + m >= g.out_channels) continue;
            const Index at = to + pixel * g.y_batch + t * w.dilation * w.y_stride + m * g.y_channel;
            multiply_add(sum[m][t], value, widen(load_global(grad_output + at)));
        }
    }
}

// Owns the weights of one share (blockIdx.x), or what one of gridDim.y parts of the pixels brings to them (blockIdx.y),
// which goes to `parts`, [part][weight], where there are several. Its sums lie in dynamic shared memory.
template <class T, int CHANNELS, int TAPS, class Index>
GTC_GLOBAL GTC_LAUNCH_BOUNDS(128, 4) weight_grad_direct(const GTC_GRID_CONSTANT Geometry<Index> g, const T* x,
                                                        const T* grad_output, T* out, Sum<T>* parts, Index weights) {
    using A = Sum<T>;
    constexpr int THREADS = 128, SUMS = CHANNELS * TAPS;
    const auto share = WeightShare<Index>::template of<CHANNELS, TAPS>(g, blockIdx.x);
    const Index pixels = g.batch * g.axis[0].size * g.axis[1].size * g.axis[2].size;
    const Index each = (pixels + Index(gridDim.y) - 1) / Index(gridDim.y), begin = Index(blockIdx.y) * each;
    const Index end = begin + each < pixels ? begin + each : pixels;
    const T* from = x + (share.group * g.in_channels + share.in_channel) * g.x_channel;
    const T* with = grad_output + (share.group * g.out_channels + share.out_channel) * g.y_channel;
    A sum[CHANNELS][TAPS] = {};
    for (Index p = begin + threadIdx.x; p < end; p += THREADS) add_pixel(g, share, from, with, p, sum);

    A* sums = reinterpret_cast<A*>(dynamic_shared());  // [sum][thread]
    GTC_UNROLL
    for (int i = 0; i < SUMS; ++i) store_shared(sums + i * THREADS + threadIdx.x, sum[i / TAPS][i % TAPS]);
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        for (int e = threadIdx.x; e < SUMS * half; e += THREADS) {
            A* at = sums + e / half * THREADS + e % half;
            store_shared(at, add(load_shared(at), load_shared(at + half)));
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < SUMS; i += THREADS) {
        const Index channel = share.out_channel + i / TAPS, tap = share.tap[2] + i % TAPS;
        if (channel >= g.out_channels || tap >= g.axis[2].kernel) continue;
        Index place = (share.group * g.in_channels + share.in_channel) * g.out_channels + channel;
        place = (place * g.axis[0].kernel + share.tap[0]) * g.axis[1].kernel + share.tap[1];
        place = place * g.axis[2].kernel + tap;
        const A value = load_shared(sums + i * THREADS);
        if (parts) {
            store_global(parts + (Index(blockIdx.y) * weights + place), value);
        } else {
            store_global(out + place, Narrow<T>::from(value));
        }
    }
}

}  // namespace gtc
