"""Where these tests can run at all."""

from __future__ import annotations

import sys

#: Fibers and the interception of accesses are written for Linux; elsewhere not even the helpers can be imported.
collect_ignore_glob = [] if sys.platform == "linux" else ["*.py"]
