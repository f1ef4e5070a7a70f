// Which tile of the product a block computes.
#pragma once

#include "geometry.cuh"

namespace gtc {

template <class Index>
struct ScheduledTile {
    Index phase, row_tile, group, pixel_tile;

    // Phases are innermost: those of the same pixels run side by side, share x in the cache, and fill whole lines.
    GTC_DEVICE static ScheduledTile of(Index block, const Geometry<Index>& g, Index row_tiles) {
        const Index phases = g.axis[0].phase_count * g.axis[1].phase_count * g.axis[2].phase_count;
        ScheduledTile tile;
        tile.phase = block % phases;
        block /= phases;
        tile.row_tile = block % row_tiles;
        block /= row_tiles;
        tile.group = block % g.groups;
        tile.pixel_tile = block / g.groups;
        return tile;
    }
};

}  // namespace gtc
