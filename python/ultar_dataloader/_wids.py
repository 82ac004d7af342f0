"""The JSON of wids: which shards it lists, and where they are.

    {"wids_version": 1, "base"?, "shardlist": [{"url", "nsamples", "filesize"?, "md5sum"?}],
     "datasets"?: [{"source_url"} or {"shardlist", "base"?}]}

A URL that is relative is so to `base`, and that to the folder of the JSON.
"""

from __future__ import annotations

import json
import os
import re
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urljoin

from ._errors import IndexFormatError, ReadError
from ._stores import SCHEMES, StoreError, is_url

if TYPE_CHECKING:
    from ._stores import Stores

COUNT_MAX = 1 << 63
"""What a count or size is below; JSON has larger ones."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


class Shard(NamedTuple):
    """A shard, as a JSON of wids lists it."""

    path: str
    """A local path, or a URL."""
    samples: int
    size: int | None
    """Of the file in bytes, where it says so."""
    md5: str | None
    """Of the file, in hexadecimal, where it says so."""


def read(path: str, stores: Stores) -> list[Shard]:
    """The shards that a JSON lists, those of the data sets in it behind its own.

    Raises:
        ReadError: It, or one that it refers to, cannot be read.
        IndexFormatError: It is malformed; says where in it.
    """
    top = _load(path, stores)
    if top.get("wids_version") != 1 or isinstance(top["wids_version"], bool):
        raise bad(path, f'"wids_version": wanted 1, got {_shown(top.get("wids_version"))}')
    found = _listed(path, top, _base(path, path, top), "") if "shardlist" in top else []
    for number, part in enumerate(_list_of_objects(path, top.get("datasets", []), "datasets")):
        where = f"datasets[{number}]"
        if "source_url" not in part:
            found += _listed(path, part, _base(path, path, part, where), where)
            continue
        source = _text(path, part, "source_url", where)
        other = _merged(path, path, source)
        named = _load(other, stores)
        if "source_url" in named or "datasets" in named:
            raise bad(other, f"{path} refers to it, and it refers further, which is one reference too many")
        found += _listed(other, named, _base(other, other, named), "")
    if not found:
        raise bad(path, "lists no shard")
    return found


def bad(path: str, text: str) -> IndexFormatError:
    error = IndexFormatError(f"{path}: {text}")
    error.filename = path
    return error


def _load(path: str, stores: Stores) -> dict[str, Any]:
    content = _content(path, stores)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise bad(path, f"not JSON: {error}") from error
    if not isinstance(found, dict):
        raise bad(path, f"wanted an object with a shardlist, got {_kind(found)}")
    return found


def _content(path: str, stores: Stores) -> bytes:
    try:
        if is_url(path):
            version, _ = stores.insist(partial(stores.version, path))
            return bytes(stores.insist(partial(stores.read, path, 0, version.size))[0]) if version.size else b""
        with open(path, "rb") as file:
            return file.read()
    except StoreError as failure:
        raise ReadError(failure.number or None, f"{path}: {failure.text}", path) from failure
    except OSError as error:
        raise ReadError(error.errno, f"{path}: cannot read: {error.strerror}", path) from error


def _listed(path: str, of: dict[str, Any], base: str, where: str) -> list[Shard]:
    inside = f"{where}.shardlist" if where else "shardlist"
    shards = []
    for number, item in enumerate(_list_of_objects(path, of.get("shardlist"), inside)):
        at = f"{inside}[{number}]"
        md5 = None if item.get("md5sum") is None else _text(path, item, "md5sum", at)
        if md5 is not None and not re.fullmatch(r"[0-9a-fA-F]{32}", md5):
            raise bad(path, f"{at}.md5sum: wanted 32 hexadecimal digits, got {md5[:80]!r}")
        shards.append(
            Shard(
                path=_merged(path, base, _text(path, item, "url", at)),
                samples=_count(path, item, "nsamples", at),
                size=None if item.get("filesize") is None else _count(path, item, "filesize", at),
                md5=md5.lower() if md5 else None,
            )
        )
    return shards


def _base(path: str, beside: str, of: dict[str, Any], where: str = "") -> str:
    """What relative URLs are joined to, as a file in the folder that is meant."""
    if of.get("base") is None:
        return beside
    base = _text(path, of, "base", where)
    return _merged(path, beside, base.rstrip("/") + "/")


def _merged(path: str, base: str, url: str) -> str:
    """A URL of the JSON, as a path or URL of ours; `base` is a file of the folder it may be relative to."""
    if url.startswith("file:"):
        return re.sub(r"^file:(//(localhost)?(?=/))?", "", url)  # As wids reads it: nothing is unquoted.
    if is_url(url):
        if url.partition("://")[0].lower() not in SCHEMES:
            raise bad(path, f"{url}: URLs of shards begin with {', '.join(f'{name}://' for name in SCHEMES)} or file:")
        return url
    if _SCHEME.match(url):
        raise bad(path, f"{url[:80]!r} is no path and no URL of a file or an object, so it is not read")
    if is_url(base):
        scheme, _, rest = base.partition("://")
        # Schemes that `urllib` does not know are joined as those that it knows.
        return f"{scheme}://" + urljoin(f"http://{rest}", url).removeprefix("http://")
    joined = os.path.join(os.path.dirname(base), url)
    return os.path.normpath(joined) + ("/" if url.endswith("/") else "")


def _list_of_objects(path: str, value: object, where: str) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise bad(path, f"{where}: wanted a list, got {_kind(value)}")
    for number, item in enumerate(value):
        if not isinstance(item, dict):
            raise bad(path, f"{where}[{number}]: wanted an object, got {_kind(item)}")
    return value


def _text(path: str, of: dict[str, Any], name: str, where: str) -> str:
    value = of.get(name)
    if not isinstance(value, str) or not value or "\0" in value or not _is_utf8(value):
        raise bad(path, f"{where}{'.' if where else ''}{name}: wanted a string, got {_shown(value)}")
    return value


def _is_utf8(text: str) -> bool:
    """Whether it can be: JSON may have halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _count(path: str, of: dict[str, Any], name: str, where: str) -> int:
    value = of.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < COUNT_MAX:
        raise bad(path, f"{where}.{name}: wanted a whole number, got {_shown(value)}")
    return value


def _shown(value: object) -> str:
    return _kind(value) if isinstance(value, (dict, list)) else json.dumps(value)[:80]


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "nothing"}
    return names.get(type(value), "a number")
