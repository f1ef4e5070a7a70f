"""What the tests of the command line share."""

import json

from gpu_transconv.tools.cli import main


def run_json(capsys, *argv):
    """Run a command with --json; return what it printed."""
    assert main([*argv, "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return json.loads(printed.out)


def assert_refused(capsys, argv, *words):
    """Exit code 2 and one line on stderr, with these words in it."""
    try:
        code = main(argv)
    except SystemExit as stop:
        code = stop.code
    printed = capsys.readouterr()
    assert code == 2
    assert printed.out == ""
    assert printed.err.startswith("gpu-transconv: error: ")
    assert printed.err.count("\n") == 1
    assert printed.err.endswith("\n")
    for word in words:
        assert word in printed.err
