"""The command line, in this process but for what only another process shows."""

import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from cli_checks import assert_refused, run_json

import gpu_transconv as gtc
from gpu_transconv.tools.cli import COMMANDS, main, make_parser
from gpu_transconv.tools.commands import info

LAYER = ["explain", "--x", "1x64x32x32", "--weight", "64x32x4x4", "--stride", "2", "--padding", "1"]
SMALL = ["explain", "--x", "1x3x4x4", "--weight", "3x1x3x3"]


# --- the whole -----------------------------------------------------------------------------------------


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"gpu-transconv {gtc.__version__}\n"


def test_version_as_a_module():
    done = subprocess.run([sys.executable, "-m", "gpu_transconv", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"gpu-transconv {gtc.__version__}\n", "")


def test_a_reader_that_leaves_early_is_no_error():
    command = [sys.executable, "-m", "gpu_transconv", *LAYER, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 1


def test_without_arguments_it_prints_the_help(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out == make_parser().format_help()


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_ends_with_an_example(capsys, command):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"] if command else ["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: gpu-transconv")
    examples = re.split(r"\n\nexamples?:\s+", text)[-1].splitlines()
    assert examples
    for line in examples:
        program, *words = shlex.split(line)
        assert program == "gpu-transconv"
        if "--help" not in words:
            assert command in (None, make_parser().parse_args(words).command)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_argument_has_help(command):
    (commands,) = (action for action in make_parser()._actions if action.dest == "command")
    assert [action.dest for action in commands.choices[command]._actions if not action.help] == []


@pytest.mark.parametrize("argv", [["paint"], ["info", "extra"], ["explain"], ["demo", "--size", "big"]])
def test_bad_arguments(capsys, argv):
    assert_refused(capsys, argv)


# --- info ----------------------------------------------------------------------------------------------


def test_info(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("GPU_TRANSCONV_BACKEND", "reference")
    monkeypatch.setenv("GPU_TRANSCONV_DETERMINISTIC", "1")
    monkeypatch.setenv("GPU_TRANSCONV_CACHE_DIR", str(tmp_path / "kept"))
    facts = run_json(capsys, "info")
    assert facts["gpu_transconv"] == gtc.__version__
    assert facts["numpy"] == np.__version__
    assert facts["cores"] >= 1
    assert facts["cache"] == str(tmp_path / "kept")
    assert facts["settings"] == {
        "backend": "reference",
        "formulation": "auto",
        "deterministic": True,
        "precision": "highest",
    }
    assert facts["backends"] == {name: status.reason for name, status in gtc.backends().items()}
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("numba-cuda", np.__version__, facts["cpu"], facts["cache"]))


def test_info_reads_well(capsys, monkeypatch):
    long = dict.fromkeys(gtc.backends(), "word " * 60)
    collected = info.collect() | {"backends": long, "cache": "/var/cache/someone", "threading_layer": None}
    monkeypatch.setattr(info, "collect", lambda: collected)
    assert main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert [line for line in lines if line != line.rstrip()] == []
    assert lines[0].split() == ["gpu_transconv", gtc.__version__]
    assert "deterministic  not set" in lines
    assert not any("None" in line for line in lines)


def test_info_with_a_bad_setting(capsys, monkeypatch):
    monkeypatch.setenv("GPU_TRANSCONV_BACKEND", "abacus")
    assert_refused(capsys, ["info"], "GPU_TRANSCONV_BACKEND", "abacus")


# --- explain -------------------------------------------------------------------------------------------


def test_explain_json(capsys):
    facts = run_json(capsys, *LAYER)
    assert facts["output_shape"] == [1, 32, 64, 64]
    assert facts["flops"] == 2 * 64 * 32 * 4 * 4 * 32 * 32
    assert facts["bytes"] == 4 * (64 * 32 * 32 + 64 * 32 * 4 * 4 + 32 * 64 * 64)
    assert facts["arithmetic_intensity"] == facts["flops"] / facts["bytes"]
    assert facts["index_bits"] == 32
    assert facts["phases"] == 4
    assert facts["backend"] == "cpu"
    assert facts["formulation"] in ("gather", "scatter")
    assert facts["reason"]
    # Output 0 of a block takes tap 1 from the input beside it and tap 3 from the one before.
    assert facts["axes"][0]["phases"][0] == {"offset": 0, "count": 32, "taps": [[1, 0], [3, -1]]}


def test_explain_table(capsys):
    assert main([*LAYER, "--formulation", "scatter", "--backend", "reference"]) == 0
    text = capsys.readouterr().out
    for words in (
        "1 x 32 x 64 x 64 float32",
        "reference/scatter",
        "67,108,864",
        "917,504",
        "1 (+0), 3 (-1)",
    ):
        assert words in text


def test_explain_names_phases_without_taps(capsys):
    assert main([*SMALL, "--stride", "5"]) == 0
    assert "none: bias only" in capsys.readouterr().out


def test_explain_counts_what_is_too_long_to_list(capsys):
    assert main(["explain", "--x", "1x1x100", "--weight", "1x1x1024", "--stride", "256"]) == 0
    assert "not listed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        (["--padding", "1"], [1, 1, 4, 4]),
        (["--padding", "1,1"], [1, 1, 4, 4]),
        (["--padding", "1:1,0:2"], [1, 1, 4, 4]),
        (["--padding", "same"], [1, 1, 4, 4]),
        (["--padding", "valid"], [1, 1, 6, 6]),
        (["--padding", "0:1,2:3"], [1, 1, 5, 1]),
        (["--stride", "2,3"], [1, 1, 9, 12]),
        (["--stride", "2", "--output-padding", "1,0"], [1, 1, 10, 9]),
        (["--dilation", "2"], [1, 1, 8, 8]),
        (["--groups", "3"], [1, 3, 6, 6]),
        (["--x", "3,4,4"], [1, 6, 6]),
        (["--x", "2x5x6x3", "--data-format", "channels_last"], [2, 7, 8, 1]),
        (["--x", "1x3x7", "--weight", "3x2x4"], [1, 2, 10]),
        (["--x", "1x3x2x2x2", "--weight", "3x2x2x2x2"], [1, 2, 3, 3, 3]),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_explain_options(capsys, options, shape):
    assert run_json(capsys, *SMALL, *options)["output_shape"] == shape


def test_explain_counts_bytes_by_dtype(capsys):
    single, double = (run_json(capsys, *SMALL, "--dtype", name) for name in ("float32", "float64"))
    assert double["bytes"] == 2 * single["bytes"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--x", "1xAx4x4"], "--x must be a shape"),
        (["--x", "1x-3x4x4"], "--x must be a shape"),
        (["--weight", "3x1"], "weight must have 3, 4 or 5 axes"),
        (["--x", "1x5x4x4"], "x must have as many channels"),
        (["--stride", "0"], "stride must be"),
        (["--stride", "two"], "stride must be"),
        (["--stride", "1,1,1"], "stride must be"),
        (["--padding", "some"], "padding must be"),
        (["--padding", "1:2:3"], "padding must be"),
        (["--padding", "1:x,2:3"], "padding must be"),
        (["--padding", "9"], "padding leaves no output"),
        (["--output-padding", "1"], "output_padding must be smaller"),
        (["--dilation", "-1"], "dilation must be"),
        (["--groups", "2"], "groups must divide"),
        (["--groups", "many"], "groups must be"),
        (["--dtype", "float31"], "float31"),
        (["--data-format", "NCHW"], "data_format must be"),
        (["--backend", "abacus"], "backend must be"),
        (["--formulation", "guess"], "formulation must be"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_explain_refuses(capsys, options, words):
    assert_refused(capsys, [*SMALL, *options], words)


def test_explain_of_a_missing_backend(capsys):
    missing = next(name for name, status in gtc.backends().items() if not status)
    assert_refused(capsys, [*SMALL, "--backend", missing], missing, "not available")
