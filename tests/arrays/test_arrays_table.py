"""Every row of the tables of docs/guide/arrays.md, tried as x, weight, bias and out, through every way in."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from array_examples import EXAMPLES, Dlpack, Interface, jax_, memmap, strict, tensor

import gpu_transconv as gtc

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "arrays.md"
X = np.arange(1.0, 7.0, dtype=np.float32).reshape(1, 2, 3)
WEIGHT = np.array([[[1.0, 2.0], [4.0, 0.0]], [[3.0, -1.0], [1.0, 5.0]]], np.float32)
BIAS = np.array([0.5, -2.0], np.float32)
GIVEN = {"x": X, "weight": WEIGHT, "bias": BIAS}
SHAPE = (1, 2, 4)  # of the result


#: Rows that cannot be every operand.
ROLES = {"`numpy.matrix`, as x with one spatial axis and no batch": ("x",)}
#: Kinds of x to which a row's `out` belongs; NumPy's and PyTorch's follow from the table.
PARTNERS = {
    "JAX": lambda a: jax_().numpy.array(a),
    "array-api-strict": strict,
    "__array_interface__": Interface,
    "DLPack": Dlpack,
}


def rows():
    """Name of the table, and the columns: given, inputs, result or message, out."""
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        title, *lines = section.splitlines()
        table = [line for line in lines if line.startswith("|")][2:]
        for line in table:
            yield title, *(cell.strip() for cell in line.strip("|").split(" | "))


ROWS = list(rows())


def test_every_row_is_tried():
    assert [given for _, given, *_ in ROWS] == list(EXAMPLES)


def cases(column):
    """Rows and their examples, by the word in that column: 2 for inputs, 4 for out."""
    for word in ("taken", "refused"):
        for row in ROWS:
            if row[column] == word:
                for i, example in enumerate(EXAMPLES[row[1]]):
                    yield pytest.param(row, example, word, id=re.sub(r"[^\w]+", "-", row[1]).strip("-") + f"-{i}")
    assert {row[column] for row in ROWS} == {"taken", "refused"}


def values(given):
    """The numbers of an array, without the package."""
    if isinstance(given, Interface | Dlpack):
        return given.array
    if type(given).__module__.startswith("array_api_strict"):
        return np.from_dlpack(given)
    if hasattr(given, "resolve_conj"):
        return given.detach().clone().resolve_conj().resolve_neg().numpy()
    return np.array(given, subok=False)


def function(given):
    return gtc.conv_transpose(**given)


def prepared(given):
    return gtc.ConvTranspose(given["weight"], given["bias"])(given["x"])


def explained(given):
    return gtc.explain(**given)


@pytest.fixture(autouse=True)
def _quiet(tmp_path):
    """Some of these types warn that they are prototypes or about to go."""
    memmap.folder = tmp_path
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize(("row", "example", "word"), list(cases(2)))
def test_as_an_input(row, example, word, launched):
    _, given, _, message, _ = row
    for role in ROLES.get(given, GIVEN):
        array = GIVEN[role][0] if given in ROLES else GIVEN[role]
        for call in (function, prepared, explained):
            if word == "taken" and call is not explained:
                check_taken(role, example, array, call, message.strip("`"))
            elif word == "refused" and not (call is explained and given.startswith("list")):
                check_refused(role, example, array, call, message.strip("`"))
    assert word == "taken" or launched == []


def check_taken(role, example, array, call, kind):
    seen = []

    def run(given):
        plain = values(given)
        others = {name: other.astype(plain.dtype.newbyteorder("=")) for name, other in GIVEN.items()}
        seen.append(gtc.conv_transpose(**others | {role: plain.copy()}))
        return call(others | {role: given})

    result = example(run, array)
    np.testing.assert_array_equal(values(result), seen[0])
    assert type(result).__name__ == (kind if role == "x" else "ndarray")


def check_refused(role, example, array, call, words):
    def run(given):
        if role == "bias" and given is None:
            raise TypeError("bias must be an array (or None, which is not tried)")
        return call(GIVEN | {role: given})

    with pytest.raises((TypeError, ValueError)) as caught:
        example(run, array)
    message = str(caught.value)
    assert message.startswith(role), message
    assert words in message, message


@pytest.mark.parametrize(("row", "example", "word"), list(cases(4)))
def test_as_out(row, example, word, launched):
    section, given, *_ = row
    partner = tensor if section == "PyTorch" else np.copy
    partner = next((found for name, found in PARTNERS.items() if name in given), partner)
    shape = SHAPE[1:] if given in ROLES else SHAPE
    x = partner(X[0] if given in ROLES else X)
    want = gtc.conv_transpose(values(x).copy(), WEIGHT, BIAS)

    def run(out):
        result = gtc.conv_transpose(x, WEIGHT, BIAS, out=out)
        assert result is out
        np.testing.assert_array_equal(values(out), want)
        return result

    launched.clear()
    if word == "taken":
        example(run, np.zeros(shape, np.float32))
        return
    who = r"^(x|out) must" if given.startswith("inside") else r"^out must"  # a transform concerns the whole call
    with pytest.raises((TypeError, ValueError), match=who):
        example(lambda out: gtc.conv_transpose(x, WEIGHT, BIAS, out=[] if out is None else out), np.zeros(shape, "f4"))
    assert launched == []
