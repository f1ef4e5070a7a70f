// wgmma with operands in shared memory, by descriptor, or A in registers, and setmaxnreg: the PTX ISA's "Asynchronous
// Warpgroup Level Matrix Instructions".
//
// A product reads shared memory at any time until it is waited for, so what it reads must stay, which asynchronous.cpp
// holds; here it reads when the first thread waits. Its sums are NaN meanwhile.
#include <memory>

#include "inside.h"
#include "halves.h"
#include "hopper_on_host.h"

namespace cuda_on_host {
namespace {

constexpr unsigned GROUP = 128, REGISTERS = 65536;
constexpr int ROWS = 64, MOST_COLUMNS = 256, MOST_DEPTH = 16;

// The sums of all threads, as a matrix, while products that add to them are under way.
struct Sums {
    float* at[GROUP];
    int columns;
    unsigned last;  // product that adds to them
    unsigned returned;
    float value[ROWS][MOST_COLUMNS];
};

struct Pending {
    Product product;
    uint32_t words[GROUP][4];
    std::shared_ptr<Sums> sums;
    unsigned serial;
};

struct Group {
    std::vector<Pending> pending;
    std::vector<std::shared_ptr<Sums>> sums;
    std::vector<unsigned> committed;  // by group of products, the last of them
    unsigned issued, arrived, generation;
    Product product;
    float* at[GROUP];
    uint32_t words[GROUP][4];
};

Group groups[MOST_THREADS / GROUP];
unsigned commits[MOST_THREADS], waited[MOST_THREADS], registers[MOST_THREADS];
bool fenced[MOST_THREADS];
unsigned free_registers;

Group& own_group() { return groups[now.current / GROUP]; }

// Where a thread's sum i lies in the matrix.
void place(unsigned thread, int i, int* row, int* column) {
    *row = static_cast<int>(thread / WARP * 16 + thread % WARP / 4) + i / 2 % 2 * 8;
    *column = i / 4 * 8 + static_cast<int>(thread % 4) * 2 + i % 2;
}

struct Descriptor {
    size_t start, leading, stride, layout;

    explicit Descriptor(uint64_t bits)
        : start((bits & 0x3fff) << 4),
          leading((bits >> 16 & 0x3fff) << 4),
          stride((bits >> 32 & 0x3fff) << 4),
          layout(bits >> 62) {
        if (!layout) fail("a descriptor without a swizzle");
        if (bits >> 49 & 7) fail("a descriptor with a base offset");
    }

    // Address of an element in the window of shared memory. Depth contiguous: lines of depth, eight to a pattern,
    // `stride` from pattern to pattern. Across: lines of columns, one for each step of depth, `leading` from those of
    // some columns to the next ones'. Of the 16-byte units of a line 8, 4 or 2 change places.
    size_t address(int line, int depth, int item, bool across) const {
        const size_t n = line, k = depth, bytes = 256 >> layout, per_line = bytes / item;
        const size_t linear =
            across ? start + n / per_line * leading + k / 8 * stride + k % 8 * bytes + n % per_line * item
                   : start + n / 8 * stride + n % 8 * bytes + k * item;
        return linear ^ (linear >> 7 & (bytes / 16 - 1)) << 4;
    }
};

float element_at(size_t address, Element element) {
    const unsigned char* at = shared_window + address;
    if (element == TF32) {
        uint32_t bits;
        memcpy(&bits, at, 4);
        return float_of_tf32(bits);
    }
    uint16_t bits;
    memcpy(&bits, at, 2);
    return element == HALF ? float_of_half(bits) : float_of_bfloat16(bits);
}

float element_of(uint32_t word, int i, Element element) {
    if (element == TF32) return float_of_tf32(word);
    const auto bits = static_cast<uint16_t>(word >> 16 * i);
    return element == HALF ? float_of_half(bits) : float_of_bfloat16(bits);
}

int item_of(Element element) { return element == TF32 ? 4 : 2; }
int depth_of(Element element) { return 32 / item_of(element); }

void note_reads(const Descriptor& matrix, int lines, const Product& product, bool across, unsigned serial) {
    const int item = item_of(product.element), step = 16 / item;
    const size_t window = static_cast<size_t>(shared - shared_window);
    for (int line = 0; line < lines; line += across ? step : 1) {
        for (int k = 0; k < depth_of(product.element); k += across ? 1 : step) {
            const size_t address = matrix.address(line, k, item, across);
            if (address < window) fail("a product reads before the block's shared memory");
            read_by_product(address - window, 16, now.current / GROUP, serial);
        }
    }
}

void load_a(const Pending& pending, float (&a)[ROWS][MOST_DEPTH]) {
    const Product& product = pending.product;
    const int item = item_of(product.element), depth = depth_of(product.element);
    if (product.a_from == FROM_SHARED) {
        const Descriptor matrix(product.a);
        for (int row = 0; row < ROWS; ++row)
            for (int k = 0; k < depth; ++k)
                a[row][k] = element_at(matrix.address(row, k, item, false), product.element);
        return;
    }
    const int each = product.element == TF32 ? 1 : 2;
    for (unsigned thread = 0; thread < GROUP; ++thread) {
        for (int word = 0; word < 4; ++word) {
            for (int i = 0; i < each; ++i) {
                const int row = static_cast<int>(thread / WARP * 16 + thread % WARP / 4) + word % 2 * 8;
                const int k = static_cast<int>(thread % 4) * each + i + word / 2 * 4 * each;
                a[row][k] = element_of(pending.words[thread][word], i, product.element);
            }
        }
    }
}

// As the matrix unit does, whose sums of TF32 products are cut off, not rounded: Fasi et al., "Numerical behavior of
// NVIDIA tensor cores", PeerJ Computer Science 7, 2021.
float cut_off(double sum) {
    const auto rounded = static_cast<float>(sum);
    return std::isfinite(rounded) && std::fabs(static_cast<double>(rounded)) > std::fabs(sum)
               ? std::nextafter(rounded, 0.0f)
               : rounded;
}

void execute(const Pending& pending) {
    static float a[ROWS][MOST_DEPTH], b[MOST_DEPTH][MOST_COLUMNS];
    const Product& product = pending.product;
    const Descriptor matrix(product.b);
    const int item = item_of(product.element), depth = depth_of(product.element), columns = product.columns;
    load_a(pending, a);
    for (int k = 0; k < depth; ++k)
        for (int n = 0; n < columns; ++n)
            b[k][n] = element_at(matrix.address(n, k, item, product.b_across), product.element);
    for (int row = 0; row < ROWS; ++row) {
        float* sum = pending.sums->value[row];
        for (int n = 0; product.element == TF32 && n < columns; ++n) {
            double exact = sum[n];
            for (int k = 0; k < depth; ++k) exact += static_cast<double>(a[row][k]) * b[k][n];
            sum[n] = cut_off(exact);
        }
        for (int k = 0; product.element != TF32 && k < depth; ++k) {
            const float factor = a[row][k];
            for (int n = 0; n < columns; n += 8)
                for (int i = 0; i < 8; ++i) sum[n + i] += factor * b[k][n + i];
        }
    }
}

std::shared_ptr<Sums> take_sums(Group& group) {
    for (auto& sums : group.sums)
        if (sums->at[0] == group.at[0] && !sums->returned) return sums;
    auto sums = std::make_shared<Sums>();
    sums->columns = group.product.columns;
    for (unsigned thread = 0; thread < GROUP; ++thread) {
        sums->at[thread] = group.at[thread];
        for (int i = 0; i < sums->columns / 2; ++i) {
            int row, column;
            place(thread, i, &row, &column);
            sums->value[row][column] = group.at[thread][i];
            group.at[thread][i] = NAN;
        }
    }
    group.sums.push_back(sums);
    return sums;
}

// The last thread of the warpgroup has arrived.
void issue(Group& group) {
    const Product& product = group.product;
    const unsigned serial = ++group.issued;
    if (product.b_across && product.element == TF32) fail("a product of TF32 numbers takes no matrix across");
    if (product.a_from == FROM_SHARED) note_reads(Descriptor(product.a), ROWS, product, false, serial);
    note_reads(Descriptor(product.b), product.columns, product, product.b_across, serial);
    Pending pending{product, {}, take_sums(group), serial};
    if (pending.sums->columns != product.columns) fail("products of different sizes add to the same sums");
    memcpy(pending.words, group.words, sizeof pending.words);
    pending.sums->last = serial;
    group.pending.push_back(std::move(pending));
}

bool is_issued(unsigned thread) { return groups[thread / GROUP].generation != now.fibers[thread].awaited[0]; }
bool has_registers(unsigned thread) { return free_registers >= now.fibers[thread].awaited[0]; }

void return_sums(Group& group, unsigned thread, unsigned done) {
    for (size_t s = 0; s < group.sums.size();) {
        Sums& sums = *group.sums[s];
        if (sums.last > done || !sums.at[thread]) {
            ++s;
            continue;
        }
        for (int i = 0; i < sums.columns / 2; ++i) {
            int row, column;
            place(thread, i, &row, &column);
            sums.at[thread][i] = sums.value[row][column];
        }
        sums.at[thread] = nullptr;
        if (++sums.returned == GROUP)
            group.sums.erase(group.sums.begin() + static_cast<long>(s));
        else
            ++s;
    }
}

}  // namespace

void begin_warpgroups() {
    for (Group& group : groups) group = Group();
    memset(commits, 0, sizeof commits);
    memset(waited, 0, sizeof waited);
    memset(fenced, 0, sizeof fenced);
    // What a kernel with these launch bounds and one block to a multiprocessor can have.
    const unsigned most = REGISTERS / now.threads / 8 * 8, each = most > 255 ? 255 : most;
    for (unsigned i = 0; i < now.threads; ++i) registers[i] = each;
    free_registers = REGISTERS - each * now.threads;
}

EXPORT unsigned cuda_on_host_shared_address(const void* pointer) {
    return static_cast<unsigned>(static_cast<const unsigned char*>(pointer) - shared_window);
}

EXPORT void cuda_on_host_group_fence() { fenced[now.current] = true; }

EXPORT void cuda_on_host_group_multiply(float* sums, const Product* product) {
    const unsigned thread = now.current % GROUP;
    if (now.current / GROUP * GROUP + GROUP > now.threads) fail("a product needs the 128 threads of a warpgroup");
    if (!fenced[now.current]) fail("a product without a fence between its registers' last use and it");
    Group& group = own_group();
    if (group.arrived && (product->a != group.product.a || product->b != group.product.b ||
                          product->columns != group.product.columns || product->b_across != group.product.b_across))
        fail("its warpgroup is at another product");
    group.product = *product;
    group.at[thread] = sums;
    memcpy(group.words[thread], product->words, sizeof product->words);
    now.fibers[now.current].awaited[0] = group.generation;
    if (++group.arrived == GROUP) {
        group.arrived = 0;
        ++group.generation;
        issue(group);
    }
    wait_until(is_issued, "for its warpgroup, which is not at this product");
}

EXPORT void cuda_on_host_group_commit() {
    Group& group = own_group();
    if (commits[now.current]++ == group.committed.size()) group.committed.push_back(group.issued);
    fenced[now.current] = false;
}

EXPORT void cuda_on_host_group_wait(unsigned left) {
    Group& group = own_group();
    const unsigned count = commits[now.current];
    if (count > left) {
        const unsigned done = group.committed[count - left - 1];
        while (!group.pending.empty() && group.pending.front().serial <= done) {
            execute(group.pending.front());
            group.pending.erase(group.pending.begin());
        }
        return_sums(group, now.current % GROUP, done);
        if (asynchronous) product_done(now.current, done);
    }
    fenced[now.current] = false;
    perhaps_yield();
}

EXPORT void cuda_on_host_set_registers(unsigned count, bool more) {
    unsigned& mine = registers[now.current];
    if (count % 8 || count < 24 || count > 256)
        fail("setmaxnreg to %u, expected a multiple of 8 from 24 to 256", count);
    if (more ? count < mine : count > mine) fail("setmaxnreg from %u to %u registers", mine, count);
    if (more) {
        do {
            now.fibers[now.current].awaited[0] = count - mine;
            wait_until(has_registers, "for registers that no warpgroup gives back");
        } while (free_registers < count - mine);
        free_registers -= count - mine;
    } else {
        free_registers += mine - count;
    }
    mine = count;
}

}  // namespace cuda_on_host
