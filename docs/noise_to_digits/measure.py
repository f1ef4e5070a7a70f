"""How good made digits are: Fréchet distance to real ones, which classes there are, and whether they are copies.

``python -m docs.noise_to_digits.measure`` writes what the generators are compared with.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from .data import split
from .models import Classifier

Pictures = NDArray[np.float32]
#: Passes over the classifier's digits; its training loss is below 0.01 then.
EPOCHS = 150
#: A class counts as present from this part of the samples on.
PRESENT = 0.02


class Measures(NamedTuple):
    """What is said of a generator; the distance is to digits that neither it nor the classifier has seen."""

    distance: float
    classes: int
    shares: NDArray[np.float64]
    copies: float


@cache
def classifier() -> Classifier:
    """Train the classifier on its own digits; a second or two."""
    digits = split()[0]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, labels = Classifier(), torch.from_numpy(digits.labels)
        optimiser = torch.optim.Adam(model.parameters(), 3e-3, weight_decay=1e-4)
        for _ in range(EPOCHS):
            for part in torch.randperm(len(labels)).split(100):
                loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(digits.pictures)[part]), labels[part])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
    return model.requires_grad_(False)


def features(pictures: Pictures) -> NDArray[np.float64]:
    """Return the classifier's sixteen features of every picture."""
    return classifier().features(torch.from_numpy(np.ascontiguousarray(pictures, np.float32))).numpy().astype(float)


def frechet(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Squared Fréchet distance of two sets of features, each taken for a Gaussian.

    Examples
    --------
    >>> points = np.random.default_rng(0).standard_normal((1000, 2))
    >>> round(frechet(points, points + 3), 6)  # two means apart, equal covariances
    18.0
    """
    difference = one.mean(0) - other.mean(0)
    first, second = np.cov(one.T), np.cov(other.T)
    middle = np.trace(sqrtm(first @ second).real)
    return float(difference @ difference + np.trace(first) + np.trace(second) - 2 * middle)


def nearest(pictures: Pictures, known: Pictures) -> NDArray[np.float64]:
    """Distance of every picture to the nearest known one."""
    a, b = (values.reshape(len(values), -1).astype(float) for values in (pictures, known))
    squares = (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)
    return np.sqrt(np.maximum(squares.min(1), 0))


def measure(pictures: Pictures) -> Measures:
    """Measure made pictures, shape (N, 8, 8)."""
    _, training, held_out = split()
    found = classifier()(torch.from_numpy(np.ascontiguousarray(pictures))).argmax(1).numpy()
    shares = np.bincount(found, minlength=10) / len(found)
    close = np.quantile(nearest(held_out.pictures, training.pictures), 0.01)
    copies = float((nearest(pictures, training.pictures) < close).mean())
    distance = frechet(features(pictures), features(held_out.pictures))
    return Measures(distance, int((shares >= PRESENT).sum()), shares, copies)


def linear_pictures(count: int, seed: int = 0) -> Pictures:
    """Pictures of the best linear generator: Gaussian, with the mean and the covariance of the training digits."""
    training = split()[1].pictures.reshape(-1, 64).astype(float)
    drawn = np.random.default_rng(seed).multivariate_normal(training.mean(0), np.cov(training.T), count)
    return drawn.reshape(-1, 8, 8).astype(np.float32)


def main() -> int:
    """Write the measures of the linear generator and of the training digits themselves, to compare with."""
    from .train import RESULTS, SAMPLES

    for name, pictures in {"linear": linear_pictures(SAMPLES), "real": split()[1].pictures}.items():
        found = measure(pictures)
        kept = np.round(255 * np.clip(pictures[:40], 0, 1)).astype(np.uint8)
        np.savez_compressed(RESULTS / f"{name}.npz", step_0=kept, **found._asdict())
        print(name, found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
