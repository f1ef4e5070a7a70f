// Small kernels that show that the runner runs what is right and reports what is not.
#pragma once

#include "primitives.cuh"

namespace samples {

using namespace gtc;

// C[rows, columns] = A[rows, depth] B[depth, columns], a block per 16 x 16 tile, the next tiles on their way by
// asynchronous copies.
constexpr int TILE = 16;

GTC_DEVICE void begin_tiles(float* tiles, const float* a, const float* b, int rows, int columns, int depth, int k) {
    const int x = threadIdx.x, y = threadIdx.y;
    const int row = blockIdx.y * TILE + y, column = blockIdx.x * TILE + x;
    const bool a_valid = row < rows && k + x < depth, b_valid = k + y < depth && column < columns;
    copy_async_4(tiles + y * TILE + x, a_valid ? a + row * depth + k + x : a, a_valid);
    copy_async_4(tiles + TILE * TILE + y * TILE + x, b_valid ? b + (k + y) * columns + column : b, b_valid);
    copy_async_commit();
}

GTC_GLOBAL matrix_product(const float* a, const float* b, float* c, int rows, int columns, int depth) {
    float* tiles = reinterpret_cast<float*>(dynamic_shared());
    const int x = threadIdx.x, y = threadIdx.y;
    begin_tiles(tiles, a, b, rows, columns, depth, 0);
    float sum = 0;
    for (int k = 0, stage = 0; k < depth; k += TILE, stage ^= 1) {
        begin_tiles(tiles + (stage ^ 1) * 2 * TILE * TILE, a, b, rows, columns, depth, k + TILE);
        copy_async_wait<1>();
        __syncthreads();  // the tiles are there
        const float* tile = tiles + stage * 2 * TILE * TILE;
        for (int i = 0; i < TILE; ++i) {
            sum = fmaf(load_shared(tile + y * TILE + i), load_shared(tile + TILE * TILE + i * TILE + x), sum);
        }
        __syncthreads();  // and done with
    }
    const int row = blockIdx.y * TILE + y, column = blockIdx.x * TILE + x;
    if (row < rows && column < columns) store_global(c + row * columns + column, sum);
}

// One warp: C[16, 8] = A[16, depth] B[depth, 8] for a multiple of 16.
template <class Half>
GTC_GLOBAL mma_product(const Half* a, const Half* b, float* c, int depth) {
    const int lane = threadIdx.x;
    auto* shared = reinterpret_cast<Half*>(dynamic_shared());
    float sum[4] = {};
    for (int k = 0; k < depth; k += 16) {
        for (int i = lane; i < 16 * 16; i += 32) store_shared(shared + i, load_global(a + i / 16 * depth + k + i % 16));
        for (int i = lane; i < 16 * 8; i += 32) store_shared(shared + 256 + i, load_global(b + k * 8 + i));
        __syncwarp();
        uint32_t left[4], twice[4];
        load_matrix_x4(left, shared + lane % 16 * 16 + lane / 16 * 8);
        load_matrix_x4_transposed(twice, shared + 256 + lane % 16 * 8);
        const uint32_t right[2] = {twice[0], twice[1]};
        mma_m16n8k16(sum, left, right, Half{});
        __syncwarp();
    }
    for (int i = 0; i < 4; ++i) store_global(c + (lane / 4 + 8 * (i / 2)) * 8 + lane % 4 * 2 + i % 2, sum[i]);
}

// One warp: C[16, 8] = A[16, 8] B[8, 8], fragments straight from global memory.
GTC_GLOBAL tf32_product(const float* a, const float* b, float* c) {
    const int lane = threadIdx.x;
    uint32_t left[4], right[2];
    float sum[4] = {};
    for (int i = 0; i < 4; ++i) left[i] = to_tf32(a[(lane / 4 + 8 * (i % 2)) * 8 + lane % 4 + 4 * (i / 2)]);
    for (int i = 0; i < 2; ++i) right[i] = to_tf32(b[(lane % 4 + 4 * i) * 8 + lane / 4]);
    mma_m16n8k8_tf32(sum, left, right);
    for (int i = 0; i < 4; ++i) c[(lane / 4 + 8 * (i / 2)) * 8 + lane % 4 * 2 + i % 2] = sum[i];
}

GTC_GLOBAL histogram(const int* values, float* counts, int count) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
        atomic_add(counts + values[i], 1.0f);
    }
}

// Sum of 8 values per lane over the warp, and over all warps through shared memory.
GTC_GLOBAL block_sum(const float* values, float* sum) {
    auto* shared = reinterpret_cast<float*>(dynamic_shared());
    float mine = values[blockIdx.x * blockDim.x + threadIdx.x];
    for (int step = 16; step; step /= 2) mine += __shfl_xor_sync(0xffffffffu, mine, step);
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = mine;
    __syncthreads();
    if (threadIdx.x == 0) {
        float all = 0;
        for (unsigned i = 0; i < blockDim.x / 32; ++i) all += shared[i];
        sum[blockIdx.x] = all;
    }
}

// Every half there is, to float and back.
template <class Half>
GTC_GLOBAL round_trip(const Half* from, float* wide, Half* back, int count) {
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        wide[i] = to_float(from[i]);
        back[i] = from_float<Half>(wide[i]);
    }
}

template <class Half>
GTC_GLOBAL narrow(const float* from, Half* to, int count) {
    for (int i = threadIdx.x; i < count; i += blockDim.x) to[i] = from_float<Half>(from[i]);
}

}  // namespace samples
