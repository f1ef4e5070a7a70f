"""Fixtures that several test files use."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis
import pytest
from selection import GPU_BACKENDS, LEFT_OUT, QUICK, deal, leave_out_missing_devices, line_of_left_out, wants_devices
from support.fakes import FakeBackend, wrap_kernels
from support.kept import forget_old

from gpu_transconv import cache_folder
from gpu_transconv.dispatch import limits, store
from gpu_transconv.dispatch.select import invalidate
from gpu_transconv.kernels import registry
from gpu_transconv.kernels.kernel import Kernel
from gpu_transconv.kernels.registry import FOLDERS

ROOT = Path(__file__).resolve().parents[1]
#: The benchmarks are part of the checkout, not of the package.
collect_ignore_glob = [] if (ROOT / "benchmarks" / "peers.py").exists() else ["benchmarks/test_*.py"]
collect_ignore_glob += ["adapters/dask_cluster.py"]  # a program, which needs Dask
sys.path.insert(0, str(ROOT))
hypothesis.settings.register_profile("default", deadline=None, max_examples=40)
hypothesis.settings.register_profile("ci", deadline=None, max_examples=40, derandomize=True, database=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(scope="session")
def _empty_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder without results."""
    return tmp_path_factory.mktemp("cache")


def pytest_configure(config: pytest.Config) -> None:
    """A GPU that was asked for (``-m gpu``) and is missing is a failure, whatever the environment names or not."""
    if wants_devices(config):
        os.environ.setdefault("GPU_TRANSCONV_TEST_BACKENDS", "cpu,reference,cupy,numba-cuda")
        # JAX would take three quarters of the card for itself, from the other libraries and from other workers.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what `-m quick` chooses."""
    if QUICK.match(item.nodeid):
        item.add_marker("quick")


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """After -m and -k have chosen: leave out what cannot run here, and order the rest for several processes."""
    yield
    leave_out_missing_devices(config, items)
    if hasattr(config, "workerinput"):
        items[:] = deal(items, config.workerinput["workercount"])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Take tests from a process that has many left, until the end, unless ``--dist`` says something else."""
    if config.getoption("dist") != "load":  # what -n alone means
        return None
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that prints the summary, which collects nothing itself, what was left out."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = dict(session.config.stash.get(LEFT_OUT, {}))
    else:
        forget_old()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """What a process of pytest-xdist left out, all of them the same."""
    node.config.stash[LEFT_OUT] = Counter(getattr(node, "workeroutput", {}).get("left_out", {}))


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, _empty_cache: Path) -> None:
    """The caller's own settings and tuning results must not decide what is tested."""
    monkeypatch.setenv("GPU_TRANSCONV_CACHE_DIR", str(_empty_cache))
    for name in ("BACKEND", "FORMULATION", "DETERMINISTIC"):
        monkeypatch.delenv(f"GPU_TRANSCONV_{name}", raising=False)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the kernels that were launched, in order."""
    names: list[str] = []

    def wrap(kernel: Kernel, launch: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments: names.append(kernel.name) or launch(*arguments)

    def wrap_bound(kernel: Kernel, bind: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments: (run := bind(*arguments)) and wrap(kernel, run)

    wrap_kernels(monkeypatch, "launch", wrap)
    wrap_kernels(monkeypatch, "bind", wrap_bound)
    return names


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was left out, and where a log is kept or more was asked for what compiled kernels need of a device."""
    if left_out := terminalreporter.config.stash.get(LEFT_OUT, None):
        terminalreporter.write_line(line_of_left_out(left_out))
    reports = terminalreporter.stats.get("passed", [])
    budgets = [value for report in reports for name, value in report.user_properties if name == "cuda_budget"]
    if budgets and (os.environ.get("CI") or terminalreporter.config.get_verbosity() > 0):
        terminalreporter.section("CUDA kernels: registers for compute capability 7.5/8.0/9.0/10.0/12.0")
        terminalreporter.write_line("\n".join(sorted(budgets)))


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Function that puts fakes in the places of the GPU backends, by their folders' names."""
    dtypes = {name: registry.backend(name).dtypes for name in GPU_BACKENDS}

    def put(**fakes: FakeBackend) -> None:
        for name in GPU_BACKENDS:
            fake = fakes.get(FOLDERS[name][1:]) or FakeBackend("not here; install it")
            module = SimpleNamespace(BACKEND=fake.as_value(name, dtypes[name]))
            monkeypatch.setitem(sys.modules, f"gpu_transconv.kernels{FOLDERS[name]}", module)
        invalidate()

    yield put
    monkeypatch.undo()
    invalidate()


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty cache folder, and a process that has read and measured nothing yet."""
    monkeypatch.setenv("GPU_TRANSCONV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cache_folder, "_warned", set())
    monkeypatch.setattr(limits, "_memory", {})
    monkeypatch.setattr(store, "_unsaved", {})
    invalidate()
    yield tmp_path / "cache"
    monkeypatch.undo()
    invalidate()
