// Index arithmetic, with the names of problem/axis.py: output o = stride*b + phase, input i = b + shift.
//
// The taps of a phase are an arithmetic progression, so no table is needed. With g = gcd(stride, dilation), tap k
// reaches phase r where k*dilation = r + pad_low modulo stride: only if g divides r + pad_low, first for
//     k0 = ((r + pad_low)/g * tap_inverse) mod tap_step,
// where tap_step = stride/g and tap_inverse = (dilation/g)^-1 mod tap_step,
// then for every tap_step-th tap, whose shift is shift_step = dilation/g less each time.
#pragma once

#include "primitives.cuh"

namespace gtc {

// Axis of problem/axis.py, and AxisFrame of problem/product.py: one axis of a product all of whose units (phases, or
// taps) are rows because they share their inputs. Pixel b < frame_count reads input b + frame_shift - j*shift_step for
// tap j < frame_taps, and its unit u lies at output stride*b + frame_out + u*frame_unit_step.
template <class Index>
struct Axis {
    Index size, output_size, kernel, stride, dilation, pad_low;
    Index phase_count, common, tap_step, shift_step, tap_inverse;
    // Hold where the geometry has a single frame, and then there is one phase.
    Index frame_units, frame_unit_step, frame_count, frame_taps, frame_shift, frame_out;
    Index x_step;  // how far apart neighbouring pixels read x: 1, but in the gradient by x the stride
    Index x_stride, y_stride;
};

// Results that are stored at once where so many lie together: 16 bytes, and four at most.
template <int BYTES>  // of a result in the output
constexpr int RUN_OF = BYTES <= 4   ? 4
                       : BYTES <= 8 ? 2
                                    : 1;

template <class Index>
struct Geometry {
    Axis<Index> axis[3];
    Index batch, groups, in_channels, out_channels;  // channels of one group
    Index x_batch, x_channel, y_batch, y_channel;
    Index weight_in, weight_out;  // steps of the weights as the caller has them, by input and by output channel
    Index rows, row_pitch;        // output channels times units, and as packed
    Index pixels_first;           // not 0: row = channel*units + unit; else row = unit*out_channels + channel
    Index single_frame;           // not 0: the frame_ members hold, phases are not enumerated
    Index is_cut_off;             // not 0: some pixel's unit lies outside the output
    Index run_units;              // not 0: results lie in runs of RUN_OF, so many units of some pixels
    double slope;
    int activation;
};

template <class Index>
struct UnsignedOf {
    using type = unsigned long long;
};
template <>
struct UnsignedOf<int> {
    using type = unsigned;
};
template <class Index>
using Unsigned = typename UnsignedOf<Index>::type;

template <class Index>
GTC_DEVICE bool is_within(Index i, Index size) {
    return static_cast<Unsigned<Index>>(i) < static_cast<Unsigned<Index>>(size);
}

// Rounded up, a sum a + b - 1 that is not negative; divisions without a sign take a third less.
template <class Index>
GTC_DEVICE Index divide_up(Index a, Index b) {
    return static_cast<Index>((static_cast<Unsigned<Index>>(a) + b - 1) / static_cast<Unsigned<Index>>(b));
}

template <class Index>
GTC_DEVICE Index floor_divide(Index a, Index b) {
    return a >= 0 ? a / b : -((-a + b - 1) / b);
}

// One phase on one axis: pixel b < count reads input b + shift - j*shift_step for tap k0 + j*tap_step, j < taps,
// and lies at output stride*b + out.
template <class Index>
struct PhaseLine {
    Index count, taps, first_tap, shift, out;
};

template <class Index>
GTC_DEVICE PhaseLine<Index> phase_line(const Axis<Index>& axis, Index phase, bool single_frame) {
    if (single_frame) return {axis.frame_count, axis.frame_taps, 0, axis.frame_shift, axis.frame_out};
    PhaseLine<Index> line{divide_up(axis.output_size - phase, axis.stride), 0, 0, 0, phase};
    const Unsigned<Index> reach = phase + axis.pad_low;
    if (reach % axis.common) return line;
    line.first_tap = reach / axis.common % axis.tap_step * axis.tap_inverse % axis.tap_step;
    if (line.first_tap >= axis.kernel) return line;
    line.taps = divide_up(axis.kernel - line.first_tap, axis.tap_step);
    line.shift = (static_cast<Index>(reach) - line.first_tap * axis.dilation) / axis.stride;  // exact
    return line;
}

// One phase of all axes.
template <class Index>
struct PhaseLines {
    PhaseLine<Index> axis[3];
    Index pixels;  // of the whole batch
    Index taps;
};

template <class Index>
GTC_DEVICE PhaseLines<Index> phase_lines(const Geometry<Index>& g, Index phase) {
    PhaseLines<Index> lines;
    lines.pixels = g.batch;
    lines.taps = 1;
    GTC_UNROLL
    for (int a = 2; a >= 0; --a) {
        const Index count = g.axis[a].phase_count;
        lines.axis[a] = phase_line(g.axis[a], static_cast<Index>(phase % count), g.single_frame != 0);
        phase /= count;
        lines.pixels *= lines.axis[a].count;
        lines.taps *= lines.axis[a].taps;
    }
    return lines;
}

// Where a pixel reads and writes; `at` is, on each axis, its block times x_step.
template <class Index>
struct Pixel {
    Index at[3];
    Index x, y;
};

template <class Index>
GTC_DEVICE Pixel<Index> pixel_of(const Geometry<Index>& g, const PhaseLines<Index>& lines, Index index) {
    Pixel<Index> pixel;
    pixel.x = pixel.y = 0;
    GTC_UNROLL
    for (int a = 2; a >= 0; --a) {
        const Index next = index / lines.axis[a].count;
        const Index b = index - next * lines.axis[a].count;
        index = next;
        pixel.at[a] = b * g.axis[a].x_step;
        pixel.x += pixel.at[a] * g.axis[a].x_stride;
        pixel.y += (b * g.axis[a].stride + lines.axis[a].out) * g.axis[a].y_stride;
    }
    pixel.x += index * g.x_batch;
    pixel.y += index * g.y_batch;
    return pixel;
}

// Which tap of a phase, counted on each axis, the last axis fastest.
template <class Index>
struct TapCount {
    Index j[3];

    GTC_DEVICE static TapCount of(const PhaseLines<Index>& lines, Unsigned<Index> index) {
        TapCount count;
        GTC_UNROLL
        for (int a = 2; a > 0; --a) {
            const auto taps = static_cast<Unsigned<Index>>(lines.axis[a].taps), next = index / taps;
            count.j[a] = static_cast<Index>(index - next * taps);
            index = next;
        }
        count.j[0] = static_cast<Index>(index);
        return count;
    }

    GTC_DEVICE void advance(const PhaseLines<Index>& lines) {
        if (++j[2] < lines.axis[2].taps) return;
        j[2] = 0;
        if (++j[1] < lines.axis[1].taps) return;
        j[1] = 0;
        ++j[0];
    }
};

// The tap of a phase, as shifts of its three axes and as the offset of the inputs it reads.
template <class Index>
struct Tap {
    Index shift[3];
    Index x;       // offset of the input from the pixel's
    Index packed;  // position among the packed taps
};

template <class Index>
GTC_DEVICE Tap<Index> tap_of(const Geometry<Index>& g, const PhaseLines<Index>& lines, const TapCount<Index>& count) {
    Tap<Index> tap;
    tap.x = tap.packed = 0;
    GTC_UNROLL
    for (int a = 0; a < 3; ++a) {
        const Axis<Index>& axis = g.axis[a];
        const PhaseLine<Index>& line = lines.axis[a];
        tap.shift[a] = line.shift - count.j[a] * axis.shift_step;
        tap.x += tap.shift[a] * axis.x_stride;
        tap.packed = g.single_frame ? tap.packed * axis.frame_taps + count.j[a]
                                    : tap.packed * axis.kernel + line.first_tap + count.j[a] * axis.tap_step;
    }
    return tap;
}

template <class Index>
GTC_DEVICE bool is_inside(const Geometry<Index>& g, const Pixel<Index>& pixel, const Tap<Index>& tap) {
    bool inside = true;
    GTC_UNROLL
    for (int a = 0; a < 3; ++a) {
        inside = inside && is_within(pixel.at[a] + tap.shift[a], g.axis[a].size);
    }
    return inside;
}

// Units as bits, those of each axis beside those of the next, the last axis' first: of which a row is, and for which of
// them a pixel has an output. The last bit, which no pixel has, is that of rows beyond the last. Where there are too
// many units for that, a pixel has all other bits, and outputs are compared axis by axis.
constexpr int UNIT_BITS = 31;
constexpr uint32_t NO_ROW = uint32_t(1) << UNIT_BITS;

template <class Index>
GTC_DEVICE bool units_are_bits(const Geometry<Index>& g) {
    return g.axis[0].frame_units + g.axis[1].frame_units + g.axis[2].frame_units <= UNIT_BITS;
}

template <class Index>
GTC_DEVICE uint32_t units_of_pixel(const Geometry<Index>& g, const PhaseLines<Index>& lines,
                                   const Pixel<Index>& pixel) {
    if (!g.is_cut_off || !units_are_bits(g)) return NO_ROW - 1;
    uint32_t units = 0, bit = 1;
    GTC_UNROLL
    for (int a = 2; a >= 0; --a) {
        Index o = pixel.at[a] * g.axis[a].stride + lines.axis[a].out;
        for (Index u = 0; u < g.axis[a].frame_units; ++u, bit <<= 1, o += g.axis[a].frame_unit_step) {
            if (is_within(o, g.axis[a].output_size)) units |= bit;
        }
    }
    return units;
}

// A row of the product, an output channel and a unit on each axis: where it writes.
template <class Index>
struct alignas(16) Row {
    Index out[3];  // after the pixel's output
    Index y;
};

template <class Index>
GTC_DEVICE Row<Index> row_of(const Geometry<Index>& g, Index index, Index& channel, uint32_t& bits) {
    Row<Index> row;
    Index bit = 0;
    bits = 0;
    const Index units = g.axis[0].frame_units * g.axis[1].frame_units * g.axis[2].frame_units;
    channel = g.pixels_first ? index / units : index % g.out_channels;
    Index unit = g.pixels_first ? index % units : index / g.out_channels;
    row.y = channel * g.y_channel;
    GTC_UNROLL
    for (int a = 2; a >= 0; --a) {
        const Index next = unit / g.axis[a].frame_units, own = unit - next * g.axis[a].frame_units;
        row.out[a] = own * g.axis[a].frame_unit_step;
        bits |= uint32_t(1) << ((bit + own) % UNIT_BITS);
        bit += g.axis[a].frame_units;
        unit = next;
        row.y += row.out[a] * g.axis[a].y_stride;
    }
    return row;
}

// Packed weights, [group][tap][input channel][row], begin with this header; `nonfinite` is not 0 where some weight is
// infinite or NaN. Then a tap that reads outside the input must be left out: times the zero that stands for it, it
// would be NaN.
struct PackedHeader {
    uint32_t nonfinite;
    uint32_t reserved[63];
};

template <class Index>
GTC_DEVICE Index packed_taps(const Geometry<Index>& g) {
    Index taps = 1;
    GTC_UNROLL
    for (int a = 0; a < 3; ++a) taps *= g.single_frame ? g.axis[a].frame_taps : g.axis[a].kernel;
    return taps;
}

}  // namespace gtc
