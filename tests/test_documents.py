"""What the documents and the messages name exists: files, commands, options, modules, names, extras, variables."""

from __future__ import annotations

import ast
import doctest
import importlib.util
import json
import random
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from gpu_transconv import explain
from gpu_transconv.tools.bench.layers import REAL_LAYERS, Layer, load_layers
from gpu_transconv.tools.cli import make_parser

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "CONTRIBUTING.md").exists():
    pytest.skip("the documents are part of the checkout, not of the package", allow_module_level=True)
sys.path.insert(0, str(ROOT))

#: Pages that a build of the site writes are none of the checkout's.
PAGES = sorted([*ROOT.glob("*.md"), *(path for path in ROOT.glob("docs/**/*.md") if "made" not in path.parts)])
SOURCES = sorted([*ROOT.glob("gpu_transconv/**/*.py"), *ROOT.glob("benchmarks/*.py"), *ROOT.glob("docs/*.py"),
                  *ROOT.glob("docs/noise_to_digits/*.py")])  # fmt: skip
#: What stands for a file of the reader's, or is made by a command.
PLACEHOLDERS = re.compile(r"my_|_build|^machine.json$|^out[./]|^compare\.|demo_figures|<|[*]|^[./]|https?:|__pycache__"
                          r"|^[A-Z]+(/|$)")  # fmt: skip
SUFFIXES = (".py", ".md", ".json", ".cuh", ".toml", ".png", ".yml", ".cpp", ".h", ".txt")


def words_of(path: Path) -> str:
    """A page's text, or the strings and comments of a source file: what a reader may be told."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    return "\n".join(node.value for node in ast.walk(ast.parse(text))
                     if isinstance(node, ast.Constant) and isinstance(node.value, str))  # fmt: skip


def commands_of(path: Path) -> list[str]:
    """Lines of code blocks, what stands between backticks, and quoted commands, without comments."""
    text = words_of(path)
    blocks = re.findall(r"```(?:sh|bash)\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"(?<!`)`{1,2}([^`\n]+)`{1,2}(?!`)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    if path.suffix == ".py":  # the usage in a module's docstring
        lines += re.findall(r"^ +((?:python|gpu-transconv) .*)$", text, re.MULTILINE)
    lines = [part for line in lines for part in re.sub(r"  +#.*", "", line).split(" && ")]
    return [re.sub(r"\$\([^)]*\)", "HEAD", line).replace(".venv/bin/", "") for line in lines]


@cache
def tracked() -> frozenset[str]:
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"],
                            capture_output=True, text=True)  # fmt: skip
    if listed.returncode == 0:
        return frozenset(line for line in listed.stdout.splitlines() if (ROOT / line).exists())
    return frozenset(str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file())


def known(name: str) -> bool:
    """Whether a file or folder of this name, or one that ends so, is in the checkout."""
    name = name.removeprefix("./").rstrip("/")
    return any(f"/{path}".endswith(f"/{name}") or f"/{name}/" in f"/{path}" for path in tracked())


def named_files(path: Path) -> set[str]:
    found = set()
    for command in commands_of(path):
        for word in re.split(r"[\s,;:=()\"']+", command):
            word = word.removeprefix("../")
            if word.endswith(SUFFIXES) or re.fullmatch(r"\.?[a-z_]+(/[\w.-]+)+/?", word):
                found.add(word)
    return {word for word in found if not PLACEHOLDERS.search(word)}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_files_that_pages_name_exist(path):
    assert sorted(name for name in named_files(path) if not known(name)) == []


def test_files_that_messages_name_exist():
    lost = {(path.name, name) for path in SOURCES for name in named_files(path) if not known(name)}
    assert sorted(lost) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    lost = []
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path
        if file.parent.name == "paint":  # made by a build of the site, of the gallery's scripts
            file = ROOT / "docs" / "gallery" / {"index": "GALLERY_HEADER.rst"}.get(file.stem, f"{file.stem}.py")
        if not file.exists() or (anchor and anchor not in anchors(file)):
            lost.append(target)
    assert lost == []


def anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def our_commands() -> list[str]:
    found = {command for path in (*PAGES, *SOURCES) for command in commands_of(path)}
    return sorted(command for command in found if re.match(r"(python -m )?gpu[-_]transconv( |$)", command))


def test_there_are_commands_to_check():
    assert len(our_commands()) > 8


@pytest.mark.parametrize("command", our_commands())
def test_commands_that_are_named_can_be_given(command):
    words = shlex.split(command.replace("...", ""))
    words = words[words.index("gpu_transconv") + 1 :] if "gpu_transconv" in words else words[1:]
    if not words or "--help" in words or "COMMAND" in words:
        return
    if "explain" in words and "--x" not in words:
        words += ["--x", "1x1x4", "--weight", "1x1x2"]
    make_parser().parse_args(words)


def command_of(module: str):
    """The module that ``python -m`` runs."""
    found = import_module(module)
    return import_module(f"{module}.__main__") if hasattr(found, "__path__") else found


MODULES = sorted({(match, command) for path in (*PAGES, *SOURCES) for command in commands_of(path)
                  for match in re.findall(r"python -m (benchmarks[.\w]*)", command)})  # fmt: skip


@pytest.mark.parametrize(("module", "command"), MODULES, ids=lambda value: value)
def test_modules_that_are_run_exist_and_have_the_options(capsys, module, command):
    assert importlib.util.find_spec(module) is not None
    if options := re.findall(r"(?<=\s)--[a-z][\w-]*", command.partition(module)[2]):
        with pytest.raises(SystemExit):
            command_of(module).main(["--help"])
        assert set(options) <= set(re.findall(r"--[a-z][\w-]*", capsys.readouterr().out))


def test_names_of_the_package_resolve():
    lost = set()
    for path in (*PAGES, *SOURCES):
        names = set(re.findall(r"\b((?:gpu_transconv|gtc)(?:\.[A-Za-z_]\w*)+)", words_of(path)))
        lost |= {(path.name, name) for name in names if not name.endswith(SUFFIXES) and not resolves(name)}
    assert sorted(lost) == []


@cache
def resolves(name: str) -> bool:
    parts = name.replace("gtc", "gpu_transconv", 1).split(".") if name.startswith("gtc.") else name.split(".")
    found = import_module(parts[0])
    for index, part in enumerate(parts[1:], 2):
        if hasattr(found, part):
            found = getattr(found, part)
        elif importlib.util.find_spec(".".join(parts[:index])):
            found = import_module(".".join(parts[:index]))
        else:
            return False
    return True


def test_what_is_to_be_installed_can_be():
    """The package is on no index, so an extra is one of the checkout's."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for path in (*PAGES, *SOURCES):
        text = words_of(path)
        assert re.findall(r"pip install [^\n]*gpu_transconv\[", text) == [], path
        for extras in re.findall(r"pip install (?:-e )?[\"']?\.\[([\w,-]+)\]", text):
            for extra in extras.split(","):
                assert re.search(rf"^{extra} = \[", project, re.MULTILINE), (path, extra)


def test_every_extra_is_on_the_page():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (ROOT / "docs" / "start" / "install.md").read_text(encoding="utf-8")
    assert set(re.findall(r'`"\.\[([\w-]+)\]"`', text)) == set(project["optional-dependencies"])
    assert f"Python {project['requires-python'].removeprefix('>=')} or newer" in text


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_variables_are_read_somewhere(path):
    code = "".join(source.read_text(encoding="utf-8") for source in (*SOURCES, ROOT / "tests" / "selection.py"))
    names = set(re.findall(r"\bGPU_TRANSCONV_[A-Z_]+\b", path.read_text(encoding="utf-8")))
    read = set(re.findall(r"\bGPU_TRANSCONV_[A-Z_]+\b", code))
    prefixed = {f"GPU_TRANSCONV_{word.upper()}" for word in ("backend", "formulation", "deterministic")}
    assert names - read - prefixed == set()


# --- what pages say ------------------------------------------------------------------------------------


#: Those of the page on mathematics are run beside the tests of the operators that it is about.
GUIDES = [path for path in PAGES if path.parent.name in ("start", "guide") and path.stem != "math"]
EXAMPLES = [path for path in GUIDES if ">>>" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_of_a_page_run(path):
    code = "\n".join(re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL))
    if "import torch" in code:
        pytest.importorskip("torch")
    test = doctest.DocTestParser().get_doctest(code, {}, path.name, None, 0)
    assert len(test.examples) >= 5
    assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test).failed == 0


def test_pages_with_examples_are_found():
    assert {path.stem for path in EXAMPLES} >= {"five_minutes", "choosing", "padding", "output_size", "errors"}


def test_the_page_on_gpus_has_every_architecture():
    source = (ROOT / "tests" / "kernels" / "cupy" / "cubin_checks.py").read_text(encoding="utf-8")
    architectures = re.findall(r"sm_\d+", re.search(r"^ARCHITECTURES = .*", source, re.MULTILINE)[0])

    text = (ROOT / "docs" / "guide" / "gpu.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| (\d+)\.(\d) \|", text, re.MULTILINE)
    assert tuple(f"sm_{major}{minor}" for major, minor in listed) == tuple(architectures)


@pytest.mark.skipif(shutil.which("node") is None, reason="the calculator is JavaScript: it needs node")
def test_the_calculator_agrees_with_the_package():
    rng, cases = random.Random(0), []
    for _ in range(1000):
        values = {"n": rng.randint(0, 6), "kernel": rng.randint(1, 5), "stride": rng.randint(1, 4),
                  "low": rng.randint(-1, 4), "high": rng.randint(0, 4), "dilation": rng.randint(1, 3),
                  "more": rng.randint(0, 3)}  # fmt: skip
        cases.append(values)
    script = f"const c = require({str(ROOT / 'docs/_static/calculator.js')!r});" + (
        f"console.log(JSON.stringify({json.dumps(cases)}.map((v) => c.outputSize(v).size ?? null)))"
    )
    found = json.loads(subprocess.run(["node", "-e", script], capture_output=True, text=True, check=True).stdout)
    for values, size in zip(cases, found, strict=True):
        try:
            expected = explain(
                (1, 1, values["n"]), (1, 1, values["kernel"]), stride=values["stride"],
                padding=[(values["low"], values["high"])], dilation=values["dilation"], output_padding=values["more"],
            ).output_shape[-1]  # fmt: skip
        except ValueError:
            expected = None
        assert size == expected, values


def test_the_example_with_pytorch_gives_its_result():
    torch = pytest.importorskip("torch")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "import torch" in block)
    names = {"gtc": import_module("gpu_transconv")}
    exec(code, names)
    model = names["gtc"].torch.restore(names["model"])
    torch.testing.assert_close(names["y"], model(torch.ones(1, 8, 16, 16)))
    names["y"].mean().backward()
    assert model[0].weight.grad is not None


def test_the_share_of_the_operator_in_hifi_gan():
    """Multiplications per frame of HiFi-GAN V1: four transposed convolutions, the rest in the residual blocks."""
    channels, lengths, kernels = (512, 256, 128, 64, 32), (1, 8, 64, 128, 256), (16, 16, 4, 4)
    ours = sum(channels[i] * channels[i + 1] * kernels[i] * lengths[i] for i in range(4))
    blocks = sum(c * c * n * 6 * (3 + 7 + 11) for c, n in zip(channels[1:], lengths[1:], strict=True))
    ends = 80 * 512 * 7 + 32 * 7 * 256
    words = f"{ours / 1e6:.1f} of {(ours + blocks + ends) / 1e6:.0f} million multiplications per frame"
    assert words in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_page_on_layers_has_every_field_and_value():
    text = (ROOT / "docs" / "speed" / "layers.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\d*)", text, re.MULTILINE)
    assert {word for word, count in rows if not count} == set(Layer.__dataclass_fields__)
    layers = load_layers(REAL_LAYERS)
    assert {word: int(count) for word, count in rows if count} == Counter(layer.parameters_from for layer in layers)
    assert f"{len(layers)} layers" in text
    assert all(layer.domain for layer in layers)


def test_the_example_of_a_file_of_layers_is_one(tmp_path):
    text = (ROOT / "docs" / "speed" / "layers.md").read_text(encoding="utf-8")
    (tmp_path / "mine.json").write_text(re.search(r"```json\n(.*?)```", text, re.DOTALL)[1])
    assert [layer.name for layer in load_layers(tmp_path / "mine.json")] == ["mine"]
