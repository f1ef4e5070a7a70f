"""Write what pages say of benchmarks/results: the README's section, every layer, what packing costs, the pictures.

::

    python -m benchmarks.readme           # after a file of results was added or replaced
    python -m benchmarks.readme --check   # whether the README, the page and the pictures are those of the files
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from .documents import RESULTS, Group, Models, read_groups, read_models
from .tables import (
    by_domain,
    by_machine,
    conditions,
    every_layer,
    headline,
    main_group,
    packing,
    remarks,
    shares,
    title,
)

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "speed" / "results.md"
PREPARED = ROOT / "docs" / "guide" / "prepared.md"
IMAGES = ROOT / "docs" / "images"
BEGIN, END = "<!-- results: begin, by python -m benchmarks.readme -->", "<!-- results: end -->"
#: Key of a picture's text that says from which file it was drawn.
PICTURE_KEY = "Results"


def section(groups: Sequence[Group], models: Sequence[Models] | None = None) -> str:
    """Write the README's section: a line per domain of the main group, and under which conditions.

    The share of the operator in whole models is from the results that are kept, unless they are given; a model counts
    once, with the fewest threads that it was measured with.
    """
    group = main_group(groups)
    if group is None:
        return "No results are kept."
    found = with_fewest_threads(read_models() if models is None else models)
    notes = [*remarks(group), *shares(found)]
    return "\n".join([headline(group), "", *by_domain(group, found), "", conditions(group), "", *notes])


def with_fewest_threads(models: Sequence[Models]) -> list[Models]:
    """Leave out models that were also measured with fewer threads."""
    threads = [document.heading["machine"]["threads"] for document in models]
    fewest: dict[str, int] = {}
    for count, document in zip(threads, models, strict=True):
        for row in document.rows:
            fewest[row["name"]] = min(count, fewest.get(row["name"], count))
    kept = [
        Models(document.heading, [row for row in document.rows if fewest[row["name"]] == count])
        for count, document in zip(threads, models, strict=True)
    ]
    return [document for document in kept if document.rows]


def prepared_section(groups: Sequence[Group]) -> str:
    """Write what packing the weights costs: layers of the main group, and under which conditions."""
    group = main_group(groups)
    return "No results are kept." if group is None else "\n".join([*packing(group), "", conditions(group)])


def page(groups: Sequence[Group]) -> str:
    """Write the page: a line per machine, then per group its conditions, its picture and every layer."""
    lines = [
        "# Results",
        "",
        "Written by `python -m benchmarks.readme` from the files in `benchmarks/results/`.",
        "[Performance on the CPU](performance.md) says how they are measured.",
        "",
        *by_machine(groups),
    ]
    for group in groups:
        lines += ["", f"## {title(group)}", "", headline(group), "", conditions(group), ""]
        lines += [*remarks(group, names=True), ""]
        lines += [f"![{title(group)}: speed against the roofline, and against the best other library]"
                  f"(../images/{picture_name(group)})", ""]  # fmt: skip
        lines += every_layer(group)
    return "\n".join(lines) + "\n"


def picture_name(group: Group) -> str:
    """File name of a group's picture."""
    kind = "" if (group.dtype, group.data_format) == ("float32", "channels_first") else f"-{group.dtype}"
    last = "-channels-last" if group.data_format == "channels_last" else ""
    return f"results-{Path(group.source).stem}{kind}{last}.png"


def digest(path: Path) -> str:
    """Return what a picture says about the file it was drawn from."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def replaced(text: str, section: str, begin: str = BEGIN, end: str = END, page: str = "README.md") -> str:
    """Put the section between a page's markers, by default the README's.

    Raises
    ------
    ValueError
        If the markers are not there, once each and in order.
    """
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"{page} must have the lines {begin!r} and {end!r} once each, in this order")
    head, rest = text.split(begin)
    return f"{head}{begin}\n\n{section}\n\n{end}{rest.split(end)[1]}"


def stale(groups: Sequence[Group], results: Path = RESULTS, root: Path = ROOT) -> list[str]:
    """List what does not show what the files say."""
    from PIL import Image

    readme, results_page, images = (root / path.relative_to(ROOT) for path in (README, PAGE, IMAGES))
    text = readme.read_text(encoding="utf-8")
    found = [] if replaced(text, section(groups)) == text else [readme.name]
    prepared = root / PREPARED.relative_to(ROOT)
    if prepared.exists():
        text = prepared.read_text(encoding="utf-8")
        if replaced(text, prepared_section(groups), page=prepared.name) != text:
            found.append(prepared.name)
    if not results_page.exists() or results_page.read_text(encoding="utf-8") != page(groups):
        found.append(results_page.name)
    for group in groups:
        picture = images / picture_name(group)
        if not picture.exists():
            found.append(picture.name)
            continue
        with Image.open(picture) as image:
            known = image.info.get(PICTURE_KEY)
        if known != digest(results / group.source):
            found.append(picture.name)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Write, or with --check say what is stale; 1 if something is, 2 if the files cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readme", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args(arguments)
    try:
        groups = [group for path in sorted(RESULTS.glob("*.json")) for group in read_groups(path)]
        outdated = stale(groups)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(f"{'stale' if options.check else 'written'}: {name}" for name in outdated) or "nothing to do")
    if options.check:
        return 1 if outdated else 0
    from .charts import draw

    for group in groups:
        if picture_name(group) in outdated:
            draw(group.rows, group.machine, group.dtype, IMAGES / picture_name(group),
                 {PICTURE_KEY: digest(RESULTS / group.source)})  # fmt: skip
    README.write_text(replaced(README.read_text(encoding="utf-8"), section(groups)), encoding="utf-8")
    text = PREPARED.read_text(encoding="utf-8")
    PREPARED.write_text(replaced(text, prepared_section(groups), page=PREPARED.name), encoding="utf-8")
    PAGE.write_text(page(groups), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
