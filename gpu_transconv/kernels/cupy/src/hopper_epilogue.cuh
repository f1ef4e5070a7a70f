// From the sums of a warpgroup, in registers, to the output: two blocks of 64 rows, COLUMNS pixels.
//
// A thread has, of each block, rows r and r + 8 and every pair of pixels 8*j + 2*(lane % 4): sums[block][4*j + 2*half +
// pixel]. So what lies together in the output lies together in a thread: two pixels; the units of two blocks; both; or
// two channels, into which order the weights were put.
#pragma once

#include "hopper_geometry.cuh"
#include "hopper_primitives.cuh"

namespace gtc {

// Activations of numbers.cuh in registers, by the unit's exponential: those that are not linear in pieces are
// m*L(v*(scale + cubic*v*v)) + shift with L(z) = 1/(1 + 2^z), and m is v or 2.
struct Activation {
    int code;
    float slope, scale, cubic, shift;

    GTC_DEVICE Activation(int code_, float slope_) : code(code_), slope(slope_) {
        scale = -1.4426950408889634f * (code == TANH ? 2.0f : code == GELU ? 1.5957691216057308f : 1.0f);
        cubic = code == GELU ? scale * 0.044715f : 0.0f;
        shift = code == TANH ? -1.0f : 0.0f;
    }

    GTC_DEVICE float piecewise(float v) const { return v < 0 ? code == RELU ? 0.0f : v * slope : v; }

    GTC_DEVICE float smooth(float v) const {
        const float z = v * fmaf(cubic, fminf(v * v, 1e30f), scale);
        const float factor = code == TANH ? 2.0f : code == SIGMOID ? 1.0f : v;
        return fmaf(factor, reciprocal_fast(1.0f + exp2_fast(z)), shift);
    }

    GTC_DEVICE float operator()(float v) const { return code <= LEAKY_RELU ? piecewise(v) : smooth(v); }

    template <int N>
    GTC_DEVICE void apply(float (&sums)[2][N]) const {
        if (code == LINEAR) return;
        if (code <= LEAKY_RELU) {
            GTC_UNROLL
            for (int i = 0; i < 2 * N; ++i) sums[i / N][i % N] = piecewise(sums[i / N][i % N]);
        } else {
            GTC_UNROLL
            for (int i = 0; i < 2 * N; ++i) sums[i / N][i % N] = smooth(sums[i / N][i % N]);
        }
    }
};

// One result without its bias, by the definition: the unit of a block of outputs, in an image and channel of all
// groups'.
template <class T>
GTC_DEVICE float sum_by_definition(const HopperGeometry& g, const T* x, const T* weight, int image, int channel,
                                   const int (&block)[3], const int (&unit)[3]) {
    const int group = channel / g.out_channels;
    const long long from =
        static_cast<long long>(image) * g.x_batch + static_cast<long long>(group) * g.in_channels * g.x_channel;
    const int volume = g.axis[0].kernel * g.axis[1].kernel * g.axis[2].kernel;
    const T* factors = weight + static_cast<long long>(group) * g.in_channels * g.out_channels * volume +
                       static_cast<long long>(channel - group * g.out_channels) * g.weight_out;
    float sum = 0;
    GTC_ROLLED
    for (int tap = 0; tap < volume; ++tap) {
        int k = tap;
        long long at = from;
        bool inside = true;
        GTC_UNROLL
        for (int a = 2; a >= 0; --a) {
            const HopperAxis& axis = g.axis[a];
            const int distance = k % axis.kernel * axis.dilation - axis.low;
            const int shift = -floor_divide(distance, axis.stride);
            const int i = axis.step * block[a] + shift;
            inside = inside && distance + shift * axis.stride == unit[a] && i >= 0 && i < axis.size;
            at += static_cast<long long>(i) * axis.x_stride;
            k /= axis.kernel;
        }
        GTC_ROLLED
        for (int c = 0; inside && c < g.in_channels; ++c) {
            multiply_add(sum, widen(load_global(factors + static_cast<long long>(c) * g.weight_in + tap)),
                         widen(load_global(x + at + static_cast<long long>(c) * g.x_channel)));
        }
    }
    return sum;
}

// The same of a block of rows, with the bias; a function of its own, whose registers are not those of the sums.
template <class T>
GTC_NOINLINE float result_by_definition(const HopperGeometry& g, const T* x, const T* weight, const T* bias, int image,
                                        int channel, int d, int h, int w, int block) {
    const int place[3] = {d, h, w};
    const float sum = sum_by_definition(g, x, weight, image, channel, place, block_of(g, block).unit);
    return bias ? sum + widen(load_global(bias + channel)) : sum;
}

// Where a block's results lie: the output of the box's first pixel, and which pixels of the box have one.
struct BlockOutputs {
    int low[3], count[3];  // pixels of the box on each axis
    long long offset;

    GTC_DEVICE static BlockOutputs of(const HopperGeometry& g, const HopperTile& tile, const Block& block) {
        BlockOutputs outputs;
        outputs.offset = static_cast<long long>(tile.image) * g.y_batch +
                         static_cast<long long>(tile.group) * g.out_channels * g.y_channel;
        GTC_UNROLL
        for (int a = 0; a < 3; ++a) {
            const HopperAxis& axis = g.axis[a];
            const int first = axis.stride * tile.block[a] + block.unit[a] - axis.origin;
            const int low = first < 0 ? (axis.stride - 1 - first) / axis.stride : 0;
            const int end = (axis.output_size - first + axis.stride - 1) / axis.stride;
            outputs.low[a] = low;
            outputs.count[a] = end > low ? end - low : 0;
            outputs.offset += static_cast<long long>(first) * axis.y_stride;
        }
        return outputs;
    }

    // Whether each pixel of the box has an output.
    GTC_DEVICE bool has_all(const HopperGeometry& g, int images) const {
        bool inside = images >> g.batch_log2 > 0;
        GTC_UNROLL
        for (int a = 0; a < 3; ++a) inside &= low[a] == 0 && count[a] >> g.axis[a].box_log2 > 0;
        return inside;
    }

    GTC_DEVICE bool has(const BoxPixel& pixel, int images) const {
        bool inside = pixel.image < images;
        GTC_UNROLL
        for (int a = 0; a < 3; ++a) {
            inside &= static_cast<unsigned>(pixel.at[a] - low[a]) < static_cast<unsigned>(count[a]);
        }
        return inside;
    }
};

// Output channels of the group of a thread's rows, by block and half; -1 beyond the last.
GTC_DEVICE void find_channels(const HopperGeometry& g, int block, int thread, int (&channel)[2][2]) {
    GTC_UNROLL
    for (int i = 0; i < 4; ++i) {
        const int m = i / 2, row = thread / 32 * 16 + i % 2 * 8 + thread % 32 / 4;
        const int of_group = (block + m) / g.units * BLOCK_ROWS + channel_of_row(g, row);
        channel[m][i % 2] = block + m < g.blocks && of_group < g.out_channels ? of_group : -1;
    }
}

// Stores the sums of one warpgroup: its first block of rows and first pixel of the box.
template <class T, int COLUMNS>
struct HopperEpilogue {
    static constexpr int PAIRS = COLUMNS / 8;  // of pixels, a thread

    const HopperGeometry& g;
    const HopperTile& tile;
    T* out;
    int block, pixel, thread;

    // Offset of a pixel of the box from its first.
    GTC_DEVICE int offset_of(int at) const {
        const BoxPixel p = BoxPixel::of(g, at);
        int offset = p.image * g.y_batch;
        GTC_UNROLL
        for (int a = 0; a < 3; ++a) offset += p.at[a] * (g.axis[a].stride * g.axis[a].y_stride);
        return offset;
    }

    // Which of the thread's pixels, eight apart, have an output, as bits.
    GTC_DEVICE unsigned valid_pixels(const BlockOutputs& outputs, int first) const {
        const int images = g.batch - tile.image;
        if (outputs.has_all(g, images)) return (1u << PAIRS) - 1;
        unsigned valid = 0;
        GTC_ROLLED
        for (int j = 0; j < PAIRS; ++j) {
            valid |= static_cast<unsigned>(outputs.has(BoxPixel::of(g, first + 8 * j), images)) << j;
        }
        return valid;
    }

    // What a thread stores together begins at the sum of `m`, pixel `p` of the pair, and half.
    template <int TOGETHER>
    GTC_DEVICE void store_all(const float (&sums)[2][COLUMNS / 2]) const {
        constexpr int BLOCKS = TOGETHER == UNITS_2 || TOGETHER == UNITS_PIXELS ? 1 : 2;
        constexpr int PIXELS = TOGETHER == PIXELS_2 || TOGETHER == UNITS_PIXELS ? 1 : 2;
        constexpr int HALVES = TOGETHER == CHANNELS_2 ? 1 : 2;
        constexpr int EACH = BLOCKS * PIXELS * HALVES;
        T* to[EACH];
        unsigned valid[EACH];
        int channel[2][2];
        find_channels(g, block, thread, channel);
        const int first = pixel + thread % 4 * 2;
        GTC_UNROLL
        for (int m = 0; m < BLOCKS; ++m) {
            const BlockOutputs outputs = BlockOutputs::of(g, tile, block_of(g, block + m));
            GTC_UNROLL
            for (int p = 0; p < PIXELS; ++p) {
                const unsigned inside = valid_pixels(outputs, first + p);
                T* const base = out + outputs.offset + offset_of(first + p);
                GTC_UNROLL
                for (int half = 0; half < HALVES; ++half) {
                    const int i = (m * PIXELS + p) * HALVES + half;
                    to[i] = base + static_cast<long long>(channel[m][half]) * g.y_channel;
                    GTC_KEEP(to[i]);
                    valid[i] = channel[m][half] < 0 ? 0 : inside;
                }
            }
        }
        int offsets[PAIRS];  // of pixel 8*j: the sum of those of j's digits, as sizes are powers of two
        GTC_UNROLL
        for (int j = 0; j < PAIRS; ++j) {
            if (j & (j - 1)) {
                offsets[j] = offsets[j & (j - 1)] + offsets[j & -j];
            } else {
                offsets[j] = offset_of(8 * j);
                keep(offsets[j]);
            }
        }
        GTC_UNROLL
        for (int j = 0; j < PAIRS; ++j) {
            GTC_UNROLL
            for (int i = 0; i < EACH; ++i) {
                if (!(valid[i] >> j & 1)) continue;
                const int p = i / HALVES % PIXELS, half = i % HALVES;
                store_one<TOGETHER>(to[i] + offsets[j], sums, i / HALVES / PIXELS, 4 * j + 2 * half + p);
            }
        }
    }

    GTC_DEVICE static void store(T* to, float a, float b) {
        if constexpr (sizeof(T) == 4) {
            store_global_8(to, uint2{bits_as<uint32_t>(a), bits_as<uint32_t>(b)});
        } else {
            store_global(reinterpret_cast<uint32_t*>(to), pair_of<T>(a, b));
        }
    }

    GTC_DEVICE static void store(T* to, float a, float b, float c, float d) {
        if constexpr (sizeof(T) == 4) {
            store_global_16(
                to, uint4{bits_as<uint32_t>(a), bits_as<uint32_t>(b), bits_as<uint32_t>(c), bits_as<uint32_t>(d)});
        } else {
            store_global_8(to, uint2{pair_of<T>(a, b), pair_of<T>(c, d)});
        }
    }

    template <int TOGETHER>
    GTC_DEVICE static void store_one(T* to, const float (&sums)[2][COLUMNS / 2], int m, int i) {
        if constexpr (TOGETHER == UNITS_PIXELS) {
            store(to, sums[0][i], sums[1][i], sums[0][i + 1], sums[1][i + 1]);
        } else if constexpr (TOGETHER == UNITS_2) {
            store(to, sums[0][i], sums[1][i]);
        } else if constexpr (TOGETHER == PIXELS_2) {
            store(to, sums[m][i], sums[m][i + 1]);
        } else if constexpr (TOGETHER == CHANNELS_2) {
            store(to, sums[m][i], sums[m][i + 2]);
        } else {
            store_global(to, Narrow<T>::from(sums[m][i]));
        }
    }
};

}  // namespace gtc
