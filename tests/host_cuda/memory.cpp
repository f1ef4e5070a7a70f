// Which memory a kernel may access, and what its threads have done to it.
//
// Every access must lie in an array, in the block's shared memory or on the thread's own stack, and must not meet
// another thread's access to the same bytes, one of them a write, without a barrier between them.
#include <cstdlib>
#include <link.h>

#include "inside.h"

namespace cuda_on_host {
namespace {

// What is known about a few neighbouring bytes. Barriers of the block and of the warp are counted; two accesses
// are ordered if one of those that both threads take part in lies between them.
struct Cell {
    uint32_t write_epoch, read_epoch, write_clock;
    uint16_t write_thread, read_thread;
    uint16_t write_turn, read_turn;
    bool atomic_write, many_lanes, many_warps, foreign_reader, pending;
};

struct Tracked {
    Region region;
    Cell* cells;
};

Cell shared_cells[SHARED_BYTES / 2];
std::vector<Tracked> arrays;
std::vector<std::pair<uintptr_t, uintptr_t>> constants;  // where loaded libraries lie
unsigned shift;
bool check_races;

const char* verb(int kind) { return kind == READ ? "reads" : kind == WRITE ? "writes" : "adds to"; }

[[noreturn]] void fail_race(const char* name, uintptr_t offset, unsigned item, int kind, const char* other,
                            unsigned by) {
    fail("race: it %s %s[%zu], which thread %u %s without a barrier between them", verb(kind), name,
         static_cast<size_t>(offset / item), by, other);
}

// Whether an earlier access is ordered before the current thread's.
inline bool ordered(uint32_t then, unsigned thread, uint16_t turn, bool global) {
    if (then < now.launch_epoch) return true;
    if (then < now.block_epoch) return !global;  // another block; shared memory has been given to this one since
    if (then != now.epoch || thread == now.current) return true;
    return thread / WARP == now.current / WARP && turn != now.fibers[now.current].turn;
}

// Whether all earlier reads of a cell are ordered before the current thread's write.
inline bool readers_ordered(const Cell& cell, bool global) {
    if (cell.read_epoch < now.launch_epoch) return true;
    if (global && (cell.foreign_reader || cell.read_epoch < now.block_epoch)) return false;
    if (cell.read_epoch != now.epoch) return true;
    if (cell.many_warps || cell.read_thread / WARP != now.current / WARP) return false;
    return cell.read_turn != now.fibers[now.current].turn || (!cell.many_lanes && cell.read_thread == now.current);
}

inline void add_reader(Cell& cell, bool global) {
    const auto thread = static_cast<uint16_t>(now.current);
    const uint16_t turn = now.fibers[now.current].turn;
    if (cell.read_epoch == now.epoch && cell.read_thread / WARP != thread / WARP) {
        cell.many_warps = true;
    } else if (cell.read_epoch == now.epoch && cell.read_turn == turn) {
        cell.many_lanes |= cell.read_thread != thread;
    } else {
        if (cell.read_epoch < now.launch_epoch) cell.foreign_reader = false;
        if (cell.read_epoch != now.epoch) cell.many_warps = false;
        cell.foreign_reader |= global && cell.read_epoch >= now.launch_epoch && cell.read_epoch < now.block_epoch;
        cell.many_lanes = false;
        cell.read_epoch = now.epoch, cell.read_thread = thread, cell.read_turn = turn;
    }
}

inline void track(Cell& cell, int kind, bool global, const char* name, uintptr_t offset, unsigned item) {
    if (cell.pending)
        fail("race: it %s %s[%zu] while an asynchronous copy to it is under way", verb(kind), name,
             static_cast<size_t>(offset / item));
    const bool both_atomic = kind == ATOMIC && cell.atomic_write;
    if (!both_atomic && !ordered(cell.write_epoch, cell.write_thread, cell.write_turn, global) &&
        !knows(cell.write_thread, cell.write_clock))
        fail_race(name, offset, item, kind, "wrote", cell.write_thread);
    if (kind == READ) return add_reader(cell, global);
    if (!readers_ordered(cell, global)) fail_race(name, offset, item, kind, "read", cell.read_thread);
    cell.write_epoch = now.epoch;
    cell.write_thread = static_cast<uint16_t>(now.current);
    cell.write_turn = now.fibers[now.current].turn;
    cell.write_clock = own_clock();
    cell.atomic_write = kind == ATOMIC;
}

void check_shared(uintptr_t offset, unsigned bytes, int kind) {
    if (offset + bytes > now.shared_bytes)
        fail("it %s shared memory at byte %zu; the block has %u", verb(kind), static_cast<size_t>(offset),
             now.shared_bytes);
    if (!check_races) return;
    if (asynchronous) meet_asynchronous(offset, bytes, kind);
    for (uintptr_t cell = offset >> shift; cell <= (offset + bytes - 1) >> shift; ++cell)
        track(shared_cells[cell], kind, false, "shared memory, byte ", cell << shift, 1);
}

void check_array(const Tracked& array, uintptr_t address, unsigned bytes, int kind) {
    const Region& region = array.region;
    const uintptr_t offset = address - region.base;
    if (offset + bytes > region.bytes)
        fail("it %s %s[%zu], which has %zu elements", verb(kind), region.name,
             static_cast<size_t>(offset / region.item), static_cast<size_t>(region.bytes / region.item));
    if (kind != READ && !region.writable)
        fail("it %s %s[%zu], which is an input", verb(kind), region.name, static_cast<size_t>(offset / region.item));
    if (!array.cells) return;
    for (uintptr_t cell = offset >> shift; cell <= (offset + bytes - 1) >> shift; ++cell)
        track(array.cells[cell], kind, true, region.name, cell << shift, region.item);
}

int find_library(dl_phdr_info* info, size_t, void* wanted) {
    const auto address = reinterpret_cast<uintptr_t>(wanted);
    for (int i = 0; i < info->dlpi_phnum; ++i) {
        const auto& segment = info->dlpi_phdr[i];
        const uintptr_t base = info->dlpi_addr + segment.p_vaddr;
        if (segment.p_type != PT_LOAD || address - base >= segment.p_memsz) continue;
        constants.emplace_back(base, segment.p_memsz);
        return 1;
    }
    return 0;
}

bool is_constant(uintptr_t address) {
    for (const auto& [base, bytes] : constants)
        if (address - base < bytes) return true;
    return dl_iterate_phdr(find_library, reinterpret_cast<void*>(address)) != 0;
}

[[noreturn]] void fail_nowhere(uintptr_t address, int kind) {
    const Region* near = nullptr;
    int64_t least = INT64_MAX;
    for (const Tracked& array : arrays) {
        const int64_t before = static_cast<int64_t>(address - array.region.base);
        const int64_t distance = before < 0 ? -before : before - static_cast<int64_t>(array.region.bytes);
        if (distance < least) least = distance, near = &array.region;
    }
    if (!near) fail("it %s memory outside all arrays", verb(kind));
    const int64_t offset = static_cast<int64_t>(address - near->base), item = near->item;
    fail("it %s memory outside all arrays; the nearest is %s[%lld], which has %zu elements", verb(kind), near->name,
         static_cast<long long>((offset - (offset < 0 ? item - 1 : 0)) / item),
         static_cast<size_t>(near->bytes / item));
}

void check(const void* pointer, unsigned bytes, int kind) {
    const auto address = reinterpret_cast<uintptr_t>(pointer);
    if (address - reinterpret_cast<uintptr_t>(now.stacks) < MOST_THREADS * STACK_BYTES) return;
    if (address - reinterpret_cast<uintptr_t>(now.fibers) < MOST_THREADS * sizeof(Fiber)) return;
    const uintptr_t offset = address - reinterpret_cast<uintptr_t>(shared);
    if (offset < SHARED_BYTES) return check_shared(offset, bytes, kind);
    for (const Tracked& array : arrays)
        if (address - array.region.base < array.region.bytes) return check_array(array, address, bytes, kind);
    if (kind != READ || !is_constant(address)) fail_nowhere(address, kind);
}

// A plain access by the kernel's code; the compiler promised the alignment of whole words.
inline void check_aligned(const void* pointer, unsigned bytes, int kind) {
    if (reinterpret_cast<uintptr_t>(pointer) % bytes) fail("it %s %u bytes at a misaligned address", verb(kind), bytes);
    check(pointer, bytes, kind);
}

void mark_pending(const Copy& copy, bool pending) {
    if (!check_races) return;
    const uintptr_t offset = copy.shared - shared;
    for (uintptr_t cell = offset >> shift; cell <= (offset + copy.bytes - 1) >> shift; ++cell)
        shared_cells[cell].pending = pending;
}

size_t cell_bytes(const Region& region) { return ((region.bytes >> shift) + 1) * sizeof(Cell); }

}  // namespace

void track_arrays(const Region* regions, unsigned count, unsigned bytes_shift, bool races) {
    shift = bytes_shift, check_races = races;
    for (unsigned i = 0; i < count; ++i) {
        const bool tracked = races && regions[i].writable;
        arrays.push_back({regions[i], tracked ? static_cast<Cell*>(reserve(cell_bytes(regions[i]))) : nullptr});
    }
}

void forget_arrays() {
    for (const Tracked& array : arrays)
        if (array.cells) munmap(array.cells, cell_bytes(array.region));
    arrays.clear();
}

void forget_copies() {
    for (unsigned i = 0; i < now.threads; ++i) {
        for (auto& group : now.fibers[i].copies)
            for (const Copy& copy : group) mark_pending(copy, false);
        now.fibers[i].copies.clear();
    }
}

bool is_shared(const void* address) {
    return reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(shared) < SHARED_BYTES;
}

void check_fenced(uintptr_t offset, unsigned bytes, unsigned reader) {
    for (uintptr_t i = offset >> shift; i <= (offset + bytes - 1) >> shift; ++i) {
        const Cell& cell = shared_cells[i];
        if (cell.write_epoch < now.block_epoch || knows_fenced(reader, cell.write_thread, cell.write_clock)) continue;
        fail(
            "race: an asynchronous access to shared memory, byte %zu, which thread %u wrote without a fence and a "
            "barrier between them",
            static_cast<size_t>(i << shift), cell.write_thread);
    }
}

EXPORT void cuda_on_host_check(const void* address, unsigned bytes, int kind) { check_aligned(address, bytes, kind); }

EXPORT void cuda_on_host_copy_async(void* to, const void* global, unsigned bytes, bool valid) {
    if (!is_shared(to)) fail("an asynchronous copy to an address that is not in shared memory");
    if (reinterpret_cast<uintptr_t>(global) % bytes)
        fail("an asynchronous copy of %u bytes from a misaligned address", bytes);
    check_aligned(to, bytes, WRITE);
    if (valid) check(global, bytes, READ);
    auto& groups = now.fibers[now.current].copies;
    if (groups.empty()) groups.emplace_back();
    groups.back().push_back({static_cast<unsigned char*>(to), static_cast<const unsigned char*>(global), bytes, valid});
    mark_pending(groups.back().back(), true);
}

EXPORT void cuda_on_host_copy_async_commit() {
    auto& groups = now.fibers[now.current].copies;
    if (groups.empty()) groups.emplace_back();
    groups.emplace_back();
}

EXPORT void cuda_on_host_copy_async_wait(unsigned left) {
    auto& groups = now.fibers[now.current].copies;
    while (groups.size() > left + 1) {  // the open group is not waited for
        for (const Copy& copy : groups.front()) {
            mark_pending(copy, false);
            check(copy.shared, copy.bytes, WRITE);
            if (copy.valid)
                memcpy(copy.shared, copy.global, copy.bytes);
            else
                memset(copy.shared, 0, copy.bytes);
        }
        groups.erase(groups.begin());
    }
}

// The calls that -fsanitize=thread puts before every access.

#define ACCESS(bytes)                                                                     \
    EXPORT void __tsan_read##bytes(void* p) { check_aligned(p, bytes, READ); }            \
    EXPORT void __tsan_write##bytes(void* p) { check_aligned(p, bytes, WRITE); }          \
    EXPORT void __tsan_volatile_read##bytes(void* p) { check_aligned(p, bytes, READ); }   \
    EXPORT void __tsan_volatile_write##bytes(void* p) { check_aligned(p, bytes, WRITE); } \
    EXPORT void __tsan_unaligned_read##bytes(void* p) { check(p, bytes, READ); }          \
    EXPORT void __tsan_unaligned_write##bytes(void* p) { check(p, bytes, WRITE); }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
EXPORT void __tsan_read_range(void* p, size_t bytes) { check(p, static_cast<unsigned>(bytes), READ); }
EXPORT void __tsan_write_range(void* p, size_t bytes) { check(p, static_cast<unsigned>(bytes), WRITE); }
EXPORT void __tsan_init() {}
EXPORT void __tsan_func_entry(void*) {}
EXPORT void __tsan_func_exit(void*) {}

}  // namespace cuda_on_host
