// A tile of products by ordinary multiply-adds: any element type, any architecture.
#pragma once

#include "loaders.cuh"

namespace gtc {

// ROWS_ x PIXELS_ results; each thread has THREAD_ROWS x THREAD_PIXELS of them in registers.
template <class T, int ROWS_, int PIXELS_, int THREAD_ROWS, int THREAD_PIXELS, Input INPUT_>
struct SimtTile {
    using Element = T;
    using Result = Sum<T>;
    using Shared = Sum<T>;
    static constexpr int ROWS = ROWS_, PIXELS_PER_TILE = PIXELS_, DEPTH = 8, STAGES = 2;
    static constexpr Input INPUT = INPUT_;
    static constexpr int PIXEL_THREADS = PIXELS_ / THREAD_PIXELS;
    static constexpr int THREADS = PIXEL_THREADS * (ROWS_ / THREAD_ROWS);
    static constexpr int BLOCKS = THREADS >= 256 ? 2 : 1;  // per multiprocessor: at most 128 registers a thread
    // Vectors of 16 bytes; a thread's rows and pixels are so many of them, spread over the tile.
    static constexpr int VECTOR = sizeof(Shared) >= 16 ? 1 : 16 / sizeof(Shared);
    static constexpr int ROW_VECTORS = THREAD_ROWS / VECTOR, PIXEL_VECTORS = THREAD_PIXELS / VECTOR;
    static constexpr int WEIGHT_PITCH = ROWS_ + VECTOR, INPUT_PITCH = PIXELS_ + VECTOR;
    static constexpr int SLABS = ROW_VECTORS, SLAB_ROWS = ROWS_ / SLABS;
    // Slabs whose code is written out: sums of 8 bytes and more do not leave the registers for two of them.
    static constexpr int SLABS_AT_ONCE = sizeof(Result) > 4 ? 1 : SLABS;
    // Of results with the rows together, and with the pixels together, which are written by vectors.
    static constexpr int RESULT_PITCH = SLAB_ROWS + 1, PLANE_PITCH = PIXELS_ + VECTOR;
    static constexpr bool TF32 = false;

    struct alignas(16) Stage {
        Shared weight[DEPTH * WEIGHT_PITCH];
        Shared input[DEPTH * INPUT_PITCH];
    };

    template <class Index>
    using Weights = WeightLoader<T, Shared, ROWS_, DEPTH, WEIGHT_PITCH, THREADS, Index>;
    template <class Index>
    using Inputs = InputLoader<T, Shared, PIXELS_, DEPTH, INPUT_PITCH, THREADS, INPUT_, false, Index>;

    Result sum[THREAD_ROWS][THREAD_PIXELS];

    GTC_DEVICE static int first_row() { return threadIdx.x / PIXEL_THREADS * VECTOR; }
    GTC_DEVICE static int first_pixel() { return threadIdx.x % PIXEL_THREADS * VECTOR; }

    GTC_DEVICE void clear() {
        GTC_UNROLL
        for (int m = 0; m < THREAD_ROWS; ++m) {
            GTC_UNROLL
            for (int n = 0; n < THREAD_PIXELS; ++n) sum[m][n] = zero<Result>();
        }
    }

    // Adds one chunk's products, read from shared memory, to the thread's sums.
    GTC_DEVICE void multiply(const Stage& stage) {
        using Block = Vector<Shared, VECTOR>;
        GTC_UNROLL
        for (int k = 0; k < DEPTH; ++k) {
            Block weight[ROW_VECTORS], input[PIXEL_VECTORS];
            GTC_UNROLL
            for (int r = 0; r < ROW_VECTORS; ++r) {
                const Shared* at = stage.weight + k * WEIGHT_PITCH + r * SLAB_ROWS + first_row();
                weight[r] = load_shared(reinterpret_cast<const Block*>(at));
            }
            GTC_UNROLL
            for (int r = 0; r < PIXEL_VECTORS; ++r) {
                const Shared* at = stage.input + k * INPUT_PITCH + r * (PIXELS_ / PIXEL_VECTORS) + first_pixel();
                input[r] = load_shared(reinterpret_cast<const Block*>(at));
            }
            GTC_UNROLL
            for (int m = 0; m < THREAD_ROWS; ++m) {
                GTC_UNROLL
                for (int n = 0; n < THREAD_PIXELS; ++n) {
                    multiply_add(sum[m][n], weight[m / VECTOR].at[m % VECTOR], input[n / VECTOR].at[n % VECTOR]);
                }
            }
        }
    }

    template <bool PLANES>
    GTC_DEVICE static constexpr int place(int row, int pixel) {
        return PLANES ? row * PLANE_PITCH + pixel : pixel * RESULT_PITCH + row;
    }

    // Puts the results of one slab of rows in shared memory, those of a row together (PLANES) or those of a pixel.
    template <bool PLANES>
    GTC_DEVICE void stage_results(int slab, Result* results) const {
        using Block = Vector<Result, VECTOR>;
        Result* first = results + place<PLANES>(first_row(), first_pixel());
        GTC_UNROLL
        for (int r = 0; r < ROW_VECTORS; ++r) {
            if (r != slab) continue;
            GTC_UNROLL
            for (int m = 0; m < VECTOR; ++m) {
                GTC_UNROLL
                for (int n = 0; n < THREAD_PIXELS; n += VECTOR) {
                    Result* at = first + place<PLANES>(m, n / VECTOR * (PIXELS_ / PIXEL_VECTORS));
                    Block block;
                    GTC_UNROLL
                    for (int i = 0; i < VECTOR; ++i) block.at[i] = sum[r * VECTOR + m][n + i];
                    if constexpr (PLANES) {
                        store_shared(reinterpret_cast<Block*>(at), block);
                    } else {
                        GTC_UNROLL
                        for (int i = 0; i < VECTOR; ++i) store_shared(at + i * RESULT_PITCH, block.at[i]);
                    }
                }
            }
        }
    }
};

}  // namespace gtc
