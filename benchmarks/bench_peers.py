"""The package against the other libraries that are installed."""

from __future__ import annotations

from typing import Any

from .harness import LAYERS, PEERS, TIMEOUT, Rows, entry_of, prepared, rows_of


class Ratio:
    """Time of a library over the time of the prepared operator, in turns in one process; above one, it is slower."""

    params = (tuple(PEERS), LAYERS)
    param_names = ("library", "layer")
    timeout = TIMEOUT

    def setup_cache(self) -> Rows:
        return rows_of({"prepared": prepared(), **PEERS}, LAYERS, seconds=1.0)

    setup_cache.timeout = TIMEOUT

    def setup(self, rows: Rows, library: str, layer: str) -> None:
        row = rows[layer, "float32"]
        self.times = [float(entry_of(row, name)["min_ms"]) for name in (library, "prepared")]

    def track_ratio(self, *_: Any) -> float:
        theirs, own = self.times
        return theirs / own

    track_ratio.unit = "times the package's time"
    track_ratio.pretty_name = "Peers: their time over the package's"
