// A tile of products by matrix instructions (mma.sync, sm_80 and later): half, bfloat16, and float as TF32.
#pragma once

#include "loaders.cuh"

#if GTC_SM80

namespace gtc {

// How the operands of one instruction are read from shared memory. Half types, m16n8k16: weights lie [channel][row],
// pixels [channel][pixel] or [pixel][channel].
template <class Half, int WEIGHT_PITCH, int INPUT_PITCH, bool BY_PIXEL>
struct HalfFragments {
    static constexpr int DEPTH = 16;

    GTC_DEVICE static void rows(uint32_t (&a)[4], const Half* weight, int k, int row, int lane) {
        const int channel = k + lane % 8 + lane / 16 * 8, m = row + lane / 8 % 2 * 8;
        load_matrix_x4_transposed(a, weight + channel * WEIGHT_PITCH + m);
    }

    // Two neighbouring fragments of 8 pixels.
    GTC_DEVICE static void pixels(uint32_t (&b)[2][2], const Half* input, int k, int pixel, int lane) {
        uint32_t r[4];
        if constexpr (BY_PIXEL) {
            const int n = pixel + lane % 8 + lane / 16 * 8, channel = k + lane / 8 % 2 * 8;
            load_matrix_x4(r, input + n * INPUT_PITCH + channel);
        } else {
            const int n = pixel + lane / 16 * 8, channel = k + lane % 16;
            load_matrix_x4_transposed(r, input + channel * INPUT_PITCH + n);
        }
        b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
    }

    GTC_DEVICE static void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
        mma_m16n8k16(d, a, b, Half{});
    }
};

// float as TF32, m16n8k8: ldmatrix moves 16-bit elements only, so each lane reads its own. Weights were rounded when
// they were packed.
template <int WEIGHT_PITCH, int INPUT_PITCH, bool BY_PIXEL>
struct Tf32Fragments {
    static constexpr int DEPTH = 8;

    GTC_DEVICE static void rows(uint32_t (&a)[4], const float* weight, int k, int row, int lane) {
        const float* at = weight + (k + lane % 4) * WEIGHT_PITCH + row + lane / 4;
        GTC_UNROLL
        for (int i = 0; i < 4; ++i) {
            a[i] = bits_as<uint32_t>(load_shared(at + i / 2 * 4 * WEIGHT_PITCH + i % 2 * 8));
        }
    }

    GTC_DEVICE static void pixels(uint32_t (&b)[2][2], const float* input, int k, int pixel, int lane) {
        GTC_UNROLL
        for (int i = 0; i < 2; ++i) {
            const int n = pixel + i * 8 + lane / 4, channel = k + lane % 4;
            GTC_UNROLL
            for (int j = 0; j < 2; ++j) {
                const int c = channel + j * 4;
                b[i][j] = to_tf32(load_shared(BY_PIXEL ? input + n * INPUT_PITCH + c : input + c * INPUT_PITCH + n));
            }
        }
    }

    GTC_DEVICE static void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
        mma_m16n8k8_tf32(d, a, b);
    }
};

template <class T, int WEIGHT_PITCH, int INPUT_PITCH, bool BY_PIXEL>
struct FragmentsOf {
    using type = HalfFragments<T, WEIGHT_PITCH, INPUT_PITCH, BY_PIXEL>;
};
template <int WEIGHT_PITCH, int INPUT_PITCH, bool BY_PIXEL>
struct FragmentsOf<float, WEIGHT_PITCH, INPUT_PITCH, BY_PIXEL> {
    using type = Tf32Fragments<WEIGHT_PITCH, INPUT_PITCH, BY_PIXEL>;
};

// ROWS_ x PIXELS_ results; each warp has WARP_ROWS x WARP_PIXELS of them in registers.
template <class T, int ROWS_, int PIXELS_, int WARP_ROWS, int WARP_PIXELS, int STAGES_, Input INPUT_>
struct MmaTile {
    using Element = T;
    using Result = float;
    using Shared = T;
    static constexpr int ROWS = ROWS_, PIXELS_PER_TILE = PIXELS_, STAGES = STAGES_;
    static constexpr int DEPTH = 64 / sizeof(T);  // 32 channels of a half type, 16 of float
    static constexpr Input INPUT = INPUT_;
    static constexpr int ROW_WARPS = ROWS_ / WARP_ROWS;
    static constexpr int THREADS = 32 * ROW_WARPS * (PIXELS_ / WARP_PIXELS);
    static constexpr int BLOCKS = THREADS >= 256 ? 2 : 4;
    static constexpr bool BY_PIXEL = INPUT_ == PIXELS || INPUT_ == PIXELS_16;
    // Pitches for which neither ldmatrix nor the scalar reads of TF32 meet in one bank.
    static constexpr int WEIGHT_PITCH = ROWS_ + 8;
    static constexpr int INPUT_PITCH = BY_PIXEL ? DEPTH + 16 / sizeof(T) : PIXELS_ + 8;
    static constexpr int INPUT_SIZE = BY_PIXEL ? PIXELS_ * INPUT_PITCH : DEPTH * INPUT_PITCH;
    static constexpr int ROW_FRAGMENTS = WARP_ROWS / 16, PIXEL_FRAGMENTS = WARP_PIXELS / 8;  // of one warp
    static constexpr int SLABS = 1, SLABS_AT_ONCE = 1, SLAB_ROWS = ROWS_;
    // Of results with the rows together, of which four are read at once, and with the pixels together: two are
    // written at once, and those of a warp's half lie in different banks.
    static constexpr int RESULT_PITCH = SLAB_ROWS + 4, PLANE_PITCH = PIXELS_ + 8;
    static constexpr bool TF32 = sizeof(T) == sizeof(float);  // what is read as weights has been rounded
    static_assert(WARP_ROWS % 16 == 0 && WARP_PIXELS % 16 == 0, "pixels are read two fragments at a time");

    struct alignas(16) Stage {
        T weight[DEPTH * WEIGHT_PITCH];
        T input[INPUT_SIZE];
    };

    template <class Index>
    using Weights = WeightLoader<T, T, ROWS_, DEPTH, WEIGHT_PITCH, THREADS, Index>;
    template <class Index>
    using Inputs = InputLoader<T, T, PIXELS_, DEPTH, INPUT_PITCH, THREADS, INPUT_, BY_PIXEL, Index>;
    using Operands = typename FragmentsOf<T, WEIGHT_PITCH, INPUT_PITCH, BY_PIXEL>::type;

    float sum[ROW_FRAGMENTS][PIXEL_FRAGMENTS][4];

    GTC_DEVICE static int lane() { return threadIdx.x % 32; }
    GTC_DEVICE static int first_row() { return threadIdx.x / 32 % ROW_WARPS * WARP_ROWS; }
    GTC_DEVICE static int first_pixel() { return threadIdx.x / 32 / ROW_WARPS * WARP_PIXELS; }

    GTC_DEVICE void clear() {
        GTC_UNROLL
        for (int m = 0; m < ROW_FRAGMENTS; ++m) {
            GTC_UNROLL
            for (int n = 0; n < PIXEL_FRAGMENTS; ++n) {
                GTC_UNROLL
                for (int i = 0; i < 4; ++i) sum[m][n][i] = 0;
            }
        }
    }

    // Adds one chunk's products, read from shared memory, to the warp's sums.
    GTC_DEVICE void multiply(const Stage& stage) {
        GTC_UNROLL
        for (int k = 0; k < DEPTH; k += Operands::DEPTH) {
            uint32_t a[ROW_FRAGMENTS][4], b[PIXEL_FRAGMENTS / 2][2][2];
            GTC_UNROLL
            for (int m = 0; m < ROW_FRAGMENTS; ++m) Operands::rows(a[m], stage.weight, k, first_row() + m * 16, lane());
            GTC_UNROLL
            for (int n = 0; n < PIXEL_FRAGMENTS / 2; ++n) {
                Operands::pixels(b[n], stage.input, k, first_pixel() + n * 16, lane());
            }
            GTC_UNROLL
            for (int m = 0; m < ROW_FRAGMENTS; ++m) {
                GTC_UNROLL
                for (int n = 0; n < PIXEL_FRAGMENTS; ++n) Operands::multiply(sum[m][n], a[m], b[n / 2][n % 2]);
            }
        }
    }

    template <bool PLANES>
    GTC_DEVICE static constexpr int place(int row, int pixel) {
        return PLANES ? row * PLANE_PITCH + pixel : pixel * RESULT_PITCH + row;
    }

    // Puts the results in shared memory, those of a row together (PLANES) or those of a pixel.
    template <bool PLANES>
    GTC_DEVICE void stage_results(int, Result* results) const {
        Result* first = results + place<PLANES>(first_row() + lane() / 4, first_pixel() + lane() % 4 * 2);
        GTC_UNROLL
        for (int m = 0; m < ROW_FRAGMENTS; ++m) {
            GTC_UNROLL
            for (int n = 0; n < PIXEL_FRAGMENTS; ++n) {
                GTC_UNROLL
                for (int i = 0; i < 4; i += 2) {
                    Result* at = first + place<PLANES>(m * 16 + i / 2 * 8, n * 8);
                    if constexpr (PLANES) {
                        store_shared(reinterpret_cast<Vector<Result, 2>*>(at),
                                     Vector<Result, 2>{sum[m][n][i], sum[m][n][i + 1]});
                    } else {
                        store_shared(at, sum[m][n][i]);
                        store_shared(at + RESULT_PITCH, sum[m][n][i + 1]);
                    }
                }
            }
        }
    }
};

}  // namespace gtc

#endif  // GTC_SM80
