// What asynchronous.cpp and warpgroup.cpp do for the names of host_hopper.h.
#pragma once

#include "cuda_on_host.h"

namespace gtc {

// Laid out as in host_runner.py; what the driver would encode.
struct TensorMap {
    const unsigned char* base;
    uint64_t stride[4];  // of all dimensions but the first, in bytes
    uint32_t size[5], box[5], step[5];
    uint32_t item, swizzle;  // in bytes
    uint32_t reserved[5];
};
static_assert(sizeof(TensorMap) == 128, "as large as the driver's");

struct Barrier {
    unsigned long long state;
};

}  // namespace gtc

namespace cuda_on_host {

enum Operand : int { FROM_SHARED, FROM_REGISTERS };

// A product of a warpgroup as its instruction has it.
struct Product {
    Element element;
    int columns;
    Operand a_from;
    bool b_across;      // the columns of B are contiguous, not the depth
    uint64_t a, b;      // descriptors
    uint32_t words[4];  // of A, where it is in registers
};

extern "C" {
void cuda_on_host_barrier_init(void* barrier, unsigned arrivals);
void cuda_on_host_fence_async();
void cuda_on_host_barrier_arrive(void* barrier, unsigned bytes);
void cuda_on_host_barrier_wait(void* barrier, unsigned parity);
void cuda_on_host_copy_bulk(void* to, const void* from, unsigned bytes, void* barrier);
void cuda_on_host_copy_tensor(void* to, const gtc::TensorMap* map, const int* at, void* barrier);
unsigned cuda_on_host_shared_address(const void* pointer);
void cuda_on_host_group_fence();
void cuda_on_host_group_multiply(float* sums, const Product* product);
void cuda_on_host_group_commit();
void cuda_on_host_group_wait(unsigned left);
void cuda_on_host_set_registers(unsigned count, bool more);
}

}  // namespace cuda_on_host
