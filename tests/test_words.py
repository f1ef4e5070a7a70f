"""What is suggested for a word that is none of those expected."""

from __future__ import annotations

import pytest

from gpu_transconv.problem.arguments import ACTIVATIONS, DATA_FORMATS
from gpu_transconv.problem.dtypes import DTYPES
from gpu_transconv.settings import BACKENDS, FORMULATIONS, PRECISIONS
from gpu_transconv.words import _ALIASES, did_you_mean

CHOICES = (ACTIVATIONS, DATA_FORMATS, DTYPES, BACKENDS, FORMULATIONS, PRECISIONS, ("valid", "same"))


@pytest.mark.parametrize(
    ("given", "choices", "meant"),
    [
        ("N C H W", DATA_FORMATS, "'channels_first'"),
        ("ndhwc", DATA_FORMATS, "'channels_last'"),
        ("channels-last", DATA_FORMATS, "'channels_last'"),
        ("sigmod", ACTIVATIONS, "'sigmoid'"),
        ("GELU", ACTIVATIONS, "'gelu'"),
        ("cuda", BACKENDS, "'cupy' or 'numba-cuda'"),
        ("refrence", BACKENDS, "'reference'"),
        ("fp32", DTYPES, "'float32'"),
        ("fp32", PRECISIONS, "'highest'"),
        ("half", DTYPES, "'float16'"),
    ],
)
def test_near_misses(given, choices, meant):
    assert did_you_mean(given, choices) == f"; did you mean {meant}?"


@pytest.mark.parametrize("given", ["SAME_LOWER", "full", "reflect", "", 3, None, b"same", ["same"]])
def test_nothing_is_near(given):
    assert did_you_mean(given, ("valid", "same")) == ""


def test_lower_is_not_upper():
    """With an odd surplus ONNX's SAME_LOWER cuts at the other end, so it is not "same" here."""
    assert "sameupper" in _ALIASES
    assert "samelower" not in _ALIASES


def test_aliases_stand_for_words_that_exist():
    known = {word for choices in CHOICES for word in choices}
    assert {word for words in _ALIASES.values() for word in words} <= known
    assert not set(_ALIASES) & known
