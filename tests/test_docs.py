"""What the documents show is true: snippets run, messages are those that are raised, links lead somewhere."""

from __future__ import annotations

import builtins
import json
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgpack
import obstore
import pytest
from test_structure import LAYERS

import ultar_dataloader as ultar

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]
NOTHING = "return { row_generator = function() end }"


class Snippet(NamedTuple):
    page: str
    line: int
    language: str
    text: str


def snippets_of(text: str, page: str) -> list[Snippet]:
    """Fenced blocks, with all that follows the fence as language, and indented ones as "indented"."""
    found: list[Snippet] = []
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        fence = re.match(r"\s*(`{3,}|~{3,})(.*)", lines[at])
        first, body = at + 1, []
        if fence:
            while lines[at + 1].strip() != fence[1]:  # IndexError: never closed.
                at += 1
                body.append(lines[at])
            at += 1
            found.append(Snippet(page, first, fence[2].strip(), "\n".join(body)))
        elif lines[at].startswith("    ") and not lines[at - 1].strip():
            while at < len(lines) and lines[at].startswith("    "):
                body.append(lines[at][4:])
                at += 1
            found.append(Snippet(page, first, "indented", "\n".join(body)))
        at += 1
    return found


SNIPPETS = [s for page in PAGES for s in snippets_of(page.read_text("utf-8"), str(page.relative_to(ROOT)))]
GOLDEN = [s for s in SNIPPETS if s.page == "docs/utix-format.md" and re.match(r'87$|\{"iidx"', s.text, re.MULTILINE)]
ORDER = [s for s in SNIPPETS if s.text.startswith("base") and s.text.endswith("cli")]
DRAWINGS = [s for s in SNIPPETS if "┌" in s.text]
MESSAGES = [s for s in SNIPPETS if s.language == "text" and s not in ORDER and s not in DRAWINGS]
COMMANDS = [
    s for s in SNIPPETS if s.language == "sh" or (s.language == "indented" and s not in GOLDEN and s not in ORDER)
]


def each(chosen: list[Snippet]) -> pytest.MarkDecorator:
    assert chosen, "none in the documents: the pattern is wrong, or the test is"
    return pytest.mark.parametrize("snippet", chosen, ids=lambda s: f"{s.page}:{s.line}")


def of(language: str) -> pytest.MarkDecorator:
    return each([snippet for snippet in SNIPPETS if snippet.language == language])


@pytest.fixture
def folder(make_shard: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `shards/` in it, not indexed yet, to be in while a snippet runs."""
    (tmp_path / "shards").mkdir()
    samples = {f"{i:03}": {".jpg": b"\xff\xd8" + bytes(i), ".txt": b"a cat"} for i in range(20)}
    for name in ("a.tar", "b.tar"):
        make_shard(samples, f"shards/{name}", index=False)
    shutil.copy(ROOT / "lua/recipes/every_row.lua", tmp_path)
    shard = make_shard({"a": {".jpg": b"\xff", ".cls": b"7"}}, "train-000.tar")
    for i in range(1, 128):
        shutil.copy(shard, tmp_path / f"train-{i:03}.tar")
        shutil.copy(f"{shard}.utix", tmp_path / f"train-{i:03}.tar.utix")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_snippet_is_of_a_kind_that_is_tested() -> None:
    unknown = {s for s in SNIPPETS if s.language not in ("python", "lua", "sh", "text", "indented")}
    assert not unknown
    # That the pattern misses none is what the others rely on.
    text = "```c++ x\na\n```\n\n  ~~~ diff\nb\n  ~~~\n\n    make\n"
    assert [(s.language, s.text) for s in snippets_of(text, "")] == [
        ("c++ x", "a"),
        ("diff", "b"),
        ("indented", "make"),
    ]


@of("python")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # Workers, as PyTorch starts them.
def test_python_runs(snippet: Snippet, folder: Path) -> None:
    if "jax" in snippet.text:  # It starts threads, and other snippets fork.
        environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-c", snippet.text]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert result.returncode == 0, result.stderr
        return
    names: dict[str, object] = {"__name__": "snippet"}
    exec(compile(snippet.text, f"{snippet.page}:{snippet.line}", "exec"), names)
    for loop in re.findall(r"^for (\w+) in", snippet.text, re.MULTILINE):
        assert loop in names, "the loop had no rows"


def table_rows(page: str) -> list[list[str]]:
    """Cells of all tables, without heads."""
    rows = []
    head = True
    for line in (ROOT / page).read_text("utf-8").splitlines():
        if not line.startswith("|"):
            head = True
        elif line.startswith("|--"):
            head = False
        elif not head:
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_what_others_wrote_runs_here(folder: Path) -> None:
    """Each piece of code in the second column, as the page's snippet has it."""
    page = "docs/coming-from.md"
    names: dict[str, object] = {}
    exec(next(s.text for s in SNIPPETS if s.page == page), names)
    codes = [
        code for row in table_rows(page) for code in re.findall(r"`([^`]+)`", row[1]) if "(" in code or "[" in code
    ]
    assert len(codes) > 100
    for code in codes:
        found = eval(code, dict(names))
        if isinstance(found, ultar.Stream):
            assert next(iter(found)) is not None, code
        elif isinstance(found, ultar.Dataset):
            assert len(found) > 0 and found[0].keys(), code
    further = [code for row in table_rows(page) for code in re.findall(r"`([^`]+\))`", row[2])]
    for code in further:
        if not code.startswith("torch."):
            eval(code if code.startswith(tuple(names)) else f"ds.{code}", dict(names))


@of("lua")
def test_lua_compiles_and_scripts_run(snippet: Snippet, folder: Path) -> None:
    if "row_generator" in snippet.text:
        ultar.index("shards")
        config = {"shards": ["train-{000..127}.tar"], "dir": "shards", "shard": "shards/a.tar", "seed": 1, "epoch": 0}
        assert list(ultar.DataLoader(snippet.text, config))
        return
    text = snippet.text.replace(" ... ", " ")  # Where the reader is to think of more.
    list(ultar.DataLoader(f"local function snippet(...)\n{text}\nend\n{NOTHING}"))


def check_command(words: list[str], command: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    program, arguments = Path(words[0]).name, words[1:]
    flags = [word.split("=")[0] for word in arguments if re.match(r"--\w", word)]
    if program == "make":
        makefile = (ROOT / "Makefile").read_text()
        for argument in arguments:
            name, _, value = argument.partition("=")
            assert re.search(rf"\$\({name}\)" if value else rf"(?m)^{name}:", makefile), argument
    elif program == "ultar-dataloader":
        usage = command(arguments[0], "--help")
        assert usage.returncode == 0 and not [flag for flag in flags if flag not in usage.stdout], words
    elif program == "indexer":
        known = (ROOT / "src/cli/args.zig").read_text()
        assert not [flag for flag in flags if f'"{flag}"' not in known], words
    elif program == "pytest":
        text = (ROOT / arguments[0]).read_text()
        assert arguments[1] == "-k" and re.search(rf"def test_\w*{arguments[2]}", text), words
    elif program == "python" and arguments[:3] == ["-m", "ziglang", "build"]:
        chosen = re.fullmatch(r"-Dtest-filter=(.+)", arguments[4])
        assert chosen and '"test-filter"' in "".join(p.read_text() for p in [*ROOT.glob("build/*.zig")]), words
        tests = "".join(path.read_text() for path in ROOT.glob("src/**/*.zig"))
        assert re.search(rf'test "[^"]*{chosen[1]}', tests), words
    elif program in ("python", "torchrun") and any(word.startswith("examples/") for word in arguments):
        text = (ROOT / next(word for word in arguments if word.startswith("examples/"))).read_text()
        mine = [flag for flag in flags if flag not in ("--standalone", "--nproc-per-node")]
        assert not [flag for flag in mine if f'"{flag}"' not in text], words
    else:
        assert (program, arguments) == ("python", ["my_script.py"]), f"what is {words}?"


@each(COMMANDS)
def test_commands_exist(snippet: Snippet, command: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    for line in snippet.text.splitlines():
        for part in line.split("&&"):
            words = shlex.split(part, comments=True)
            while words and re.match(r"[A-Z]+=", words[0]):
                words.pop(0)
            if words:
                check_command(words, command)


def test_commands_in_running_text_exist(command: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    spans = {m[1] for page in PAGES for m in re.finditer(r"`(ultar-dataloader [a-z][^`]*)`", page.read_text("utf-8"))}
    assert len({span.split()[1] for span in spans}) >= 3
    for span in spans:
        check_command(shlex.split(span), command)


def test_the_readme_names_every_verb(command: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    verbs = re.findall(r"^    ([a-z-]+)(?: |$)", command("--help").stdout, re.MULTILINE)
    assert len(verbs) >= 5
    readme = (ROOT / "README.md").read_text("utf-8")
    assert not [verb for verb in verbs if f"`{verb}`" not in readme]


HEAD = 'local loader = require("ultar.loader")\nreturn { row_generator = function()\n'


@pytest.fixture
def raised(tmp_path: Path, make_shard: Callable[..., Path]) -> list[ultar.UltarError]:
    """The failures that the documents show, at the lines that they name."""
    tar = tmp_path / "shard-000017.tar"
    tar.write_bytes(bytes(2048))
    opened = f'local tar = loader:open_file("{tar}")\n'
    errors = []
    for name, body in (
        ("policy.lua", f'{opened}loader:add_entry(tar, ".jpg", 1536, 4096) loader:finish_row()'),
        ("policy.lua", "\n" * 4 + f'{opened}loader:add_entry(tar, ".jpg", -1, 1)'),
        ("policy.lua", "\n" * 2 + f'local tar = loader:open_file("{tmp_path}/train-0003.tar")'),
        ("script.lua", "\n" * 8 + f'{opened}loader:add_entry(tar, ".jpg", 0 / 0, 1)'),
    ):
        with pytest.raises(ultar.UltarError) as caught:
            list(ultar.DataLoader(f"{HEAD}{body}\nend }}", name=name))
        errors.append(caught.value)
    return [*errors, changed_object(make_shard, tmp_path)]


def changed_object(make_shard: Callable[..., Path], folder: Path) -> ultar.UltarError:
    """Of an object that is replaced between two epochs."""
    store = ultar.memory_store("data")
    obstore.put(store, "train/x-001.tar", make_shard({"a": {".txt": b"before "}}, index=False).read_bytes())
    options = {"cache": folder / "cache"}
    ds = ultar.Dataset("memory://data/train/x-001.tar", storage_options=options)
    obstore.put(store, "train/x-001.tar", make_shard({"a": {".txt": b"behind "}}, index=False).read_bytes())
    with pytest.raises(ultar.ReadError) as caught:
        list(ds)
    return caught.value


def plain(text: str) -> str:
    """Without what differs between machines, and between versions of our own Lua files."""
    text = re.sub(r"(?:/[\w.-]+)*/([\w-]+\.tar)", r"\1", text)
    return re.sub(r"ultar/(\w+)\.lua:\d+", r"ultar/\1.lua:N", text)


@each(MESSAGES)
def test_a_message_shown_is_one_that_is_raised(snippet: Snippet, raised: list[ultar.UltarError]) -> None:
    """Whole, where a line "..." stands for any lines; with or without the name of the exception."""
    shown = "".join(
        r"(?:.*\n?)*" if line.strip() == "..." else re.escape(line) + r"(?:\n|$)"
        for line in plain(snippet.text).splitlines()
    )
    # A page that shows a message alone shows its first line.
    if not snippet.text.startswith(tuple(vars(ultar))):
        shown += r"(?:.*\n?)*"
    texts = [text for error in raised for text in (str(error), f"{type(error).__name__}: {error}")]
    assert any(re.fullmatch(shown, plain(text)) for text in texts), "\n".join(texts)


def test_errors_have_what_the_table_says(raised: list[ultar.UltarError]) -> None:
    page = (ROOT / "docs/errors.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (?:`(\w+)`)? *\|", page, re.MULTILINE)
    assert {name for name, _ in rows} >= {name for name in ultar.__all__ if name.endswith("Error")}
    for name, parent in rows:
        kind = getattr(ultar, name, None) or getattr(builtins, name)
        assert issubclass(kind, getattr(ultar, parent, None) or getattr(builtins, parent or "Exception")), name
    short, _, missing, _, changed = raised
    assert isinstance(short, ultar.ReadError) and isinstance(missing, ultar.ReadError)
    assert isinstance(changed, ultar.ReadError) and changed.filename == "memory://data/train/x-001.tar"
    assert (short.errno, short.offset, short.length) == (None, 1536, 4096) and "None when the file simply ended" in page
    assert missing.errno == 2 and str(missing.filename).endswith("train-0003.tar")


def test_loggers_are_those_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "short.tar").write_bytes(bytes(10))
    body = f'print("hello")\nloader:add_entry(loader:open_file("{tmp_path}/short.tar"), "x", 0, 11) loader:finish_row()'
    caplog.set_level(logging.INFO)
    rows = iter(ultar.DataLoader(f"{HEAD}{body}\nend }}", on_error="skip"))
    assert list(rows) == [] and rows.stats()["rows_skipped"] == 1
    levels = {record.name: record.levelname for record in caplog.records}
    assert levels == {"ultar_dataloader.script": "INFO", "ultar_dataloader": "WARNING"}


@each(ORDER)
def test_layers_are_those_that_are_checked(snippet: Snippet) -> None:
    assert re.findall(r"\w+", snippet.text) == LAYERS


@each(DRAWINGS)
def test_a_drawing_names_what_there_is(snippet: Snippet) -> None:
    parts = {path.stem for path in ROOT.glob("src/**/*.zig")} | set(ultar.__all__)
    assert re.findall(r"\b[A-Z][a-z]+(?:[A-Z][a-z]+)+\b", snippet.text)
    for name in re.findall(r"\b[A-Z][a-z]+(?:[A-Z][a-z]+)+\b", snippet.text):
        if name != "LuaJIT":
            assert name in parts, name


def test_golden_bytes_are_one_record_in_both_forms() -> None:
    assert len(GOLDEN) == 2
    octets = " ".join(re.sub(r'".*?"', "", GOLDEN[0].text).split())
    assert msgpack.unpackb(bytes.fromhex(octets)) == json.loads(GOLDEN[1].text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


def test_files_that_are_named_exist() -> None:
    """In backquotes, with a folder: `src/engine/Engine.zig`."""
    pattern = r"`((?:src|lua|python|tests|tools|docs|build)/[\w./-]+\.\w+)`"
    for page in PAGES:
        for name in re.findall(pattern, page.read_text("utf-8")):
            assert (ROOT / name).exists(), f"{page.name}: {name}"
