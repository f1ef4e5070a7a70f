"""The first use of a glossary's word on a page is a link to it, and nothing else is."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "docs" / "glossary.py").exists():
    pytest.skip("the site is part of the checkout, not of the package", allow_module_level=True)
core = pytest.importorskip("docutils.core")
addnodes = pytest.importorskip("sphinx.addnodes")
sys.path.insert(0, str(ROOT))

from docs.glossary import AMBIGUOUS, link_words, words  # noqa: E402

PAGE = """
A stamp
=======

Stamps of one *feature map*; a stamp again, and ``a tap``, and a `phase <x.html>`_. The phases have taps::

    scatter
"""


def test_the_glossary_is_read():
    assert {"stamp", "tap", "feature map", "roofline"} <= words()
    assert not AMBIGUOUS & words()


def test_the_first_use_in_running_text_is_linked():
    document = core.publish_doctree(PAGE)
    before = document.astext()
    link_words(document, "page")
    found = [(link["reftarget"], link.astext()) for link in document.findall(addnodes.pending_xref)]
    assert found == [("stamp", "Stamps"), ("feature map", "feature map"), ("phase", "phases"), ("tap", "taps")]
    assert document.astext() == before
