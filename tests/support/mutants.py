"""Plant faults in copies of the kernels, one at a time, and see which test notices each.

    python tests/support/mutants.py                       # every fault; an hour or two: most of it compiling
    python tests/support/mutants.py --only depthwise --all
    python tests/support/mutants.py --tests ../before     # against the tests of another checkout

A fault that no test notices is a hole in the tests: exit status 1. Run it after dropping tests, and on what is left.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from planted import FAULTS, Fault

ROOT = Path(__file__).resolve().parents[2]
KERNELS = Path("gpu_transconv") / "kernels"
_CPU_TESTS = (
    "kernels", "channels_last", "kernels/cpu/pairs", "prepared", "arrays/layouts", "large", "random_geometries",
    "kernels/cpu/costs", "random_layers", "random_threads", "kernels/cpu/threads", "streaming",
)  # fmt: skip
#: Where the tests of each backend's kernels are, the quickest to notice something first.
TESTS = {
    "cpu": [str(Path("tests", name).with_name(f"test_{Path(name).name}.py")) for name in _CPU_TESTS],
    "gradients": [
        f"tests/kernels/{name}.py" for name in ("cpu/test_input_grad", "cpu/test_weight_grad", "test_gradients")
    ],
    "numba_cuda": [f"tests/simulator/test_{name}.py" for name in ("table", "gradient_table", "launches")],
    "cupy": ["tests/host_cuda/test_host_kernels.py"],
}
ENVIRONMENT = {"numba_cuda": {"NUMBA_ENABLE_CUDASIM": "1"}}
#: A fault can make a kernel run for ever.
_SECONDS = 3600


def copy_checkout(folder: Path, tests: Path) -> None:
    """Copy what the tests of kernels need, compiled kernels included: those of the CPU are found by their sources."""
    shutil.copytree(ROOT / "gpu_transconv", folder / "gpu_transconv")
    shutil.copytree(tests / "tests", folder / "tests")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy2(tests / name, folder)


def run_tests(folder: Path, backend: str, every: bool, options: list[str]) -> tuple[list[str], str]:
    """Run the tests of a backend in a copy; return those that failed, and the last line."""
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-rfE", "--tb=no", "-p", "no:cacheprovider"]
    command += ["-p", "no:xdist", *([] if every else ["-x"]), *TESTS[backend], *options]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "GPU_TRANSCONV_"))}
    environment = inherited | {"PYTHONPATH": str(folder)} | ENVIRONMENT.get(backend, {})
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return [f"stopped after {_SECONDS} s"], ""
    lines = done.stdout.splitlines()
    failed = [found[1] for line in lines if (found := re.match(r"(?:FAILED|ERROR) (\S+)", line))]
    if done.returncode and not failed:  # a crash leaves no summary
        failed = [f"exit status {done.returncode}: {(done.stderr.strip().splitlines() or lines or [''])[0]}"]
    return failed, lines[-1] if lines else ""


def plant(folder: Path, fault: Fault) -> None:
    """Edit the copy."""
    path = folder / KERNELS / fault.file
    text = path.read_text()
    assert text.count(fault.old) == 1, f"{fault.name}: {fault.file} has {text.count(fault.old)} times: {fault.old}"
    path.write_text(text.replace(fault.old, fault.new))


def main(arguments: list[str] | None = None) -> int:
    """Print which test notices each fault; exit status 1 if none does."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="faults whose name or file has this word")
    parser.add_argument("--all", action="store_true", help="all tests that notice, not only the first")
    parser.add_argument("--tests", type=Path, default=ROOT, help="checkout whose tests to run (this one)")
    parser.add_argument("options", nargs="*", help="further options for pytest, after --")
    chosen = parser.parse_args(arguments)
    missed = 0
    for fault in (fault for fault in FAULTS if chosen.only in f"{fault.file}: {fault.name}"):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder)
            copy_checkout(copy, chosen.tests.resolve())
            plant(copy, fault)
            before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
            failed, line = run_tests(copy, fault.backend, chosen.all, chosen.options)
            seconds = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before
        missed += not failed
        found = f"{len(failed)} x, " * chosen.all + failed[0] if failed else f"MISSED ({line})"
        print(f"{fault.file}: {fault.name}: {found} [{seconds:.0f} s]", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
