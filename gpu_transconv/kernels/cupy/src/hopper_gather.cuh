// Gather on Hopper: one persistent kernel for every geometry, half types and TF32, on the products of a warpgroup.
#pragma once

#include "hopper_pipeline.cuh"

namespace gtc {

// Where a weight is not finite, zeros outside the input must not meet it: every result by the definition.
template <class T>
GTC_DEVICE void gather_by_definition(const HopperGeometry& g, const T* x, const T* weight, const T* bias, T* out) {
    const int channels = g.groups * g.out_channels;
    const long long outputs = static_cast<long long>(g.axis[0].output_size) * g.axis[1].output_size *
                              g.axis[2].output_size * g.batch * channels;
    const Activation activation(g.activation, g.slope);
    for (long long e = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; e < outputs;
         e += static_cast<long long>(gridDim.x) * blockDim.x) {
        long long rest = e, to = 0;
        int block[3], unit[3];
        GTC_UNROLL
        for (int a = 2; a >= 0; --a) {
            const HopperAxis& axis = g.axis[a];
            const int o = static_cast<int>(rest % axis.output_size);
            rest /= axis.output_size;
            to += static_cast<long long>(o) * axis.y_stride;
            block[a] = (o + axis.origin) / axis.stride;
            unit[a] = (o + axis.origin) % axis.stride;
        }
        const int channel = static_cast<int>(rest % channels), image = static_cast<int>(rest / channels);
        to += static_cast<long long>(image) * g.y_batch + static_cast<long long>(channel) * g.y_channel;
        float sum = sum_by_definition(g, x, weight, image, channel, block, unit);
        sum += bias ? widen(load_global(bias + channel)) : 0.0f;
        store_global(out + to, Narrow<T>::from(g.activation == LINEAR ? sum : activation(sum)));
    }
}

template <class T, Source SOURCE, int BLOCKS, int IMAGES = 1>
GTC_GLOBAL GTC_LAUNCH_BOUNDS(384, 1)
    hopper_gather(const GTC_GRID_CONSTANT HopperGeometry g, const GTC_GRID_CONSTANT TensorMap map, const T* x,
                  const T* weight, const unsigned char* packed, const T* bias, T* out) {
    if (load_global(&reinterpret_cast<const PackedHeader*>(packed)->nonfinite)) {
        gather_by_definition(g, x, weight, bias, out);
        return;
    }
    using Pipeline = HopperPipeline<T, SOURCE, BLOCKS, IMAGES>;
    Pipeline pipeline(g, packed);
    pipeline.begin();
    if (threadIdx.x < Pipeline::GROUP_THREADS) {
        registers_fewer<40>();
        if (Pipeline::BY_THREADS || threadIdx.x == 0) pipeline.produce(map, x);
    } else {
        registers_more<232>();
        pipeline.consume(x, weight, bias, out);
    }
}

}  // namespace gtc
