"""Settings of the site, read by Sphinx."""

from __future__ import annotations

import logging
import os
import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from docs.gallery_pages import SETTINGS, insert_numbers
from docs.glossary import on_read
from gpu_transconv import __version__
from gpu_transconv.tools.cli import make_parser

project = "gpu_transconv"
release = version = __version__
html_title = project
html_copy_source = False

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
    "numpydoc",
]
exclude_patterns = ["_build", "reference/made/help.md", "gallery", "**sg_execution_times.rst"]
sphinx_gallery_conf = SETTINGS

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
myst_update_mathjax = False

# Formulas are set by KaTeX, which lies in _static with its fonts, so pages work from disk; `formulas.js` calls it.
mathjax_path = "katex/katex.min.js"
mathjax_options = {"defer": "defer"}
html_static_path = ["_static"]
html_css_files = ["katex/katex.min.css", "site.css"]
html_js_files = [("formulas.js", {"defer": "defer", "priority": 900}), "sortable.js", "figures.js"]

html_theme = "pydata_sphinx_theme"
html_context = {"default_mode": "light"}  # figures are drawn for a white page
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": True,
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
# The pages of the gallery are read one after the other, and their figures want the width.
html_sidebars = {"paint/*": [], "index": []}
copyright = "gpu_transconv, BSD 3-Clause"

templates_path = ["_templates"]
default_role = "autolink"
autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
# Names of things that have no page of their own: types of other packages, and the package's inner parts.
nitpick_ignore_regex = [(r"py:.*", r"(numpy|scipy|np|collections|typing|pathlib|argparse|types)\..*"),
                        (r"py:.*", r"gpu_transconv\.(settings|problem|dispatch|kernels|arrays|reference|tools)\b.*"),
                        (r"py:.*", r"(optional|array|array_like|callable|Array|HostArray|Params)")]  # fmt: skip


def keep_stars(app: object, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Keep the star of a shape such as (N, Cin, *spatial), which would begin an emphasis."""
    lines[:] = [line if ">>>" in line else re.sub(r"([,(] ?)\*(?=[a-z])", r"\1\*", line) for line in lines]


def write_help(app: object) -> None:
    """Write what every command's --help says, for the page on the command line."""
    os.environ["COLUMNS"] = "100"
    parser = make_parser()
    (commands,) = (action for action in parser._actions if hasattr(action, "choices") and action.choices)
    parts = [("gpu-transconv", parser), *((f"gpu-transconv {name}", one) for name, one in commands.choices.items())]
    text = "\n".join(f"## {name}\n\n```text\n{one.format_help()}```\n" for name, one in parts)
    path = DOCS / "reference" / "made" / "help.md"
    path.parent.mkdir(exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def setup(app: object) -> dict[str, bool]:
    """Connect what this file does to Sphinx's events."""
    # That kernels are being compiled is no part of a page.
    logging.getLogger("gpu_transconv").setLevel(logging.ERROR)
    app.connect("builder-inited", write_help)  # type: ignore[attr-defined]
    app.connect("source-read", insert_numbers)  # type: ignore[attr-defined]
    app.connect("doctree-read", on_read)  # type: ignore[attr-defined]
    app.connect("autodoc-process-docstring", keep_stars, priority=1)  # type: ignore[attr-defined]
    return {"parallel_read_safe": True}
