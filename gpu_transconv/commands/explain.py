"""``gpu-transconv explain``: what a problem's plan is, and which kernel would run it."""

from __future__ import annotations

import argparse
from types import SimpleNamespace
from typing import Any

from ..api import infer_ndim
from ..dispatch import Choice, select
from ..params import DATA_FORMATS, check_shapes, make_params
from ..plan import DTYPES, Axis, Plan, make_plan
from ..settings import AUTO, resolve
from . import CommandError, print_json, print_table

#: Axes with more taps than this are counted, not listed.
LISTED = 32


def add(parsers: Any) -> None:
    """Declare the sub-command."""
    parser = parsers.add_parser("explain", help="print the plan of a problem, and which kernel runs it and why")
    parser.add_argument("--x", required=True, metavar="SHAPE", help="shape of the input, like 1x64x32x32 or 1,64,32,32")
    parser.add_argument(
        "--weight", required=True, metavar="SHAPE", help="(Cin, Cout // groups, *kernel), like 64x32x4x4"
    )
    parser.add_argument("--stride", default="1", metavar="INTS", help="one for all axes or one per axis, like 2 or 2,1")
    parser.add_argument(
        "--padding", default="0", metavar="PADS", help="1 or 1,2 or low:high pairs 0:1,2:3, same or valid"
    )
    parser.add_argument("--output-padding", default="0", metavar="INTS")
    parser.add_argument("--dilation", default="1", metavar="INTS")
    parser.add_argument("--groups", default="1", metavar="INT")
    parser.add_argument("--dtype", default="float32", choices=tuple(DTYPES), metavar="NAME")
    parser.add_argument("--data-format", default=DATA_FORMATS[0], metavar="NAME", help=" or ".join(DATA_FORMATS))
    parser.add_argument("--backend", metavar="NAME", help="ask for one instead of leaving the choice to the library")
    parser.add_argument("--formulation", metavar="NAME", help="gather or scatter, instead of leaving the choice")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Plan the problem, choose the kernel, print both."""
    x, weight = _shape("--x", args.x), _shape("--weight", args.weight)
    try:
        plan, choice = _decide(x, weight, args)
    except ValueError as error:
        raise CommandError(str(error)) from None
    facts = _facts(x, weight, plan, choice)
    if args.json:
        print_json(facts)
    else:
        _print(facts, plan)
    return 0


def _decide(x: tuple[int, ...], weight: tuple[int, ...], args: argparse.Namespace) -> tuple[Plan, Choice]:
    params = make_params(
        infer_ndim(SimpleNamespace(shape=weight)),
        stride=_ints(args.stride),
        padding=_padding(args.padding),
        output_padding=_ints(args.output_padding),
        dilation=_ints(args.dilation),
        groups=_ints(args.groups),
        data_format=args.data_format,
    )
    check_shapes(params, x, weight, None)
    plan = make_plan(params, x, weight, args.dtype, False)
    return plan, select(plan, resolve(args.backend or AUTO, args.formulation or AUTO))


def _facts(x: tuple[int, ...], weight: tuple[int, ...], plan: Plan, choice: Choice) -> dict[str, Any]:
    return {
        "x": x,
        "weight": weight,
        "dtype": plan.dtype,
        "accumulate": plan.accumulate,
        "output_shape": plan.output_shape,
        "backend": choice.implementation.backend,
        "formulation": choice.implementation.formulation,
        "reason": choice.reason,
        "flops": plan.flops,
        "bytes": plan.bytes,
        "arithmetic_intensity": plan.flops / plan.bytes,
        "index_bits": plan.index_bits,
        "phases": plan.phase_count,
        "axes": [_axis(axis) for axis in plan.axes[3 - plan.ndim :]],
    }


def _axis(axis: Axis) -> dict[str, Any]:
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


def _print(facts: dict[str, Any], plan: Plan) -> None:
    rows = [
        ("output", f"{_times(facts['output_shape'])} {plan.dtype}, summed in {plan.accumulate}"),
        ("kernel", f"{facts['backend']} / {facts['formulation']}"),
        ("because", facts["reason"]),
        ("flops", f"{plan.flops:,}"),
        ("bytes", f"{plan.bytes:,}"),
        ("intensity", f"{facts['arithmetic_intensity']:.4g} flops per byte"),
        ("indices", f"{plan.index_bits} bits"),
        ("phases", f"{plan.phase_count:,}"),
    ]
    print_table(("", ""), rows)
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


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


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
