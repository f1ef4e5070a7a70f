"""What is final after some inputs, and which are still needed, against the relation itself."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import assume, example, given

from gpu_transconv.problem.axis import Axis, output_range
from gpu_transconv.problem.flow import Flow


@st.composite
def flows(draw):
    """A geometry, what it cuts off and adds, and the axis that it makes of an input long enough to have outputs."""
    kernel, stride, dilation = (draw(st.integers(1, most)) for most in (7, 5, 5))
    low, high = draw(st.integers(0, 30)), draw(st.integers(0, 30))
    extra = draw(st.integers(0, max(stride, dilation) - 1))
    size = 70 + draw(st.integers(0, 5))
    output = output_range(size, kernel, stride, low + high, dilation)[0] + extra
    return Flow(Axis(size, kernel, stride, dilation, low, output)), high, extra


def reached(axis: Axis, i: int) -> set[int]:
    """Outputs that an input reaches, those cut off included."""
    return {i * axis.stride - axis.pad_low + tap * axis.dilation for tap in range(axis.kernel)}


@given(flows(), st.integers(0, 20))
@example((Flow(Axis(70, 2, 2, 2, 3, 139)), 0, 1), 1)  # output 0 is between the stamps
def test_final_outputs_are_those_that_no_later_input_reaches(problem, given_):
    flow, high, extra = problem
    axis = flow.axis
    least = output_range(given_, axis.kernel, axis.stride, axis.pad_low + high, axis.dilation)[0] + extra
    whole = max(0, least) if given_ else 0
    assert flow.outputs(given_) == whole
    later = set().union(*(reached(axis, i) for i in range(given_, given_ + 40)))
    assert flow.final(given_) == min(whole, min(o for o in range(1000) if o in later or o > max(later)))


@given(flows(), st.integers(1, 20), st.integers(0, 20))
def test_what_is_kept_is_what_later_outputs_need(problem, given_, more):
    flow, _, _ = problem
    axis, done = flow.axis, flow.final(given_)
    first = flow.first_needed(done, given_)
    needed = [i for i in range(given_) if any(o >= done for o in reached(axis, i))]
    assert first <= min([*needed, given_])
    assert first >= flow.first_needed(flow.final(given_ - 1), given_ - 1)  # nothing that was dropped comes back
    end = flow.final(given_ + more)
    assume(end > done)
    piece, skip = flow.piece(first, given_ + more, done, end)
    assert piece.pad_low % axis.stride == 0
    assert 0 <= skip < axis.stride
    for i in range(piece.size):  # where the piece says that an input lands is where it lands
        assert piece.output_of(i, 0) - skip == axis.output_of(first + i, 0) - done
    assert piece.output_size - skip == end - done


@given(flows())
def test_no_more_is_kept_than_the_reach(problem):
    flow, high, extra = problem
    axis, given_ = flow.axis, flow.axis.size
    halo = (axis.kernel - 1) * axis.dilation // axis.stride
    cut = max(0, axis.stride + high - axis.stamp_size - extra)  # outputs of the last inputs that may be cut off
    assert given_ - flow.first_needed(flow.final(given_), given_) <= max(1, halo + -(-cut // axis.stride))
    assert flow.held == flow.outputs(given_) - flow.final(given_)


@pytest.mark.parametrize(
    ("axis", "held"),
    [
        (Axis(9, 4, 2, 1, 0, 20), 2),  # nothing cut: the half of a stamp that overlaps
        (Axis(9, 4, 2, 1, 0, 18), 0),  # a codec's causal crop
        (Axis(9, 4, 2, 1, 1, 18), 1),  # the same, cut on both sides
        (Axis(9, 2, 2, 1, 0, 18), 0),
        (Axis(9, 1, 4, 1, 0, 33), 0),  # stamps with gaps: the last gap is not there
    ],
)
def test_outputs_held_back(axis, held):
    assert Flow(axis).held == held
