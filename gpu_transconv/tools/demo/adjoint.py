"""Why the transpose and no other matrix of its shape: experiments, and their pictures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.sparse.linalg import lsqr

from ...operators import ConvOperator
from .canvas import DETECT, GENERATE, GREY, INK, Canvas
from .detect import BANK, Picture, Result, detail, detect, likeness, paint
from .rows import square_matrix

#: Draws of each experiment with random matrices.
DRAWS = 1000
#: Banks of random filters that paint the photograph.
BANKS = 50


def agreement(matrix: Picture, features: Picture, painted: Picture) -> float:
    """Cosine between features and what the detector finds in what was painted for them.

    Examples
    --------
    >>> M = square_matrix()
    >>> f = np.eye(49)[24]
    >>> agreement(M, f, M.T @ f) > 0
    True
    """
    found = matrix @ painted
    return float(features @ found / np.linalg.norm(features) / np.linalg.norm(found))


def agreements(draws: int = DRAWS, seed: int = 0) -> tuple[Picture, Picture]:
    """Draw features, and a matrix B for each: agreement where M.T paints, and where B does."""
    rng, matrix = np.random.default_rng(seed), square_matrix().astype(np.float64)
    rows = []
    for _ in range(draws):
        features, other = rng.standard_normal(49), rng.standard_normal((49, 49))
        rows.append([agreement(matrix, features, matrix.T @ features), agreement(matrix, features, other @ features)])
    transposed, random = np.array(rows).T
    return transposed, random


def random_banks(kept: Picture, picture: Picture, banks: int = BANKS) -> Iterator[tuple[float, Picture]]:
    """Paint the features with filters of mean zero that have nothing to do with the detector's: likeness, picture."""
    for seed in range(banks):
        other = np.random.default_rng(seed).standard_normal(BANK.shape).astype(np.float32)
        painted = paint(kept, other - other.mean(axis=(1, 2), keepdims=True), picture.shape)
        yield likeness(painted, detail(picture)), painted


def random_matrix(kept: Picture, shape: tuple[int, ...], seed: int = 0) -> Picture:
    """Multiply the features by a matrix of Gaussian numbers, as many rows as there are pixels.

    Each row's product with the features is a Gaussian number of their length, independent of the others: these are
    drawn, because the matrix of a photograph would have thousands of millions of entries.
    """
    length = float(np.linalg.norm(kept))
    return length * np.random.default_rng(seed).standard_normal(shape)


def restored(picture: Picture) -> tuple[Picture, Picture]:
    """From all of a picture's features: what M.T paints, and the picture that has these features (least squares)."""
    responses = np.stack([detect(picture, kernel) for kernel in BANK])
    operator = ConvOperator(BANK[:, None].astype(np.float64), (1, *picture.shape), padding=1)
    found = lsqr(operator, responses.ravel().astype(np.float64), atol=1e-8, btol=1e-8)[0]
    return paint(responses, BANK, picture.shape), found.reshape(picture.shape)


def slope(picture: Picture, features: Picture, direction: Picture, step: float = 1e-6) -> tuple[float, float]:
    """Slope of ``<M x, f>`` along a direction: by a small step, and as ``<direction, M.T f>``.

    Examples
    --------
    >>> x, f, d = np.random.default_rng(0).standard_normal((3, 6, 6))
    >>> by_step, by_transpose = slope(x, f, d)
    >>> bool(abs(by_step - by_transpose) < 1e-6)
    True
    """
    kernel = BANK[0].astype(np.float64)
    ahead, behind = (float((detect(picture + sign * step * direction, kernel) * features).sum()) for sign in (1, -1))
    return (ahead - behind) / (2 * step), float((direction * paint(features, kernel, picture.shape)).sum())


def for_or_against(draws: int = DRAWS) -> Canvas:
    """Draw how often a painted picture answers to its features: the transpose always, another matrix by chance."""
    transposed, random = agreements(draws)
    canvas = Canvas(
        900,
        420,
        f"Two histograms of the agreement of {draws} features with what the detector finds in the painted "
        "picture: right of zero for the transpose, around zero for random matrices",
    )
    axes = canvas.plot((70, 90), (780, 230))
    bins = np.linspace(-1, 1, 81)
    axes.hist(random, bins, color="#9aa4ae", label="painted by a random B", hatch="//", edgecolor="white")
    axes.hist(transposed, bins, color=GENERATE, label="painted by $M^T$")
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_xlabel("agreement of $f$ with $M\\,B\\,f$: cosine of their angle", fontsize=11, color=INK)
    axes.set_ylabel("draws", fontsize=11, color=INK)
    axes.legend(fontsize=11, frameon=False, loc="upper left")
    canvas.text((70, 36), "Does the detector find in the painted picture what was asked for?", 13, ha="left",
                weight="bold")  # fmt: skip
    against, right = int((random < 0).sum()), int((transposed > 0).sum())
    words = f"$M^T$: {right} of {draws} above 0.  Random B: {against} of {draws} below 0, against its own features"
    canvas.text((70, 62), words, 11, ha="left")
    return canvas


def other_painters(result: Result) -> Canvas:
    """Draw one photograph's features painted by M.T, by other filters, and by a random matrix."""
    picture, kept = result.picture, result.kept
    banks = sorted(random_banks(kept, picture), key=lambda found: found[0])
    noise = random_matrix(kept, picture.shape)
    shown = (
        ("$M^T$: the same filters", result.gather, result.likeness),
        (f"best of {BANKS} random banks", banks[-1][1], banks[-1][0]),
        ("a middling one", banks[len(banks) // 2][1], banks[len(banks) // 2][0]),
        ("a random matrix", noise, likeness(noise, detail(picture))),
    )
    canvas = Canvas(
        900,
        480,
        "A photograph's features painted in four ways; only the transpose shows the person clearly",
    )
    for index, (words, values, found) in enumerate(shown):
        _picture(canvas, (20 + 220 * index, 50), values, words, f"correlation {found:.2f}")
    axes = canvas.plot((70, 345), (780, 70))
    axes.plot([found for found, _ in banks], np.zeros(len(banks)), "|", color=DETECT, markersize=26, markeredgewidth=2)
    axes.plot([result.likeness], [0], "|", color=GENERATE, markersize=40, markeredgewidth=5)
    axes.set(xlim=(-1, 1), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(f"correlation with the photograph's detail: {BANKS} random banks, thin; $M^T$, thick", fontsize=11)
    return canvas


def whole_maps(picture: Picture) -> Canvas:
    """Draw what M.T makes of all features of a picture, beside the least-squares solution."""
    painted, solved = restored(picture)
    canvas = Canvas(
        900,
        360,
        "A photograph; what the transpose paints from all of its features, an outline; and the least-squares "
        "solution, the photograph again",
    )
    shown = (("the picture $x$", picture), ("$M^T M\\,x$", painted), ("least squares", solved))
    for index, (words, values) in enumerate(shown):
        like = f"correlation with $x$: {likeness(values, picture):.2f}" if index else "all of its features are kept"
        _picture(canvas, (50 + 285 * index, 50), values, words, like, 230)
    return canvas


def _picture(
    canvas: Canvas, at: tuple[float, float], values: Picture, words: str, note: str, width: float = 200
) -> None:
    limit = float(np.quantile(np.abs(values), 0.99)) or 1.0
    size = (width, width * values.shape[0] / values.shape[1])
    canvas.panel(at, size, values, limit, shades=GREY).title(words, note)
