// CUDA's built-in names on the host. A kernel is an ordinary function; each of its threads is a fiber of runtime.cpp.
//
// Kernels are compiled with -fsanitize=thread and without its library: the compiler then calls runtime.cpp at
// every access to memory that is not a local variable, and nothing has to be marked in the kernels.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

// NOLINTBEGIN: these are CUDA's own names
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct uint3 {
    unsigned x, y, z;
};
// NOLINTEND

namespace cuda_on_host {

struct Builtins {
    uint3 thread, block, block_size, grid_size;
};

constexpr int WARP = 32;

// Registers of a lane, by value: what has no address is no memory to the compiler, and is not checked.
struct Floats {
    float at[4];
};
struct Words {
    uint32_t at[4];
};
enum Element : int { HALF, BFLOAT16, TF32 };

extern "C" {
// The current thread's indices; they do not change while it runs.
const Builtins* cuda_on_host_builtins() __attribute__((const));
unsigned char* cuda_on_host_shared() __attribute__((const));
void cuda_on_host_block_barrier();
void cuda_on_host_warp_barrier();
uint64_t cuda_on_host_shuffle(uint64_t value, int source);
Floats cuda_on_host_mma(Floats d, Words a, Words b, Element element);
Words cuda_on_host_load_matrix(const void* row, bool transposed);
void cuda_on_host_check(const void* address, unsigned bytes, int kind);
void cuda_on_host_copy_async(void* shared, const void* global, unsigned bytes, bool valid);
void cuda_on_host_copy_async_commit();
void cuda_on_host_copy_async_wait(unsigned groups_left);
void cuda_on_host_fault(const char* message) __attribute__((noreturn));
}

enum Kind { READ, WRITE, ATOMIC };

inline int lane() {
    const Builtins& now = *cuda_on_host_builtins();
    const unsigned thread = now.thread.x + now.block_size.x * (now.thread.y + now.block_size.y * now.thread.z);
    return static_cast<int>(thread % WARP);
}

template <class T>
inline T shuffle(uint32_t mask, T value, int source) {
    static_assert(sizeof(T) <= sizeof(uint64_t), "shuffles move up to eight bytes");
    if (mask != 0xffffffffu) cuda_on_host_fault("only shuffles of whole warps are known here");
    uint64_t word = 0;
    std::memcpy(&word, &value, sizeof value);
    word = cuda_on_host_shuffle(word, source);
    std::memcpy(&value, &word, sizeof value);
    return value;
}

}  // namespace cuda_on_host

#define threadIdx (cuda_on_host_builtins_ref().thread)
#define blockIdx (cuda_on_host_builtins_ref().block)
#define blockDim (cuda_on_host_builtins_ref().block_size)
#define gridDim (cuda_on_host_builtins_ref().grid_size)

inline const cuda_on_host::Builtins& cuda_on_host_builtins_ref() { return *cuda_on_host::cuda_on_host_builtins(); }

inline void __syncthreads() { cuda_on_host::cuda_on_host_block_barrier(); }

inline void __syncwarp(unsigned mask = 0xffffffffu) {
    if (mask != 0xffffffffu) cuda_on_host::cuda_on_host_fault("only barriers of whole warps are known here");
    cuda_on_host::cuda_on_host_warp_barrier();
}

template <class T>
inline T __shfl_sync(unsigned mask, T value, int source) {
    return cuda_on_host::shuffle(mask, value, source % cuda_on_host::WARP);
}

template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta) {
    return cuda_on_host::shuffle(mask, value, cuda_on_host::lane() + static_cast<int>(delta));
}

template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta) {
    return cuda_on_host::shuffle(mask, value, cuda_on_host::lane() - static_cast<int>(delta));
}

template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int bits) {
    return cuda_on_host::shuffle(mask, value, cuda_on_host::lane() ^ bits);
}

inline float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline unsigned __float_as_uint(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
