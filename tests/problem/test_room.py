"""The room of the problem stands on nothing but Python, NumPy and the words of messages."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import gpu_transconv.problem

ROOM = Path(gpu_transconv.problem.__file__).parent
#: What is above it in the package.
ABOVE = {"errors", "words"}


def imported(path):
    """Names of the modules that a file imports anywhere, functions included; those beside it without their dot."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (("outside", alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            place = {0: "outside", 1: "room", 2: "package"}[node.level]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from ((place, name.partition(".")[0]) for name in names)


def test_imports_of_the_room():
    files = sorted(ROOM.glob("*.py"))
    modules = {path.stem for path in files}
    assert {"arguments", "axis", "dtypes", "plan", "rewrites", "shapes"} <= modules
    allowed = {"outside": {*sys.stdlib_module_names, "numpy"}, "room": modules, "package": ABOVE}
    found = {(path.name, place, name) for path in files for place, name in imported(path)}
    assert len(found) > 20
    assert sorted(each for each in found if each[2] not in allowed[each[1]]) == []
