"""Patterns of URLs: the folder that they have in common is listed once."""

from __future__ import annotations

import errno
from functools import partial
from itertools import islice
from typing import Any

from ._errors import ReadError
from ._store_index import has_raw_index
from ._stores import StoreError, Stores, Version, _obstore, split

_MAGIC = frozenset("*?[{")


def expand_url(url: str, stores: Stores) -> list[str]:
    """The shards that a URL or a pattern of URLs names, in order, as `_paths.expand_one`.

    Raises:
        ReadError: It names none, or the store cannot be asked.
        ValueError: It is no URL of an object, stands for too many names, or an option is wrong.
        ImportError: obstore is not here.
    """
    url = stores.bare(url)
    try:
        return _expand(url, stores)
    except StoreError as failure:
        raise ReadError(failure.number or None, f"{url}: {failure.text}", url) from failure


def _expand(url: str, stores: Stores) -> list[str]:
    scheme, place, path = split(url)
    base = f"{scheme}://{place}/"
    stores.store(url)  # What is wrong with options is said now.
    if not _MAGIC.intersection(path):
        return _one(base, path, stores)
    # `_paths` imports this module.
    from . import _paths

    names = list(islice(_paths._braces(path), _paths.NAMES_MAX + 1))
    if len(names) > _paths.NAMES_MAX:
        raise ValueError(f"{url}: stands for more than {_paths.NAMES_MAX:,} names")
    if scheme in ("http", "https"):
        if globs := [name for name in names if _is_glob(name)]:
            raise ValueError(f"{base}{globs[0]}: a web server lists nothing: name the objects, or use {{000..127}}")
        return [base + name for name in names]
    there = _listed(base, _common_folder(path), any("/" in _rest(name, path) for name in names), stores)
    if path in there:
        return [base + path]
    found: list[str] = []
    for name in names:
        if name in there:
            found.append(base + name)
            continue
        matches = [key for key in there if _matches(key, name)] if _is_glob(name) else []
        if not matches:
            of = "" if name == path else f", from {url}"
            raise ReadError(errno.ENOENT, f"{base}{name}: no such shard{of}", url)
        found += [base + key for key in matches]
    return found


def _one(base: str, path: str, stores: Stores) -> list[str]:
    """An object, or the shards in a folder, as `_paths.expand_one` has them."""
    if path and not path.endswith("/"):
        try:
            stores.look(base + path)
            return [base + path]
        except StoreError as failure:
            if failure.number != errno.ENOENT or base.startswith("http"):
                raise
    folder = path.rstrip("/")
    if folder and has_raw_index(stores, base + folder):
        return [f"{base}{folder}/"]  # RAW: the folder itself is the shard.
    from . import _paths

    found: dict[str, list[str]] = {}
    for key in _listed(base, folder, False, stores):
        if container := _paths.container_of(key):
            found.setdefault(container, []).append(key)
    if "tar" not in found and len(found) > 1:
        kinds = " and ".join(sorted(found))
        text = f"{base}{path}: {kinds} objects in this folder: name those that are meant, as {base}{folder}/*.SUFFIX"
        raise ReadError(errno.ENOENT, text, base + path)
    names = found.get("tar") or next(iter(found.values()), [])
    if not names:
        text = f"{base}{path}: no such object, and no shard in a folder of that name"
        raise ReadError(errno.ENOENT, text, base + path)
    return [base + key for key in names]


def entries(url: str, stores: Stores) -> list[str]:
    """The URLs of the objects, and of the folders, that lie directly in a folder.

    Raises:
        StoreError: There is nothing in it, or it cannot be listed.
    """
    url = stores.bare(url).rstrip("/")
    base, store, folder = _listable(url, stores)
    found, _ = stores.ask(partial(_obstore(url).list_with_delimiter, store, folder or None))
    for meta in found["objects"]:
        stores.remember(base + meta["path"], Version.of(meta))
    names = [meta["path"] for meta in found["objects"]] + [name.rstrip("/") for name in found["common_prefixes"]]
    if not names:
        raise StoreError(errno.ENOENT, "no object is in a folder of that name")
    return sorted(base + name for name in names)


def files_below(url: str, stores: Stores) -> list[tuple[str, int]]:
    """Name from the folder on, and size in bytes, of each object below it.

    Raises:
        StoreError: It cannot be listed.
    """
    base, store, folder = _listable(url, stores)
    found, _ = stores.ask(partial(_list, base, store, folder, True))
    start = len(folder) + 1 if folder else 0
    return [(meta["path"][start:], meta["size"]) for meta in found]


def _listable(url: str, stores: Stores) -> tuple[str, Any, str]:
    """The bucket's URL and store, and the folder in it."""
    scheme, place, path = split(url)
    if scheme in ("http", "https"):
        raise StoreError(errno.EINVAL, "a web server lists nothing")
    base = f"{scheme}://{place}/"
    return base, stores.store(base)[0], path.rstrip("/")


def _common_folder(pattern: str) -> str:
    first = min(pattern.index(char) for char in _MAGIC if char in pattern)
    return pattern[:first].rpartition("/")[0]


def _rest(name: str, pattern: str) -> str:
    folder = _common_folder(pattern)
    return name[len(folder) + 1 :] if folder else name


def _is_glob(name: str) -> bool:
    return any(char in name for char in "*?[")


def _matches(key: str, pattern: str) -> bool:
    """As a shell has it: a star does not reach across a slash."""
    from fnmatch import fnmatchcase

    parts, wanted = key.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def _listed(base: str, folder: str, is_deep: bool, stores: Stores) -> dict[str, None]:
    """The keys under a folder, in order, whose versions are known from here on."""
    store, _ = stores.store(base)
    found, _ = stores.ask(partial(_list, base, store, folder, is_deep))
    for meta in found:
        stores.remember(base + meta["path"], Version.of(meta))
    return dict.fromkeys(sorted(meta["path"] for meta in found))


def _list(base: str, store: object, folder: str, is_deep: bool) -> list[dict[str, Any]]:
    obstore = _obstore(base)
    prefix = folder or None
    if not is_deep:
        return list(obstore.list_with_delimiter(store, prefix)["objects"])
    return [meta for chunk in obstore.list(store, prefix, chunk_size=1000) for meta in chunk]
