"""Write the README's section of results, and its pictures, from the files in benchmarks/results.

::

    python -m benchmarks.readme           # after a file of results was added or replaced
    python -m benchmarks.readme --check   # whether the README and the pictures are those of the files
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu_transconv.bench.report import geometric_mean

from .documents import RESULTS, Group, own_name, read_groups

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
IMAGES = ROOT / "docs" / "images"
BEGIN, END = "<!-- results: begin, by python -m benchmarks.readme -->", "<!-- results: end -->"
#: Key of a picture's text that says from which file it was drawn.
PICTURE_KEY = "Results"


def section(groups: Sequence[Group]) -> str:
    """Write the section: a line per machine, its pictures, and every layer behind a fold."""
    columns = (
        "machine",
        "dtype",
        "layers",
        "of the roofline",
        "best other library / ours",
        "PyTorch / ours",
        "slower on",
    )
    lines = [table_row(columns), table_row(["---"] * len(columns))]
    lines += [table_row(_summary(group)) for group in groups]
    for group in groups:
        lines += ["", f"![{_title(group)}: every layer under the roofline, and against the best other library]"
                      f"(docs/images/{picture_name(group)})"]  # fmt: skip
        lines += [
            "",
            f"<details><summary>{_title(group)}: every layer</summary>",
            "",
            *_layers(group),
            "",
            "</details>",
        ]
    return "\n".join(lines)


def _title(group: Group) -> str:
    return f"{group.device}, {group.dtype}, {group.data_format.replace('_', ' ')}"


def _summary(group: Group) -> list[str]:
    ours = [(row, row["contenders"][name]) for row in group.rows if (name := own_name(row))]
    best = [row["contenders"][row["best_peer"]]["ms"] / entry["ms"] for row, entry in ours if row["best_peer"]]
    torch = [
        row["contenders"]["torch"]["ms"] / entry["ms"]
        for row, entry in ours
        if row["contenders"].get("torch", {}).get("status") == "ok"
    ]
    mean = geometric_mean([entry["roofline_fraction"] for _, entry in ours])
    kind = group.dtype if group.data_format == "channels_first" else f"{group.dtype}, {group.data_format}"
    slower = f"{sum(ratio < 1 for ratio in best)} of {len(best)}" if best else "-"
    return [group.device, kind, str(len(ours)), _percent(mean), _times(best), _times(torch), slower]


def _layers(group: Group) -> list[str]:
    lines = [
        table_row(("layer", "roofline, ms", "ours, ms", "of the roofline", "best other, ms", "", "best other / ours")),
        table_row(("---", "---:", "---:", "---:", "---:", "---", "---:")),
    ]
    for row in group.rows:
        name, peer = own_name(row), row["best_peer"]
        entry: dict[str, Any] = row["contenders"].get(name, {})
        other = row["contenders"][peer]["ms"] if peer else None
        ratio = _ratio(other / entry["ms"]) if other and entry else "-"
        ours = (_ms(entry["ms"]), _percent(entry["roofline_fraction"])) if entry else ("-", "-")
        lines.append(
            table_row((row["layer"]["name"], _ms(row["roofline_ms"]), *ours, _ms(other), peer or "", ratio))
        )  # fmt: skip
    return lines


def table_row(cells: Sequence[str]) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _ratio(value: float) -> str:
    return f"{value:.2f}"


def _times(ratios: Sequence[float]) -> str:
    mean = geometric_mean(ratios)
    return "-" if mean is None else _ratio(mean)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


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


def stale(groups: Sequence[Group], results: Path = RESULTS, readme: Path = README, images: Path = IMAGES) -> list[str]:
    """List what does not show what the files say."""
    from PIL import Image

    text = readme.read_text(encoding="utf-8")
    found = [] if replaced(text, section(groups)) == text else [readme.name]
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
    return 0


if __name__ == "__main__":
    sys.exit(main())
