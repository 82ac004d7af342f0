"""The rules a reviewer should not have to repeat."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
LINES_MAX = 400
FUNCTION_LINES_MAX = 70
# Bottom to top: a file imports from its own folder, or from one further left.
LAYERS = [
    "base",
    "tar",
    "msgpack",
    "io",
    "utix",
    "container",
    "index",
    "engine",
    "dataset",
    "lua",
    "loader",
    "py",
    "cli",
]
OPENING = {".zig": "//!", ".lua": "---", ".py": '"""', ".pyi": '"""', ".sh": "#!"}


def files(*patterns: str) -> list[Path]:
    found = {path for pattern in patterns for path in ROOT.glob(pattern)}
    return sorted(path for path in found if not path.name.startswith("_tmp"))


ZIG = files("src/**/*.zig", "build/*.zig", "build.zig")
PYTHON = files(
    "python/**/*.py", "python/**/*.pyi", "tests/**/*.py", "tools/*.py", "benchmarks/**/*.py", "examples/*.py", "*.py"
)
ALL = [*ZIG, *PYTHON, *files("lua/**/*.lua", "tools/*.sh")]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", ALL, ids=relative)
def test_a_file_says_what_it_is_for_and_has_one_job(path: Path) -> None:
    text = path.read_text()
    assert text.startswith(OPENING[path.suffix]), "say in the first line what this file is for"
    # A stub describes a module, and the extension is one module: two stubs would be of modules that there are not.
    assert text.count("\n") <= LINES_MAX or path.name == "_native.pyi", "two jobs: split it"


@pytest.mark.parametrize("path", [path for path in ZIG if path.parent.parent == SRC], ids=relative)
def test_a_file_imports_downwards(path: Path) -> None:
    mine = LAYERS.index(path.parent.name)
    for theirs in re.findall(r'@import\("(?:\.\./)+(\w+)/', path.read_text()):
        assert LAYERS.index(theirs) < mine, f"{LAYERS[mine]} must not import {theirs}"


@pytest.mark.parametrize("path", ZIG, ids=relative)
def test_a_zig_function_is_short(path: Path) -> None:
    # `zig fmt` puts the closing brace into the column of its `fn`.
    start = re.compile(r"( *)(?:pub |export |inline )*fn (\w+)\(.*")
    lines = path.read_text().splitlines()
    for first, line in enumerate(lines):
        if (match := start.fullmatch(line)) and not line.rstrip().endswith((";", "}")):
            last = lines.index(match[1] + "}", first)
            assert last - first < FUNCTION_LINES_MAX, f"{match[2]} at line {first + 1}: split it"


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_a_python_function_is_short(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            # Its text for users does not count: what they need to know has the length it has.
            first = node.body[0].lineno if ast.get_docstring(node) is None else (node.body[0].end_lineno or 0)
            assert (node.end_lineno or 0) - first < FUNCTION_LINES_MAX, f"{node.name}: split it"


def test_every_zig_file_with_tests_is_run() -> None:
    reached: set[Path] = set()
    waiting = [SRC / "ultar.zig"]
    while waiting:
        path = waiting.pop().resolve()
        if path in reached or not path.is_file():
            continue
        reached.add(path)
        waiting += [path.parent / name for name in re.findall(r'@import\("([^"]+\.zig)"\)', path.read_text())]
    with_tests = {path for path in ZIG if re.search(r'^test ["{]', path.read_text(), re.M) and SRC in path.parents}
    assert not {relative(path) for path in with_tests - reached}, "not reached from src/ultar.zig"


def test_the_version_has_one_place() -> None:
    found = re.search(r'\.version = "([^"]+)"', (ROOT / "build.zig.zon").read_text())
    assert found is not None
    import ultar_dataloader

    assert ultar_dataloader.__version__ == found[1]
