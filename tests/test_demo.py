"""The steps of the demonstration, and the reading of picture files."""

import numpy as np
import pytest
from PIL import Image
from scipy.signal import correlate2d

from gpu_transconv.demo import DIAGONAL, THRESHOLD, demonstrate, detect, keep, normalise, paint, strokes
from gpu_transconv.picture import read_grey

EVEN = np.full((6, 7), 0.3, np.float32)


def stroke(*, north_west):
    picture = np.eye(12, dtype=np.float32)
    return picture if north_west else picture[:, ::-1]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(9, 8), (1, 1), (2, 5)])
def test_detect_is_the_correlation(shape, stride):
    picture = np.random.default_rng(0).standard_normal(shape)
    expected = correlate2d(picture, DIAGONAL, mode="full")[1:-1, 1:-1][::stride, ::stride]
    np.testing.assert_allclose(detect(picture, DIAGONAL, stride), expected, atol=1e-12)


@pytest.mark.parametrize("picture", [EVEN, np.zeros((1, 1)), normalise(EVEN)])
def test_an_even_picture_has_no_strokes(picture):
    assert not strokes(picture).any()


def test_normalise_spans_zero_to_one():
    stretched = normalise(np.array([[-5, 300], [20, 7]], np.int32))
    assert (stretched.min(), stretched.max()) == (0, 1)
    assert stretched.dtype == np.float32


def test_only_north_west_strokes_are_kept_and_painted():
    found = keep(detect(strokes(stroke(north_west=True)), DIAGONAL), THRESHOLD)
    assert np.all(np.diagonal(found)[1:-1] > 2)
    assert not keep(detect(strokes(stroke(north_west=False)), DIAGONAL), THRESHOLD).any()
    painted = paint(found, DIAGONAL, found.shape)
    assert np.all(np.diagonal(painted) > 0)
    assert np.all(np.diagonal(painted, 1) < 0)


@pytest.mark.parametrize("stride", [1, 2])
def test_demonstrate_passes(stride):
    result = demonstrate(strokes(stroke(north_west=True)), THRESHOLD, stride)
    assert all(check.passed for check in result.checks)
    assert result.gather.shape == result.scatter.shape == result.product.shape == (12, 12)
    assert result.features.shape == (12 // stride, 12 // stride)


def test_demonstrate_compares(monkeypatch):
    monkeypatch.setattr("gpu_transconv.demo.detect", lambda *args: detect(*args) + 1e-3)
    result = demonstrate(strokes(stroke(north_west=True)), THRESHOLD)
    assert not result.checks[0].passed


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
