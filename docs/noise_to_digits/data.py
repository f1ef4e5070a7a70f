"""The handwritten digits that ship with scikit-learn, 1797 of 8 x 8 pixels, divided once and for all."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

#: How many digits the classifier learns from, and how many the generators; the other 397 are held out from both.
FOR_CLASSIFIER, FOR_GENERATOR = 600, 800


class Digits(NamedTuple):
    """Pictures in [0, 1], shape (N, 8, 8), and which digit each is."""

    pictures: NDArray[np.float32]
    labels: NDArray[np.int64]


def split() -> tuple[Digits, Digits, Digits]:
    """Digits for the classifier, for the generators, and held out from both, in an order drawn with a fixed seed."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.images))
    pictures, labels = (digits.images[order] / 16).astype(np.float32), digits.target[order]
    ends = FOR_CLASSIFIER, FOR_CLASSIFIER + FOR_GENERATOR
    parts = (slice(None, ends[0]), slice(*ends), slice(ends[1], None))
    first, second, third = (Digits(pictures[part], labels[part]) for part in parts)
    return first, second, third
