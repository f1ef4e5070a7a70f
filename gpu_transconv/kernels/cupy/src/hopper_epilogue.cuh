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

// Where a block's results lie: the output of the box's first pixel, and which pixels of the box have one.
struct BlockOutputs {
    int low[3], count[3];  // pixels of the box on each axis
    long long offset;

    GTC_DEVICE static BlockOutputs of(const HopperGeometry& g, const HopperTile& tile, const Block& block) {
        BlockOutputs outputs;
        outputs.offset = static_cast<long long>(tile.image) * g.y_batch;
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

    // The pixel is the sum of two whose digits do not meet.
    GTC_DEVICE bool has(const BoxPixel& pixel, const BoxPixel& more, int images) const {
        bool inside = pixel.image + more.image < images;
        GTC_UNROLL
        for (int a = 0; a < 3; ++a) {
            inside &= static_cast<unsigned>(pixel.at[a] + (more.at[a] - low[a])) < static_cast<unsigned>(count[a]);
        }
        return inside;
    }
};

template <class T>
GTC_DEVICE Vector<T, 2> pair_of(float a, float b) {
    return {Narrow<T>::from(a), Narrow<T>::from(b)};
}

// Stores the sums of one warpgroup; `pixel` is its first of the box, `block` its first block, `thread` its thread.
template <class T, int COLUMNS>
struct HopperEpilogue {
    const HopperGeometry& g;
    T* out;
    BlockOutputs outputs[2];
    int channel[2][2];  // of the group, by block and half; those beyond the last have no output
    int images;
    BoxPixel own[2];  // the thread's pixels among eight neighbours

    GTC_DEVICE HopperEpilogue(const HopperGeometry& g_, const HopperTile& tile, int block, int pixel, int thread,
                              T* out_)
        : g(g_), out(out_), images(g_.batch - tile.image) {
        GTC_UNROLL
        for (int i = 0; i < 2; ++i) own[i] = BoxPixel::of(g, pixel + thread % 4 * 2 + i);
        GTC_UNROLL
        for (int m = 0; m < 2; ++m) {
            const Block rows = block_of(g, block + m);
            outputs[m] = BlockOutputs::of(g, tile, rows);
            outputs[m].offset += static_cast<long long>(tile.group) * g.out_channels * g.y_channel;
        }
        find_channels(g, block, thread, channel);
    }

    GTC_DEVICE static void find_channels(const HopperGeometry& g, int block, int thread, int (&channel)[2][2]) {
        GTC_UNROLL
        for (int i = 0; i < 4; ++i) {
            const int m = i / 2, row = thread / 32 * 16 + i % 2 * 8 + thread % 32 / 4;
            const int of_group = (block + m) / g.units * BLOCK_ROWS + channel_of_row(g, row);
            channel[m][i % 2] = block + m < g.blocks && of_group < g.out_channels ? of_group : -1;
        }
    }

    GTC_DEVICE int offset_of(const BoxPixel& pixel) const {
        int offset = pixel.image * g.y_batch;
        GTC_UNROLL
        for (int a = 0; a < 3; ++a) offset += pixel.at[a] * (g.axis[a].stride * g.axis[a].y_stride);
        return offset;
    }

    template <class Vector>
    GTC_DEVICE static void store(T* to, const Vector& value) {
        store_global(reinterpret_cast<Vector*>(to), value);
    }

    // By block, pixel of a pair and half: whether two, or four, are stored at once at the first's place.
    template <int TOGETHER>
    GTC_DEVICE void store_all(const float (&sums)[2][COLUMNS / 2]) const {
        constexpr int BLOCKS = TOGETHER == UNITS_2 || TOGETHER == UNITS_PIXELS ? 1 : 2;
        constexpr int PIXELS = TOGETHER == PIXELS_2 || TOGETHER == UNITS_PIXELS ? 1 : 2;
        constexpr int HALVES = TOGETHER == CHANNELS_2 ? 1 : 2;
        GTC_UNROLL
        for (int j = 0; j < COLUMNS / 8; ++j) {
            const BoxPixel first = BoxPixel::of(g, 8 * j);
            const int offset = offset_of(first);
            GTC_UNROLL
            for (int i = 0; i < BLOCKS * PIXELS; ++i) {
                const int m = i / PIXELS, p = i % PIXELS;
                if (!outputs[m].has(first, own[p], images)) continue;
                T* const to = out + outputs[m].offset + (offset_of(own[p]) + offset);
                GTC_UNROLL
                for (int half = 0; half < HALVES; ++half) {
                    if (channel[m][half] < 0) continue;
                    store_one<TOGETHER>(to + static_cast<long long>(channel[m][half]) * g.y_channel, sums, m,
                                        4 * j + 2 * half + p);
                }
            }
        }
    }

    template <int TOGETHER>
    GTC_DEVICE static void store_one(T* to, const float (&sums)[2][COLUMNS / 2], int m, int i) {
        if constexpr (TOGETHER == UNITS_PIXELS) {
            const Vector<T, 2> left = pair_of<T>(sums[0][i], sums[1][i]);
            const Vector<T, 2> right = pair_of<T>(sums[0][i + 1], sums[1][i + 1]);
            store(to, Vector<T, 4>{left.at[0], left.at[1], right.at[0], right.at[1]});
        } else if constexpr (TOGETHER == UNITS_2) {
            store(to, pair_of<T>(sums[0][i], sums[1][i]));
        } else if constexpr (TOGETHER == PIXELS_2) {
            store(to, pair_of<T>(sums[m][i], sums[m][i + 1]));
        } else if constexpr (TOGETHER == CHANNELS_2) {
            store(to, pair_of<T>(sums[m][i], sums[m][i + 2]));
        } else {
            store_global(to, Narrow<T>::from(sums[m][i]));
        }
    }
};

}  // namespace gtc
