"""The steps of the demonstration, and the reading of picture files."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.cbook import get_sample_data
from PIL import Image
from scipy.signal import correlate2d

from gpu_transconv.operators import conv_matrix
from gpu_transconv.tools.demo import canvas
from gpu_transconv.tools.demo.detect import (
    BANK,
    DIAGONAL,
    demonstrate,
    detail,
    detect,
    drawing,
    keep_strongest,
    likeness,
    normalise,
    paint,
    rectify,
)
from gpu_transconv.tools.demo.picture import read_grey

EVEN = np.full((6, 7), 0.3, np.float32)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(9, 8), (1, 1), (2, 5)])
def test_detect_is_the_correlation(shape, stride):
    picture = np.random.default_rng(0).standard_normal(shape)
    expected = correlate2d(picture, DIAGONAL, mode="full")[1:-1, 1:-1][::stride, ::stride]
    np.testing.assert_allclose(detect(picture, DIAGONAL, stride), expected, atol=1e-12)


def test_an_even_picture_paints_nothing():
    result = demonstrate(EVEN - EVEN.mean())
    assert not result.kept.any()
    assert not result.gather.any()
    assert result.likeness == 0


def test_normalise_spans_zero_to_one():
    stretched = normalise(np.array([[-5, 300], [20, 7]], np.int32))
    assert (stretched.min(), stretched.max()) == (0, 1)
    assert stretched.dtype == np.float32


def test_of_the_drawing_one_stroke_is_found_and_painted_back():
    seen = drawing()
    kept = rectify(detect(seen, DIAGONAL))
    north_west = np.zeros_like(seen, bool)
    np.fill_diagonal(north_west[1:8, 1:8], True)
    np.testing.assert_array_equal(kept > 0, north_west)
    assert seen[~north_west].sum() == 7 + 7 + 7  # the other three strokes
    painted = paint(kept, DIAGONAL, seen.shape)
    assert painted[north_west].min() > 0
    painted[:9, :9] = 0
    assert not painted.any()


def test_the_detector_is_its_own_transpose_at_stride_1():
    matrix = conv_matrix(DIAGONAL[None, None], (1, 7, 7), padding=1).toarray()
    np.testing.assert_array_equal(matrix, matrix.T)


@pytest.fixture(scope="module")
def photograph():
    source = get_sample_data("grace_hopper.jpg", asfileobj=False)
    grey = normalise(read_grey(Path(source), 160)[0])
    return grey - grey.mean()


def test_the_photograph_is_recognised_in_what_is_painted_back(photograph):
    result = demonstrate(photograph)
    assert all(check.passed for check in result.checks)
    assert np.count_nonzero(result.kept) == pytest.approx(0.1 * result.responses.size, rel=0.001)
    assert result.responses.shape == (4, *photograph.shape)
    assert result.likeness == likeness(result.gather, detail(photograph)) >= 0.9


def test_filters_that_did_not_detect_do_not_paint_it_back(photograph):
    kept = demonstrate(photograph).kept
    for seed in range(10):
        other = np.random.default_rng(seed).standard_normal(BANK.shape).astype(np.float32)
        other -= other.mean(axis=(1, 2), keepdims=True)
        assert abs(likeness(paint(kept, other, photograph.shape), detail(photograph))) < 0.75


def test_filters_have_mean_zero():
    np.testing.assert_allclose(BANK.sum(axis=(1, 2)), 0, atol=1e-6)
    assert len({kernel.tobytes() for kernel in BANK}) == 4


@pytest.mark.parametrize("share", [0.05, 0.5, 1])
def test_the_strongest_are_kept(share):
    features = np.random.default_rng(1).standard_normal((4, 20, 30))
    kept = keep_strongest(features, share)
    assert np.count_nonzero(kept) == share * features.size
    np.testing.assert_array_equal(kept[kept != 0], features[kept != 0])
    assert abs(features[kept == 0]).max(initial=0) <= abs(kept[kept != 0]).min()


def test_likeness_is_the_correlation_inside():
    one, other = np.random.default_rng(2).standard_normal((2, 9, 8))
    expected = np.corrcoef(one[1:-1, 1:-1].ravel(), other[1:-1, 1:-1].ravel())[0, 1]
    assert likeness(one, other) == pytest.approx(expected)


def test_demonstrate_compares(monkeypatch):
    monkeypatch.setattr("gpu_transconv.tools.demo.detect.detect", lambda *args: detect(*args) + 1e-3)
    assert not demonstrate(drawing()).checks[0].passed


def test_signs_stay_apart_in_grey():
    """A page that is printed without colours must not lose what is above and what is below zero."""
    for part in np.linspace(0.25, 1, 16):
        above, below = (canvas.luminance(canvas.SIGNED(0.5 + sign * part / 2)) for sign in (1, -1))
        assert above - below >= 60
        assert canvas.luminance(canvas.SIGNED(0.5)) - above >= 5
    grey = [canvas.luminance(canvas.mpl.colormaps[canvas.GREY](value)) for value in (0.1, 0.5, 0.9)]
    assert grey[1] - grey[0] >= 60
    assert grey[2] - grey[1] >= 60


def save(path, image, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_modes_are_read_alike(tmp_path, mode):
    pixels = np.zeros((5, 4), np.uint8)
    pixels[1, 2] = 255
    grey, original = read_grey(save(tmp_path / "a.png", Image.fromarray(pixels).convert(mode)), 100)
    assert original == (5, 4)
    np.testing.assert_array_equal(grey, pixels)


@pytest.mark.parametrize(("dtype", "name"), [("uint16", "a.png"), ("uint16", "a.tif"), ("float32", "a.tif")])
def test_deep_pixels_keep_their_values(tmp_path, dtype, name):
    pixels = np.array([[0, 40000], [65535, 257]], dtype)
    grey, _ = read_grey(save(tmp_path / name, Image.fromarray(pixels)), 100)
    np.testing.assert_array_equal(grey, pixels)


def test_pixels_that_are_no_numbers(tmp_path):
    pixels = np.array([[np.nan, 1], [np.inf, 2]], np.float32)
    grey, _ = read_grey(save(tmp_path / "a.tif", Image.fromarray(pixels)), 100)
    np.testing.assert_array_equal(grey, [[0, 1], [0, 2]])


@pytest.mark.parametrize("mode", ["LA", "RGBA", "PA"])
def test_transparent_is_white(tmp_path, mode):
    image = Image.new("LA", (3, 2), (0, 0)).convert("RGBA")
    image = image.convert("P") if mode == "PA" else image.convert(mode)
    options = {"transparency": 0} if mode == "PA" else {}
    grey, _ = read_grey(save(tmp_path / "a.png", image, **options), 100)
    assert np.all(grey == 255)


def test_orientation_is_heeded(tmp_path):
    pixels = np.zeros((8, 16), np.uint8)
    pixels[:, :8] = 255
    tags = Image.Exif()
    tags[0x0112] = 6  # the camera was turned: the left of the file is the top of the picture
    grey, original = read_grey(save(tmp_path / "a.jpg", Image.fromarray(pixels), exif=tags), 8)
    assert original == (16, 8)
    assert grey.shape == (8, 4)
    assert grey[:3].min() > 200
    assert grey[-3:].max() < 50


@pytest.mark.parametrize(("size", "shape"), [((900, 30), (3, 90)), ((2000, 1), (1, 90)), ((7, 5), (5, 7))])
def test_large_pictures_are_scaled_down(tmp_path, size, shape):
    grey, original = read_grey(save(tmp_path / "a.png", Image.new("L", size, 9)), 90)
    assert original == size[::-1]
    assert grey.shape == shape


def test_too_many_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ValueError, match="too many pixels"):
        read_grey(save(tmp_path / "a.png", Image.new("L", (9, 9))), 90)
