"""What is here runs in Numba's CUDA simulator, in processes that tests/kernels/numba_cuda/test_numba_cuda.py starts.

    NUMBA_ENABLE_CUDASIM=1 python -m pytest tests/simulator -k depthwise

runs some of it by hand.
"""

from __future__ import annotations

import os

import pytest

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
if SIMULATED:
    # A missing backend is then a failure. Read when the test files are imported.
    os.environ["GPU_TRANSCONV_TEST_BACKENDS"] = "numba-cuda"
    import barriers

    barriers.install()
else:
    collect_ignore_glob = ["test_*.py"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep one part of the tests, every so-many-th, if the environment asks for it ("2/6": the third of six)."""
    for item in items:
        # Simulated threads do not see np.errstate; overflow and invalid are what some cases are about.
        item.add_marker(pytest.mark.filterwarnings("ignore::RuntimeWarning"))
    part = os.environ.get("GPU_TRANSCONV_TEST_PART")
    if part:
        number, count = map(int, part.split("/"))
        config.hook.pytest_deselected(items=[item for i, item in enumerate(items) if i % count != number])
        items[:] = items[number::count]
