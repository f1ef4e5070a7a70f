// What moves the operands of the gradient by the weight to shared memory: channels of x and of grad_output at a chunk's
// pixels.
//
// The reduction runs over pixels, those of all images in a row, DEPTH of them at a time. For one tap a pixel of x meets
// one output; where that is cut off, both operands are zero, so that nothing is multiplied that is not there.
#pragma once

#include "geometry.cuh"
#include "loaders.cuh"

namespace gtc {

// Where a pixel of x and its output for a tap lie; -1 where either does not exist.
template <class Index>
struct alignas(2 * sizeof(Index)) Meeting {
    Index x, y;
};

template <class Index>
GTC_DEVICE Meeting<Index> meeting_of(const Geometry<Index>& g, const Index (&tap)[3], Index pixel) {
    Meeting<Index> at{0, 0};
    bool inside = true;
    GTC_UNROLL
    for (int a = 2; a >= 0; --a) {
        const Axis<Index>& axis = g.axis[a];
        const Index next = pixel / axis.size, i = pixel - next * axis.size;
        const Index o = i * axis.stride - axis.pad_low + tap[a] * axis.dilation;
        pixel = next;
        inside = inside && o >= 0 && o < axis.output_size;
        at.x += i * axis.x_stride;
        at.y += o * axis.y_stride;
    }
    at.x += pixel * g.x_batch;
    at.y += pixel * g.y_batch;
    return inside && pixel < g.batch ? at : Meeting<Index>{-1, -1};
}

// COUNT channels of one operand, from the tile's first on, to shared memory [DEPTH][PITCH]. Neighbouring threads take
// what lies together in memory: pixels (PLANES), channels (PIXELS), or 16 bytes of channels (PIXELS_16).
template <class T, class S, int COUNT, int DEPTH, int PITCH, int THREADS, Input INPUT, bool TF32, class Index>
struct PanelLoader {
    static constexpr int WIDTH = INPUT == PIXELS_16 ? 16 / sizeof(T) : 1;
    static constexpr int PER_PIXEL = COUNT / WIDTH;
    static constexpr int ITEMS = (DEPTH * PER_PIXEL + THREADS - 1) / THREADS;
    static constexpr bool EXACT = DEPTH * PER_PIXEL % THREADS == 0;

    const T* from;  // of the tile's first channel
    Index channel_stride, channels;
    alignas(16) Vector<T, WIDTH> held[ITEMS];

    GTC_DEVICE static int element(int i) { return threadIdx.x + i * THREADS; }
    GTC_DEVICE static int pixel(int i) { return INPUT == PLANES ? element(i) % DEPTH : element(i) / PER_PIXEL; }
    GTC_DEVICE static int channel(int i) {
        return INPUT == PLANES ? element(i) / DEPTH : element(i) % PER_PIXEL * WIDTH;
    }

    // Reads one chunk into registers; `offset_of(pixel)` is where a pixel lies, or below 0.
    template <class Offset>
    GTC_DEVICE void fetch(Offset offset_of) {
        using Block = Vector<T, WIDTH>;
        GTC_UNROLL
        for (int i = 0; i < ITEMS; ++i) {
            if (!EXACT && element(i) >= DEPTH * PER_PIXEL) break;
            const Index at = offset_of(pixel(i));
            const bool valid = at >= 0 && channel(i) < channels;
            const T* source = from + (at + channel(i) * channel_stride);
            held[i] = valid ? load_global(reinterpret_cast<const Block*>(source)) : Block{};
        }
    }

    // Puts what was read into shared memory.
    GTC_DEVICE void flush(S* to) const {
        GTC_UNROLL
        for (int i = 0; i < ITEMS; ++i) {
            if (!EXACT && element(i) >= DEPTH * PER_PIXEL) break;
            S* at = to + pixel(i) * PITCH + channel(i);
            GTC_UNROLL
            for (int j = 0; j < WIDTH; ++j) {
                if constexpr (TF32) {
                    store_shared(at + j, round_to_tf32(held[i].at[j]));
                } else if constexpr (sizeof(T) == sizeof(S)) {
                    store_shared(at + j, held[i].at[j]);
                } else {
                    store_shared(at + j, static_cast<S>(widen(held[i].at[j])));
                }
            }
        }
    }
};

}  // namespace gtc
