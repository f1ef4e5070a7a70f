"""A plugin for SciPy's own tests of upfirdn: the function that they test is ours."""

from __future__ import annotations

import pytest

from gpu_transconv.signal import upfirdn


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        assert hasattr(item.module, "upfirdn")
        item.module.upfirdn = upfirdn
