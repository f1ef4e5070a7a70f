"""Write docs/guide/accuracy.md: how far every formulation and dtype is from the exact result, beside PyTorch.

::

    python -m benchmarks.accuracy     # about a minute on one core, once the kernels are compiled

Per layer the root mean square and the largest error over those of the exact result, and the largest error over the
sum of the absolute products of its element, all in multiples of the dtype's eps.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import gpu_transconv as gtc

from .readme import ROOT, replaced
from .rounding import EPS, LAYERS, Error, Problem, problem
from .tables import table_row

PAGE = ROOT / "docs" / "guide" / "accuracy.md"
BEGIN, END = "<!-- accuracy: begin, by python -m benchmarks.accuracy -->", "<!-- accuracy: end -->"


def _ours(given: Problem, **keywords: Any) -> Any:
    x, last = given.x, keywords.get("data_format") == "channels_last"
    x = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if last else x
    got = gtc.conv_transpose(x, given.weight, **given.layer.geometry, **{"backend": "cpu", **keywords})
    return np.moveaxis(got, -1, 1) if last else got


def _torch(given: Problem) -> Any:
    import torch

    short = given.dtype == "bfloat16"
    x, weight = (torch.from_numpy(a.view(np.int16) if short else a) for a in (given.x, given.weight))
    x, weight = (array.view(torch.bfloat16) if short else array for array in (x, weight))
    with torch.inference_mode():
        got = getattr(torch.nn.functional, f"conv_transpose{given.layer.ndim}d")(x, weight, **given.layer.geometry)
    return got.view(torch.int16).numpy().view(given.x.dtype) if short else got.numpy()


FAST = 'gather, "fast"'
CONTENDERS: dict[str, Callable[[Problem], Any]] = {
    "gather": partial(_ours, formulation="gather"),
    "scatter": partial(_ours, formulation="scatter"),
    FAST: partial(_ours, formulation="gather", precision="fast"),
    "gather, channels last": partial(_ours, formulation="gather", data_format="channels_last"),
    "scatter, channels last": partial(_ours, formulation="scatter", data_format="channels_last"),
    "reference": partial(_ours, backend="reference"),
    "PyTorch": _torch,
}


#: A problem, its errors by contender, and the share of the bound that "fast" used
Row = tuple[Problem, dict[str, Error], float]


def measure(dtype: str) -> Iterator[Row]:
    """Run all contenders on all layers.

    "fast" is left out where its bits are those of "highest": nothing runs in pairs there.
    """
    for name in LAYERS:
        given = problem(name, dtype)
        results = {contender: run(given) for contender, run in CONTENDERS.items()}
        share = given.fast_share(results[FAST])
        if np.array_equal(results[FAST], results["gather"]):
            del results[FAST]
        yield given, {contender: given.error(got) for contender, got in results.items()}, share


def section() -> str:
    """The tables, one per dtype, under one that sums them up."""
    columns = ("dtype", '"highest": of the stated bound', "of the worst case", '"fast": of its stated bound',
               'rms of "fast" / rms of gather')  # fmt: skip
    lines, tables = [table_row(columns), table_row(["---"] + ["---:"] * (len(columns) - 1))], []
    for dtype in EPS:
        rows = list(measure(dtype))
        lines.append(table_row([dtype, *_summary(rows)]))
        tables += ["", f"## {dtype}", "", *_table(rows)]
    return "\n".join(lines + tables)


def _summary(rows: list[Row]) -> list[str]:
    """Largest parts of the bounds, and most that pairs of blocks added to the rms error where gather has one."""
    ours = [(p, error.products) for p, errors, _ in rows for c, error in errors.items() if c not in (FAST, "PyTorch")]
    parts = [max(found / p.bound(worst) for p, found in ours) for worst in (False, True)]
    paired = [(errors[FAST].rms, errors["gather"].rms, share) for _, errors, share in rows if FAST in errors]
    fast = [f"{max(share for *_, share in paired):.0%}"] if paired else ["-"]
    growth = [f"{max(fast / plain for fast, plain, _ in paired if plain):.1f}"] if paired else ["-"]
    return [f"{part:.0%}" for part in parts] + fast + growth


def _table(rows: list[Row]) -> list[str]:
    head = ["layer", "products", *CONTENDERS]
    lines = [table_row(head), table_row(["---", "---:"] + ["---"] * len(CONTENDERS))]
    for name, (given, errors, _) in zip(LAYERS, rows, strict=True):
        cells = [" / ".join(f"{v:.2g}" for v in errors[c]) if c in errors else "as gather" for c in CONTENDERS]
        lines.append(table_row([name, str(given.terms), *cells]))
    return lines


def main() -> int:
    """Write the tables between the markers."""
    tables = section()
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), tables, BEGIN, END, PAGE.name), encoding="utf-8")
    print(f"written: {PAGE.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
