"""Links the words of the glossary where a page first uses them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes

GLOSSARY = Path(__file__).resolve().parent / "guide" / "glossary.md"
#: Words that also mean something else, in one sentence or another; pages that use them say what they mean.
AMBIGUOUS = {
    "block",
    "box",
    "direct",
    "function",
    "kernel",
    "pair",
    "panel",
    "plan",
    "prepared",
    "reach",
    "shift",
    "slot",
}
#: Pages without links: the glossary, and what was written elsewhere.
WITHOUT = ("guide/glossary", "changelog", "reference/made/")
#: What is left as it is.
CLOSED = (nodes.FixedTextElement, nodes.title, nodes.reference, nodes.literal, nodes.math, nodes.raw, nodes.comment,
          nodes.thead, nodes.term, nodes.image, nodes.substitution_definition)  # fmt: skip


@cache
def words() -> frozenset[str]:
    """Words of the glossary that mean one thing."""
    (block,) = re.findall(r"```{glossary}\n(.*?)```", GLOSSARY.read_text(encoding="utf-8"), re.DOTALL)
    return frozenset(re.findall(r"^(\w.*)$", block, re.MULTILINE)) - AMBIGUOUS


def link_words(document: nodes.document, page: str) -> None:
    """Make a reference of the first use of every word in the running text of a page."""
    from sphinx.addnodes import pending_xref

    left = set(words())
    closed = (*CLOSED, pending_xref)
    for text in list(document.findall(nodes.Text)):
        around = text.parent
        while around is not None and not isinstance(around, closed):
            around = around.parent
        if around is not None:
            continue
        made: list[nodes.Node] = []
        rest = str(text)
        while left and (found := re.search(rf"\b({'|'.join(sorted(left))})s?\b", rest, re.IGNORECASE)):
            word = found[1].lower()
            left.remove(word)
            link = pending_xref("", nodes.inline("", found[0], classes=["std-term"]), refdomain="std", reftype="term",
                                reftarget=word, refexplicit=True, refwarn=True, refdoc=page)  # fmt: skip
            made += [nodes.Text(rest[: found.start()]), link]
            rest = rest[found.end() :]
        if made:
            text.parent.replace(text, [*made, nodes.Text(rest)])


def on_read(app: Any, document: nodes.document) -> None:
    """Link the words of the page that Sphinx has read."""
    page = app.env.docname
    if not page.startswith(WITHOUT):
        link_words(document, page)
