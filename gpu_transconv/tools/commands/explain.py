"""``gpu-transconv explain``: what a problem's plan is, and which kernel would run it."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any

from ... import Explanation, explain
from ...problem.arguments import DATA_FORMATS
from ...problem.axis import Axis
from ...problem.dtypes import DTYPES
from ...settings import AUTO, HIGHEST
from ..console import Report, print_json, print_table
from . import CommandError, Parsers, add_command

EXAMPLES = "gpu-transconv explain --x 1x64x32x32 --weight 64x32x4x4 --stride 2 --padding 1"
#: Axes with more taps than this are counted, not listed.
LISTED = 32


def add(parsers: Parsers) -> None:
    """Declare the sub-command."""
    summary = "print the plan of a problem, and which kernel runs it and why"
    parser = add_command(parsers, "explain", run, summary, EXAMPLES)
    parser.add_argument("--x", required=True, metavar="SHAPE", help="shape of the input, like 1x64x32x32 or 1,64,32,32")
    parser.add_argument(
        "--weight", required=True, metavar="SHAPE", help="(Cin, Cout // groups, *kernel), like 64x32x4x4"
    )
    parser.add_argument("--stride", default="1", metavar="INTS", help="one for all axes or one per axis, like 2 or 2,1")
    parser.add_argument(
        "--padding", default="0", metavar="PADS", help="1 or 1,2 or low:high pairs 0:1,2:3, same or valid"
    )
    parser.add_argument("--output-padding", default="0", metavar="INTS", help="like stride")
    parser.add_argument("--dilation", default="1", metavar="INTS", help="like stride")
    parser.add_argument("--groups", default="1", metavar="INT", help="divides Cin")
    parser.add_argument("--dtype", default="float32", choices=tuple(DTYPES), metavar="NAME", help=", ".join(DTYPES))
    parser.add_argument("--data-format", default=DATA_FORMATS[0], metavar="NAME", help=" or ".join(DATA_FORMATS))
    parser.add_argument("--backend", metavar="NAME", help="ask for one instead of leaving the choice to the library")
    parser.add_argument("--formulation", metavar="NAME", help="gather or scatter, instead of leaving the choice")
    parser.add_argument("--precision", metavar="NAME", help="highest, tf32 or fast")
    parser.add_argument("--deterministic", action="store_true", help="only what is bitwise repeatable")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Plan the problem, choose the kernel, print both."""
    shapes = _shape("--x", args.x), _shape("--weight", args.weight)
    try:
        found = _explain(*shapes, args)
    except (TypeError, ValueError) as error:
        raise CommandError(str(error)) from None
    if args.json:
        print_json(_report(*shapes, found))
    else:
        _print(found)
    return 0


def _explain(x: tuple[int, ...], weight: tuple[int, ...], args: argparse.Namespace) -> Explanation:
    return explain(
        x,
        weight,
        dtype=args.dtype,
        stride=_ints(args.stride),
        padding=_padding(args.padding),
        output_padding=_ints(args.output_padding),
        dilation=_ints(args.dilation),
        groups=_ints(args.groups),
        data_format=args.data_format,
        backend=args.backend or AUTO,
        formulation=args.formulation or AUTO,
        precision=args.precision or HIGHEST,
        deterministic=args.deterministic or None,
    )


def _report(x: tuple[int, ...], weight: tuple[int, ...], found: Explanation) -> Report:
    told = {field.name: getattr(found, field.name) for field in fields(found) if field.name != "plan"}
    return {
        "x": x,
        "weight": weight,
        "dtype": found.plan.dtype,
        "accumulate": found.plan.accumulate,
        "index_bits": found.plan.index_bits,
        **told,
        "runners_up": [runner_up._asdict() for runner_up in found.runners_up],
        "axes": [_axis(axis) for axis in found.plan.axes[3 - found.plan.ndim :]],
    }


def _axis(axis: Axis) -> Report:
    phases = [{"offset": p.offset, "count": p.count, "taps": [list(tap) for tap in p.taps]} for p in axis.phases]
    return {
        "input": axis.size,
        "output": axis.output_size,
        "kernel": axis.kernel,
        "stride": axis.stride,
        "dilation": axis.dilation,
        "pad_low": axis.pad_low,
        "phase_count": axis.phase_count,
        "phases": phases,
    }


def _print(found: Explanation) -> None:
    plan = found.plan
    print_table(("", ""), found.rows())
    print()
    if sum(axis.kernel for axis in plan.axes) - 3 + plan.ndim > LISTED:
        print(f"The taps of each phase are not listed: more than {LISTED}. --json has them.")
        return
    phases = [(index, *row) for index, axis in enumerate(plan.axes[3 - plan.ndim :]) for row in _phases(axis)]
    print_table(("axis", "phase", "outputs", "tap (input shift)"), phases, right=(0, 1, 2))


def _phases(axis: Axis) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = [
        (phase.offset, phase.count, ", ".join(f"{tap} ({shift:+d})" for tap, shift in phase.taps))
        for phase in axis.phases
    ]
    empty = axis.phase_count - len(rows)
    return [*rows, (f"{empty} more", "", "none: bias only")] if empty else rows


def _shape(option: str, text: str) -> tuple[int, ...]:
    entries = text.replace("x", ",").split(",")
    if not all(entry.strip().isdecimal() for entry in entries):
        raise CommandError(f"{option} must be a shape like 1x64x32x32 or 1,64,32,32, got {text!r}")
    return tuple(map(int, entries))


def _ints(text: str) -> Any:
    """An int or a tuple of them; what is neither goes on as it is, for the library to refuse."""
    try:
        values = tuple(map(int, text.split(",")))
    except ValueError:
        return text
    return values if len(values) > 1 else values[0]


def _padding(text: str) -> Any:
    if ":" not in text:
        return _ints(text)
    entries = tuple(_ints(entry.replace(":", ",")) for entry in text.split(","))
    return text if any(isinstance(entry, str) for entry in entries) else entries
