"""One axis: phases, taps by phase, shifts, reach and what an input reaches, all against the relation itself."""

from __future__ import annotations

import itertools

import hypothesis.strategies as st
import numpy as np
from hypothesis import example, given

from gpu_transconv.problem.axis import Axis

NO_TAP_IN_SOME_PHASES = Axis(3, 2, 4, 2, 1, 10)  # stride and dilation share a factor
FEWER_OUTPUTS_THAN_PHASES = Axis(1, 1, 5, 1, 0, 2)


@st.composite
def axes(draw):
    """Any axis with at least one output element."""
    size, kernel, stride, dilation = (draw(st.integers(1, most)) for most in (6, 7, 6, 6))
    full = (size - 1) * stride + dilation * (kernel - 1) + 1 + draw(st.integers(0, max(stride, dilation) - 1))
    low = draw(st.integers(0, full - 1))
    high = draw(st.integers(0, full - 1 - low))
    return Axis(size, kernel, stride, dilation, low, full - low - high)


@given(axes())
@example(NO_TAP_IN_SOME_PHASES)
@example(FEWER_OUTPUTS_THAN_PHASES)
def test_phases_cover_the_output_once(axis):
    reached = {}  # output -> the (tap, input) pairs that the phases say meet there
    owned = []
    for phase in axis.phases:
        outputs = [phase.offset + axis.stride * block for block in range(phase.count)]
        owned += outputs
        for tap, shift in phase.taps:
            for block, output in enumerate(outputs):
                if 0 <= block + shift < axis.size:
                    reached.setdefault(output, set()).add((tap, block + shift))
    assert len(owned) == len(set(owned))
    assert set(owned) <= set(range(axis.output_size))
    by_definition = {}
    for tap in range(axis.kernel):
        for i in range(axis.size):
            output = i * axis.stride - axis.pad_low + tap * axis.dilation
            if 0 <= output < axis.output_size:
                by_definition.setdefault(output, set()).add((tap, i))
    assert reached == by_definition


@given(axes())
def test_blocks_and_phase_count(axis):
    offsets = {output % axis.stride for output in range(axis.output_size)}
    assert axis.phase_count == len(offsets)
    assert axis.blocks == len({output // axis.stride for output in range(axis.output_size)})
    assert {phase.offset for phase in axis.phases} <= offsets


def taps_by_definition(axis):
    """By phase, the (tap, shift) for which input ``block + shift`` and the tap meet at output ``stride*block + phase``.

    Found by trying shifts; far more than any axis here has.
    """
    reach = axis.dilation * axis.kernel + axis.pad_low + 1
    return [
        tuple(
            (tap, shift)
            for tap in range(axis.kernel)
            for shift in range(-reach, reach + 1)
            if shift * axis.stride - axis.pad_low + tap * axis.dilation == phase
        )
        for phase in range(axis.stride)
    ]


@given(axes())
@example(NO_TAP_IN_SOME_PHASES)
@example(FEWER_OUTPUTS_THAN_PHASES)
def test_taps_by_phase_and_reach(axis):
    want = taps_by_definition(axis)
    assert axis.taps_by_phase() == want
    shifts = [shift for taps in want for _, shift in taps]
    assert axis.shifts() == sorted(set(shifts))
    assert axis.reach() == (min(shifts), max(shifts) - min(shifts))


@given(axes())
@example(NO_TAP_IN_SOME_PHASES)
def test_tables_of_all_taps(axis):
    tables = axis.tap_tables()
    found = sorted((tap, phase, shift) for phase, taps in enumerate(taps_by_definition(axis)) for tap, shift in taps)
    assert [*zip(range(axis.kernel), tables.phase, tables.shift, strict=True)] == found
    assert tables.offsets.tolist() == sorted({phase for _, phase, _ in found})
    np.testing.assert_array_equal(tables.offsets[tables.rank], tables.phase)
    assert {table.dtype.name for table in tables[:3]} == {"int64"}


@given(axes())
@example(NO_TAP_IN_SOME_PHASES)
def test_steps_within_a_phase(axis):
    for phase, taps in enumerate(axis.taps_by_phase()):
        for (tap, shift), (next_tap, next_shift) in itertools.pairwise(taps):
            assert (next_tap - tap, shift - next_shift) == (axis.tap_step, axis.shift_step)
        distance, rest = divmod(phase + axis.pad_low, axis.common)
        first = distance % axis.tap_step * axis.tap_inverse % axis.tap_step
        assert bool(taps) == (rest == 0 and first < axis.kernel)
        assert not taps or taps[0][0] == first
    assert axis.most_taps == max(map(len, axis.taps_by_phase()))
    some_meet = any(len(taps) > 1 for taps in axis.taps_by_phase())
    assert axis.has_disjoint_stamps == (axis.size == 1 or not some_meet)


@given(axes())
@example(FEWER_OUTPUTS_THAN_PHASES)
def test_inputs_of_a_tap(axis):
    for tap in range(axis.kernel):
        outputs = [i * axis.stride - axis.pad_low + tap * axis.dilation for i in range(axis.size)]
        assert [axis.output_of(i, tap) for i in range(axis.size)] == outputs
        assert [*axis.inputs_of(tap)] == [i for i, output in enumerate(outputs) if 0 <= output < axis.output_size]


@given(axes(), st.integers(1, 12))
def test_inputs_that_reach_a_box(axis, outputs):
    outputs = min(outputs, axis.output_size)
    most = axis.inputs_reaching(outputs)
    width = axis.pad_low + axis.output_size + axis.dilation * axis.kernel
    places = {
        i: {i * axis.stride - axis.pad_low + tap * axis.dilation for tap in range(axis.kernel)}
        for i in range(-width, width + 1)
    }
    for first in range(0, axis.output_size, outputs):
        box = range(first, first + outputs)
        reaching = [i for i, reached in places.items() if not reached.isdisjoint(box)]
        span = reaching[-1] - reaching[0] + 1 if reaching else 0
        assert span <= most
        assert outputs % axis.stride or span == most
