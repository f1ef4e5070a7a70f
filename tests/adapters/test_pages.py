"""The pages on the adapters: what they show runs."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

DOCUMENTS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("name", ["jax", "openvino", "dask"])
def test_page_runs(name):
    if not DOCUMENTS.exists():
        pytest.skip("the documents are part of the checkout, not of the package")
    pytest.importorskip(name)
    [path] = DOCUMENTS.rglob(f"{name}.md")
    blocks = re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    code = "\n".join(block for block in blocks if block.startswith(">>>"))
    test = doctest.DocTestParser().get_doctest(code, {}, path.name, str(path), 0)
    assert test.examples
    assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test).failed == 0
