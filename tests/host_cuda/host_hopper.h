// The names of hopper_primitives.cuh on the host.
#pragma once

#include "hopper_on_host.h"
#include "host_primitives.h"

#define GTC_ROLLED

namespace gtc {

inline uint32_t shared_address(const void* pointer) { return cuda_on_host::cuda_on_host_shared_address(pointer); }

inline void barrier_init(Barrier* barrier, unsigned arrivals) {
    cuda_on_host::cuda_on_host_barrier_init(barrier, arrivals);
}
inline void barrier_init_fence() { cuda_on_host::cuda_on_host_fence_async(); }
inline void barrier_arrive(Barrier* barrier) { cuda_on_host::cuda_on_host_barrier_arrive(barrier, 0); }
inline void barrier_arrive_expect(Barrier* barrier, unsigned bytes) {
    cuda_on_host::cuda_on_host_barrier_arrive(barrier, bytes);
}
inline void barrier_wait(Barrier* barrier, unsigned parity) {
    cuda_on_host::cuda_on_host_barrier_wait(barrier, parity);
}
inline void copy_bulk(void* shared, const void* global, unsigned bytes, Barrier* barrier) {
    cuda_on_host::cuda_on_host_copy_bulk(shared, global, bytes, barrier);
}
inline void copy_tensor(void* shared, const TensorMap& map, const int (&at)[5], Barrier* barrier) {
    cuda_on_host::cuda_on_host_copy_tensor(shared, &map, at, barrier);
}
inline void fence_async() { cuda_on_host::cuda_on_host_fence_async(); }

// `line` counts the bytes of a swizzled line: 128, 64 or 32.
inline unsigned long long matrix_descriptor(const void* shared, unsigned leading, unsigned stride,
                                            unsigned line = 128) {
    const unsigned long long layout = line == 128 ? 1 : line == 64 ? 2 : 3;
    return (static_cast<unsigned long long>(shared_address(shared)) & 0x3ffffu) >> 4 |
           static_cast<unsigned long long>(leading >> 4) << 16 | static_cast<unsigned long long>(stride >> 4) << 32 |
           layout << 62;
}

inline void group_fence() { cuda_on_host::cuda_on_host_group_fence(); }
inline void group_commit() { cuda_on_host::cuda_on_host_group_commit(); }
template <int N>
inline void group_wait() {
    cuda_on_host::cuda_on_host_group_wait(N);
}

template <class T>
struct ElementOf;
template <>
struct ElementOf<half> {
    static constexpr cuda_on_host::Element value = cuda_on_host::HALF;
};
template <>
struct ElementOf<bfloat16> {
    static constexpr cuda_on_host::Element value = cuda_on_host::BFLOAT16;
};
template <>
struct ElementOf<float> {
    static constexpr cuda_on_host::Element value = cuda_on_host::TF32;
};

template <class T, int COLUMNS, bool ACROSS>
inline void group_multiply(float (&sums)[COLUMNS / 2], unsigned long long a, unsigned long long b) {
    const cuda_on_host::Product product{ElementOf<T>::value, COLUMNS, cuda_on_host::FROM_SHARED, ACROSS, a, b, {}};
    cuda_on_host::cuda_on_host_group_multiply(sums, &product);
}
template <class T, int COLUMNS, bool ACROSS>
inline void group_multiply(float (&sums)[COLUMNS / 2], const uint32_t (&a)[4], unsigned long long b) {
    const cuda_on_host::Product product{ElementOf<T>::value,     COLUMNS, cuda_on_host::FROM_REGISTERS, ACROSS, 0, b,
                                        {a[0], a[1], a[2], a[3]}};
    cuda_on_host::cuda_on_host_group_multiply(sums, &product);
}

template <int N>
inline void registers_more() {
    cuda_on_host::cuda_on_host_set_registers(N, true);
}
template <int N>
inline void registers_fewer() {
    cuda_on_host::cuda_on_host_set_registers(N, false);
}

inline float exp2_fast(float value) { return std::exp2(value); }
inline float reciprocal_fast(float value) { return 1 / value; }

inline void store_global_8(void* to, uint2 value) { *static_cast<uint2*>(to) = value; }
inline void store_global_16(void* to, uint4 value) { *static_cast<uint4*>(to) = value; }

template <class T>
inline uint32_t pair_of(float low, float high) {
    return from_float<T>(low).bits | static_cast<uint32_t>(from_float<T>(high).bits) << 16;
}

}  // namespace gtc
