"""Where these tests can run: the benchmarks are part of the checkout, not of the package."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
collect_ignore_glob = [] if (ROOT / "benchmarks" / "peers.py").exists() else ["test_*.py"]
sys.path.insert(0, str(ROOT))
