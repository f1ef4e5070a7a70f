"""The house rules of CONTRIBUTING.md on sizes and explanations; what is exempt, and why, is in house_rules.toml."""

from __future__ import annotations

import ast
import io
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import gpu_transconv

PACKAGE = Path(gpu_transconv.__file__).parent
RULES = tomllib.loads(Path(__file__).with_name("house_rules.toml").read_text(encoding="utf-8"))
SOURCES = sorted(PACKAGE.rglob("*.py"))
CUDA_SOURCES = sorted(PACKAGE.rglob("*.cuh"))
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def code_lines(source: str, node: ast.FunctionDef) -> int:
    """Lines of a function that hold code: no docstring, comment or blank line."""
    body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
    docstring = range(node.body[0].lineno, node.body[0].end_lineno + 1) if len(body) < len(node.body) else ()
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    tokens = [t for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type not in skipped]
    found = {line for token in tokens for line in range(token.start[0], token.end[0] + 1)}
    return len({line for line in found if node.lineno <= line <= node.end_lineno and line not in docstring})


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef, int]]:
    """Name, node and lines of code of every function and method."""
    source = path.read_text(encoding="utf-8")

    def walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef, int]]:
        for child in ast.iter_child_nodes(node):
            name = f"{prefix}.{child.name}" if isinstance(child, (*FUNCTIONS, ast.ClassDef)) else prefix
            if isinstance(child, FUNCTIONS):
                yield name, child, code_lines(source, child)
            yield from walk(child, name)

    yield from ((f"{name_of(path)}:{name[1:]}", node, lines) for name, node, lines in walk(ast.parse(source), ""))


def all_functions() -> list[tuple[str, ast.FunctionDef, int]]:
    return [found for path in SOURCES for found in functions(path)]


@pytest.fixture(scope="module")
def every_function():
    return all_functions()


def held(rule: str, sizes: dict[str, int], limit: int) -> None:
    """Nothing is above the limit but what is exempt, and nothing is exempt that is not above it."""
    exempt = RULES[rule].get("exempt", {})
    assert all(len(reason) > 20 for reason in exempt.values())
    above = {name: size for name, size in sizes.items() if size > limit}
    assert {name: size for name, size in above.items() if name not in exempt} == {}
    assert sorted(set(exempt) - set(above)) == [], "exempt, but within the limit"


def test_files_are_short():
    sizes = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES + CUDA_SOURCES}
    assert len(sizes) > 100
    held("file_lines", sizes, RULES["file_lines"]["most"])


def test_functions_are_short(every_function):
    own = {name: lines - sum(inner for other, _, inner in every_function if other.startswith(f"{name}."))
           for name, _, lines in every_function}  # fmt: skip
    kernels = {name: lines for name, lines in own.items() if name.startswith("kernels/")}
    held("kernel_function_lines", kernels, RULES["kernel_function_lines"]["most"])
    others = {name: lines for name, lines in own.items() if name not in kernels}
    held("function_lines", others, RULES["function_lines"]["most"])


def test_functions_have_few_parameters(every_function):
    counts = {}
    for name, node, _ in every_function:
        listed = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        counts[name] = len([a for a in listed if a.arg not in ("self", "cls")])
    kernels = {name: count for name, count in counts.items() if name.startswith("kernels/")}
    held("kernel_parameters", kernels, RULES["kernel_parameters"]["most"])
    held("parameters", {n: c for n, c in counts.items() if n not in kernels}, RULES["parameters"]["most"])


def test_long_functions_of_kernels_say_what_they_do(every_function):
    silent = [
        name for name, node, lines in every_function
        if name.startswith("kernels/") and lines > RULES["docstring"]["from_lines"] and not ast.get_docstring(node)
    ]  # fmt: skip
    assert silent == []


def bare_constants(path: Path) -> list[str]:
    """Numbers at module level without a comment on their line or above it, or above the group they begin."""
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    found = []
    explained = 0
    for node in ast.parse(source).body:
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        above, first = lines[node.lineno - 2].strip() if node.lineno > 1 else "", lines[node.lineno - 1]
        if above.startswith("#") or "  # " in first or node.lineno - 1 == explained:
            explained = node.end_lineno
            continue
        value = node.value
        numbers = (
            [n for n in ast.walk(value) if isinstance(n, ast.Constant) and type(n.value) in (int, float)]
            if value
            else []
        )
        names = [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
        if (
            numbers
            and all(name.strip("_").isupper() for name in names)
            and isinstance(value, ast.Constant | ast.BinOp | ast.Tuple)
        ):
            found.append(f"{name_of(path)}:{','.join(names)}")
    return found


def test_constants_are_explained():
    assert sorted(name for path in SOURCES for name in bare_constants(path)) == []


def test_any_is_rare():
    """Where a type is `Any`, the type checker sees nothing."""
    count = sum(
        (isinstance(node, ast.Name) and node.id == "Any") or (isinstance(node, ast.alias) and node.name == "Any")
        for path in SOURCES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )  # fmt: skip
    assert count < RULES["any"]["fewer_than"]
