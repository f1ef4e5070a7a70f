// Everything that depends on the architecture: copies, matrix instructions, atomics, half types, qualifiers.
//
// The kernels use these names alone, so that they compile for NVIDIA GPUs from sm_75 on, and, with GTC_HOST defined,
// as plain C++: the header "host_primitives.h" then supplies every name below this comment's list, and checks every
// access.
//
// Qualifiers      GTC_DEVICE (inline device function)  GTC_NOINLINE (device function, not inlined)
//                 GTC_GLOBAL (kernel)  GTC_LAUNCH_BOUNDS(threads, blocks)  GTC_UNROLL (pragma before a loop)
//                 GTC_UNROLL_BY(count) (so many times at once)
//                 GTC_KEEP(pointer) (to global memory: hold it in registers, do not compute it again; empty by default)
//                 GTC_GRID_CONSTANT (a kernel's struct parameter that is read in place; empty by default)
// Plain names     threadIdx blockIdx blockDim gridDim  __syncthreads()  uint4 float4
// In gtc::        dynamic_shared()                                  unsigned char*, aligned to 128 bytes
//                 keep(index)                                       holds a number in a register
//                 load_global store_global load_shared store_shared  one element of any trivial type, by pointer
//                 copy_async_16 copy_async_8 copy_async_4 (shared, global, valid)  zeros where not valid
//                 copy_async_commit  copy_async_wait<N>
//                 load_matrix_x4 load_matrix_x4_transposed
//                 mma_m16n8k16 mma_m16n8k8_tf32 to_tf32
//                 atomic_add atomic_add_4 atomic_or
//                 to_float(half) to_float(bfloat16) from_float<half or bfloat16>(float), to nearest even
#pragma once

namespace gtc {

struct half {
    unsigned short bits;
};

struct bfloat16 {
    unsigned short bits;
};

}  // namespace gtc

#ifdef GTC_HOST
#include "host_primitives.h"
#else

#define GTC_DEVICE __device__ __forceinline__
#define GTC_NOINLINE __device__ __noinline__
#define GTC_GLOBAL __global__ void
#define GTC_LAUNCH_BOUNDS(threads, blocks) __launch_bounds__(threads, blocks)
#define GTC_UNROLL _Pragma("unroll")
#define GTC_PRAGMA(words) _Pragma(#words)
#define GTC_UNROLL_BY(count) GTC_PRAGMA(unroll count)
#if defined(__CUDA_ARCH__)
#define GTC_GRID_CONSTANT __grid_constant__
#define GTC_KEEP(pointer)    \
    asm("" : "+l"(pointer)); \
    __builtin_assume(__isGlobal(pointer))
#endif

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define GTC_SM80 1
#else
#define GTC_SM80 0
#endif
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define GTC_SM90 1
#else
#define GTC_SM90 0
#endif

namespace gtc {

using uint32_t = unsigned int;

GTC_DEVICE unsigned char* dynamic_shared() {
    extern __shared__ uint4 gtc_dynamic_shared[];
    return reinterpret_cast<unsigned char*>(gtc_dynamic_shared);
}

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

// Holds a number in a register, so that it is not taken apart and put into every comparison anew.
GTC_DEVICE void keep(int& number) { asm("" : "+r"(number)); }
GTC_DEVICE void keep(long long& number) { asm("" : "+l"(number)); }

#if GTC_SM80
GTC_DEVICE uint32_t shared_address(const void* pointer) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}
#endif

// Copies from global to shared memory that do not wait: begun here, complete after copy_async_wait.

GTC_DEVICE void copy_async_16(void* shared, const void* global, bool valid) {
#if GTC_SM80
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(shared)), "l"(global),
                 "r"(valid ? 16 : 0)
                 : "memory");
#else
    store_shared(static_cast<uint4*>(shared),
                 valid ? load_global(static_cast<const uint4*>(global)) : uint4{0, 0, 0, 0});
#endif
}

GTC_DEVICE void copy_async_8(void* shared, const void* global, bool valid) {
#if GTC_SM80
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;\n" ::"r"(shared_address(shared)), "l"(global),
                 "r"(valid ? 8 : 0)
                 : "memory");
#else
    store_shared(static_cast<uint2*>(shared), valid ? load_global(static_cast<const uint2*>(global)) : uint2{0, 0});
#endif
}

GTC_DEVICE void copy_async_4(void* shared, const void* global, bool valid) {
#if GTC_SM80
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(shared_address(shared)), "l"(global),
                 "r"(valid ? 4 : 0)
                 : "memory");
#else
    store_shared(static_cast<uint32_t*>(shared), valid ? load_global(static_cast<const uint32_t*>(global)) : 0u);
#endif
}

GTC_DEVICE void copy_async_commit() {
#if GTC_SM80
    asm volatile("cp.async.commit_group;\n" ::: "memory");
#endif
}

// Waits until at most N of this thread's groups of copies are under way.
template <int N>
GTC_DEVICE void copy_async_wait() {
#if GTC_SM80
    asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory");
#endif
}

// Additions whose result is not used, so that the compiler emits reductions.

GTC_DEVICE void atomic_add(float* to, float value) { atomicAdd(to, value); }
GTC_DEVICE void atomic_add(double* to, double value) { atomicAdd(to, value); }
GTC_DEVICE void atomic_or(uint32_t* to, uint32_t value) { atomicOr(to, value); }

// Four neighbours, aligned to 16 bytes.
GTC_DEVICE void atomic_add_4(float* to, float4 value) {
#if GTC_SM90
    asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};\n" ::"l"(to), "f"(value.x), "f"(value.y), "f"(value.z),
                 "f"(value.w)
                 : "memory");
#else
    atomicAdd(to, value.x);
    atomicAdd(to + 1, value.y);
    atomicAdd(to + 2, value.z);
    atomicAdd(to + 3, value.w);
#endif
}

// Half types: conversions without a framework's header.

GTC_DEVICE float to_float(half value) {
    float result;
    asm("cvt.f32.f16 %0, %1;\n" : "=f"(result) : "h"(value.bits));
    return result;
}

GTC_DEVICE float to_float(bfloat16 value) { return __uint_as_float(static_cast<uint32_t>(value.bits) << 16); }

template <class Half>
GTC_DEVICE Half from_float(float value);

template <>
GTC_DEVICE half from_float<half>(float value) {
    half result;
    asm("cvt.rn.f16.f32 %0, %1;\n" : "=h"(result.bits) : "f"(value));
    return result;
}

template <>
GTC_DEVICE bfloat16 from_float<bfloat16>(float value) {
    bfloat16 result;
#if GTC_SM80
    asm("cvt.rn.bf16.f32 %0, %1;\n" : "=h"(result.bits) : "f"(value));
#else
    const uint32_t bits = __float_as_uint(value);
    const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    result.bits = static_cast<unsigned short>(nan ? 0x7fffu : (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
#endif
    return result;
}

}  // namespace gtc

#include "matrix_instructions.cuh"

#endif  // GTC_HOST

#ifndef GTC_GRID_CONSTANT
#define GTC_GRID_CONSTANT
#endif
#ifndef GTC_KEEP
#define GTC_KEEP(pointer)
#endif
