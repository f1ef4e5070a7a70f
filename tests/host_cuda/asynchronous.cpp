// Barriers in shared memory (mbarrier of the PTX ISA), bulk and tensor copies, and who knows what of whom.
//
// Time is a vector clock per thread: its own time, which passes whenever others can learn it, and the times of others
// that barriers told it. Three things beside threads have times: fences of the asynchronous proxy, by the thread that
// executed them; the phases of a barrier, which end the copies; and the products of each warp, warpgroup.cpp.
#include <algorithm>

#include "inside.h"
#include "hopper_on_host.h"

namespace cuda_on_host {

bool asynchronous;

namespace {

constexpr unsigned BARRIERS = 32, WARPS = MOST_THREADS / WARP, GROUPS = WARPS / 4, UNIT = 16;

using Clock = std::vector<uint32_t>;

struct BarrierState {
    uintptr_t offset;
    unsigned count, pending, phase;
    int64_t bytes;  // expected, less those that have arrived
    unsigned maker;
    uint32_t made;  // time of its initialisation
    Clock arriving, complete;
};

struct InFlight {
    unsigned char* to;
    unsigned bytes;
    unsigned barrier;
    const unsigned char* from;  // of a bulk copy
    gtc::TensorMap map;
    int at[5];
};

// What is known of 16 bytes of shared memory.
struct Unit {
    int16_t barrier;  // whose phase ended, or ends, the last copy to it, plus one
    bool under_way;   // the copy
    bool written;     // by threads, since
    uint32_t phase;
    uint32_t product[GROUPS];  // the last that read it
};

Unit units[SHARED_BYTES / UNIT + 1];
std::vector<BarrierState> barriers;
std::vector<InFlight> flying;
std::vector<Clock> clocks;

unsigned fence_of(unsigned thread) { return now.threads + thread; }
unsigned phase_of(unsigned barrier) { return 2 * now.threads + barrier; }
unsigned product_of(unsigned warp) { return 2 * now.threads + BARRIERS + warp; }

void learn(Clock& knows, const Clock& told) {
    for (size_t i = 0; i < knows.size(); ++i) knows[i] = std::max(knows[i], told[i]);
}

void activate() {
    asynchronous = true;
    const size_t size = 2 * now.threads + BARRIERS + WARPS;
    clocks.assign(now.threads, Clock(size, 0));
    for (unsigned i = 0; i < now.threads; ++i) clocks[i][i] = 1;
    memset(units, 0, sizeof units);
}

uintptr_t offset_of(const void* pointer) {
    return static_cast<uintptr_t>(static_cast<const unsigned char*>(pointer) - shared);
}

unsigned index_of(const void* barrier) {
    for (unsigned i = 0; i < barriers.size(); ++i)
        if (barriers[i].offset == offset_of(barrier)) return i;
    fail("a barrier in shared memory, byte %zu, has not been initialised", offset_of(barrier));
}

BarrierState& find(const void* barrier) {
    BarrierState& found = barriers[index_of(barrier)];
    if (found.maker != now.current && !knows(found.maker, found.made))
        fail("a barrier is used before this thread knows that it has been initialised");
    return found;
}

void end_phase(BarrierState& barrier) {
    if (barrier.pending || barrier.bytes) return;
    learn(barrier.complete, barrier.arriving);
    barrier.complete[phase_of(static_cast<unsigned>(&barrier - barriers.data()))] = ++barrier.phase;
    barrier.pending = barrier.count;
}

void arrive(BarrierState& barrier) {
    if (!barrier.pending) fail("arrives at a barrier of whose phase only bytes are missing");
    Clock& mine = clocks[now.current];
    learn(barrier.arriving, mine);
    ++mine[now.current];
    --barrier.pending;
    end_phase(barrier);
    perhaps_yield();
}

bool is_complete(unsigned thread) {
    const Fiber& fiber = now.fibers[thread];
    return (barriers[fiber.awaited[0]].phase & 1) != fiber.awaited[1];
}

void require_product_known(const Unit& unit, uintptr_t offset, const char* what) {
    const Clock& mine = clocks[now.current];
    for (unsigned group = 0; group < GROUPS; ++group)
        for (unsigned warp = 4 * group; unit.product[group] && warp < 4 * group + 4; ++warp)
            if (mine[product_of(warp)] < unit.product[group])
                fail(
                    "race: it %s shared memory, byte %zu, which a product of warp %u reads, with no barrier between "
                    "them",
                    what, static_cast<size_t>(offset), warp);
}

void require_copy_known(const Unit& unit, uintptr_t offset, const char* what, unsigned thread) {
    if (unit.under_way)
        fail("race: it %s shared memory, byte %zu, while an asynchronous copy to it is under way", what,
             static_cast<size_t>(offset));
    if (unit.barrier && clocks[thread][phase_of(unit.barrier - 1)] <= unit.phase)
        fail("race: it %s shared memory, byte %zu, without having waited for the copy to it", what,
             static_cast<size_t>(offset));
}

void begin_copy(InFlight copy) {
    const uintptr_t begin = offset_of(copy.to);
    if (begin + copy.bytes > now.shared_bytes) fail("a copy beyond the block's shared memory");
    for (uintptr_t at = begin; at < begin + copy.bytes; at += UNIT) {
        Unit& unit = units[at / UNIT];
        require_copy_known(unit, at, "copies to", now.current);
        require_product_known(unit, at, "copies to");
        if (unit.written) check_fenced(at, UNIT, now.current);
        unit = Unit{static_cast<int16_t>(copy.barrier + 1), true, false, barriers[copy.barrier].phase, {}};
    }
    const BarrierState& barrier = barriers[copy.barrier];
    if (!knows_fenced(now.current, barrier.maker, barrier.made))
        fail("a copy ends at a barrier whose initialisation was not fenced");
    flying.push_back(copy);
    perhaps_yield();
}

void land_tensor(const InFlight& copy) {
    const gtc::TensorMap& map = copy.map;
    unsigned counts[5], index[5] = {};
    for (int a = 0; a < 5; ++a) counts[a] = (map.box[a] + map.step[a] - 1) / map.step[a];
    const size_t begin = static_cast<size_t>(copy.to - shared_window);
    for (size_t linear = 0; linear < copy.bytes; linear += map.item) {
        bool inside = true;
        size_t from = 0;
        for (int a = 0; a < 5; ++a) {
            const int64_t at = copy.at[a] + static_cast<int64_t>(index[a]) * map.step[a];
            inside = inside && at >= 0 && at < static_cast<int64_t>(map.size[a]);
            from += static_cast<size_t>(at) * (a ? map.stride[a - 1] : map.item);
        }
        size_t to = begin + linear;
        to ^= (to >> 7 & (map.swizzle / 16 - 1)) << 4;
        if (inside) {
            cuda_on_host_check(map.base + from, map.item, READ);
            memcpy(shared_window + to, map.base + from, map.item);
        } else {
            memset(shared_window + to, 0, map.item);
        }
        for (int a = 0; a < 5 && ++index[a] == counts[a]; ++a) index[a] = 0;
    }
}

void land(size_t number) {
    const InFlight copy = flying[number];
    flying.erase(flying.begin() + static_cast<long>(number));
    if (copy.from)
        memcpy(copy.to, copy.from, copy.bytes);
    else
        land_tensor(copy);
    const uintptr_t begin = offset_of(copy.to);
    for (uintptr_t at = begin; at < begin + copy.bytes; at += UNIT) units[at / UNIT].under_way = false;
    barriers[copy.barrier].bytes -= copy.bytes;
    end_phase(barriers[copy.barrier]);
}

}  // namespace

void begin_asynchronous() {
    asynchronous = false;
    barriers.clear(), flying.clear(), clocks.clear();
}

bool copies_left() { return !flying.empty(); }

bool land_copies(bool all) {
    bool landed = false;
    while (!flying.empty() && (all || by_chance(2))) {
        land(by_chance(static_cast<unsigned>(flying.size())));
        landed = true;
        if (now.chance) break;
    }
    return landed;
}

uint32_t own_clock() { return asynchronous ? clocks[now.current][now.current] : 0; }

bool knows(unsigned thread, uint32_t clock) {
    return asynchronous && thread < now.threads && clocks[now.current][thread] >= clock;
}

bool knows_fenced(unsigned reader, unsigned writer, uint32_t clock) { return clocks[reader][fence_of(writer)] > clock; }

void exchange_clocks(unsigned first, unsigned last) {
    Clock all = clocks[first];
    for (unsigned i = first + 1; i < last; ++i) learn(all, clocks[i]);
    for (unsigned i = first; i < last; ++i) {
        clocks[i] = all;
        ++clocks[i][i];
    }
}

void meet_asynchronous(uintptr_t offset, unsigned bytes, int kind) {
    const char* what = kind == READ ? "reads" : "writes";
    for (uintptr_t i = offset / UNIT; i <= (offset + bytes - 1) / UNIT; ++i) {
        require_copy_known(units[i], offset, what, now.current);
        if (kind == READ) continue;
        require_product_known(units[i], offset, what);
        units[i].barrier = 0;
        units[i].written = true;
    }
}

void read_by_product(uintptr_t offset, unsigned bytes, unsigned group, uint32_t serial) {
    if (offset + bytes > now.shared_bytes) fail("a product reads beyond the block's shared memory");
    for (uintptr_t i = offset / UNIT; i <= (offset + bytes - 1) / UNIT; ++i) {
        for (unsigned warp = 4 * group; warp < 4 * group + 4; ++warp) {
            require_copy_known(units[i], i * UNIT, "multiplies", warp * WARP);
            if (units[i].written) check_fenced(i * UNIT, UNIT, warp * WARP);
        }
        units[i].product[group] = serial;
    }
}

void product_done(unsigned thread, uint32_t serial) {
    uint32_t& known = clocks[thread][product_of(thread / WARP)];
    known = std::max(known, serial);
}

EXPORT void cuda_on_host_barrier_init(void* barrier, unsigned count) {
    if (!asynchronous) activate();
    if (!is_shared(barrier) || offset_of(barrier) % 8) fail("a barrier that is not 8 aligned bytes of shared memory");
    if (barriers.size() == BARRIERS) fail("more than %u barriers", BARRIERS);
    if (!count) fail("a barrier of no arrivals");
    const Clock none(clocks[0].size(), 0);
    barriers.push_back({offset_of(barrier), count, count, 0, 0, now.current, own_clock(), none, none});
}

// Of shared memory, and, told by another name, of the barriers that were initialised.
EXPORT void cuda_on_host_fence_async() {
    if (!asynchronous) activate();
    Clock& mine = clocks[now.current];
    mine[fence_of(now.current)] = ++mine[now.current];
    perhaps_yield();
}

EXPORT void cuda_on_host_barrier_arrive(void* barrier, unsigned bytes) {
    BarrierState& found = find(barrier);
    found.bytes += bytes;
    arrive(found);
}

EXPORT void cuda_on_host_barrier_wait(void* barrier, unsigned parity) {
    find(barrier);
    const unsigned index = index_of(barrier);
    Fiber& me = now.fibers[now.current];
    me.awaited[0] = index, me.awaited[1] = parity;
    wait_until(is_complete, "for a phase of a barrier in shared memory");
    learn(clocks[now.current], barriers[index].complete);
}

EXPORT void cuda_on_host_copy_bulk(void* to, const void* from, unsigned bytes, void* barrier) {
    find(barrier);
    if (!is_shared(to)) fail("a bulk copy to an address that is not in shared memory");
    if ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from) | bytes) % 16 || !bytes)
        fail("a bulk copy whose addresses and size are not multiples of 16");
    for (unsigned i = 0; i < bytes; i += 16) cuda_on_host_check(static_cast<const char*>(from) + i, 16, READ);
    begin_copy(
        {static_cast<unsigned char*>(to), bytes, index_of(barrier), static_cast<const unsigned char*>(from), {}, {}});
}

EXPORT void cuda_on_host_copy_tensor(void* to, const gtc::TensorMap* map, const int* at, void* barrier) {
    find(barrier);
    if (!is_shared(to)) fail("a tensor copy to an address that is not in shared memory");
    if (static_cast<size_t>(static_cast<unsigned char*>(to) - shared_window) % 128)
        fail("a tensor copy to an address that is no multiple of 128");
    unsigned bytes = map->item;
    for (int a = 0; a < 5; ++a) bytes *= (map->box[a] + map->step[a] - 1) / map->step[a];
    begin_copy({static_cast<unsigned char*>(to),
                bytes,
                index_of(barrier),
                nullptr,
                *map,
                {at[0], at[1], at[2], at[3], at[4]}});
}

}  // namespace cuda_on_host
