"""How runs on a device are set up: what is collected, who gets the card's memory, which CuPy is asked for."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpu_transconv.kernels.cupy import memory

TESTS = Path(__file__).parent


def asked_for(marker):
    return SimpleNamespace(getoption=lambda name: {"-m": marker}[name])


@pytest.mark.parametrize(("marker", "expected"), [("gpu", "false"), ("", None)])
def test_jax_does_not_take_the_card_for_itself(marker, expected, pytestconfig, monkeypatch):
    for name in ("XLA_PYTHON_CLIENT_PREALLOCATE", "GPU_TRANSCONV_TEST_BACKENDS"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    plugin = pytestconfig.pluginmanager.get_plugin(str(TESTS / "conftest.py"))
    plugin.pytest_configure(asked_for(marker))
    assert os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE") == expected


def test_tests_for_a_device_are_collected_where_one_is_asked_for():
    spec = importlib.util.spec_from_file_location("device_conftest", TESTS / "device" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ignored = {m: module.pytest_ignore_collect(TESTS / "device", asked_for(m)) for m in ("gpu", "", "not gpu")}
    assert ignored == {"gpu": None, "": True, "not gpu": True}


def test_the_cupy_that_is_asked_for_keeps_kernels_on_disk():
    """Those of C++ templates, from 14.2 on; the message names what the extra asks for."""
    project = (TESTS.parent / "pyproject.toml").read_text()
    major, minor = re.search(r'cupy = \["cupy-cuda13x>=(\d+)\.(\d+);', project).groups()
    assert (int(major), int(minor)) >= (14, 2)
    assert f"cupy-cuda13x>={major}.{minor}" in memory._INSTALL
