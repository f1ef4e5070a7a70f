"""What docs/look.py refuses: pages with each of the faults that it looks for."""

import os
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "docs" / "look.py").exists():
    pytest.skip("the site is part of the checkout, not of the package", allow_module_level=True)
pytest.importorskip("websockets")
if not any(map(shutil.which, (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser"))):
    pytest.skip("pages are looked at with Chromium", allow_module_level=True)
sys.path.insert(0, str(ROOT))

from docs.look import browser, look  # noqa: E402

PAGES = {
    "<p>nothing wrong</p>": "",
    '<div style="width: 2000px">wide</div>': "at 390 pixels it is",
    '<img src="missing.png">': "request failed",
    '<img src="http://127.0.0.1:9/x.png">': "asks the network",
    "<script>console.error('oh')</script>": "console: oh",
    "<script>missing()</script>": "exception",
    '<p style="font-size: 7px">tiny</p>': "letters of 7.0 pixels",
    '<p style="width: 3em; overflow: hidden; white-space: nowrap">longer than that</p>': "this is cut off: 'longer",
    '<div style="overflow: auto"><p style="margin-left: -3em">begins before</p></div>': "this is cut off: 'begins",
    '<div style="overflow: auto; white-space: nowrap">' + "scrolls " * 99 + "</div>": "",
}


def test_faults_of_a_page_are_seen(tmp_path: Path) -> None:
    with browser() as tab:
        for body, fault in PAGES.items():
            page = tmp_path / "page.html"
            page.write_text(f"<!doctype html><html><body>{body}</body></html>", encoding="utf-8")
            pictures, faults = look(tab, page)
            assert list(pictures) == ["1280", "830", "grey", "390"]
            assert any(fault in found for found in faults) if fault else faults == []
