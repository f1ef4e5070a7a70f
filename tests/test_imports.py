"""Which module of the package imports which, imports inside functions and by name included: one way, and no cycle."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import gpu_transconv
from gpu_transconv.kernels.registry import FOLDERS

NAME = "gpu_transconv"
PACKAGE = Path(gpu_transconv.__file__).parent
LISTING = PACKAGE.parent / "docs" / "develop" / "architecture.md"
BACKEND_ROOMS = {f"{NAME}.kernels{folder}" for folder in FOLDERS.values()}
SUITES = sorted(PACKAGE.parent.glob("benchmarks/bench_*.py"))


class Import(NamedTuple):
    """One module of the package needs another, and of it a name, or "" where it needs the module."""

    by: str
    module: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.by} imports {self.module}" + (f": {self.name}" if self.name else "")


def modules_in(folder: Path) -> dict[str, Path]:
    """Source files by the dotted names of their modules."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def package_of(module: str, path: Path) -> str:
    return module if path.name == "__init__.py" else module.rpartition(".")[0]


def absolute(module: str, package: str) -> str:
    """Dotted name of what a package calls ``.sibling`` or ``..cousin``."""
    level = len(module) - len(module.lstrip("."))
    if not level:
        return module
    base = package.split(".")
    return ".".join(filter(None, (*base[: len(base) - level + 1], module[level:])))


def reads(module: str, path: Path, known: dict[str, Path]) -> Iterator[Import]:
    """Imports of a file, those by `import_module` included, and private names that it takes from what it imports."""
    tree, package = ast.parse(path.read_text(encoding="utf-8")), package_of(module, path)
    bound: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound |= {alias.asname or alias.name: alias.name}
                yield Import(module, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = absolute("." * node.level + (node.module or ""), package)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                if inner in known:
                    bound |= {alias.asname or alias.name: inner}
                yield Import(module, inner) if inner in known else Import(module, base, alias.name)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            for name in names_of(node, tree):
                yield Import(module, absolute(name, package))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and ast.unparse(node.value) in bound:
            yield Import(module, bound[ast.unparse(node.value)], node.attr)


def names_of(call: ast.Call, tree: ast.Module) -> list[str]:
    """What `import_module` may be called with: what is put together comes from the strings of the same file.

    Without a package to start from, what is put together is a module of another library.
    """
    argument = call.args[0]
    if isinstance(argument, ast.Constant):
        return [argument.value]
    if len(call.args) == 1:
        return []
    parts = argument.values if isinstance(argument, ast.JoinedStr) else [argument]
    written = [part.value if isinstance(part, ast.Constant) else None for part in parts]
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return ["".join(word.replace("-", "_") if part is None else part for part in written) for word in sorted(strings)]


def imports_of(folder: Path) -> set[Import]:
    """All imports of one module of a package by another."""
    known = modules_in(folder)
    found = {read for module, path in known.items() for read in reads(module, path, known)}
    return {read for read in found if read.module in known}


def cycle_in(imports: set[Import]) -> list[str]:
    """Modules of which each imports the next and the last is the first; empty if there are none."""
    graph: dict[str, set[str]] = {}
    for read in imports:
        graph.setdefault(read.module, set()).add(read.by)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def private_of_others(imports: set[Import]) -> list[str]:
    """Imports from another folder of what has a leading underscore, be it a name or a module."""
    folders = {module: package_of(module, path) for module, path in modules_in(PACKAGE).items()}

    def folder(module: str) -> str:
        return folders.get(module, module.rpartition(".")[0])

    return sorted(
        str(read) for read in imports
        if folder(read.by) != folder(read.module)
        and read.module != f"{NAME}._version"
        and any(re.match("_(?!_)", word) for word in (read.name, read.module.rpartition(".")[2]))
    )  # fmt: skip


@cache
def ours() -> set[Import]:
    return imports_of(PACKAGE)


def test_no_module_needs_itself():
    assert len(ours()) > 300
    assert cycle_in(ours()) == []


def test_nothing_outside_of_the_tools_imports_them():
    tools = f"{NAME}.tools"
    wrong = [str(read) for read in ours() if f"{read.module}.".startswith(f"{tools}.") and tools not in read.by]
    assert wrong == [f"{NAME}.__main__ imports {NAME}.tools.cli: main"]


def test_private_names_stay_in_their_folder():
    assert private_of_others(ours()) == []


def rooms_of(listing: str) -> list[str]:
    """Modules and folders of a listing such as that in docs/develop/architecture.md, from the top, as dotted names."""
    words = [re.split(r"\s{2,}", line)[0].split() for line in listing.strip().splitlines()]
    return [f"{NAME}.{name.removesuffix('.py').strip('/').replace('/', '.')}" for line in words for name in line]


def room_of(module: str, rooms: list[str]) -> str | None:
    """The narrowest of `rooms` in which a module is."""
    module = f"{NAME}.__init__" if module == NAME else module
    return max((room for room in rooms if f"{module}.".startswith(f"{room}.")), key=len, default=None)


def downward(imports: set[Import], rooms: list[str]) -> list[str]:
    """Imports of a room that stands further down, of one that is not listed, or of one backend by another."""
    wrong = []
    for read in imports:
        by, module = room_of(read.by, rooms), room_of(read.module, rooms)
        apart = by != module and {by, module} <= BACKEND_ROOMS
        if None in (by, module) or rooms.index(module) > rooms.index(by) or apart:
            wrong.append(str(read))
    return sorted(wrong)


@pytest.fixture(scope="module")
def rooms() -> list[str]:
    if not LISTING.exists():
        pytest.skip("the documents are part of the checkout, not of the package")
    return rooms_of(LISTING.read_text(encoding="utf-8").split("```")[1])


def test_imports_go_upward_in_the_listing_of_the_rooms(rooms):
    assert len(rooms) > 15
    assert set(rooms) > BACKEND_ROOMS
    assert downward(ours(), rooms) == []


def test_every_module_has_a_room(rooms):
    assert [module for module in modules_in(PACKAGE) if not room_of(module, rooms)] == [f"{NAME}.kernels"]
    assert [room for room in rooms if room not in modules_in(PACKAGE) and room != f"{NAME}.__init__"] == []


def test_few_modules_stand_at_the_top():
    assert len(list(PACKAGE.glob("*.py"))) <= 18


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_suites_know_the_public_package_only(path):
    """So that they can measure any commit: what reaches inside is in the modules that they share."""
    found = {read.module for read in reads(f"benchmarks.{path.stem}", path, {}) if read.module.startswith(NAME)}
    assert found <= {NAME}


# --- that the reader sees --------------------------------------------------------------------------------


@pytest.fixture
def made(tmp_path):
    """Imports of a package that is written from sources by the names of its files."""

    def write(**sources: str) -> set[Import]:
        for name, text in sources.items():
            path = tmp_path / "made" / f"{name.replace('__in__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return imports_of(tmp_path / "made")

    return write


@pytest.mark.parametrize(
    "back",
    [
        "from . import a",
        "from .a import name",
        "import made.a",
        "def late():\n    from .a import name",
        "import_module('.a', __package__)",
        "importlib.import_module(f'.{word}', __package__)\nWORDS = ('a',)",
        "import_module(TABLE['one'], __package__)\nTABLE = {'one': '.a'}",
    ],
)
def test_a_cycle_is_seen(made, back):
    assert set(cycle_in(made(a="from .b import name", b=back))) == {"made.a", "made.b"}
    assert cycle_in(made(a="", b=back)) == []


@pytest.mark.parametrize(
    "line",
    ["from ..a import _hidden", "from .. import a\na._hidden()", "import made.a as a\na._hidden", "from .. import _a"],
)
def test_a_private_name_is_seen(made, line):
    assert len(private_of_others(made(a="", _a="", room__in__b=line))) == 1
    public = "from ..a import seen, __version__"
    assert private_of_others(made(a="", _a="", room__in__b=public, c="from .a import _d")) == []


def test_an_import_downward_is_seen():
    rooms = rooms_of("errors.py words.py   what\nkernels/cpu/ kernels/cupy/   where\nrun.py   how")
    assert rooms == [f"{NAME}.{name}" for name in ("errors", "words", "kernels.cpu", "kernels.cupy", "run")]

    def wrong(by: str, module: str) -> bool:
        return bool(downward({Import(f"{NAME}.{by}", f"{NAME}.{module}")}, rooms))

    assert not wrong("run", "kernels.cpu.launch")
    assert not wrong("words", "errors")
    assert wrong("errors", "words")
    assert wrong("kernels.cpu.launch", "run")
    assert wrong("run", "unheard_of")
