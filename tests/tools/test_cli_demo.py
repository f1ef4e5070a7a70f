"""The demonstration from the command line."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_checks import assert_refused, run_json
from PIL import Image
from support.fakes import wrap_kernels

import gpu_transconv as gtc
from gpu_transconv.tools.cli import main


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def picture(tmp_path):
    """A file of 40 x 30 pixels with bright strokes in both diagonal directions."""
    pixels = np.full((30, 40), 60, np.uint8)
    for i in range(16):
        pixels[4 + i, 4 + i] = pixels[24 - i, 20 + i] = 230
    path = tmp_path / "strokes.png"
    Image.fromarray(pixels).save(path)
    return str(path)


def assert_figures(paths):
    assert [path.name for path in paths] == [
        "overview.png",
        "stamps.png",
        "gather_scatter.png",
    ]
    for path in paths:
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert image.width == 1200
            pixels = np.asarray(image.convert("L"))
        assert np.unique(pixels).size > 20
        assert 0.02 < (pixels < 250).mean() < 0.9


def test_demo_without_arguments(capsys):
    assert main(["demo"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "512 x 600 pixels, scaled down to 137 x 160" in printed.out
    assert "painted back: correlation with the picture's own detail 0.93" in printed.out
    assert "FAILED" not in printed.out
    assert_figures([Path(line) for line in printed.out.splitlines() if line.endswith(".png")])
    assert {path.name for path in Path("demo_figures").iterdir()} >= {"overview.png", "stamps.png"}


def test_demo_of_a_picture(capsys, picture):
    report = run_json(capsys, "demo", picture, "-o", "made/here")
    assert report["passed"]
    assert report["size"] == report["image_size"] == [40, 30]
    assert [check["passed"] for check in report["checks"]] == [True] * 8
    assert 0 < report["kept"] <= report["responses"] // 10
    assert all(check["difference"] <= check["allowed"] < 2e-4 for check in report["checks"])
    assert_figures([Path(path) for path in report["figures"]])


@pytest.mark.long
def test_demo_of_all_pages(capsys, picture):
    report = run_json(capsys, "demo", picture, "--all")
    pages = [Path(path) for path in report["figures"]][3:]
    assert [path.name for path in pages[:2]] == ["1_flattening.png", "1_row_and_column.png"]
    assert {path.name[0] for path in pages} == set("12345")
    assert len(pages) == 18
    for path in pages:
        with Image.open(path) as image:
            assert image.format == path.suffix[1:].upper()
            assert getattr(image, "n_frames", 1) == {"3_scatter": 9, "3_stuffing": 25, "3_phases": 25}.get(path.stem, 1)


def test_demo_says_when_a_picture_is_even(capsys, tmp_path):
    Image.new("L", (40, 30), 77).save(tmp_path / "even.png")
    assert main(["demo", "even.png", "--size", "20"]) == 0
    out = capsys.readouterr().out
    assert "scaled down to 20 x 15" in out
    assert "0 of 1,200 responses" in out
    assert "nothing, the picture is even" in out


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (3, 3), (90, 2)])
def test_demo_of_a_tiny_picture(size, tmp_path):
    Image.effect_noise(size, 50).save(tmp_path / "tiny.png")
    assert main(["demo", str(tmp_path / "tiny.png")]) == 0


@pytest.mark.parametrize("formulation", ["gather", "scatter"])
@pytest.mark.parametrize("error", [1e-3, float("nan")])
def test_demo_finds_a_wrong_kernel(capsys, monkeypatch, picture, formulation, error):
    def wrong(kernel, launch):
        def fill(plan, x, weight, bias, out, packed):
            launch(plan, x, weight, bias, out, packed)
            out[..., -1, -1] += error if kernel.formulation == formulation else 0

        return fill

    wrap_kernels(monkeypatch, "launch", wrong)
    assert main(["demo", picture, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["passed"]
    failed = {check["check"] for check in report["checks"] if not check["passed"]}
    stamps = {f"one stamp, stride {stride} = filter ({formulation})" for stride in (1, 2)}
    assert failed == {"gather = scatter", f"{formulation} = M.T f", *stamps}


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + bytes(40)], ids=["empty", "text", "no header"]
)
def test_demo_of_no_image(capsys, tmp_path, content):
    (tmp_path / "broken.png").write_bytes(content)
    assert_refused(capsys, ["demo", "broken.png"], "broken.png")


def test_demo_of_a_truncated_image(capsys, picture, tmp_path):
    content = Path(picture).read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) * 2 // 3])
    assert_refused(capsys, ["demo", "cut.png"], "cut.png", "damaged")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["missing.jpg"], "missing.jpg: No such file"),
        (["."], "cannot read ."),
        (["--size", "0"], "--size must be at least 1"),
        (["--keep", "nan"], "--keep must be"),
        (["--keep", "0"], "--keep must be"),
        (["--keep", "1.5"], "--keep must be"),
        (["-o", "strokes.png/here"], "cannot write to strokes.png/here"),
        (["-o", "strokes.png"], "cannot write to strokes.png"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.usefixtures("picture")
def test_demo_refuses(capsys, options, words):
    assert_refused(capsys, ["demo", *options], words)


@pytest.mark.parametrize("name", ["matplotlib", "PIL", "scipy"])
def test_demo_without_what_it_needs(capsys, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    assert_refused(
        capsys, ["demo"], f"the demo needs {name}: pip install matplotlib pillow scipy", 'pip install ".[demo]"'
    )


def test_demo_on_a_missing_backend(capsys, monkeypatch, picture):
    missing = next(name for name, status in gtc.backends().items() if not status)
    monkeypatch.setenv("GPU_TRANSCONV_BACKEND", missing)
    assert_refused(capsys, ["demo", picture], missing)
    monkeypatch.setenv("GPU_TRANSCONV_BACKEND", "abacus")
    assert_refused(capsys, ["demo", picture], "abacus")
