// Scatter into boxes of the output that have one owner each: deterministic, without atomics.
//
// A block owns some channels of a box of outputs. It goes through the inputs whose stamps reach that box, makes their
// stamps (the product of scatter.cuh) in shared memory, and then each owned output collects what falls on it.
#pragma once

#include "epilogue.cuh"

namespace gtc {

// How the output is cut, OwnedBoxes of owned_boxes.py: sizes of an owner's box of outputs and of the boxes of inputs it
// goes through, how many boxes the output has on each axis, the channels of an owner, and how many blocks of channels
// a group has.
template <class Index>
struct OwnedBoxes {
    Index outputs[3], inputs[3], boxes[3], channels, channel_blocks;
};

// The block that owns a box. Its sums lie in shared memory, one per owned channel and output; a thread adds to every
// THREADS-th of them, so that only one thread ever writes a sum.
template <class Tile, class Index>
struct BoxOwner : Mainloop<Tile, Index> {
    using Result = typename Tile::Result;
    using Base = Mainloop<Tile, Index>;
    using Base::Base;

    const OwnedBoxes<Index>* owned;
    Index batch, channel, channels;     // owned channels: [channel, channel + channels) of the group
    Index first_output[3], outputs[3];  // owned outputs: the first, and how many there are
    Index box[3], box_end[3];           // inputs at hand
    Result* sums;                       // [channel][output]

    // Works out which channels and outputs of which group and image block `index` owns.
    GTC_DEVICE void locate(Index index) {
        channel = index % owned->channel_blocks * owned->channels;
        index /= owned->channel_blocks;
        channels = owned->channels < this->g.out_channels - channel ? owned->channels : this->g.out_channels - channel;
        GTC_UNROLL
        for (int a = 2; a >= 0; --a) {
            first_output[a] = index % owned->boxes[a] * owned->outputs[a];
            index /= owned->boxes[a];
            const Index left = this->g.axis[a].output_size - first_output[a];
            outputs[a] = left < owned->outputs[a] ? left : owned->outputs[a];
        }
        this->group = index % this->g.groups;
        batch = index / this->g.groups;
    }

    // First and last input on an axis whose stamp reaches the owned outputs.
    GTC_DEVICE Index first_input(int a) const {
        const Axis<Index>& axis = this->g.axis[a];
        const Index least = first_output[a] + axis.pad_low - (axis.kernel - 1) * axis.dilation;
        return least <= 0 ? 0 : (least + axis.stride - 1) / axis.stride;
    }
    GTC_DEVICE Index end_input(int a) const {
        const Axis<Index>& axis = this->g.axis[a];
        const Index most = (first_output[a] + outputs[a] - 1 + axis.pad_low) / axis.stride + 1;
        return most < axis.size ? most : axis.size;
    }

    // Which pixel of the tile an input at hand is.
    GTC_DEVICE Index pixel_at(Index d, Index h, Index w) const {
        return ((d - box[0]) * owned->inputs[1] + h - box[1]) * owned->inputs[2] + w - box[2];
    }

    // Writes the tile's table of pixels in shared memory: the inputs at hand; a barrier has to follow.
    GTC_DEVICE void fill_box() {
        for (int n = threadIdx.x; n < Tile::PIXELS_PER_TILE; n += Tile::THREADS) {
            Pixel<Index> pixel{{0, 0, 0}, batch * this->g.x_batch, 0};
            Index rest = n;
            bool in_box = true;
            GTC_UNROLL
            for (int a = 2; a >= 0; --a) {
                pixel.at[a] = box[a] + rest % owned->inputs[a];
                rest /= owned->inputs[a];
                pixel.x += pixel.at[a] * this->g.axis[a].x_stride;
                in_box = in_box && pixel.at[a] < box_end[a];
            }
            store_shared(this->storage->pixel + n, in_box && !rest ? pixel : Base::no_pixel());
        }
    }

    // Of the taps that reach output o on an axis, those whose input is at hand: first tap, first input, count.
    GTC_DEVICE PhaseLine<Index> taps_at(int a, Index o) const {
        const Axis<Index>& axis = this->g.axis[a];
        const Index phase = o % axis.stride;
        PhaseLine<Index> line = phase_line(axis, phase, false);
        line.shift += (o - phase) / axis.stride;  // now the input of the first tap
        if (!line.taps) return line;
        const Index above = line.shift - (box_end[a] - 1), step = axis.shift_step;
        const Index skip = above > 0 ? (above + step - 1) / step : 0;
        const Index reach = floor_divide<Index>(line.shift - box[a], step) + 1;
        line.taps = (reach < line.taps ? reach : line.taps) - skip;
        line.first_tap += skip * axis.tap_step;
        line.shift -= skip * step;
        return line;
    }

    // Clears the owned sums; a barrier has to follow.
    GTC_DEVICE void clear_sums() {
        for (Index e = threadIdx.x; e < channels * outputs[0] * outputs[1] * outputs[2]; e += Tile::THREADS) {
            store_shared(sums + e, zero<Result>());
        }
    }

    // Adds to every owned sum what the stamps of one slab of rows, which lie in shared memory, bring to it: tap by tap,
    // in an order that depends on nothing but the problem.
    GTC_DEVICE void collect(int slab) {
        const Index volume = outputs[0] * outputs[1] * outputs[2];
        const Axis<Index>&d = this->g.axis[0], &h = this->g.axis[1], &w = this->g.axis[2];
        const Index begin = this->first_row + slab * Tile::SLAB_ROWS;
        for (Index e = threadIdx.x; e < channels * volume; e += Tile::THREADS) {
            const Index at = e % volume, c = channel + e / volume;
            const PhaseLine<Index> lw = taps_at(2, first_output[2] + at % outputs[2]);
            const PhaseLine<Index> lh = taps_at(1, first_output[1] + at / outputs[2] % outputs[1]);
            const PhaseLine<Index> ld = taps_at(0, first_output[0] + at / outputs[2] / outputs[1]);
            Result sum = load_shared(sums + e);
            for (Index i = 0; i < ld.taps; ++i) {
                for (Index j = 0; j < lh.taps; ++j) {
                    const Index row =
                        ((c * d.kernel + ld.first_tap + i * d.tap_step) * h.kernel + lh.first_tap + j * h.tap_step) *
                            w.kernel +
                        lw.first_tap - begin;
                    const Index pixel = pixel_at(ld.shift - i * d.shift_step, lh.shift - j * h.shift_step, lw.shift);
                    for (Index k = 0; k < lw.taps; ++k) {
                        const Index r = row + k * w.tap_step;
                        if (r < 0 || r >= Tile::SLAB_ROWS) continue;
                        const int at = Tile::template place<true>(r, pixel - k * w.shift_step);
                        sum = add(sum, load_shared(staged_results(*this).results + at));
                    }
                }
            }
            store_shared(sums + e, sum);
        }
    }

    // Makes the stamps of the inputs at hand, all rows of the owned channels, and adds them to the owned sums.
    GTC_DEVICE void stamp() {
        fill_box();
        __syncthreads();
        const Index units = this->g.rows / this->g.out_channels;
        // From a row that is aligned to 16 bytes; rows of other channels are made too, and not used.
        for (Index row = channel * units / 8 * 8; row < (channel + channels) * units; row += Tile::ROWS) {
            this->first_row = row;
            Tile tile;
            tile.clear();
            this->sum_chunks(tile, 0, this->chunks_per_tap());
            GTC_UNROLL
            for (int slab = 0; slab < Tile::SLABS; ++slab) {
                tile.template stage_results<true>(slab, staged_results(*this).results);
                __syncthreads();
                collect(slab);
                __syncthreads();
            }
        }
    }

    // Goes through all boxes of inputs whose stamps reach the owned outputs.
    GTC_DEVICE void stamp_all() {
        Index first[3], end[3];
        GTC_UNROLL
        for (int a = 0; a < 3; ++a) first[a] = first_input(a), end[a] = end_input(a);
        for (Index d = first[0]; d < end[0]; d += owned->inputs[0]) {
            for (Index h = first[1]; h < end[1]; h += owned->inputs[1]) {
                for (Index w = first[2]; w < end[2]; w += owned->inputs[2]) {
                    const Index at[3] = {d, h, w};
                    GTC_UNROLL
                    for (int a = 0; a < 3; ++a) {
                        box[a] = at[a];
                        box_end[a] = at[a] + owned->inputs[a] < end[a] ? at[a] + owned->inputs[a] : end[a];
                    }
                    stamp();
                }
            }
        }
    }

    // Reads the owned sums, and writes the owned outputs: bias, activation, one rounding.
    template <class T>
    GTC_DEVICE void write(const T* bias, T* to) const {
        const Geometry<Index>& g = this->g;
        const Index volume = outputs[0] * outputs[1] * outputs[2];
        const bool channels_last = g.y_channel == 1;
        for (Index e = threadIdx.x; e < channels * volume; e += Tile::THREADS) {
            const Index at = channels_last ? e / channels : e % volume, c = channels_last ? e % channels : e / volume;
            const Index all = this->group * g.out_channels + channel + c;
            const Index o[3] = {first_output[0] + at / outputs[2] / outputs[1],
                                first_output[1] + at / outputs[2] % outputs[1], first_output[2] + at % outputs[2]};
            Index y = batch * g.y_batch + all * g.y_channel;
            GTC_UNROLL
            for (int a = 0; a < 3; ++a) y += o[a] * g.axis[a].y_stride;
            const Result b = bias ? widen(load_global(bias + all)) : zero<Result>();
            store_global(to + y, finish<T>(load_shared(sums + c * volume + at), b, g.activation, g.slope));
        }
    }
};

// A block owns one box of outputs for some channels, whose sums it has in shared memory beyond the work of the tile,
// and writes each of them once.
template <class Tile, class Index>
GTC_GLOBAL GTC_LAUNCH_BOUNDS(Tile::THREADS, 1)
    scatter_owned(const GTC_GRID_CONSTANT Geometry<Index> g, const GTC_GRID_CONSTANT OwnedBoxes<Index> owned,
                  const typename Tile::Element* x, const unsigned char* packed, const typename Tile::Element* bias,
                  typename Tile::Element* out) {
    using T = typename Tile::Element;
    using Result = typename Tile::Result;
    BoxOwner<Tile, Index> owner(g, 0, 0, 0, x, reinterpret_cast<const T*>(packed + sizeof(PackedHeader)), 1);
    owner.set_phase(0);
    owner.owned = &owned;
    owner.locate(blockIdx.x);
    owner.x = x + owner.group * g.in_channels * g.x_channel;
    owner.weight += owner.group * g.in_channels * g.row_pitch;
    owner.sums = reinterpret_cast<Result*>(owner.work + Sizes<Tile>::WORK);
    owner.clear_sums();
    owner.stamp_all();
    __syncthreads();
    owner.write(bias, out);
}

}  // namespace gtc
