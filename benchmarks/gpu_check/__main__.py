"""Prove and measure the package on a machine with a CUDA GPU, stage by stage, each within its own time.

::

    python -m benchmarks.gpu_check probe --out DIR      # what the machine is, and one call of every kernel
    python -m benchmarks.gpu_check tests --out DIR      # at most 700 tests per backend, in several processes
    python -m benchmarks.gpu_check sanitize --out DIR   # some of them under NVIDIA's compute-sanitizer
    python -m benchmarks.gpu_check measure --out DIR    # every layer beside PyTorch with cuDNN
    python -m benchmarks.gpu_check profile --out DIR    # NVIDIA's ncu on the twelve worst layers
    python -m benchmarks.gpu_check merge --out DIR      # tables, and one document of it all

Every stage adds to DIR/<stage>.jsonl a line for each thing that is done, and may be killed at any moment: the same
command goes on where it was. Exit status: 0 all done and right, 1 something is wrong, 2 bad options or no device,
3 time was up.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from gpu_transconv.tools.bench.layers import REAL_LAYERS
from gpu_transconv.tools.bench.options import names_in

from . import merge as merging
from . import stages, suite
from .measure import DATA_FORMATS, OURS, PEERS
from .processes import ROOT
from .stage_measure import ORDER, choose_tasks, measure
from .stage_probe import probe
from .stage_profile import profile, worst
from .stage_sanitize import choose_few, sanitize
from .stage_tests import Run, run_tests
from .supervise import NoDeviceError

_MOST_PROCESSES = 14
RESULTS = Path(__file__).parents[1] / "results"


def make_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    text, _, example = (__doc__ or "").partition("::")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_check",
        description=text,
        epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")
    found = {name: commands.add_parser(name, help=f"at most {s:.0f} s") for name, s in stages.SECONDS.items()}
    found["merge"] = commands.add_parser("merge", help="tables, and one document")
    for name, one in found.items():
        one.add_argument("--out", type=Path, required=True, metavar="DIR", help="where all stages keep their files")
        if name != "merge":
            seconds = stages.SECONDS[name]
            one.add_argument("--seconds", type=_positive, default=seconds, help=f"for all of it (default: {seconds:g})")
            one.add_argument("--again", action="store_true", help="do again what went wrong")
            one.add_argument("--device", default="benchmarks.gpu_check.device:CudaDevice", help=argparse.SUPPRESS)
            one.add_argument("--backend", choices=suite.BACKENDS, default="cupy")
    found["merge"].add_argument("--keep", action="store_true", help="also as benchmarks/results/<device>.json")
    for name in ("tests", "sanitize"):
        found[name].add_argument("--suite", type=Path, default=ROOT, metavar="DIR", help=argparse.SUPPRESS)
    cores = max(1, min(_MOST_PROCESSES, stages.usable_cores() - 2))
    found["tests"].add_argument("--processes", type=_positive, default=cores, help=f"default: {cores}")
    found["tests"].add_argument("--dry", action="store_true", help="only list the tests")
    found["sanitize"].add_argument("--sanitizer", default="compute-sanitizer", metavar="COMMAND")
    found["profile"].add_argument("--ncu", default="ncu", metavar="COMMAND")
    for name in ("measure", "profile"):
        _add_layers(found[name])
    return parser


def _add_layers(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--layers", type=Path, default=REAL_LAYERS, metavar="FILE", help="JSON list of layers")
    add("--max-gmac", type=_positive, default=80.0, metavar="G", help="skip larger layers (default: 80)")
    add("--only", type=names_in, metavar="NAME[,NAME]", help="only these layers")
    add("--precisions", type=names_in, default=list(ORDER), metavar="NAME[,NAME]")
    add("--data-formats", type=names_in, default=list(DATA_FORMATS), metavar="NAME[,NAME]")
    add("--contenders", type=names_in, default=[*OURS, *PEERS], metavar="NAME[,NAME]")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a stage; its exit status."""
    options = make_parser().parse_args(arguments)
    try:
        if options.stage == "merge":
            return merge(options)
        with stages.at_work(options.stage, options.out, options.seconds, options.again) as stage:
            return run(stage, options)
    except (OSError, ValueError, RuntimeError) as error:
        what = "no device: " if isinstance(error, NoDeviceError) else ""
        print(f"error: {what}{error}", file=sys.stderr)
        return stages.REFUSED


def run(stage: stages.Stage, options: argparse.Namespace) -> int:
    """Do one stage that needs the device."""
    device = [options.device, options.backend]
    if options.stage == "probe":
        return probe(stage, device)
    if options.stage == "measure":
        return measure(stage, device, choose_tasks(options), options.contenders)
    if options.stage == "profile":
        layers = [task.layer for task in choose_tasks(options)]
        unique = list(dict.fromkeys(layers))
        return profile(stage, device, shlex.split(options.ncu), worst(stage.folder / "measure.jsonl", unique))
    root = options.suite.resolve()
    collected, tests = suite.collect(root, stage.log), Run(stage, root, options.device)
    chosen = suite.choose(collected.tests)
    if options.stage == "sanitize":
        return sanitize(tests, shlex.split(options.sanitizer), choose_few(chosen))
    if options.dry:
        return list_tests(chosen, collected.errors)
    for file, text in collected.errors.items():
        stage.append({"test": file, "status": "failed", "note": text})
    return run_tests(tests, chosen, int(options.processes))


def list_tests(chosen: Sequence[str], errors: Mapping[str, str]) -> int:
    """Print the tests, and which tiles are forced."""
    print("\n".join(chosen))
    print("".join(f"\n{file} cannot be imported:\n{text}" for file, text in errors.items()), end="")
    print(f"\n{len(chosen)} tests. Shapes of gather tiles that are forced, by how x is read:")
    for precision, modes in suite.forced_tiles(chosen).items():
        print(f"{precision}: {'; '.join(f'{mode}: {count}' for mode, count in modes.items())}")
    return stages.WRONG if errors else stages.DONE


def merge(options: argparse.Namespace) -> int:
    """Make the document of what there is."""
    if not options.out.is_dir():
        raise ValueError(f"--out: expected a folder that the stages wrote to, got {options.out}")
    document = merging.merge(options.out)
    paths = [options.out / "merged.json"]
    if options.keep:
        paths.append(RESULTS / f"{merging.slug(document['machine']['device'])}.json")
    for path in paths:
        merging.write(document, path)
    status = merging.show(document)
    print(f"written to {', '.join(map(str, paths))}")
    return status


def _positive(text: str) -> float:
    if not float(text) > 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return float(text)


if __name__ == "__main__":
    sys.exit(main())
