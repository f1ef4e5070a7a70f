"""The share of the operator in models, as counted, and as the page says it."""

import pytest

torch = pytest.importorskip("torch")

from benchmarks import shares  # noqa: E402


def test_multiplications_are_counted_by_their_definition():
    layers = torch.nn.Sequential(
        torch.nn.ConvTranspose1d(3, 4, 5),
        torch.nn.Conv1d(4, 6, 2, groups=2),
        torch.nn.Flatten(),
        torch.nn.Linear(78, 7),
    )
    x = torch.zeros(1, 3, 10)
    plain = 14 - 1
    assert layers[1](layers[0](x)).shape == (1, 6, plain)
    assert shares.count(layers, x) == (10 * 3 * 4 * 5, 10 * 3 * 4 * 5 + plain * 6 * 2 * 2 + 78 * 7)


def test_the_page_says_what_is_counted():
    text = shares.PAGE.read_text(encoding="utf-8")
    assert shares.replaced(text, shares.section(), shares.BEGIN, shares.END, shares.PAGE.name) == text


def test_the_share_in_hifi_gan_is_the_readmes():
    (found,) = (row for row in shares.shares() if row[0] == "HiFi-GAN V1")
    ours, total = (round(value / 100 / 1e6, 1) for value in found[3:])
    assert (ours, round(total)) == (9.4, 307)
