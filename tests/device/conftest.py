"""What is here runs on a CUDA device, and is collected only where it is asked for: ``python -m pytest -m gpu``."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:  # noqa: ARG001
    """Leave the folder out of runs that do not ask for it."""
    return None if config.getoption("-m") == "gpu" else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all of it, so that no file can forget to."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)
