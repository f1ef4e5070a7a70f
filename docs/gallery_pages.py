"""How sphinx-gallery makes pages of the scripts in docs/gallery: their figures, and the numbers in their text.

A block of code that ends with a figure (`Canvas` or `Film` of ``gpu_transconv.tools.demo``) shows it. Where the text of
a script says ``|name|``, the page has the value of the script's variable of that name.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from gpu_transconv.tools.demo.canvas import Canvas
from gpu_transconv.tools.demo.film import Film

DOCS = Path(__file__).resolve().parent
MADE = "paint"
NUMBERS = DOCS / MADE / "numbers"
#: Figures that pages have.
SHOWN: list[Canvas | Film] = []


def figures(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any], **options: Any) -> str:
    """Save what the block's last line is, if it is a figure, and keep the numbers that the script has so far."""
    from sphinx_gallery.scrapers import figure_rst

    names = block_vars["example_globals"]
    kept = {name: str(value) for name, value in names.items()
            if isinstance(value, (str, int, float, np.number)) and not name.startswith("_")}  # fmt: skip
    NUMBERS.mkdir(parents=True, exist_ok=True)
    source = Path(block_vars["src_file"])
    (NUMBERS / f"{source.stem}.json").write_text(json.dumps(kept), encoding="utf-8")
    page = names.get("___")
    if not isinstance(page, (Canvas, Film)) or page in SHOWN:  # a block that ends otherwise leaves the last one's there
        return ""
    SHOWN.append(page)
    path = Path(next(block_vars["image_path_iterator"])).with_suffix(page.suffix)
    page.save(path)
    return str(figure_rst([str(path)], gallery_conf["src_dir"], page.words or "figure"))


def insert_numbers(app: Any, docname: str, source: list[str]) -> None:
    """Define every ``|name|`` of a gallery page as the value of the script's variable."""
    path = NUMBERS / f"{Path(docname).name}.json"
    if not docname.startswith(f"{MADE}/") or not path.exists():
        return
    numbers = json.loads(path.read_text(encoding="utf-8"))
    wanted = dict.fromkeys(re.findall(r"\|(\w+)\|", source[0]))
    lines = [f".. |{name}| replace:: {numbers[name]}" for name in wanted if name in numbers]
    source[0] = "\n".join([source[0], "", *lines, ""])


SETTINGS = {
    "examples_dirs": ["gallery"],
    "gallery_dirs": [MADE],
    "filename_pattern": r"/\d_",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": ("docs.gallery_pages.figures",),
    "ignore_repr_types": r"(canvas\.Canvas|film\.Film)",
    "reset_modules": (),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "write_computation_times": False,
    "min_reported_time": 10_000,
    "show_signature": False,
    "remove_config_comments": True,
    "inspect_global_variables": False,
}
