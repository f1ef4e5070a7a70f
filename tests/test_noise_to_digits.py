"""The small generators of the gallery's last page: their training, their measures, and what the page says of them."""

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "docs" / "noise_to_digits").exists():
    pytest.skip("the gallery is part of the checkout, not of the package", allow_module_level=True)
torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")
sys.path.insert(0, str(ROOT))

from docs.noise_to_digits import data, measure, models, show, train  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_no_digit_is_in_two_parts():
    parts = data.split()
    assert [len(part.labels) for part in parts] == [600, 800, 397]
    assert sum(len(part.labels) for part in parts) == 1797


def test_the_classifier_knows_digits_that_it_has_not_seen():
    held_out = data.split()[2]
    found = measure.classifier()(torch.from_numpy(held_out.pictures)).argmax(1).numpy()
    assert (found == held_out.labels).mean() > 0.95


def test_the_distance_is_that_of_two_gaussians():
    points = np.random.default_rng(0).standard_normal((500, 3))
    spread = np.trace(np.cov(points.T)) + (points.mean(0) ** 2).sum()
    assert measure.frechet(points, points) == pytest.approx(0, abs=1e-6)
    assert measure.frechet(points, 2 * points) == pytest.approx(spread)


def test_copies_are_noticed():
    training = data.split()[1].pictures
    assert measure.measure(training[:100]).copies == 1
    assert measure.measure(data.split()[2].pictures).copies <= 0.02


def test_the_linear_generator_has_the_training_digits_mean_and_covariance():
    made, real = (values.reshape(-1, 64) for values in (measure.linear_pictures(20000), data.split()[1].pictures))
    np.testing.assert_allclose(made.mean(0), real.mean(0), atol=0.02)
    np.testing.assert_allclose(np.cov(made.T), np.cov(real.T), atol=0.01)


@pytest.mark.parametrize("name", sorted(models.GENERATORS))
def test_an_interrupted_training_goes_on_as_if_it_had_not_been(name, tmp_path):
    whole = train.run(name, 6, tmp_path / "whole")
    train.run(name, 3, tmp_path / "parts")
    parts = train.run(name, 6, tmp_path / "parts")
    assert parts.losses == whole.losses
    assert len(whole.losses) == 6
    np.testing.assert_array_equal(parts.pictures(5), whole.pictures(5))


@pytest.mark.long
def test_the_distance_falls_by_half():
    training = train.Training("upscaling")
    before = measure.measure(training.pictures(500)).distance
    for _ in range(150):
        training.advance()
    assert measure.measure(training.pictures(500)).distance < before / 2


def test_generators_are_made_of_this_packages_layers():
    for make in models.GENERATORS.values():
        assert all(type(layer) is models.Painter for layer in make().layers)
    assert models.upscaling().noise[1:] == (1, 1)
    assert models.constant_size().noise[1:] == (8, 8)
    assert all(layer.stride == (1, 1) for layer in models.constant_size().layers)


# --- what was trained -----------------------------------------------------------------------------------


def test_the_trained_generator_keeps_what_the_page_says():
    upscaling, linear = show.report("upscaling"), show.report("linear")
    assert upscaling.distance <= linear.distance / 2
    assert upscaling.classes >= 9
    assert upscaling.copies <= 0.02


def test_the_kept_weights_make_what_was_measured():
    noise = np.random.default_rng(0).standard_normal((2000, models.NOISE, 1, 1)).astype(np.float32)
    found = measure.measure(show.inputs(noise)[-1][:, 0])
    kept = show.report("upscaling")
    assert found.distance == pytest.approx(kept.distance, abs=0.05)
    assert found.classes >= 9


def test_the_measures_of_the_linear_generator_are_kept_as_they_are():
    found = measure.measure(measure.linear_pictures(train.SAMPLES))
    assert found.distance == pytest.approx(show.report("linear").distance, rel=0.05)


def test_all_of_a_layers_inputs_make_the_digit():
    z = show.noise(1)[0]
    whole = show.inputs(z[None])[-1][0, 0]
    for layer in range(3):
        np.testing.assert_allclose(show.partial_pictures(z, layer)[-1], whole, atol=1e-6)
