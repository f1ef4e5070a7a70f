"""What a caller probably meant by a word that is none of those expected."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

#: Words of other libraries, without case and punctuation, and what they are called here.
_ALIASES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("ncw", "ncl", "nchw", "ncdhw", "cf", "first"), ("channels_first",)),
    **dict.fromkeys(("nwc", "nlc", "nhwc", "ndhwc", "cl", "last"), ("channels_last",)),
    "sameupper": ("same",),
    "swish": ("silu",),
    "logistic": ("sigmoid",),
    "lrelu": ("leaky_relu",),
    **dict.fromkeys(("cuda", "gpu", "nvidia"), ("cupy", "numba-cuda")),
    "numba": ("cpu", "numba-cuda"),
    **dict.fromkeys(("host", "x86", "llvm"), ("cpu",)),
    **dict.fromkeys(("numpy", "naive", "ref"), ("reference",)),
    **dict.fromkeys(("ieee", "full", "high"), ("highest",)),
    "fp32": ("highest", "float32"),
    **dict.fromkeys(("f2", "fp16", "half"), ("float16",)),
    **dict.fromkeys(("f4", "float", "single"), ("float32",)),
    **dict.fromkeys(("f8", "fp64", "double"), ("float64",)),
    "bf16": ("bfloat16",),
    "complex": ("complex64", "complex128"),
    "int": ("int64",),
}


def did_you_mean(given: object, choices: Iterable[str]) -> str:
    """Return the end of a message, ``; did you mean 'silu'?``, or nothing where no choice is near.

    Case and punctuation do not count; an alias counts only where what it stands for is among the choices.
    """
    if not isinstance(given, str):
        return ""
    by_letters = {_letters(choice): choice for choice in choices}
    word = _letters(given)
    found = [choice for choice in _ALIASES.get(word, ()) if choice in by_letters.values()]
    if word in by_letters:
        found = [by_letters[word]]
    near = import_module("difflib").get_close_matches  # nobody waits for it who makes no mistake
    found = found or [by_letters[letters] for letters in near(word, by_letters, n=1, cutoff=0.7)]
    return f"; did you mean {' or '.join(map(repr, found))}?" if found else ""


def _letters(word: str) -> str:
    return "".join(filter(str.isalnum, word.lower()))
