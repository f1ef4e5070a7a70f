"""How an axis is read: plainly, or in pairs of blocks, two for the price of one and a half.

Where each phase has two taps at neighbouring inputs, as with a kernel twice as long as the stride, two
neighbouring blocks of it are ``y0 = a*d0 + b*d1`` and ``y1 = a*d1 + b*d2``: four products. Three suffice::

    m0 = (d0 - d1) * a        m1 = d1 * (a + b)        m2 = (d1 - d2) * b
    y0 = m0 + m1              y1 = m1 - m2

This is the fast FIR algorithm F(2, 2) (S. Winograd, "Arithmetic Complexity of Computations", SIAM 1980). The
factors are 1 and -1, so rounding errors hardly grow. Both outputs depend on the inputs that they depend on
by definition and on no others; only an infinity may become NaN on the way, and a huge number infinite, which
shows in the result.
"""

from __future__ import annotations

from typing import NamedTuple

from ...plan import Axis


class Term(NamedTuple):
    """A product's factors: a weight, the sum of some taps, and an input, by its place in `Reading.slots`."""

    taps: tuple[int, ...]
    place: int


class Reading(NamedTuple):
    """Per phase of an axis its products, each a sum of terms; and the inputs that are read."""

    phases: list[list[list[Term]]]
    slots: list[tuple[int, int]]  # shift from the block, and whether the next input is subtracted
    blocks: int  # that are computed together

    def starts(self, product: int) -> bool:
        """Whether this product is in all results, so that the bias belongs to it."""
        return product == self.blocks - 1


def read_plainly(axis: Axis) -> Reading:
    """Every tap is a term of its phase's one product."""
    shifts = sorted({axis.shift_of(k) for k in range(axis.kernel)})
    found = [[Term((k,), shifts.index(shift)) for k, shift in taps] for taps in by_phase(axis)]
    return Reading([[terms] for terms in found], [(shift, 0) for shift in shifts], 1)


def read_pairs(axis: Axis) -> Reading:
    """Three products per phase, for two blocks; only where `has_pairs`."""
    pairs = [sorted(taps, key=lambda tap: tap[1]) for taps in by_phase(axis)]
    slots = sorted({slot for (_, shift), _ in pairs for slot in ((shift, 1), (shift + 1, 0), (shift + 1, 1))})
    phases = [
        [
            [Term((a,), slots.index((shift, 1)))],
            [Term((a, b), slots.index((shift + 1, 0)))],
            [Term((b,), slots.index((shift + 1, 1)))],
        ]
        for (a, shift), (b, _) in pairs
    ]
    return Reading(phases, slots, 2)


def has_pairs(axis: Axis) -> bool:
    """Whether every phase has two taps, at neighbouring inputs."""
    return all(len(taps) == 2 and abs(taps[0][1] - taps[1][1]) == 1 for taps in by_phase(axis))


def by_phase(axis: Axis) -> list[list[tuple[int, int]]]:
    """Per phase of the stride, with taps or without, the (tap, shift) that reach it."""
    found: list[list[tuple[int, int]]] = [[] for _ in range(axis.stride)]
    for k in range(axis.kernel):
        found[axis.phase_of(k)].append((k, axis.shift_of(k)))
    return found
