// The pipeline of Hopper's gather: from x and the packed weights through stages of shared memory to sums in registers.
//
// A warpgroup produces: it walks the tiles of its multiprocessor, and for every step (input shift) and chunk of
// channels has the weights of the tile's blocks and the box of x copied into a stage of shared memory. Two consume:
// each adds the products of its two blocks of rows to sums in registers, then stores them. Every stage has two
// barriers: `full`, which counts the bytes that arrive, and `empty`, which counts the consumers' warps that are done
// with it.
#pragma once

#include "hopper_epilogue.cuh"

namespace gtc {

// How x comes to a stage: by tensor copies, channels last ([pixel][channel] there) or first ([channel][pixel]), or
// loaded by threads, channels last or first, as [pixel][channel]. Of TF32 numbers the matrix unit takes no other order,
// and they have to be rounded on their way: float is loaded by threads.
enum Source { COPY_LAST, COPY_FIRST, LOAD_LAST, LOAD_FIRST };

// BLOCKS is 4: each consumer has two blocks and all 128 pixels; or 2: both have both blocks, and 64 pixels each.
//
// With two IMAGES a float is the sum of two TF32 numbers, and a product is three of theirs; that of the low numbers is
// less than what float32 has bits for. The matrix unit cuts its sums off, where others round: those of a chunk, of
// a few channels, are added to the others by ordinary additions.
template <class T, Source SOURCE, int BLOCKS, int IMAGES = 1>
struct HopperPipeline {
    static constexpr int STAGES = IMAGES == 2 ? 3 : 4, CONSUMERS = 2, GROUP_THREADS = 128,
                         THREADS_PER_BLOCK = 3 * GROUP_THREADS;
    static constexpr int COLUMNS = BLOCKS == 4 ? BOX_PIXELS : BOX_PIXELS / 2;
    static constexpr int X_BYTES = BOX_PIXELS * LINE_BYTES;
    static constexpr bool ACROSS = SOURCE == COPY_FIRST, BY_THREADS = SOURCE == LOAD_LAST || SOURCE == LOAD_FIRST;
    static constexpr bool LAST = SOURCE == COPY_LAST || SOURCE == LOAD_LAST;
    static_assert(BLOCKS == 4 || BLOCKS == 2, "the sizes that tiles have");
    static_assert(sizeof(T) == 2 || BY_THREADS, "what is rounded goes through registers");
    static_assert(IMAGES == 1 || (sizeof(T) == 4 && BLOCKS == 2), "there are registers for two sets of sums");
    static constexpr int BLOCK_BYTES = SLOT_BYTES * IMAGES;

    struct Stage {
        unsigned char weight[BLOCKS * BLOCK_BYTES];
        unsigned char x[X_BYTES * IMAGES];
    };

    struct Shared {
        Stage stage[STAGES];
        Barrier full[STAGES], empty[STAGES];
    };

    // Which stage is next, and the parity of its barriers' phase.
    struct Turn {
        int stage = 0;
        unsigned parity = 0;

        GTC_DEVICE void advance() {
            if (++stage < STAGES) return;
            stage = 0;
            parity ^= 1;
        }
    };

    const HopperGeometry& g;
    const unsigned char* packed;
    Shared* shared;
    int tiles;

    // The swizzle is of addresses, so stages begin at multiples of 1024.
    GTC_DEVICE HopperPipeline(const HopperGeometry& g_, const unsigned char* packed_)
        : g(g_), packed(packed_), tiles(g_.row_tiles * g_.groups * g_.pixel_tiles) {
        unsigned char* memory = dynamic_shared();
        shared = reinterpret_cast<Shared*>(memory + (-shared_address(memory) & 1023u));
    }

    GTC_DEVICE void begin() {
        if (threadIdx.x == 0) {
            for (int i = 0; i < STAGES; ++i) {
                barrier_init(&shared->full[i], BY_THREADS ? GROUP_THREADS : 1);
                barrier_init(&shared->empty[i], CONSUMERS * GROUP_THREADS / 32);
            }
            barrier_init_fence();
        }
        __syncthreads();
    }

    // One thread copies all, or all threads of the warpgroup load x and the first copies the weights.
    GTC_DEVICE void produce(const TensorMap& map, const T* x) {
        Turn turn;
        const int thread = static_cast<int>(threadIdx.x) % GROUP_THREADS;
        for (int index = static_cast<int>(blockIdx.x); index < tiles; index += static_cast<int>(gridDim.x)) {
            const HopperTile tile = HopperTile::of(g, index);
            const Step* step = steps_of(g, packed, tile.row_tile);
            const unsigned char* slots =
                packed + slots_begin(g) +
                (static_cast<long long>(tile.group) * g.slots + load_global(&step->slot)) * BLOCK_BYTES;
            GTC_ROLLED
            for (;; ++step) {
                const Step now = load_global(step);
                if (!now.mask) break;
                const unsigned bytes = static_cast<unsigned>(blocks_in(now.mask)) * BLOCK_BYTES;
                GTC_ROLLED
                for (int chunk = 0; chunk < g.chunks; ++chunk, slots += bytes, turn.advance()) {
                    Stage& stage = shared->stage[turn.stage];
                    Barrier* full = &shared->full[turn.stage];
                    barrier_wait(&shared->empty[turn.stage], turn.parity ^ 1);
                    if constexpr (BY_THREADS) {
                        load_box(stage, tile, now, chunk, thread, x);
                        fence_async();
                        if (thread != 0) {
                            barrier_arrive(full);
                            continue;
                        }
                    }
                    barrier_arrive_expect(full, bytes + (BY_THREADS ? 0 : X_BYTES));
                    copy_bulk(stage.weight, slots, bytes, full);
                    if constexpr (!BY_THREADS) copy_box(stage, tile, now, chunk, map, full);
                }
            }
        }
    }

    GTC_DEVICE static int blocks_in(int mask) { return (mask & 1) + (mask >> 1 & 1) + (mask >> 2 & 1) + (mask >> 3); }

    GTC_DEVICE void copy_box(Stage& stage, const HopperTile& tile, const Step& step, int chunk, const TensorMap& map,
                             Barrier* full) const {
        GTC_ROLLED
        for (int part = 0; part < (ACROSS ? BOX_PIXELS >> g.line_log2 : 1); ++part) {
            const BoxPixel first = BoxPixel::of(g, ACROSS ? part << g.line_log2 : 0);
            int at[3];
            GTC_UNROLL
            for (int a = 0; a < 3; ++a) {
                at[a] = (tile.block[a] + first.at[a]) * g.axis[a].step + step.shift[a];
            }
            const int image = tile.image + first.image;
            if constexpr (ACROSS) {
                const int to[5] = {at[2], at[1], at[0], chunk * CHUNK<T>, image * g.groups + tile.group};
                copy_tensor(stage.x + (part * LINE_BYTES << g.line_log2), map, to, full);
            } else {
                const int channel = chunk * CHUNK<T> + (g.group_axis ? 0 : tile.group * g.in_channels);
                const int to[5] = {channel, at[2], at[1], g.group_axis ? tile.group : at[0], image};
                copy_tensor(stage.x, map, to, full);
            }
        }
    }

    // A thread loads one pixel's channels of a chunk, zeros where there is none, and stores them as a swizzled line.
    GTC_DEVICE void load_box(Stage& stage, const HopperTile& tile, const Step& step, int chunk, int thread,
                             const T* x) const {
        const BoxPixel pixel = BoxPixel::of(g, thread);
        const int image = tile.image + pixel.image, channel = chunk * CHUNK<T>;
        bool inside = image < g.batch;
        long long from = static_cast<long long>(image) * g.x_batch +
                         static_cast<long long>(tile.group * g.in_channels + channel) * g.x_channel;
        GTC_UNROLL
        for (int a = 0; a < 3; ++a) {
            const int at = (tile.block[a] + pixel.at[a]) * g.axis[a].step + step.shift[a];
            inside = inside && at >= 0 && at < g.axis[a].size;
            from += static_cast<long long>(at) * g.axis[a].x_stride;
        }
        const int channels = inside ? g.in_channels - channel : 0;
        constexpr int EACH = 16 / sizeof(T);
        using Sixteen = Vector<T, EACH>;
        const T* at = x + from;
        const bool whole = LAST && g.in_channels % EACH == 0 && is_aligned<EACH>(x);
        GTC_UNROLL
        for (int part = 0; part < 8; ++part) {
            Sixteen line{};
            if (whole) {
                if (part * EACH < channels) line = load_global(reinterpret_cast<const Sixteen*>(at + part * EACH));
            } else {
                GTC_UNROLL
                for (int i = 0; i < EACH; ++i) {
                    const int k = part * EACH + i;
                    if (k < channels) line.at[i] = load_global(at + static_cast<long long>(k) * g.x_channel);
                }
            }
            Sixteen high = line;
            GTC_UNROLL
            for (int i = 0; i < EACH; ++i) high.at[i] = as_operand(line.at[i]);
            unsigned char* const to = stage.x + thread * LINE_BYTES + (part ^ thread % 8) * 16;
            store_shared(reinterpret_cast<Sixteen*>(to), high);
            if constexpr (IMAGES == 2) {
                GTC_UNROLL
                for (int i = 0; i < EACH; ++i) line.at[i] = as_operand(line.at[i] - high.at[i]);
                store_shared(reinterpret_cast<Sixteen*>(to + X_BYTES), line);
            }
        }
    }

    GTC_DEVICE void consume(const T* x, const T* weight, const T* bias, T* out) {
        Turn turn;
        const int consumer = static_cast<int>(threadIdx.x) / GROUP_THREADS - 1;
        const int thread = static_cast<int>(threadIdx.x) % GROUP_THREADS;
        const int first_block = BLOCKS == 4 ? 2 * consumer : 0, first_pixel = BLOCKS == 4 ? 0 : COLUMNS * consumer;
        const Activation activation(g.activation, g.slope);
        for (int index = static_cast<int>(blockIdx.x); index < tiles; index += static_cast<int>(gridDim.x)) {
            const HopperTile tile = HopperTile::of(g, index);
            const int block = tile.row_tile * BLOCKS + first_block;
            float sums[2][COLUMNS / 2];
            begin_sums(sums, bias ? bias + tile.group * g.out_channels : nullptr, block, thread);
            GTC_ROLLED
            for (const Step* step = steps_of(g, packed, tile.row_tile);; ++step) {
                const int mask = load_global(&step->mask);
                if (!mask) break;
                const int before = blocks_in(mask & ((1 << first_block) - 1)), own = mask >> first_block & 3;
                GTC_ROLLED
                for (int chunk = 0; chunk < g.chunks; ++chunk, turn.advance()) {
                    barrier_wait(&shared->full[turn.stage], turn.parity);
                    multiply(sums, shared->stage[turn.stage], own, before, consumer);
                    if (thread % 32 == 0) barrier_arrive(&shared->empty[turn.stage]);
                }
            }
            if constexpr (IMAGES == 2) redo_nonfinite(sums, tile, block, first_pixel, thread, x, weight, bias);
            activation.apply(sums);
            store(HopperEpilogue<T, COLUMNS>{g, tile, out, block, first_pixel, thread}, sums);
        }
    }

    GTC_DEVICE void begin_sums(float (&sums)[2][COLUMNS / 2], const T* bias, int block, int thread) const {
        int channel[2][2];
        find_channels(g, block, thread, channel);
        GTC_UNROLL
        for (int i = 0; i < 4; ++i) {
            const int m = i / 2, half = i % 2;
            const float first = bias && channel[m][half] >= 0 ? widen(load_global(bias + channel[m][half])) : 0.0f;
            GTC_UNROLL
            for (int j = 0; j < COLUMNS / 8; ++j) sums[m][4 * j + 2 * half] = sums[m][4 * j + 2 * half + 1] = first;
        }
    }

    // The parts of an infinite number, or of one that rounds to it, cancel: such sums are made by the definition.
    GTC_DEVICE void redo_nonfinite(float (&sums)[2][COLUMNS / 2], const HopperTile& tile, int block, int first_pixel,
                                   int thread, const T* x, const T* weight, const T* bias) const {
        bool finite = true;
        GTC_UNROLL
        for (int i = 0; i < COLUMNS; ++i) finite = finite && is_finite(sums[i % 2][i / 2]);
        if (finite) return;
        int channel[2][2];
        find_channels(g, block, thread, channel);
        GTC_UNROLL
        for (int i = 0; i < COLUMNS; ++i) {
            const int m = i / (COLUMNS / 2), j = i % (COLUMNS / 2), pixel = j / 4 * 8 + thread % 4 * 2 + j % 2;
            const BoxPixel p = BoxPixel::of(g, first_pixel + pixel);
            const int image = tile.image + p.image, own = channel[m][j / 2 % 2];
            if (is_finite(sums[m][j]) || own < 0 || image >= g.batch) continue;
            sums[m][j] = result_by_definition(g, x, weight, bias, image, tile.group * g.out_channels + own,
                                              tile.block[0] + p.at[0], tile.block[1] + p.at[1], tile.block[2] + p.at[2],
                                              block + m);
        }
    }

    GTC_DEVICE void multiply(float (&sums)[2][COLUMNS / 2], const Stage& stage, int own, int before,
                             int consumer) const {
        const unsigned char* x = stage.x + (BLOCKS == 4 ? 0 : consumer * COLUMNS * LINE_BYTES);
        const unsigned long long weight = matrix_descriptor(stage.weight + before * BLOCK_BYTES, 16, 1024);
        // Lines of 2 << line_log2 bytes: 64 of them are the box of a copy, 8 the pattern of a swizzle.
        const unsigned long long pixels =
            ACROSS ? matrix_descriptor(x, LINE_BYTES << g.line_log2, 16 << g.line_log2, 2 << g.line_log2)
                   : matrix_descriptor(x, 16, 1024);
        const int next = ACROSS ? 16 * 2 << g.line_log2 : 32;  // bytes to the channels of the next product
        if (own == 3) {
            multiply_blocks<0, 2>(sums, weight, pixels, next / 16);
        } else if (own == 1) {
            multiply_blocks<0, 1>(sums, weight, pixels, next / 16);
        } else if (own == 2) {
            multiply_blocks<1, 1>(sums, weight, pixels, next / 16);
        }
    }

    template <int FIRST, int COUNT>
    GTC_DEVICE static void multiply_blocks(float (&sums)[2][COLUMNS / 2], unsigned long long weight,
                                           unsigned long long pixels, int next) {
        if constexpr (IMAGES == 1) {
            add_products<FIRST, COUNT>(sums, weight, pixels, next);
        } else {
            float of_chunk[COUNT][COLUMNS / 2];
            GTC_UNROLL
            for (int i = 0; i < COUNT * COLUMNS / 2; ++i) of_chunk[i % COUNT][i / COUNT] = 0;
            add_products<0, COUNT>(of_chunk, weight, pixels, next);
            GTC_UNROLL
            for (int i = 0; i < COUNT * COLUMNS / 2; ++i) {
                sums[FIRST + i % COUNT][i / COUNT] += of_chunk[i % COUNT][i / COUNT];
            }
        }
    }

    // Of two images low times high, high times low, and high times high numbers, the small products first.
    template <int FIRST, int COUNT, int BLOCKS_OF_SUMS>
    GTC_DEVICE static void add_products(float (&sums)[BLOCKS_OF_SUMS][COLUMNS / 2], unsigned long long weight,
                                        unsigned long long pixels, int next) {
        group_fence();
        GTC_UNROLL
        for (int i = IMAGES == 2 ? 2 : 0; i >= 0; --i) {
            const int low_weight = i == 2 ? SLOT_BYTES : 0, low_pixels = i == 1 ? X_BYTES : 0;
            GTC_UNROLL
            for (int k = 0; k < LINE_BYTES / 32; ++k) {
                GTC_UNROLL
                for (int m = 0; m < COUNT; ++m) {
                    group_multiply<T, COLUMNS, ACROSS>(sums[FIRST + m],
                                                       weight + (k * 32 + m * BLOCK_BYTES + low_weight) / 16,
                                                       pixels + k * next + low_pixels / 16);
                }
            }
        }
        group_commit();
        group_wait<0>();
    }

    GTC_DEVICE void store(const HopperEpilogue<T, COLUMNS>& epilogue, const float (&sums)[2][COLUMNS / 2]) const {
        const int together = is_aligned<4>(epilogue.out) ? g.together : APART;
        if constexpr (LAST) {
            if (together == CHANNELS_2) return epilogue.template store_all<CHANNELS_2>(sums);
        }
        if constexpr (!LAST) {
            if (together == UNITS_PIXELS) return epilogue.template store_all<UNITS_PIXELS>(sums);
            if (together == UNITS_2) return epilogue.template store_all<UNITS_2>(sums);
            if (together == PIXELS_2) return epilogue.template store_all<PIXELS_2>(sums);
        }
        epilogue.template store_all<APART>(sums);
    }
};

}  // namespace gtc
