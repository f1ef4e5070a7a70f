"""The second-level cache of a core, as Linux tells it, and how much of it a kernel's blocks may take."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

#: Bytes of the cache that the sizes of blocks were measured with, on Zen 4; elsewhere they are told for it.
MEASURED = 1 << 20
#: Bytes below which nothing is believed: no CPU with vectors of 16 bytes has less.
_LEAST = 128 << 10
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 1 << 10, "M": 1 << 20}


def read_second_level(folder: Path = _CACHES) -> int:
    """Return the bytes of the second-level cache that a core has to itself; `MEASURED` where nobody tells."""
    sizes, sharers = {}, {}
    try:
        for cache in folder.glob("index*"):
            level, kind, size, cpus = (
                (cache / name).read_text().strip() for name in ("level", "type", "size", "shared_cpu_map")
            )
            if kind != "Instruction":
                sizes[level] = int(size[:-1]) * _UNITS[size[-1]]
                sharers[level] = max(1, int(cpus.replace(",", ""), 16).bit_count())
        cores = max(1, sharers["2"] // sharers["1"])  # those that share the first level are one core's threads
        return max(_LEAST, sizes["2"] // cores)
    except (OSError, ValueError, KeyError, IndexError):
        return MEASURED


@lru_cache(maxsize=1)
def second_level() -> int:
    """Return what `read_second_level` says of this machine."""
    return read_second_level()


def fitted(size: int) -> int:
    """Return `size`, which was measured with a cache of `MEASURED` bytes, or the same share of a smaller one.

    A larger cache changes nothing: on a Xeon with 2 MiB these sizes reached the same share of the peak.
    """
    return size * min(second_level(), MEASURED) // MEASURED
