"""Docstrings of everything public have the sections that numpydoc asks for, in its form."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from types import FunctionType

import pytest

validate = pytest.importorskip("numpydoc.validate").validate

#: Modules that users import from, and what they need.
MODULES = {"gpu_transconv": "numpy", "gpu_transconv.signal": "numpy", "gpu_transconv.operators": "scipy",
           "gpu_transconv.torch": "torch", "gpu_transconv.jax": "jax", "gpu_transconv.dask": "dask.array",
           "gpu_transconv.openvino": "openvino", "gpu_transconv.onnx": "onnx"}  # fmt: skip
#: What numpydoc would have and the project does not.
OFF = {
    "ES01": "a first line that says everything needs no second paragraph",
    "SA01": "the pages of the reference put side by side what belongs together",
    "PR03": "arguments that are as in conv_transpose are listed together, whatever stands between them",
    "PR04": "the same, and the signature has their types",
    "YD01": "a context manager that yields nothing",
}
#: Classes whose instances users do not make, or make as another library says: the example is where they come from.
MADE_ELSEWHERE = {"Explanation", "Convolution", "Row", "torch.ConvTranspose1d", "torch.ConvTranspose2d",
                  "torch.ConvTranspose3d", "onnx.ConvTranspose"}  # fmt: skip


def names(module: str) -> Iterator[tuple[str, set[str]]]:
    """Every public name, and the checks that it is spared."""
    found = import_module(module)
    for name in found.__all__:
        thing = getattr(found, name)
        if not callable(thing):
            continue
        elsewhere = not MADE_ELSEWHERE.isdisjoint((name, f"{module.rpartition('.')[2]}.{name}"))
        is_class = inspect.isclass(thing)
        error = is_class and issubclass(thing, Exception)
        yield f"{module}.{name}", {"PR01", "EX01"} if elsewhere else {"EX01"} if error else set()
        for part, value in vars(thing).items() if is_class else ():
            if not part.startswith("_") and isinstance(value, (FunctionType, property)):
                yield f"{module}.{name}.{part}", {"EX01"}  # the example of the class has them


@pytest.mark.parametrize("module", MODULES)
def test_docstrings_have_their_sections(module):
    pytest.importorskip(MODULES[module])
    found = dict(names(module))
    assert found
    faults = [(name, *error) for name, spared in found.items() for error in validate(name)["errors"]
              if error[0] not in spared | OFF.keys()]  # fmt: skip
    assert faults == []
