"""How others name the members of a shard, and group them into samples.

All split a name at a dot and make a sample of neighbours with one stem, but they disagree about
which members they pass over. What is passed over does not end a sample. Keys have no dot in front.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from .. import _records
from .._progress import count_text

if TYPE_CHECKING:
    from .._native import Index


class Part(NamedTuple):
    """A member as another loader has it."""

    key: str
    """Without the dot."""
    offset: int
    """Of the payload in the shard, in bytes."""
    size: int
    """Of the payload, in bytes."""
    name: str
    """In the tar."""


class Sample(NamedTuple):
    stem: str
    parts: list[Part]


Rule = Callable[[str], "tuple[str, str] | None"]
"""From a member's name to its stem and key, or None where the member is passed over."""

_WEBDATASET = re.compile(r"((?:.*/)?[^.]+)\.([^/]*)", re.DOTALL)
_META = re.compile(r"__[^/]*__(?:/|\Z)")
_WIDS = re.compile(r"((?:.*/)?.*?)\.(.*)", re.DOTALL)


def webdataset(name: str) -> tuple[str, str] | None:
    """Passes over members without a dot, hidden ones at the top, and `__meta__`. Energon has the same rule."""
    match = _WEBDATASET.fullmatch(name)
    return None if match is None or _META.match(name) else (match[1], match[2])


def dali(name: str) -> tuple[str, str] | None:
    """Passes over hidden files, and over names without a dot."""
    stem, key = _records.split(name)
    return (stem, key[1:]) if key and stem and not stem.endswith("/") else None


def wds2idx(name: str) -> tuple[str, str] | None:
    """DALI's as that program has it, which takes `README` for the extension `README` of `READM`."""
    dot = name.find(".", name.rfind("/") + 1)
    stem = name[:dot]
    return None if not stem or stem.endswith("/") else (stem, name[dot + 1 :])


def wids(name: str) -> tuple[str, str] | None:
    """Passes over names without any dot, in folders or behind."""
    match = _WIDS.fullmatch(name)
    return None if match is None else (match[1], match[2])


def members(index: Index) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of each member in an index, in its order."""
    for number in range(len(index)):
        record = index[number]
        for key, offset, size in zip(record["keys"], record["offsets"], record["sizes"], strict=True):
            yield record["str_idx"] + key, record["offset"] + offset, size


def grouped(found: Iterable[tuple[str, int, int]], rule: Rule) -> tuple[list[Sample], list[str]]:
    """Members as samples, and the names of those that are passed over."""
    samples: list[Sample] = []
    passed: list[str] = []
    for name, offset, size in found:
        split = rule(name)
        if split is None:
            passed.append(name)
            continue
        stem, key = split
        if not samples or samples[-1].stem != stem:
            samples.append(Sample(stem, []))
        samples[-1].parts.append(Part(key, offset, size, name))
    return samples, passed


def left_out(passed: list[str], reader: str) -> list[str]:
    """A warning about members that another loader does not see, if there are any."""
    if not passed:
        return []
    count, more = count_text(len(passed), "member"), " …" if len(passed) > 1 else ""
    return [f"{count} left out, as {reader} passes over such names: {passed[0]!r}{more}"]
