"""Time every layer in every precision and data format, the package beside cuDNN, one contender after another."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from gpu_transconv.tools.bench.layers import Layer, load_layers

from .measure import DATA_FORMATS, OURS, PEERS, PRECISIONS, SECONDS, Task
from .stages import DONE, UNFINISHED, WRONG, Stage, count_words, say
from .supervise import Supervisor, TimeIsUp

#: Channels first comes first, and within it the precisions that networks run in.
ORDER = ("float16", "tf32", "float32", "bfloat16")
#: Seconds of one contender, its compiling or cuDNN's search included.
_CONTENDER_SECONDS = 60.0
#: The largest part of the time that compiling ahead may take, and how much longer its worker may live.
_COMPILE_SHARE, _COMPILE_SLACK = 0.25, 30.0
#: Tasks of one worker: then the clocks are asked for again, and what leaks is given back.
_TASKS_PER_WORKER = 40


def choose_tasks(options: argparse.Namespace) -> list[Task]:
    """List what is to be measured, most important first.

    Raises
    ------
    ValueError
        If a layer, precision or data format is not known, or none is left.
    """
    layers = [layer for layer in load_layers(options.layers) if layer.gmac <= options.max_gmac]
    known: dict[str, Layer] = {layer.name: layer for layer in layers}
    wanted = options.only or list(known)
    for names, valid, what in (
        (wanted, known, "layer"),
        (options.precisions, PRECISIONS, "precision"),
        (options.data_formats, DATA_FORMATS, "data format"),
        (options.contenders, (*OURS, *PEERS), "contender"),
    ):
        unknown = [name for name in names if name not in valid]
        if unknown or not names:
            raise ValueError(f"expected {what} among {', '.join(valid)}, got {', '.join(unknown) or 'none'}")
    return [
        Task(known[name], precision, data_format)
        for data_format in options.data_formats
        for precision in options.precisions
        for name in wanted
    ]


def measure(stage: Stage, device: Sequence[str], tasks: Sequence[Task], contenders: Sequence[str]) -> int:
    """Measure all contenders that have no record yet, until time is up."""
    finished = stage.finished(lambda r: (r["layer"], r["precision"], r["data_format"], r["contender"]))
    todo = [(task, [n for n in contenders if (*task.key, n) not in finished]) for task in tasks]
    todo = [(task, names) for task, names in todo if names]
    if len(todo) < len(tasks):
        say(f"{len(tasks) - len(todo)} of {len(tasks)} rows are there already")
    found: list[str] = []
    try:
        with Supervisor(device, stage.log, stage.deadline, lambda s: stage.append({"about": "device", **s})) as one:
            _compile(stage, one, [task for task, _ in todo])
            for number, (task, names) in enumerate(todo, 1):
                if one.units >= _TASKS_PER_WORKER:
                    one.replace()
                statuses = _measure_task(stage, one, task, names)
                found += statuses
                say(f"{number}/{len(todo)} {' '.join(task.key)}: {count_words(statuses)}")
    except TimeIsUp:
        say(f"time is up: {len(found)} of {sum(len(names) for _, names in todo)} done; the same command goes on")
        return UNFINISHED
    say(f"measure: {count_words(found)}")
    return WRONG if {"wrong", "failed"} & {*found} else DONE


def _measure_task(stage: Stage, one: Supervisor, task: Task, names: Sequence[str]) -> list[str]:
    plan, statuses = task.plan, []
    about = dict(zip(("layer", "precision", "data_format"), task.key, strict=True))
    about |= {"flops": plan.flops, "bytes": plan.bytes}
    unit = {"kind": "measure", "seconds": SECONDS, **task.as_dict()}
    for entry in one.run(unit, names, _CONTENDER_SECONDS):
        name = entry.pop("name")
        stage.append({**about, "contender": name, **entry})
        statuses.append(entry["status"])
    return statuses


def _compile(stage: Stage, one: Supervisor, tasks: Sequence[Task]) -> None:
    """Compile ahead what all tasks need; the next worker finds it on disk."""
    seconds = _COMPILE_SHARE * stage.left
    unit = {"kind": "compile", "seconds": seconds, "tasks": [task.as_dict() for task in tasks]}
    for entry in one.run(unit, ["compile"] if tasks else [], seconds + _COMPILE_SLACK):
        entry.pop("name")
        stage.append({"about": "compile", **entry})
        say(f"compiled {entry.get('compiled', 0)} of {entry.get('kernels', '?')} kernels {entry.get('note', '')}")
