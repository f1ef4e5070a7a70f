// Inside the runner: the state of the launch that is under way, which runtime.cpp advances and memory.cpp checks.
#pragma once

#include <csetjmp>
#include <cstdio>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

#include "cuda_on_host.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace cuda_on_host {

constexpr unsigned MOST_THREADS = 1024;
constexpr size_t STACK_BYTES = 1 << 18;
constexpr unsigned SHARED_BYTES = 227 * 1024;  // what a block can have on sm_90

struct Region {  // laid out as in runner.py
    const char* name;
    uintptr_t base;
    uint64_t bytes;
    uint32_t item;
    uint32_t writable;
};

struct Copy {
    unsigned char* shared;
    const unsigned char* global;
    unsigned bytes;
    bool valid;
};

enum State : uint8_t { READY, AT_BLOCK_BARRIER, AT_WARP_BARRIER, DONE };

struct Fiber {
    Builtins builtins;
    jmp_buf place;
    ucontext_t start;
    State state;
    uint16_t turn;                          // barriers of the warp so far
    std::vector<std::vector<Copy>> copies;  // groups, the last one open
};

struct Launch {
    Fiber* fibers;
    unsigned char* stacks;
    unsigned threads, current;  // of a block; the thread that runs
    unsigned shared_bytes;
    // Counts the barriers of all blocks; where this launch began, and this block.
    uint32_t epoch, launch_epoch, block_epoch;
    jmp_buf failure;
    char* message;
    size_t message_bytes;
};

extern Launch now;
extern unsigned char shared[SHARED_BYTES];

// End the launch with a message.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Memory without content, or the end of the process.
void* reserve(size_t bytes);

// Which arrays there are; `shift`: the bytes that are looked at together, as a power of two.
void track_arrays(const Region* regions, unsigned count, unsigned shift, bool races);
void forget_arrays();
void forget_copies();
bool is_shared(const void* address);

// What one lane hands to its warp, and what it takes back.
struct Lane {
    union {
        uint64_t word;
        const void* row;
        Words registers;
    };
    int source;
    Words a, b;
    Floats d;
};

// Run once per warp, when the last lane has arrived; `active` tells which lanes exist.
using Collective = void (*)(Lane (&lanes)[WARP], uint32_t active);

// Hand `mine` in, wait for the other lanes, and take it back as `body` left it.
void collective(Lane* mine, Collective body);

}  // namespace cuda_on_host
