"""Fixtures that several test files use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from gpu_transconv.dispatch import Implementation

hypothesis.settings.register_profile("default", deadline=None, max_examples=40)
hypothesis.settings.register_profile("ci", deadline=None, max_examples=40, derandomize=True, database=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(scope="session")
def _empty_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder without results."""
    return tmp_path_factory.mktemp("cache")


def pytest_configure(config: pytest.Config) -> None:
    """A GPU that was asked for (``-m gpu``) and is missing is a failure, whatever the environment names or not."""
    if config.getoption("-m") == "gpu":
        os.environ.setdefault("GPU_TRANSCONV_TEST_BACKENDS", "cpu,reference,cupy,numba-cuda")
        # JAX would take three quarters of the card for itself, from the other libraries and from other workers.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, _empty_cache: Path) -> None:
    """The caller's own settings and tuning results must not decide what is tested."""
    monkeypatch.setenv("GPU_TRANSCONV_CACHE_DIR", str(_empty_cache))
    for name in ("BACKEND", "FORMULATION", "DETERMINISTIC"):
        monkeypatch.delenv(f"GPU_TRANSCONV_{name}", raising=False)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the implementations that were launched, in order."""
    names: list[str] = []
    original = Implementation.launch.fget

    def launch(row: Implementation):
        run = original(row)

        def recorded(*arguments: object) -> None:
            names.append(row.name)
            run(*arguments)

        return recorded

    monkeypatch.setattr(Implementation, "launch", property(launch))
    return names


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what compiled kernels need of a device, where a log is kept or more was asked for."""
    reports = terminalreporter.stats.get("passed", [])
    budgets = [value for report in reports for name, value in report.user_properties if name == "cuda_budget"]
    if budgets and (os.environ.get("CI") or terminalreporter.config.get_verbosity() > 0):
        terminalreporter.section("CUDA kernels: registers for compute capability 7.5/8.0/9.0/10.0/12.0")
        terminalreporter.write_line("\n".join(sorted(budgets)))
