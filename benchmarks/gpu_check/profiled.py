"""What ncu runs: one layer, warmed up, then once with the profiler on."""

from __future__ import annotations

import json
import sys

from .measure import task_from
from .processes import end_with_parent
from .worker import find_device


def main() -> None:
    """Run the task of the first argument on the device of the others."""
    end_with_parent()
    device = find_device(sys.argv[2])(*sys.argv[3:])
    call = device.contenders(task_from(json.loads(sys.argv[1]))).builds["auto"]().run
    device.clock_calls(call, 3)
    device.profile(call)


if __name__ == "__main__":
    main()
