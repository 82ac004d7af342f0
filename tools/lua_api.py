"""Makes docs/lua-api.md from the annotations in lua/ultar; `--check` fails where the page is stale."""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/lua-api.md"
INTRODUCTION = Path(__file__).with_suffix(".md")
# In the order of the page. The others are for the modules themselves.
MODULES = ["loader", "utix", "scandir", "shard", "shuffle", "mix", "json", "debug"]
# What examples call an object of the class.
RECEIVERS = {"ultar.Row": "row", "ultar.Index": "index", "ultar.Scan": "scan", "ultar.Permutation": "permutation"}


@dataclass
class Tag:
    """A parameter, a result or a field."""

    name: str
    type: str
    text: str


@dataclass
class Item:
    """A documented function, or a documented value."""

    title: str
    text: str
    parameters: list[Tag] = field(default_factory=list)
    results: list[Tag] = field(default_factory=list)


@dataclass
class Class:
    """A module, or the type of what its functions take and give."""

    name: str
    text: str = ""
    fields: list[Tag] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)


class DocError(Exception):
    """An annotation that this program, and so perhaps an editor, does not understand."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare the page, and do not write it")
    check = parser.parse_args().check
    try:
        page = render()
    except DocError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not check:
        PAGE.write_text(page, encoding="utf-8")
        return 0
    if not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != page:
        print(f"error: {PAGE.relative_to(ROOT)} is stale: run python tools/lua_api.py", file=sys.stderr)
        return 1
    return 0


def render() -> str:
    """The whole page."""
    parts = [with_recipes(INTRODUCTION.read_text(encoding="utf-8")), "## Modules\n"]
    for name in MODULES:
        path = ROOT / f"lua/ultar/{name}.lua"
        parts += render_module(name, *read_module(path))
    return "\n".join(parts).rstrip() + "\n"


def with_recipes(text: str) -> str:
    """Put the recipes where the introduction names them, so that what is shown is what is tested."""

    def recipe(match: re.Match[str]) -> str:
        return f"```lua\n{(ROOT / 'lua/recipes' / match[1]).read_text(encoding='utf-8')}```"

    return re.sub(r"^<!-- recipe: (\w+\.lua) -->$", recipe, text, flags=re.M)


def read_module(path: Path) -> tuple[str, list[Class]]:
    """The text at the top of a file, and the classes that it documents."""
    classes: dict[str, Class] = {}
    owners: dict[str, Class] = {}
    header, *blocks = doc_blocks(path)
    for line, docs, code in blocks:
        where = f"{path.relative_to(ROOT)}:{line}"
        if declared := re.match(r"@class ([\w.]+)", next((x for x in docs if x.startswith("@class")), "")):
            kind = read_class(declared[1], docs, where)
            classes[kind.name] = kind
            if variable := re.match(r"local (\w+) = ", code):
                owners[variable[1]] = kind
        elif function := re.match(r"function (\w+)([.:])(\w+)\((.*?)\)", code):
            if owner := owners.get(function[1]):
                receiver = RECEIVERS.get(owner.name, owner.name.removeprefix("ultar."))
                title = f"{receiver}{function[2]}{function[3]}({function[4]})"
                owner.items.append(read_item(title, docs, function[4], where))
        elif (value := re.match(r"(\w+)\.(\w+) = ", code)) and value[1] in owners:
            owner = owners[value[1]]
            owner.items.append(read_item(f"{owner.name.removeprefix('ultar.')}.{value[2]}", docs, "", where))
    return prose(header[1]), list(classes.values())


def doc_blocks(path: Path) -> list[tuple[int, list[str], str]]:
    """Each run of `---` lines: its first line's number, its text, and the line of code after it."""
    blocks: list[tuple[int, list[str], str]] = []
    docs: list[str] = []
    for number, line in enumerate([*path.read_text(encoding="utf-8").splitlines(), ""], 1):
        if match := re.match(r"--- ?(.*)", line):
            docs.append(match[1])
        elif docs:
            blocks.append((number - len(docs), docs, line))
            docs = []
    return blocks


def prose(docs: list[str]) -> str:
    return "\n".join(line for line in docs if not line.startswith("@")).strip("\n")


def read_class(name: str, docs: list[str], where: str) -> Class:
    kind = Class(name, prose(docs))
    for line in docs:
        # A field in brackets is for editors; the text says what `index[i]` is.
        if line.startswith("@field ") and not line.startswith(("@field package ", "@field [")):
            kind.fields.append(read_tag(line, where))
    return kind


def read_item(title: str, docs: list[str], parameters: str, where: str) -> Item:
    item = Item(title, prose(docs))
    for line in docs:
        if line.startswith("@param "):
            item.parameters.append(read_tag(line, where))
        elif line.startswith("@return "):
            item.results.append(read_result(line, where))
        elif line.startswith("@") and not line.startswith(("@generic ", "@type ")):
            raise DocError(f"{where}: unknown annotation: {line}")
    named = [tag.name.removesuffix("?") for tag in item.parameters]
    if named != re.findall(r"[\w.]+", parameters):
        raise DocError(f"{where}: {title} has parameters ({parameters}), and @param for ({', '.join(named)})")
    if not item.text:
        raise DocError(f"{where}: {title} is not described")
    return item


def read_tag(line: str, where: str) -> Tag:
    _, name, rest = line.split(" ", 2)
    kind, text = split_type(rest, where)
    return Tag(name, kind, text)


def read_result(line: str, where: str) -> Tag:
    kind, rest = split_type(line.removeprefix("@return "), where)
    name, _, text = rest.partition(" ")
    return Tag(name, kind, text)


def split_type(text: str, where: str) -> tuple[str, str]:
    """A type ends at the first space outside brackets that does not follow `:`, `,` or `|`."""
    depth = 0
    for place, character in enumerate(text):
        if character in "(<{[":
            depth += 1
        elif character in ")>}]":
            depth -= 1
        elif character == " " and depth == 0 and text[place - 1] not in ":,|":
            return text[:place], text[place + 1 :]
    if depth != 0:
        raise DocError(f"{where}: brackets do not match: {text}")
    return text, ""


def render_module(name: str, header: str, classes: list[Class]) -> list[str]:
    main = next(kind for kind in classes if kind.name == f"ultar.{name}")
    parts = [f"### ultar.{name}\n", header + "\n"]
    parts += [f'`local {name} = require("ultar.{name}")`\n']
    parts += render_fields(name, main.fields)
    for item in main.items:
        parts += render_item(item)
    for kind in classes:
        # A class without functions is shown where a function of the module takes it.
        taken = any(kind.name in tag.type for item in main.items for tag in item.parameters)
        if kind is not main and (kind.items or taken):
            parts += [f"#### {kind.name}\n"]
            parts += [kind.text + "\n"] if kind.text else []
            parts += render_fields(RECEIVERS.get(kind.name, ""), kind.fields)
            for item in kind.items:
                parts += render_item(item, "#####")
    return parts


def render_fields(receiver: str, fields: list[Tag]) -> list[str]:
    if not fields:
        return []
    prefix = f"{receiver}." if receiver else ""
    lines = [f"- `{prefix}{tag.name.removesuffix('?')}` `{tag.type}{optional(tag)}`: {tag.text}" for tag in fields]
    return ["\n".join(lines) + "\n"]


def render_item(item: Item, heading: str = "####") -> list[str]:
    parts = [f"{heading} `{item.title}`\n", item.text + "\n"]
    lines = [
        f"- `{tag.name.removesuffix('?')}` `{tag.type}{optional(tag)}`" + (f": {tag.text}" if tag.text else "")
        for tag in item.parameters
    ]
    for tag in item.results:
        name = f" `{tag.name}`" if tag.name else ""
        lines.append(f"- gives{name} `{tag.type}`" + (f": {tag.text}" if tag.text else ""))
    return [*parts, "\n".join(lines) + "\n"] if lines else parts


def optional(tag: Tag) -> str:
    return "?" if tag.name.endswith("?") else ""


if __name__ == "__main__":
    sys.exit(main())
