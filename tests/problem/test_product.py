"""The products of a plan: their rows, columns and taps against the relation, counted out one by one."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from gpu_transconv.problem.axis import Axis
from gpu_transconv.problem.plan import Plan
from gpu_transconv.problem.product import by_phase, merged, stamps

UNIT = Axis(1, 1, 1, 1, 0, 1)


@st.composite
def axes(draw, whole=False):
    """Any axis with at least one output element; `whole` ones have several inputs and phases that share their taps."""
    size, stride = draw(st.integers(1 + whole, 5)), draw(st.integers(1, 4))
    kernel = stride * draw(st.integers(1, 3)) if whole else draw(st.integers(1, 6))
    dilation = 1 if whole and stride > 1 else draw(st.integers(1, 5))
    full = (size - 1) * stride + dilation * (kernel - 1) + 1 + draw(st.integers(0, max(stride, dilation) - 1))
    low = draw(st.integers(0, full - 1))
    high = draw(st.integers(0, full - 1 - low))
    return Axis(size, kernel, stride, dilation, low, full - low - high)


def plan_of(*given_axes, batch=2, in_channels=6, out_channels=4, groups=2):
    d, h, w = (*[UNIT] * (3 - len(given_axes)), *given_axes)
    return Plan(
        3, batch, in_channels, out_channels, groups, (d, h, w), False, "float32", "float32", False, None, 0.0, False
    )


def taps_of(axis, output):
    """Taps that reach an output from some input, inside or not."""
    return [tap for tap in range(axis.kernel) if (output + axis.pad_low - tap * axis.dilation) % axis.stride == 0]


def meetings(axis):
    """All (output, tap, input) of an axis with the output inside, by the relation; inputs may lie outside."""
    return {
        (output, tap, (output + axis.pad_low - tap * axis.dilation) // axis.stride)
        for output in range(axis.output_size)
        for tap in taps_of(axis, output)
    }


def phases_of(axis):
    """(Outputs, taps) of each phase."""
    outputs = [range(phase, axis.output_size, axis.stride) for phase in range(min(axis.stride, axis.output_size))]
    return [(len(phase), len(taps_of(axis, phase[0]))) for phase in outputs]


@given(st.tuples(axes(), axes(), axes()))
@example((UNIT, Axis(3, 2, 4, 2, 1, 10), Axis(1, 1, 5, 1, 0, 2)))
def test_one_product_for_each_phase(given_axes):
    plan = plan_of(*given_axes)
    product = by_phase(plan)
    assert product.frame is None
    counted = Counter(
        (plan.batch * math.prod(outputs for outputs, _ in phases), math.prod(taps for _, taps in phases))
        for phases in itertools.product(*map(phases_of, product.axes))
    )
    found = Counter()
    for alike in product.alike():
        found[alike.columns, alike.taps] += alike.number
    assert product.count == found.total() == counted.total()
    with_taps = {key: number for key, number in counted.items() if key[1]}
    assert {key: number for key, number in found.items() if key[1]} == with_taps
    assert product.rows == plan.out_channels // plan.groups
    assert product.columns == max(columns for columns, _ in counted)
    assert not product.is_cut_off


@given(axes(), st.integers(1, 3))
def test_taps_of_all_phases_are_the_kernel_s(axis, batch):
    """Each tap belongs to one phase, and to none only where that has no output."""
    product = by_phase(plan_of(axis, batch=batch))
    assert product.taps == axis.kernel
    used = {tap for output in range(product.axes[2].output_size) for tap in taps_of(product.axes[2], output)}
    assert sum(alike.number * alike.taps for alike in product.alike()) == len(used)


def units_of(product):
    """Of the last axis of a product with a frame: (column, unit, output) of all its results."""
    axis, frame = product.axes[2], product.frame[2]
    return [
        (column, unit, column * axis.stride + frame.out + unit * frame.unit_step)
        for column in range(frame.count)
        for unit in range(frame.units)
    ]


@given(axes(whole=True))
@example(Axis(4, 4, 2, 1, 1, 8))
def test_merged_is_all_phases_at_once(axis):
    product = merged(plan_of(axis))
    axis, frame = product.axes[2], product.frame[2]
    inside = [place for place in units_of(product) if 0 <= place[2] < axis.output_size]
    assert sorted(output for _, _, output in inside) == list(range(axis.output_size))
    found = {
        (output, unit + j * axis.stride, column + frame.shift - j * axis.shift_step)
        for column, unit, output in inside
        for j in range(frame.taps)
    }
    assert found == meetings(axis)
    assert product.is_cut_off == (len(inside) < len(units_of(product)))


@given(st.tuples(axes(whole=True), axes(whole=True)))
def test_merged_multiplies_what_the_phases_multiply(given_axes):
    """With whole blocks of outputs both have the same products, in other numbers of rows and columns."""
    plan = plan_of(*given_axes)
    one, many = merged(plan), by_phase(plan)
    assert one.axes == many.axes
    units = math.prod(frame.units for frame in one.frame)
    assert (one.count, one.taps * units) == (1, many.taps)
    assert one.rows == many.rows * units
    assert [(1, one.columns, one.taps)] == one.alike()
    multiplied = sum(alike.number * alike.columns * alike.taps for alike in many.alike())
    assert (one.columns * units * one.taps == multiplied) == (not one.is_cut_off)


@pytest.mark.parametrize(
    "axis",
    [Axis(4, 3, 2, 1, 0, 9), Axis(4, 4, 2, 2, 0, 13), Axis(4, 1, 2, 1, 0, 8)],
    ids=["kernel is no multiple", "dilated", "kernel below stride"],
)
def test_not_merged_where_phases_differ_in_taps(axis):
    assert merged(plan_of(axis)) is None


@given(axes())
@example(Axis(4, 3, 1, 2, 1, 7))
def test_stamps_are_all_taps_of_all_inputs(axis):
    product = stamps(plan_of(axis))
    frame = product.frame[2]
    found = {(output, tap, column + frame.shift) for column, tap, output in units_of(product)}
    assert found == {
        (i * axis.stride - axis.pad_low + tap * axis.dilation, tap, i)
        for i in range(axis.size)
        for tap in range(axis.kernel)
    }
    assert product.is_cut_off == any(not 0 <= output < axis.output_size for output, _, _ in found)


@given(st.tuples(axes(), axes(), axes()), st.integers(1, 3))
def test_stamps_are_one_product_of_the_whole_filter(given_axes, batch):
    plan = plan_of(*given_axes, batch=batch)
    product = stamps(plan)
    assert product.rows == plan.out_channels // plan.groups * math.prod(axis.kernel for axis in given_axes)
    assert product.columns == batch * math.prod(axis.size for axis in given_axes)
    assert (product.count, product.taps) == (1, 1)
    assert product.alike() == [(1, product.columns, 1)]
