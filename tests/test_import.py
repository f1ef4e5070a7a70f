"""Importing the package stays light."""

from __future__ import annotations

import json
import subprocess
import sys

FRAMEWORKS = ("torch", "cupy", "jax", "scipy", "onnx", "onnxruntime", "openvino", "dask")
HEAVY = (*FRAMEWORKS, "matplotlib", "numba", "PIL", "rich", "ml_dtypes")


def modules_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after `code`."""
    report = "import json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{code}\n{report}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_import_loads_nothing_heavy():
    loaded = modules_after("import gpu_transconv")
    assert "gpu_transconv" in loaded
    assert sorted(loaded & set(HEAVY)) == []


def test_a_look_at_the_backends_loads_no_framework():
    loaded = modules_after("import gpu_transconv as gtc; gtc.backends()")
    assert sorted(loaded & {"torch", "matplotlib", "onnx", "dask"}) == []  # Numba itself looks at SciPy's version


def test_the_reference_needs_numpy_only():
    code = """
import numpy as np, gpu_transconv as gtc
ones = np.ones((1, 1, 2))
assert gtc.conv_transpose1d(ones, ones, backend="reference").tolist() == [[[1, 2, 1]]]
"""
    assert sorted(modules_after(code) & set(HEAVY)) == []


def test_signals_need_no_framework():
    code = "import gpu_transconv as gtc; assert gtc.signal.upfirdn([1, 2], [1.0, 1.0], 2).tolist() == [1, 2, 1, 2]"
    assert sorted(modules_after(code) & {*FRAMEWORKS} - {"scipy"}) == []  # Numba itself looks at SciPy's version


def test_a_missing_library_names_the_extra():
    code = """
import sys, gpu_transconv as gtc
for name in ("dask", "jax", "onnx", "openvino"):
    sys.modules[name] = None
    try:
        getattr(gtc, name)
    except ImportError as error:
        assert f"the extra {name}" in str(error) and f'".[{name}]"' in str(error)
    else:
        raise AssertionError
"""
    modules_after(code)


def test_public_names():
    import gpu_transconv as gtc

    assert [name for name in gtc.__all__ if not hasattr(gtc, name)] == []
    functions = ["conv_transpose", *(f"conv_transpose{n}d" for n in (1, 2, 3))]
    assert {*functions, "use", "backends", "BackendUnavailableError"} <= set(gtc.__all__)
