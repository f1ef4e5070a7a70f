// What only Hopper has (sm_90a): barriers in shared memory, bulk and tensor copies, products of a warpgroup.
//
// As with primitives.cuh, "host_hopper.h" supplies the same names where GTC_HOST is defined. In gtc::
//
//   TensorMap                 a kernel's parameter: where a tensor lies, and the box of it that one copy moves
//   Barrier                   8 bytes of shared memory: counts arrivals and bytes, phase by phase
//   barrier_init(barrier, arrivals)  barrier_init_fence()   by one thread, before a barrier of the block
//   barrier_arrive(barrier)  barrier_arrive_expect(barrier, bytes)  barrier_wait(barrier, parity of the phase)
//   copy_bulk(shared, global, bytes, barrier)  copy_tensor(shared, map, coordinates, barrier)
//   fence_async()             orders this thread's stores to shared memory before reads by copies and products
//   matrix_descriptor(shared, leading, stride, line)   a matrix in shared memory, in swizzled lines; offsets in bytes
//   group_fence()  group_multiply<T, COLUMNS, ACROSS>(sums, a, b)  group_commit()  group_wait<N>()
//   registers_more<N>()  registers_fewer<N>()   of every thread of the warpgroup
//   GTC_ROLLED                before a loop of which the compiler is to make no copies
//   exp2_fast  reciprocal_fast  pair_of<half or bfloat16>(low, high)    two numbers in a word, to nearest even
//   store_global_8(pointer, two words)  store_global_16(pointer, four words)
//
// group_multiply adds A B to the sums of a warpgroup: A, in shared memory or four registers of each thread, has 64 rows
// and 32 bytes of depth, depth contiguous; B has COLUMNS columns, with the depth contiguous, or, where ACROSS, the
// columns.
#pragma once

#include "primitives.cuh"

#ifdef GTC_HOST
#include "host_hopper.h"
#else

#define GTC_ROLLED _Pragma("unroll 1")

namespace gtc {

struct alignas(64) TensorMap {
    unsigned long long opaque[16];
};

struct alignas(8) Barrier {
    unsigned long long state;
};

GTC_DEVICE void barrier_init(Barrier* barrier, unsigned arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}

GTC_DEVICE void barrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory"); }

GTC_DEVICE void barrier_arrive(Barrier* barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(shared_address(barrier)) : "memory");
}

GTC_DEVICE void barrier_arrive_expect(Barrier* barrier, unsigned bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(shared_address(barrier)), "r"(bytes)
                 : "memory");
}

GTC_DEVICE void barrier_wait(Barrier* barrier, unsigned parity) {
    asm volatile(
        "{\n"
        ".reg .pred complete;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 complete, [%0], %1;\n"
        "@!complete bra again;\n"
        "}\n" ::"r"(shared_address(barrier)),
        "r"(parity)
        : "memory");
}

GTC_DEVICE void copy_bulk(void* shared, const void* global, unsigned bytes, Barrier* barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];\n" ::"r"(
                     shared_address(shared)),
                 "l"(global), "r"(bytes), "r"(shared_address(barrier))
                 : "memory");
}

GTC_DEVICE void copy_tensor(void* shared, const TensorMap& map, const int (&at)[5], Barrier* barrier) {
    asm volatile(
        "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
        "[%0], [%1, {%2, %3, %4, %5, %6}], [%7];\n" ::"r"(shared_address(shared)),
        "l"(&map), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(at[4]), "r"(shared_address(barrier))
        : "memory");
}

GTC_DEVICE void fence_async() { asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory"); }

// `line` counts the bytes of a swizzled line: 128, 64 or 32.
GTC_DEVICE unsigned long long matrix_descriptor(const void* shared, unsigned leading, unsigned stride,
                                                unsigned line = 128) {
    const unsigned long long layout = line == 128 ? 1 : line == 64 ? 2 : 3;
    return (static_cast<unsigned long long>(shared_address(shared)) & 0x3ffffu) >> 4 |
           static_cast<unsigned long long>(leading >> 4) << 16 | static_cast<unsigned long long>(stride >> 4) << 32 |
           layout << 62;
}

GTC_DEVICE void group_fence() { asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory"); }
GTC_DEVICE void group_commit() { asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory"); }

// Waits until at most N of the warpgroup's committed products are under way.
template <int N>
GTC_DEVICE void group_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(N) : "memory");
}

#define GTC_SUMS_8(d, i)                                                                                        \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), \
        "+f"(d[i + 7])
#define GTC_SUMS_32(d, i) GTC_SUMS_8(d, i), GTC_SUMS_8(d, i + 8), GTC_SUMS_8(d, i + 16), GTC_SUMS_8(d, i + 24)
#define GTC_SUMS_64(d) GTC_SUMS_32(d, 0), GTC_SUMS_32(d, 32)
#define GTC_NAMES_32                                                         \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define GTC_NAMES_64                                                                   \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "           \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define GTC_MULTIPLY(shape, types, names, a, b, transposed) \
    "{\n.reg .pred add;\nsetp.eq.u32 add, 0, 0;\n"          \
    "wgmma.mma_async.sync.aligned." shape "." types " {" names "}, " a ", " b ", add, 1, 1" transposed ";\n}\n"

template <class T>
struct IsHalf {
    static constexpr bool value = false;
};
template <>
struct IsHalf<half> {
    static constexpr bool value = true;
};

template <class T, int COLUMNS, bool ACROSS>
GTC_DEVICE void group_multiply(float (&d)[COLUMNS / 2], unsigned long long a, unsigned long long b) {
    static_assert(COLUMNS == 128 || COLUMNS == 64, "the sizes that tiles have");
    constexpr int B = ACROSS ? 1 : 0;
    if constexpr (sizeof(T) == 4 && COLUMNS == 128) {
        asm volatile(GTC_MULTIPLY("m64n128k8", "f32.tf32.tf32", GTC_NAMES_64, "%64", "%65", "")
                     : GTC_SUMS_64(d)
                     : "l"(a), "l"(b));
    } else if constexpr (sizeof(T) == 4) {
        asm volatile(GTC_MULTIPLY("m64n64k8", "f32.tf32.tf32", GTC_NAMES_32, "%32", "%33", "")
                     : GTC_SUMS_32(d, 0)
                     : "l"(a), "l"(b));
    } else if constexpr (IsHalf<T>::value && COLUMNS == 128) {
        asm volatile(GTC_MULTIPLY("m64n128k16", "f32.f16.f16", GTC_NAMES_64, "%64", "%65", ", 0, %66")
                     : GTC_SUMS_64(d)
                     : "l"(a), "l"(b), "n"(B));
    } else if constexpr (COLUMNS == 128) {
        asm volatile(GTC_MULTIPLY("m64n128k16", "f32.bf16.bf16", GTC_NAMES_64, "%64", "%65", ", 0, %66")
                     : GTC_SUMS_64(d)
                     : "l"(a), "l"(b), "n"(B));
    } else if constexpr (IsHalf<T>::value) {
        asm volatile(GTC_MULTIPLY("m64n64k16", "f32.f16.f16", GTC_NAMES_32, "%32", "%33", ", 0, %34")
                     : GTC_SUMS_32(d, 0)
                     : "l"(a), "l"(b), "n"(B));
    } else {
        asm volatile(GTC_MULTIPLY("m64n64k16", "f32.bf16.bf16", GTC_NAMES_32, "%32", "%33", ", 0, %34")
                     : GTC_SUMS_32(d, 0)
                     : "l"(a), "l"(b), "n"(B));
    }
}

// A in registers, with the layout of mma.m16n8k16 and m16n8k8 in each warp's 16 rows.
#define GTC_FOUR(a) "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3])
#define GTC_FOUR_NAMES "{%32, %33, %34, %35}"

template <class T, int COLUMNS, bool ACROSS>
GTC_DEVICE void group_multiply(float (&d)[COLUMNS / 2], const uint32_t (&a)[4], unsigned long long b) {
    static_assert(COLUMNS == 64, "the size that is used");
    constexpr int B = ACROSS ? 1 : 0;
    if constexpr (sizeof(T) == 4) {
        asm volatile(GTC_MULTIPLY("m64n64k8", "f32.tf32.tf32", GTC_NAMES_32, GTC_FOUR_NAMES, "%36", "")
                     : GTC_SUMS_32(d, 0)
                     : GTC_FOUR(a), "l"(b));
    } else if constexpr (IsHalf<T>::value) {
        asm volatile(GTC_MULTIPLY("m64n64k16", "f32.f16.f16", GTC_NAMES_32, GTC_FOUR_NAMES, "%36", ", %37")
                     : GTC_SUMS_32(d, 0)
                     : GTC_FOUR(a), "l"(b), "n"(B));
    } else {
        asm volatile(GTC_MULTIPLY("m64n64k16", "f32.bf16.bf16", GTC_NAMES_32, GTC_FOUR_NAMES, "%36", ", %37")
                     : GTC_SUMS_32(d, 0)
                     : GTC_FOUR(a), "l"(b), "n"(B));
    }
}

template <int N>
GTC_DEVICE void registers_more() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(N));
}
template <int N>
GTC_DEVICE void registers_fewer() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(N));
}

GTC_DEVICE float exp2_fast(float value) {
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(result) : "f"(value));
    return result;
}
GTC_DEVICE float reciprocal_fast(float value) {
    float result;
    asm("rcp.approx.ftz.f32 %0, %1;\n" : "=f"(result) : "f"(value));
    return result;
}

GTC_DEVICE void store_global_8(void* to, uint2 value) {
    asm volatile("st.global.v2.b32 [%0], {%1, %2};\n" ::"l"(to), "r"(value.x), "r"(value.y) : "memory");
}

GTC_DEVICE void store_global_16(void* to, uint4 value) {
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};\n" ::"l"(to), "r"(value.x), "r"(value.y), "r"(value.z),
                 "r"(value.w)
                 : "memory");
}

template <class T>
GTC_DEVICE uint32_t pair_of(float low, float high) {
    uint32_t pair;
    if constexpr (IsHalf<T>::value) {
        asm("cvt.rn.f16x2.f32 %0, %1, %2;\n" : "=r"(pair) : "f"(high), "f"(low));
    } else {
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(pair) : "f"(high), "f"(low));
    }
    return pair;
}

}  // namespace gtc

#endif  // GTC_HOST
