"""Every claim of the pages of docs/gallery that explain the operator, as computed by what draws their figures."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.cbook import get_sample_data
from selection import in_full

from gpu_transconv import conv_transpose2d
from gpu_transconv.operators import conv_matrix
from gpu_transconv.tools.demo import adjoint, canvas, checkerboards, films, gallery, layout, rows, turned
from gpu_transconv.tools.demo.detect import BANK, DIAGONAL, demonstrate, detail, likeness, normalise, rectify
from gpu_transconv.tools.demo.picture import read_grey

#: Width of a page's text on a screen of 830 pixels, measured in Chromium; figures are not wider.
COLUMN = 798


@pytest.fixture(scope="module")
def grey():
    source = get_sample_data("grace_hopper.jpg", asfileobj=False)
    return normalise(read_grey(Path(source), 160)[0])


@pytest.fixture(scope="module")
def result(grey):
    return demonstrate(grey - grey.mean())


# --- 1: detect and paint --------------------------------------------------------------------------------


def test_the_matrix_is_square_at_stride_1_and_padding_1():
    assert conv_matrix(DIAGONAL[None, None], (1, 7, 7), padding=1).shape == (49, 49)


def test_every_row_is_the_column_and_the_stamp():
    matrix = rows.square_matrix()
    for i, row in enumerate(matrix):
        np.testing.assert_array_equal(row, matrix.T[:, i])
        np.testing.assert_array_equal(row, rows.painted_stamp(i).ravel())


def test_a_lone_bright_pixel_does_not_exceed_the_threshold():
    lone = np.zeros((5, 5), np.float32)
    lone[2, 2] = 1
    assert not rectify(np.reshape(rows.square_matrix(side=5) @ lone.ravel(), (5, 5))).any()


# --- 2: why the transpose -------------------------------------------------------------------------------


def test_the_transpose_never_paints_against_its_features_and_others_do_half_of_the_time():
    transposed, random = adjoint.agreements(1000)
    assert (transposed > 0).sum() == 1000
    assert 450 <= (random > 0).sum() <= 550


def test_agreement_is_the_squared_length_of_what_is_painted():
    matrix = rows.square_matrix().astype(float)
    features = np.random.default_rng(1).standard_normal(49)
    painted = matrix.T @ features
    assert features @ matrix @ painted == pytest.approx(painted @ painted)


def test_a_stamp_excites_its_detector_more_than_any_picture_of_its_length():
    row = rows.square_matrix()[24].astype(float)
    others = np.random.default_rng(2).standard_normal((1000, 49))
    others *= np.linalg.norm(row) / np.linalg.norm(others, axis=1, keepdims=True)
    assert (others @ row).max() < row @ row


def test_the_photograph_comes_back_by_its_filters_and_by_no_random_bank(result):
    assert result.likeness >= 0.9
    found = [found for found, _ in adjoint.random_banks(result.kept, result.picture, 50)]
    assert len(found) == 50
    assert max(found) < 0.75
    assert abs(likeness(adjoint.random_matrix(result.kept, result.picture.shape), detail(result.picture))) < 0.1


def test_a_random_matrix_is_drawn_by_its_product():
    kept = np.random.default_rng(3).standard_normal(50)
    drawn = adjoint.random_matrix(kept, (100, 100))
    true = np.random.default_rng(4).standard_normal((10000, 50)) @ kept
    assert drawn.std() == pytest.approx(true.std(), rel=0.03)


@pytest.mark.parametrize("seed", range(5))
def test_the_transpose_is_the_gradient(seed):
    by_step, by_transpose = adjoint.slope(*np.random.default_rng(seed).standard_normal((3, 9, 9)))
    assert by_step == pytest.approx(by_transpose, abs=1e-6)


def test_the_transpose_is_the_only_adjoint():
    """Unit vectors give the entries, so another matrix differs in some product."""
    matrix = rows.square_matrix(turned.HOOK, 4)
    units = np.eye(16)
    found = [[(matrix @ x) @ f for f in units] for x in units]
    np.testing.assert_array_equal(found, matrix.T)


def test_least_squares_restores_what_the_transpose_only_outlines(result):
    painted, solved = adjoint.restored(result.picture[::2, ::2])
    assert likeness(solved, result.picture[::2, ::2]) > 0.99
    assert likeness(painted, result.picture[::2, ::2]) < 0.6


# --- 3: a convolution of its own ------------------------------------------------------------------------

GEOMETRIES = [(kernel, stride, padding) for kernel in (2, 3, 4, 5) for stride in (1, 2, 3) for padding in (0, 1, 2)
              if padding < kernel][:30]  # fmt: skip


@pytest.mark.parametrize(("kernel", "stride", "padding"), GEOMETRIES)
def test_the_transpose_is_a_convolution_of_a_stuffed_input(kernel, stride, padding):
    weight = np.random.default_rng(kernel).integers(-9, 10, (kernel, kernel))
    shape = (3 * stride + kernel, 2 * stride + kernel + 1)
    transposed, composed = turned.as_one_convolution(weight, shape, stride, padding)
    assert transposed.shape[0] == np.prod(shape)
    np.testing.assert_array_equal(transposed, composed)


def test_there_are_thirty_geometries():
    assert len(GEOMETRIES) == 30


def test_the_diagonal_filter_is_its_own_transpose_and_the_hook_is_turned():
    diagonal, hook = rows.square_matrix(DIAGONAL), rows.square_matrix(turned.HOOK)
    np.testing.assert_array_equal(diagonal, diagonal.T)
    assert (hook != hook.T).any()
    np.testing.assert_array_equal(hook.T, rows.square_matrix(turned.half_turn(turned.HOOK)))


@pytest.mark.parametrize(("kernel", "stride", "padding"), GEOMETRIES)
def test_phases_share_out_the_taps(kernel, stride, padding):
    taps = turned.taps_of_phases(kernel, stride, padding)
    assert len(taps) == min(kernel, stride)  # a phase without taps holds zeros
    assert sorted(tap for phase in taps for tap in phase) == list(range(kernel))


def test_phases_paint_the_picture_without_a_zero():
    kernel, features = turned.HOOK, films.FEATURES
    expected = films.picture_of(kernel)
    made = np.zeros_like(expected)
    count = 0
    for _, (row, column), taps in films.steps():
        for i, j in taps:
            made[row, column] += kernel[i, j] * features[(row + 1 - i) // 2, (column + 1 - j) // 2]
        count += len(taps)
    np.testing.assert_array_equal(made, expected)
    assert (9 * 25, count) == films.products()


# --- 4: is upscaling necessary --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found():
    return [layout.statistics(layout.made(number)) for number in range(3)]


def test_full_size_noise_gives_a_texture(found):
    assert found[0].largest < 3
    beyond = layout.reach(layout.GENERATORS[0].layers)
    assert found[0].correlation[beyond:].max() < 4 / np.sqrt(layout.SAMPLES)
    assert found[0].correlation[1:beyond].max() > 10 / np.sqrt(layout.SAMPLES)


@pytest.mark.parametrize("number", [1, 2])
def test_one_vector_gives_a_layout(found, number):
    assert found[number].largest > 10
    assert found[number].correlation.min() > 10 / np.sqrt(layout.SAMPLES)


def test_the_third_generator_upscales_nothing_after_its_first_layer():
    assert all(layer.stride == 1 for layer in layout.GENERATORS[2].layers)
    assert all(layer.stride == 1 and 2 * layer.padding == layer.kernel - 1 for layer in layout.GENERATORS[2].layers[1:])


def test_reach_is_what_one_number_changes():
    for layers in ([layout.Layer(3, 1, 1)] * 3, [layout.Layer(4, 2, 1)] * 2):
        values = np.zeros((1, 15, 15))
        values[0, 7, 7] = 1
        for kernel, stride, padding in layers:
            values = conv_transpose2d(values, np.ones((1, 1, kernel, kernel)), stride=stride, padding=padding)
        assert np.count_nonzero(values.any(axis=(0, 1))) == layout.reach(layers)


def test_the_cost_is_counted_by_the_plan():
    import gpu_transconv as gtc

    layers, side = [layout.Layer(4, 2, 1)] * 2, 4
    flops = 0
    for kernel, stride, padding in layers:
        flops += gtc.explain((1, 8, side, side), (8, 8, kernel, kernel), stride=stride, padding=padding).flops
        side *= stride
    # The plan leaves out products that fall outside of the picture.
    assert 0.8 < flops / (2 * layout.multiplications(layers, side, 8)) <= 1


def test_one_layer_of_noise_has_the_covariance_of_the_stamps():
    measured, expected = layout.gaussian_covariance()
    diagonal = np.diag(expected)
    error = np.sqrt((expected**2 + np.outer(diagonal, diagonal)) / layout.SAMPLES)
    assert (np.abs(measured - expected) / error).max() < 5


# --- 5: checkerboards -----------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("side", [2, 3, 4, 5, 6])
def test_an_even_map_becomes_the_sums_of_the_phases(side, stride):
    kernel = np.random.default_rng(side).integers(1, 9, (side, side)).astype(float)
    painted = conv_transpose2d(np.ones((1, 12, 12)), kernel[None, None], stride=stride)[0]
    start = 6 * stride
    np.testing.assert_allclose(painted[start : start + stride, start : start + stride],
                               checkerboards.phase_sums(kernel, stride), rtol=1e-12)  # fmt: skip
    ones = checkerboards.phase_sums(np.ones((side, side)), stride)
    assert (np.ptp(ones) == 0) == (side % stride == 0)


def test_even_counts_with_uneven_sums_paint_a_pattern_and_the_cures_do_not():
    kernel = checkerboards.random_filter()
    assert checkerboards.unevenness(checkerboards.of_even(kernel, 2)) > 0.1
    for cure in (checkerboards.evened(kernel, 2), checkerboards.resize_convolution(kernel[:3, :3], 2)):
        assert checkerboards.unevenness(checkerboards.of_even(cure, 2)) < 1e-12


@pytest.mark.parametrize("stride", [2, 3])
def test_repeating_and_convolving_is_one_transposed_convolution(stride):
    features = np.random.default_rng(stride).standard_normal((7, 6))
    kernel = np.random.default_rng(9).standard_normal((3, 3))
    whole = checkerboards.resize_convolution(kernel, stride)
    at_once = conv_transpose2d(features[None], whole[None, None], stride=stride, padding=1)[0]
    np.testing.assert_allclose(at_once, checkerboards.resized(features, kernel, stride), rtol=1e-12, atol=1e-12)


def test_layers_compound_the_pattern():
    spans = [float(np.ptp(checkerboards.after_layers(layers))) for layers in (1, 2, 3)]
    assert spans == sorted(spans)
    for layers in (1, 2, 3):
        window, period = checkerboards.after_layers(layers), 2**layers
        np.testing.assert_allclose(window[period:], window[:-period], rtol=1e-12)
        assert np.ptp(window[:period, :period]) == np.ptp(window)


# --- the figures ----------------------------------------------------------------------------------------


@in_full
@pytest.mark.long
def test_figures_can_be_read_where_a_page_is_narrow(grey, result):
    for name, make in gallery.figures(grey, result).items():
        figure = make()
        pages = getattr(figure, "pages", [figure])
        assert figure.words or len(pages) == 1, name
        shrunk = min(1, COLUMN / pages[0].width)
        assert figure.smallest_letters() * shrunk >= 9, name


def test_the_bank_has_four_filters_of_mean_zero():
    assert BANK.shape == (4, 3, 3)
    assert DIAGONAL.sum() == -3
    np.testing.assert_allclose(BANK.sum(axis=(1, 2)), 0, atol=1e-6)


def test_shades_of_signed_values_stay_apart_in_grey():
    for shades in (canvas.SIGNED, canvas.mpl.colormaps[canvas.GREY]):
        below, above = (canvas.luminance(shades(0.5 + sign * 0.25)) for sign in (-1, 1))
        assert above - below >= 60
