// Whether a device reads tensor maps and descriptors as the kernel for Hopper does: one box, one product, both dumped.
#pragma once

#include "hopper_primitives.cuh"
#include "numbers.cuh"

namespace gtc {

// Multiplies A, 64 lines of 128 bytes of depth as the caller has them, by a box of COLUMNS columns that tensor copies
// bring: lines of depth, or, where ACROSS, LINE_BYTES of columns, a box for each. Writes the box as it lies in shared
// memory, and the sums [row][column]. One block of 128 threads.
template <class T, int COLUMNS, bool ACROSS, bool REGISTERS, int LINE_BYTES>
GTC_GLOBAL GTC_LAUNCH_BOUNDS(128, 1)
    hopper_probe(const GTC_GRID_CONSTANT TensorMap map, const T* a, uint32_t* image, float* sums) {
    constexpr int LINE = 128 / sizeof(T), STEP = 32 / sizeof(T), BOX_BYTES = COLUMNS * 128;
    struct Shared {
        unsigned char a[64 * 128], b[BOX_BYTES];
        Barrier arrived;
    };
    unsigned char* memory = dynamic_shared();
    Shared& shared = *reinterpret_cast<Shared*>(memory + (-shared_address(memory) & 1023u));
    const int thread = static_cast<int>(threadIdx.x);

    for (int i = thread; i < 64 * 8; i += 128) {
        using Sixteen = Vector<T, 16 / sizeof(T)>;
        const Sixteen part = load_global(reinterpret_cast<const Sixteen*>(a) + i);
        store_shared(reinterpret_cast<Sixteen*>(shared.a + i / 8 * 128 + (i % 8 ^ i / 8 % 8) * 16), part);
    }
    fence_async();
    if (thread == 0) {
        barrier_init(&shared.arrived, 1);
        barrier_init_fence();
    }
    __syncthreads();
    if (thread == 0) {
        barrier_arrive_expect(&shared.arrived, BOX_BYTES);
        for (int part = 0; part < (ACROSS ? BOX_BYTES / LINE / LINE_BYTES : 1); ++part) {
            const int at[5] = {part * LINE_BYTES / int(sizeof(T)), 0, 0, 0, 0};
            copy_tensor(shared.b + part * LINE * LINE_BYTES, map, at, &shared.arrived);
        }
    }
    barrier_wait(&shared.arrived, 0);
    for (int i = thread; i < BOX_BYTES / 4; i += 128) {
        store_global(image + i, load_shared(reinterpret_cast<const uint32_t*>(shared.b) + i));
    }

    float d[COLUMNS / 2];
    GTC_UNROLL
    for (int i = 0; i < COLUMNS / 2; ++i) d[i] = 0;
    const unsigned long long left = matrix_descriptor(shared.a, 16, 1024);
    const unsigned long long right =
        matrix_descriptor(shared.b, ACROSS ? LINE * LINE_BYTES : 16, 8 * LINE_BYTES, LINE_BYTES);
    const int row = thread / 32 * 16 + thread % 32 / 4;
    GTC_UNROLL
    for (int k = 0; k < LINE / STEP; ++k) {
        const unsigned long long b = right + k * (ACROSS ? STEP * LINE_BYTES : 32) / 16;
        if constexpr (REGISTERS) {
            uint32_t words[4];
            GTC_UNROLL
            for (int i = 0; i < 4; ++i) {
                const T* line = a + (row + i % 2 * 8) * LINE + k * STEP + i / 2 * (STEP / 2);
                words[i] = load_global(reinterpret_cast<const uint32_t*>(line) + thread % 4);
            }
            group_fence();
            group_multiply<T, COLUMNS, ACROSS>(d, words, b);
        } else {
            group_fence();
            group_multiply<T, COLUMNS, ACROSS>(d, left + k * 32 / 16, b);
        }
        group_commit();
        group_wait<0>();
    }
    GTC_UNROLL
    for (int i = 0; i < COLUMNS / 2; ++i) {
        store_global(sums + (row + i / 2 % 2 * 8) * COLUMNS + i / 4 * 8 + thread % 4 * 2 + i % 2, d[i]);
    }
}

}  // namespace gtc
