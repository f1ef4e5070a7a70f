"""The products of an axis: one for each phase, or Winograd's for pairs of blocks, two for the price of one and a half.

Where a phase has two taps at neighbouring inputs, two neighbouring blocks of it are ``y0 = a*d0 + b*d1`` and
``y1 = a*d1 + b*d2``: four products. Three suffice::

    m0 = (d0 - d1) * a        m1 = d1 * (a + b)        m2 = (d1 - d2) * b
    y0 = m0 + m1              y1 = m1 - m2

This is the fast FIR algorithm F(2, 2) (S. Winograd, "Arithmetic Complexity of Computations", SIAM 1980). Its input
transform are the differences of d, done by `pack_input`; its weight transform is the sum a + b, done by `pack_weight`;
the products run as all others do, in tiles; its output transform are the sums of m, done by `gather`. On two axes at
once nine products do for sixteen. A phase with one tap or none gains nothing and needs two products. Of more taps, at
inputs that follow each other, every two add a term to each of the three products, and a last one, whose ``b`` is zero,
to the first two: five for six with three taps, six for eight with four, and on two axes 25 for 36 and 36 for 64. Both
outputs depend on the inputs that they depend on by definition and on no others; only an infinity may become NaN on
the way, and a huge number infinite, which shows in the result.

The factors are 1 and -1, so nothing is scaled, but what is added and cancels again leaves its rounding behind. With n
products per output, eps the spacing of the floating-point numbers at 1, and sums over the input channels::

    |error of y0| <= c * eps * sum(|a|*|d0| + 2*|a|*|d1| + |b|*|d1|)        c = (n + 3) / 2 at worst, and
    |error of y1| <= c * eps * sum(|a|*|d1| + 2*|b|*|d1| + |b|*|d2|)        about 1 + sqrt(n) in practice

The definition's own bound has no middle term, the product of an input with the *other* tap: it is not part of the
output, and where it is large and the products that are part of it are small, no digit of them need be right. Against
the largest input that is read, the error is at most ``3 * c * eps * max|d| * sum(|a| + |b|)``; with pairs on both axes
the 3 is a 9, and n + 3 is n + 6. No bilinear algorithm with fewer products has a bound against those that reach an
output, so pairs run only where `precision` is "fast" (docs/develop/decisions/0011-fast-algorithms-are-opt-in.md).
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from ....problem.axis import Axis

#: Share of the products that pairs of blocks must do without to be worth their sums and differences. Chosen between
#: kernel 3 with stride 2 (0.17), which gains, and kernels with fewer phases of two taps; not measured by itself.
_SAVED = 0.12


class Term(NamedTuple):
    """A product's factors: a weight, the sum of some taps, and an input, by its place in `AxisProducts.inputs`."""

    taps: tuple[int, ...]
    place: int


class AxisProducts(NamedTuple):
    """Per phase of an axis its products, each a sum of terms; and the inputs that are read."""

    phases: list[list[list[Term]]]
    inputs: list[tuple[int, int]]  # shift from the block, and whether the input transform subtracts the next input
    blocks: int  # that are computed together

    def starts(self, phase: int, product: int) -> bool:
        """Whether the bias belongs to this product: it is in all results, or is one."""
        return product == 1 or len(self.phases[phase]) < 3

    @property
    def combined(self) -> list[int]:
        """Phases with three products, of which the output transform makes two results."""
        return [phase for phase, products in enumerate(self.phases) if len(products) == 3]


def products_by_phase(axis: Axis, rising: bool = False) -> AxisProducts:
    """Every tap is a term of its phase's one product; by tap, or where `rising` by what it reads."""
    shifts = axis.shifts()
    found = [[Term((k,), shifts.index(shift)) for k, shift in taps] for taps in axis.taps_by_phase()]
    if rising:
        found = [sorted(terms, key=lambda term: term.place) for terms in found]
    return AxisProducts([[terms] for terms in found], [(shift, 0) for shift in shifts], 1)


def winograd_products(axis: Axis) -> AxisProducts:
    """Two or three products per phase, for two blocks; only where `saving` allows it."""
    phases: list[list[list[tuple[tuple[int, ...], tuple[int, int]]]]] = []
    for taps in axis.taps_by_phase():
        if len(taps) < 2:
            phases.append([[((k,), (shift + block, 0)) for k, shift in taps] for block in range(2)])
            continue
        rising = sorted(taps, key=lambda tap: tap[1])
        firsts, seconds = rising[::2], [k for k, _ in rising[1::2]]
        phases.append(
            [
                [((a,), (shift, 1)) for a, shift in firsts],
                [((a, *seconds[i : i + 1]), (shift + 1, 0)) for i, (a, shift) in enumerate(firsts)],
                [((b,), (shift + 1, 1)) for b, (_, shift) in zip(seconds, firsts, strict=False)],
            ]
        )
    inputs = sorted({each for products in phases for terms in products for _, each in terms})
    return AxisProducts(
        [[[Term(taps, inputs.index(each)) for taps, each in terms] for terms in products] for products in phases],
        inputs,
        2,
    )


def saving(axis: Axis) -> float:
    """Share of the products that pairs of blocks do without, or zero where that is too little or they can't be."""
    taps = axis.taps_by_phase()
    shifts = [sorted(shift for _, shift in some) for some in taps]
    if any(near + 1 != far for some in shifts for near, far in pairwise(some)):
        return 0.0
    saved = sum(len(some) // 2 for some in taps) / (2 * axis.kernel)
    return saved if saved >= _SAVED else 0.0
