// What moves the operands of one product tile from global to shared memory.
//
// A tile is rows (output channels, or channels and units) by pixels; the reduction runs over taps and, within a
// tap, input channels, DEPTH of them at a time: one chunk.
#pragma once

#include "geometry.cuh"
#include "numbers.cuh"

namespace gtc {

// How x lies in memory, and how it is read: channels_first or channels_last, by element or 16 bytes at a time.
enum Input { PLANES, PIXELS, PLANES_16, PIXELS_16 };

template <class T>
GTC_DEVICE void copy_async(T* shared, const T* global, bool valid) {
    if constexpr (sizeof(T) == 16) copy_async_16(shared, global, valid);
    if constexpr (sizeof(T) == 8) copy_async_8(shared, global, valid);
    if constexpr (sizeof(T) == 4) copy_async_4(shared, global, valid);
}

// Weights [tap][channel][row], rows padded to 16 bytes: 16 bytes a copy, into shared memory [DEPTH][PITCH].
// Through registers where the type changes: half types that are multiplied as float32.
template <class T, class S, int ROWS, int DEPTH, int PITCH, int THREADS, class Index>
struct WeightLoader {
    static constexpr int WIDTH = 16 / sizeof(T);
    static constexpr int PER_CHANNEL = ROWS / WIDTH;
    static constexpr int ITEMS = (DEPTH * PER_CHANNEL + THREADS - 1) / THREADS;
    static constexpr bool EXACT = DEPTH * PER_CHANNEL % THREADS == 0;
    static constexpr bool DIRECT = sizeof(T) == sizeof(S);

    const T* weight;  // of this group, from the tile's first row on
    Index rows_left, pitch, channels;
    Vector<T, WIDTH> held[DIRECT ? 1 : ITEMS];

    GTC_DEVICE static int channel(int i) { return (threadIdx.x + i * THREADS) / PER_CHANNEL; }
    GTC_DEVICE static int row(int i) { return (threadIdx.x + i * THREADS) % PER_CHANNEL * WIDTH; }

    GTC_DEVICE void fetch(S* to, Index packed_tap, Index first_channel) {
        const T* chunk = weight + (packed_tap * channels + first_channel) * pitch;
        const Index left = channels - first_channel;
        GTC_UNROLL
        for (int i = 0; i < ITEMS; ++i) {
            const int k = channel(i), m = row(i);
            if (!EXACT && k >= DEPTH) break;
            const bool valid = k < left && m < rows_left;
            const T* from = chunk + (k * pitch + m);
            if constexpr (DIRECT) {
                copy_async_16(to + k * PITCH + m, valid ? from : weight, valid);
            } else {
                held[i] = valid ? load_global(reinterpret_cast<const Vector<T, WIDTH>*>(from)) : Vector<T, WIDTH>{};
            }
        }
    }

    GTC_DEVICE void flush(S* to) {
        if constexpr (!DIRECT) {
            GTC_UNROLL
            for (int i = 0; i < ITEMS; ++i) {
                if (!EXACT && channel(i) >= DEPTH) break;
                S* at = to + channel(i) * PITCH + row(i);
                GTC_UNROLL
                for (int j = 0; j < WIDTH; ++j) store_shared(at + j, static_cast<S>(widen(held[i].at[j])));
            }
        }
    }
};

// Pixels of x for the current tap, zero where the tap reads outside the input. In shared memory [DEPTH][PITCH], or
// [PIXELS][PITCH] with the channels together where BY_PIXEL. A thread keeps the same pixels all along, so that it
// works out where they lie once per tap.
template <class T, class S, int PIXELS_PER_TILE, int DEPTH, int PITCH, int THREADS, Input INPUT, bool BY_PIXEL,
          class Index>
struct InputLoader {
    static constexpr int WIDTH = INPUT == PLANES_16 || INPUT == PIXELS_16 ? 16 / sizeof(T) : 1;
    static constexpr bool ALONG_PIXELS = INPUT == PLANES || INPUT == PLANES_16;
    static constexpr int PIXEL_STEPS = ALONG_PIXELS ? PIXELS_PER_TILE / WIDTH : PIXELS_PER_TILE;
    static constexpr int CHANNEL_STEPS = ALONG_PIXELS ? DEPTH : DEPTH / WIDTH;
    static constexpr int PIXEL_LANES = ALONG_PIXELS ? (PIXEL_STEPS < THREADS ? PIXEL_STEPS : THREADS)
                                                    : (CHANNEL_STEPS < THREADS ? THREADS / CHANNEL_STEPS : 1);
    static constexpr int CHANNEL_LANES = THREADS / PIXEL_LANES;
    static constexpr int SLOTS = (PIXEL_STEPS + PIXEL_LANES - 1) / PIXEL_LANES;
    static constexpr int TURNS = (CHANNEL_STEPS + CHANNEL_LANES - 1) / CHANNEL_LANES;
    static constexpr bool EXACT = PIXEL_STEPS % PIXEL_LANES == 0 && CHANNEL_STEPS % CHANNEL_LANES == 0;
    static constexpr bool SAME_ORDER = WIDTH == 1 || ALONG_PIXELS != BY_PIXEL;  // together in shared memory too
    static constexpr bool DIRECT = sizeof(T) == sizeof(S) && sizeof(T) * WIDTH >= 4 && SAME_ORDER;

    const T* x;  // of this group
    Index channel_stride, channels;
    Index offset[SLOTS];  // of the slot's pixel for the current tap; below 0 outside the input
    Vector<T, WIDTH> held[DIRECT ? 1 : SLOTS * TURNS];

    GTC_DEVICE static int pixel(int slot) {
        const int lane = ALONG_PIXELS ? threadIdx.x % PIXEL_LANES : threadIdx.x / CHANNEL_LANES;
        return (lane + slot * PIXEL_LANES) * (ALONG_PIXELS ? WIDTH : 1);
    }

    GTC_DEVICE static int channel(int turn) {
        const int lane = ALONG_PIXELS ? threadIdx.x / PIXEL_LANES : threadIdx.x % CHANNEL_LANES;
        return (lane + turn * CHANNEL_LANES) * (ALONG_PIXELS ? 1 : WIDTH);
    }

    GTC_DEVICE static bool covers(int slot, int turn) {
        return EXACT || (pixel(slot) < PIXELS_PER_TILE && channel(turn) < DEPTH);
    }

    GTC_DEVICE static S* place(S* to, int slot, int turn) {
        return BY_PIXEL ? to + pixel(slot) * PITCH + channel(turn) : to + channel(turn) * PITCH + pixel(slot);
    }

    // Takes up a tap: where each pixel of this thread reads x.
    GTC_DEVICE void select(const Geometry<Index>& g, const Pixel<Index>* pixels, const Tap<Index>& tap) {
        GTC_UNROLL
        for (int slot = 0; slot < SLOTS; ++slot) {
            offset[slot] = -1;
            if (!EXACT && pixel(slot) >= PIXELS_PER_TILE) continue;
            const Pixel<Index> at = load_shared(pixels + pixel(slot));
            if (is_inside(g, at, tap)) offset[slot] = at.x + tap.x;
        }
    }

    // Begins the copies of one chunk to shared memory, or reads it into registers, for `flush` to put there.
    GTC_DEVICE void fetch(S* to, Index first_channel) {
        using Block = Vector<T, WIDTH>;
        constexpr int CHANNELS = CHANNEL_LANES * (ALONG_PIXELS ? 1 : WIDTH);  // from one turn to the next
        Index left = channels - first_channel - channel(0);
        keep(left);
        const Index first = (first_channel + channel(0)) * channel_stride, step = CHANNELS * channel_stride;
        GTC_UNROLL
        for (int slot = 0; slot < SLOTS; ++slot) {
            GTC_UNROLL
            for (int turn = 0; turn < TURNS; ++turn) {
                if (!covers(slot, turn)) continue;
                const bool valid = offset[slot] >= 0 && turn * CHANNELS < left;
                const T* from = x + (offset[slot] + first + turn * step);
                if constexpr (DIRECT) {
                    copy_async(reinterpret_cast<Block*>(place(to, slot, turn)),
                               reinterpret_cast<const Block*>(valid ? from : x), valid);
                } else {
                    held[slot * TURNS + turn] = valid ? load_global(reinterpret_cast<const Block*>(from)) : Block{};
                }
            }
        }
    }

    GTC_DEVICE void flush(S* to) {
        if constexpr (!DIRECT) {
            GTC_UNROLL
            for (int slot = 0; slot < SLOTS; ++slot) {
                GTC_UNROLL
                for (int turn = 0; turn < TURNS; ++turn) {
                    if (covers(slot, turn)) put(place(to, slot, turn), held[slot * TURNS + turn]);
                }
            }
        }
    }

    GTC_DEVICE static void put(S* to, const Vector<T, WIDTH>& values) {
        constexpr int STEP = SAME_ORDER ? 1 : PITCH;
        GTC_UNROLL
        for (int i = 0; i < WIDTH; ++i) {
            if constexpr (sizeof(T) == sizeof(S)) {
                store_shared(to + i * STEP, values.at[i]);
            } else {
                store_shared(to + i * STEP, static_cast<S>(widen(values.at[i])));
            }
        }
    }
};

}  // namespace gtc
