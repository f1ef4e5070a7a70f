"""Time functions against each other, fairly: in turns, and the best of many calls."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping

#: Rounds in which all take their turns: enough that one disturbance does not hit all bursts of a function.
ROUNDS = 5
#: Calls of a burst at most: after so many the minimum of a short call no longer falls.
_MOST_CALLS = 200
#: Seconds between two bursts, in which threads that still spin go to sleep.
_PAUSE_SECONDS = 0.002
#: Seconds from which a call is long: caches and waking threads are then a small share of it.
_LONG_SECONDS = 0.03


def take_turns(runs: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, list[float]]:
    """Call every function in bursts, in rounds, for about `seconds`.

    Each round starts at another function, and every second one goes backwards. The first call of a burst is not
    counted, unless calls are long: it pays for caches, and for threads of the function before that still spin.
    """
    names = list(runs)
    times: dict[str, list[float]] = {name: [] for name in names}
    if not names:
        return times
    share = seconds / (ROUNDS * len(names))
    lengths = {name: seconds_of(run) for name, run in runs.items()}
    enabled = gc.isenabled()
    gc.disable()
    try:
        start = time.perf_counter()
        for turn in range(ROUNDS):
            shift = turn % len(names)
            for name in (names[shift:] + names[:shift])[:: -1 if turn % 2 else 1]:
                time.sleep(_PAUSE_SECONDS)
                if lengths[name] < max(share, _LONG_SECONDS):
                    runs[name]()
                calls = min(_MOST_CALLS, max(1, int(share / max(lengths[name], 1e-7))))
                times[name].extend(seconds_of(runs[name]) for _ in range(calls))
            if turn >= 2 and time.perf_counter() - start > 2 * seconds:
                break
    finally:
        if enabled:
            gc.enable()
    return times


def seconds_of(run: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
