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

enum State : uint8_t { READY, AT_BLOCK_BARRIER, AT_WARP_BARRIER, AT_CONDITION, DONE };

// What a thread waits for: an event of asynchronous work.
using Condition = bool (*)(unsigned thread);

struct Fiber {
    Builtins builtins;
    jmp_buf place;
    ucontext_t start;
    State state;
    uint16_t turn;                          // barriers of the warp so far
    std::vector<std::vector<Copy>> copies;  // groups, the last one open
    Condition condition;                    // holds before it goes on, where it is AT_CONDITION
    uint32_t awaited[2];                    // what the condition is about
    const char* reason;
};

struct Launch {
    Fiber* fibers;
    unsigned char* stacks;
    unsigned threads, current;  // of a block; the thread that runs
    unsigned shared_bytes;
    // Counts the barriers of all blocks; where this launch began, and this block.
    uint32_t epoch, launch_epoch, block_epoch;
    uint64_t chance;  // state of the generator that orders threads and copies; 0: one after the other
    jmp_buf failure;
    char* message;
    size_t message_bytes;
};

extern Launch now;
// As on a device it begins at a multiple of 128 bytes, not more; addresses are counted from shared_window.
extern unsigned char* const shared;
extern unsigned char* const shared_window;

// End the launch with a message.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Memory without content, or the end of the process.
void* reserve(size_t bytes);

// Which arrays there are; `shift`: the bytes that are looked at together, as a power of two.
void track_arrays(const Region* regions, unsigned count, unsigned shift, bool races);
void forget_arrays();
void forget_copies();
bool is_shared(const void* address);
// Leave the turn to others until the condition holds; `reason` is what is said if it never does.
void wait_until(Condition condition, const char* reason);
// With an order by chance, perhaps leave the turn to others; a number below `end`.
void perhaps_yield();
unsigned by_chance(unsigned end);

// Asynchronous work, asynchronous.cpp: barriers in shared memory, copies that end at them, and the vector clocks that
// tell what a thread knows of the others. Inactive until the first such barrier.
extern bool asynchronous;
void begin_asynchronous();
// Have some, or all, copies arrive; returns whether one did. And whether one is under way.
bool land_copies(bool all);
bool copies_left();
// The current thread's time, and whether it knows of another's time, or of what that one wrote and fenced.
uint32_t own_clock();
bool knows(unsigned thread, uint32_t clock);
bool knows_fenced(unsigned reader, unsigned writer, uint32_t clock);
// All threads from `first` to `last` learn what each of them knows.
void exchange_clocks(unsigned first, unsigned last);
// Check a thread's own access to shared memory against asynchronous ones, and take note of it.
void meet_asynchronous(uintptr_t offset, unsigned bytes, int kind);
// A product of the warpgroup `group` reads shared memory; `serial` counts its products. And it knows that one is done.
void read_by_product(uintptr_t offset, unsigned bytes, unsigned group, uint32_t serial);
void product_done(unsigned thread, uint32_t serial);
// Whether stores of threads to shared memory are ordered and fenced before an asynchronous access by `reader`.
void check_fenced(uintptr_t offset, unsigned bytes, unsigned reader);

// Products of a warpgroup, warpgroup.cpp.
void begin_warpgroups();

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
