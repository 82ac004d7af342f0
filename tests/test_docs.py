"""What the documents show is true: snippets run, messages are those that are raised, links lead somewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

import ultar_dataloader as ultar

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]
NOTHING = "return { row_generator = function() end }"


class Snippet(NamedTuple):
    page: str
    line: int
    language: str
    text: str


def snippets() -> list[Snippet]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Snippet(str(page.relative_to(ROOT)), line, match[1], match[2]))
    return found


def of(language: str) -> pytest.MarkDecorator:
    chosen = [snippet for snippet in snippets() if snippet.language == language]
    assert chosen, f"no {language} in the documents: the pattern is wrong, or the test is"
    return pytest.mark.parametrize("snippet", chosen, ids=lambda s: f"{s.page}:{s.line}")


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
    assert {snippet.language for snippet in snippets()} <= {"python", "lua", "sh", "text", "json"}


@of("python")
def test_python_runs(snippet: Snippet, folder: Path) -> None:
    exec(compile(snippet.text, f"{snippet.page}:{snippet.line}", "exec"), {"__name__": "snippet"})


@of("lua")
def test_lua_compiles_and_scripts_load(snippet: Snippet) -> None:
    is_script = "row_generator" in snippet.text
    text = snippet.text.replace(" ... ", " ")  # Where the reader is to think of more.
    script = text if is_script else f"local function snippet(...)\n{text}\nend\n{NOTHING}"
    ultar.DataLoader(script, {"dir": ".", "tar": "a.tar", "shards": []})


@of("sh")
def test_commands_exist(snippet: Snippet, command: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in snippet.text.splitlines():
        words = line.split("#")[0].split()
        if words[:1] == ["make"]:
            assert set(words[1:2]) <= targets, line
        elif words[:1] == ["ultar-dataloader"]:
            assert command(words[1], "--help").returncode == 0, line
        else:
            assert not words or words[0] in ("pip", "indexer", "zig-out/bin/indexer", "python", "zig", "apt"), line


def test_verbs_in_running_text_exist(command: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    verbs = {
        match[1]
        for page in PAGES
        for match in re.finditer(r"`ultar-dataloader ([a-z-]+)", page.read_text(encoding="utf-8"))
    }
    assert len(verbs) >= 3
    for verb in verbs:
        assert command(verb, "--help").returncode == 0, verb


def test_the_errors_shown_are_those_raised(make_shard: Callable[..., Path], tmp_path: Path) -> None:
    """Each first line of a `text` block of docs/errors.md, but for paths and numbers of lines."""
    data = tmp_path / "shard-000017.tar"
    data.write_bytes(bytes(2048))
    head = 'local loader = require("ultar.loader")\nreturn { row_generator = function()\n'
    raised = []
    for body in (
        f'loader:add_entry(loader:open_file("{data}"), ".jpg", 1536, 4096) loader:finish_row()',
        'loader:add_entry(loader:open_file("/dev/null" and "/proc/self/status"), ".jpg", -1, 1)',
        f'loader:open_file("{tmp_path}/train-0003.tar")',
    ):
        with pytest.raises(ultar.UltarError) as caught:
            list(ultar.DataLoader(f"{head}{body}\nend }}", name="policy.lua"))
        raised.append(f"{type(caught.value).__name__}: {caught.value}".splitlines()[0])

    shown = [s.text.splitlines()[0] for s in snippets() if s.page == "docs/errors.md" and s.language == "text"]
    assert len(shown) == len(raised)
    for ours, theirs in zip(raised, shown, strict=True):
        assert re.sub(r"/\S*/|policy.lua:\d+", "", ours) == re.sub(r"/\S*/|policy.lua:\d+", "", theirs)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_files_that_are_named_exist() -> None:
    """In backquotes, with a folder: `src/engine/Engine.zig`."""
    for page in PAGES:
        for name in re.findall(
            r"`((?:src|lua|python|tests|tools|docs|build)/[\w./-]+\.\w+)`", page.read_text(encoding="utf-8")
        ):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_the_readme_names_every_verb(command: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    usage = command("--help").stdout
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for verb in re.findall(r"^    ([a-z-]+)(?: |$)", usage, re.MULTILINE):
        assert verb in readme, verb
    assert sys.version_info >= (3, 11)
