// The names of primitives.cuh on the host. Asynchronous copies arrive when they are waited for, and not before.
#pragma once

#include "cuda_on_host.h"
#include "halves.h"

#define GTC_DEVICE inline __attribute__((always_inline))
#define GTC_NOINLINE __attribute__((noinline))
#define GTC_GLOBAL void
#define GTC_LAUNCH_BOUNDS(threads, blocks)
#define GTC_GRID_CONSTANT
#define GTC_UNROLL
#define GTC_UNROLL_BY(count)
#define GTC_SM80 1
#define GTC_SM90 1
#define GTC_UNCHECKED inline __attribute__((no_sanitize("thread"), noinline))

namespace gtc {

using uint32_t = unsigned int;

inline unsigned char* dynamic_shared() { return cuda_on_host::cuda_on_host_shared(); }

inline void keep(int&) {}
inline void keep(long long&) {}

// The compiler has every access of the kernels' code checked.

template <class T>
GTC_DEVICE T load_global(const T* from) {
    return *from;
}

template <class T>
GTC_DEVICE void store_global(T* to, T value) {
    *to = value;
}

template <class T>
GTC_DEVICE T load_shared(const T* from) {
    return *from;
}

template <class T>
GTC_DEVICE void store_shared(T* to, T value) {
    *to = value;
}

inline void copy_async_16(void* shared, const void* global, bool valid) {
    cuda_on_host::cuda_on_host_copy_async(shared, global, 16, valid);
}
inline void copy_async_8(void* shared, const void* global, bool valid) {
    cuda_on_host::cuda_on_host_copy_async(shared, global, 8, valid);
}
inline void copy_async_4(void* shared, const void* global, bool valid) {
    cuda_on_host::cuda_on_host_copy_async(shared, global, 4, valid);
}
inline void copy_async_commit() { cuda_on_host::cuda_on_host_copy_async_commit(); }

template <int N>
inline void copy_async_wait() {
    cuda_on_host::cuda_on_host_copy_async_wait(N);
}

// Half types.

inline float to_float(bfloat16 value) { return cuda_on_host::float_of_bfloat16(value.bits); }
inline float to_float(half value) { return cuda_on_host::float_of_half(value.bits); }

template <class Half>
inline Half from_float(float value);
template <>
inline bfloat16 from_float<bfloat16>(float value) {
    return {cuda_on_host::bfloat16_of(value)};
}
template <>
inline half from_float<half>(float value) {
    return {cuda_on_host::half_of(value)};
}

// To nearest, ties away from zero, as cvt.rna does.
inline uint32_t to_tf32(float value) {
    const uint32_t bits = __float_as_uint(value);
    if ((bits & 0x7f800000u) == 0x7f800000u) return bits;
    return (bits + 0x1000u) & ~0x1fffu;
}

// Matrix instructions: matrix_instructions.cpp.

GTC_DEVICE void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], cuda_on_host::Element element) {
    const auto sum = cuda_on_host::cuda_on_host_mma({{d[0], d[1], d[2], d[3]}}, {{a[0], a[1], a[2], a[3]}},
                                                    {{b[0], b[1], 0, 0}}, element);
    for (int i = 0; i < 4; ++i) d[i] = sum.at[i];
}

GTC_DEVICE void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], half) {
    mma(d, a, b, cuda_on_host::HALF);
}
GTC_DEVICE void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], bfloat16) {
    mma(d, a, b, cuda_on_host::BFLOAT16);
}
GTC_DEVICE void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    mma(d, a, b, cuda_on_host::TF32);
}

GTC_DEVICE void load_matrix(uint32_t (&r)[4], const void* row, bool transposed) {
    const auto words = cuda_on_host::cuda_on_host_load_matrix(row, transposed);
    for (int i = 0; i < 4; ++i) r[i] = words.at[i];
}

GTC_DEVICE void load_matrix_x4(uint32_t (&r)[4], const void* row) { load_matrix(r, row, false); }
GTC_DEVICE void load_matrix_x4_transposed(uint32_t (&r)[4], const void* row) { load_matrix(r, row, true); }

// Atomics.

template <class T>
GTC_UNCHECKED void add_checked(T* to, T value) {
    cuda_on_host::cuda_on_host_check(to, sizeof(T), cuda_on_host::ATOMIC);
    *to += value;
}

inline void atomic_add(float* to, float value) { add_checked(to, value); }
inline void atomic_add(double* to, double value) { add_checked(to, value); }

GTC_UNCHECKED void atomic_or(uint32_t* to, uint32_t value) {
    cuda_on_host::cuda_on_host_check(to, sizeof value, cuda_on_host::ATOMIC);
    *to |= value;
}

GTC_UNCHECKED void atomic_add_4(float* to, float4 value) {
    cuda_on_host::cuda_on_host_check(to, 16, cuda_on_host::ATOMIC);
    to[0] += value.x, to[1] += value.y, to[2] += value.z, to[3] += value.w;
}

}  // namespace gtc
