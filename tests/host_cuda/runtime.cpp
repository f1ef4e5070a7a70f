// Runs a CUDA kernel on one core: a fiber per thread, a block at a time, each thread in turn up to its next barrier.
//
// Kernels are compiled with -fsanitize=thread, whose calls at every access memory.cpp takes. The first fault ends the
// launch.
#include <cstdarg>
#include <cstdlib>

#include "inside.h"

namespace cuda_on_host {

Launch now;

namespace {

alignas(1024) unsigned char window[128 + SHARED_BYTES];

constexpr int POISON = 0xff;  // a NaN in every floating type

struct Warp {
    Lane lanes[WARP];
    uint32_t arrived;
    Collective body;
};

Warp warps[MOST_THREADS / WARP];
ucontext_t starting;
jmp_buf scheduler;
unsigned started;  // fibers that exist
void (*entry)(void**);
void** arguments;

inline void leave() {
    if (!_setjmp(now.fibers[now.current].place)) _longjmp(scheduler, 1);
}

void fiber_main() {
    Fiber& me = now.fibers[started];
    if (!_setjmp(me.place)) swapcontext(&me.start, &starting);
    for (;;) {
        entry(arguments);
        now.fibers[now.current].state = DONE;
        leave();
    }
}

// Fibers stay between launches; only a fault, which leaves them somewhere within a kernel, begins them anew.
void begin_fibers(unsigned count) {
    for (; started < count; ++started) {
        ucontext_t& context = now.fibers[started].start;
        getcontext(&context);
        context.uc_stack.ss_sp = now.stacks + started * STACK_BYTES;
        context.uc_stack.ss_size = STACK_BYTES;
        context.uc_link = nullptr;
        makecontext(&context, fiber_main, 0);
        swapcontext(&starting, &context);
    }
}

void run(unsigned thread) {
    now.current = thread;
    if (!_setjmp(scheduler)) _longjmp(now.fibers[thread].place, 1);
}

void complete_warp(unsigned first, unsigned last) {
    Warp& warp = warps[first / WARP];
    if (warp.body) warp.body(warp.lanes, warp.arrived);
    if (!warp.body && asynchronous) exchange_clocks(first, last);
    warp.arrived = 0;
    for (unsigned i = first; i < last; ++i)
        if (now.fibers[i].state == AT_WARP_BARRIER) now.fibers[i].state = READY;
}

// Run a warp until each of its threads has ended, waits for others or leaves them the turn; whether one of them ran.
bool run_warp(unsigned first, unsigned last) {
    bool ran = false;
    for (bool again = true; again;) {
        again = false;
        const unsigned offset = by_chance(last - first);
        for (unsigned n = first; n < last; ++n) {
            const unsigned i = first + (n - first + offset) % (last - first);
            Fiber& fiber = now.fibers[i];
            if (fiber.state == AT_CONDITION && fiber.condition(i)) fiber.state = READY;
            if (fiber.state == READY) run(i), ran = true;
        }
        unsigned waiting = 0, elsewhere = 0, later = 0;
        for (unsigned i = first; i < last; ++i) {
            const State state = now.fibers[i].state;
            if (state == AT_WARP_BARRIER) ++waiting, now.current = i;
            if (state == AT_BLOCK_BARRIER || state == DONE) ++elsewhere;
            if (state == AT_CONDITION || state == READY) ++later;
        }
        if (waiting && elsewhere) fail("waits for its warp, of which %u threads are elsewhere", elsewhere);
        if (waiting && !later) complete_warp(first, last), again = ran = true;
    }
    return ran;
}

bool run_warps() {
    const unsigned count = (now.threads + WARP - 1) / WARP, offset = by_chance(count);
    bool ran = false;
    for (unsigned n = 0; n < count; ++n) {
        const unsigned first = (n + offset) % count * WARP;
        ran |= run_warp(first, first + WARP < now.threads ? first + WARP : now.threads);
    }
    return ran;
}

// The current thread becomes the last that waits for an event, if there is one.
bool find_waiting() {
    bool found = false;
    for (unsigned i = 0; i < now.threads; ++i)
        if (now.fibers[i].state == AT_CONDITION) now.current = i, found = true;
    return found;
}

void run_block() {
    memset(shared, POISON, now.shared_bytes);
    now.block_epoch = ++now.epoch;
    begin_asynchronous();
    begin_warpgroups();
    for (unsigned i = 0; i < now.threads; ++i) now.fibers[i].state = READY, now.fibers[i].turn = 0;
    for (;;) {
        const bool ran = run_warps();
        const bool landed = land_copies(!now.chance || !ran);
        unsigned waiting = 0, done = 0;
        for (unsigned i = 0; i < now.threads; ++i) {
            if (now.fibers[i].state == AT_BLOCK_BARRIER) ++waiting, now.current = i;
            done += now.fibers[i].state == DONE;
        }
        if (waiting + done < now.threads) {
            if (!ran && !landed && find_waiting()) fail("waits for ever %s", now.fibers[now.current].reason);
            continue;
        }
        if (!waiting && copies_left()) fail("ends while an asynchronous copy is under way");
        if (!waiting) return;
        if (waiting != now.threads)
            fail("waits at a barrier that %u of %u threads do not reach", now.threads - waiting, now.threads);
        ++now.epoch;
        if (asynchronous) exchange_clocks(0, now.threads);
        for (unsigned i = 0; i < now.threads; ++i) now.fibers[i].state = READY;
    }
}

}  // namespace

unsigned char* const shared_window = window;
unsigned char* const shared = window + 128;

unsigned by_chance(unsigned end) {
    if (!now.chance) return 0;
    now.chance ^= now.chance << 13, now.chance ^= now.chance >> 7, now.chance ^= now.chance << 17;
    return static_cast<unsigned>(now.chance >> 20) % end;
}

void perhaps_yield() {
    if (by_chance(4) == 1) leave();
}

void wait_until(Condition condition, const char* reason) {
    Fiber& me = now.fibers[now.current];
    if (condition(now.current)) return perhaps_yield();
    me.condition = condition, me.reason = reason;
    me.state = AT_CONDITION;
    leave();
}

void* reserve(size_t bytes) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) abort();
    return memory;
}

void fail(const char* format, ...) {
    const Builtins& me = now.fibers[now.current].builtins;
    const int used = snprintf(now.message, now.message_bytes, "block (%u, %u, %u), thread (%u, %u, %u): ", me.block.x,
                              me.block.y, me.block.z, me.thread.x, me.thread.y, me.thread.z);
    va_list list;
    va_start(list, format);
    vsnprintf(now.message + used, now.message_bytes - used, format, list);
    va_end(list);
    _longjmp(now.failure, 1);
}

EXPORT const Builtins* cuda_on_host_builtins() { return &now.fibers[now.current].builtins; }
EXPORT unsigned char* cuda_on_host_shared() { return shared; }
EXPORT void cuda_on_host_fault(const char* text) { fail("%s", text); }

EXPORT void cuda_on_host_block_barrier() {
    now.fibers[now.current].state = AT_BLOCK_BARRIER;
    leave();
}

void collective(Lane* mine, Collective body) {
    const unsigned thread = now.current;
    Warp& warp = warps[thread / WARP];
    if (warp.arrived && warp.body != body) fail("its warp is at another instruction for the whole warp");
    warp.body = body;
    warp.arrived |= 1u << thread % WARP;
    if (mine) warp.lanes[thread % WARP] = *mine;
    now.fibers[thread].state = AT_WARP_BARRIER;
    leave();
    if (mine) *mine = warp.lanes[thread % WARP];
}

EXPORT void cuda_on_host_warp_barrier() {
    collective(nullptr, nullptr);
    ++now.fibers[now.current].turn;
}

static void exchange(Lane (&lanes)[WARP], uint32_t active) {
    uint64_t words[WARP];
    for (int i = 0; i < WARP; ++i) words[i] = lanes[i].word;
    for (int i = 0; i < WARP; ++i) {
        const int from = lanes[i].source;
        const bool there = from >= 0 && from < WARP && (active >> from & 1);
        lanes[i].word = words[there ? from : i];
    }
}

EXPORT uint64_t cuda_on_host_shuffle(uint64_t value, int source) {
    Lane mine;
    mine.word = value, mine.source = source;
    collective(&mine, exchange);
    return mine.word;
}

static void make_fibers() {
    now.stacks = static_cast<unsigned char*>(reserve(MOST_THREADS * STACK_BYTES));
    now.fibers = static_cast<Fiber*>(reserve(MOST_THREADS * sizeof(Fiber)));
    for (unsigned i = 0; i < MOST_THREADS; ++i) new (&now.fibers[i]) Fiber();
}

static void run_grid(const unsigned* grid, const unsigned* block) {
    for (unsigned index = 0; index < grid[0] * grid[1] * grid[2]; ++index) {
        for (unsigned i = 0; i < now.threads; ++i)
            now.fibers[i].builtins = {{i % block[0], i / block[0] % block[1], i / block[0] / block[1]},
                                      {index % grid[0], index / grid[0] % grid[1], index / grid[0] / grid[1]},
                                      {block[0], block[1], block[2]},
                                      {grid[0], grid[1], grid[2]}};
        run_block();
        forget_copies();
    }
}

// Run `kernel(values)` on the grid; `chance` begins the generator that orders threads. Returns 0, or 1 with the first
// fault in `text`.
EXPORT int cuda_on_host_launch(void (*kernel)(void**), void** values, const unsigned* grid, const unsigned* block,
                               unsigned shared_bytes, const Region* regions, unsigned count, unsigned cell_shift,
                               int races, uint64_t chance, char* text, unsigned text_bytes) {
    now.chance = chance;
    entry = kernel, arguments = values;
    now.message = text, now.message_bytes = text_bytes;
    now.shared_bytes = shared_bytes;
    now.threads = block[0] * block[1] * block[2];
    now.launch_epoch = ++now.epoch;
    if (now.threads > MOST_THREADS || shared_bytes > SHARED_BYTES) {
        snprintf(text, text_bytes, "%u threads and %u bytes of shared memory are too much for a block", now.threads,
                 shared_bytes);
        return 1;
    }
    if (!now.fibers) make_fibers();
    begin_fibers(now.threads);
    track_arrays(regions, count, cell_shift, races != 0);
    volatile bool failed = true;
    if (!_setjmp(now.failure)) {
        run_grid(grid, block);
        failed = false;
    }
    if (failed) {
        forget_copies();
        memset(warps, 0, sizeof warps);
        started = 0;  // the fibers stand somewhere within the kernel
    }
    forget_arrays();
    return failed;
}

}  // namespace cuda_on_host
