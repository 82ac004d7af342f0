"""Indexes of objects: beside them in the store, and as files in a folder of this machine.

Native code reads indexes as files. The name of such a file says of which version of the
object it is, so it is never out of date, and the folder may be emptied at any time.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from . import _native
from ._errors import ReadError
from ._stores import StoreError, Stores, Version

if TYPE_CHECKING:
    from ._fetching import Fetching
    from ._native import IndexCounts

SUFFIX = ".utix"


def folder(stores: Stores) -> str:
    """Where the files are: ``storage_options["cache"]``, or in the user's cache."""
    if stores.options.cache is not None:
        return stores.options.cache
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "ultar-dataloader", "indexes")


def path_of(stores: Stores, url: str, version: Version | None) -> str:
    """The file for an index of this version of an object, or of a folder, there or not."""
    import hashlib  # Late, as in `_store`.

    text = f"{stores.options.given.get('endpoint')}\0{url}"
    if version is not None:
        text += f"\0{version.size}\0{version.e_tag}\0{version.modified}"
    return os.path.join(folder(stores), hashlib.blake2b(text.encode(), digest_size=20).hexdigest() + SUFFIX)


def download(stores: Stores, index_url: str) -> str:
    """The path of a file with the content of an index in a store.

    Raises:
        StoreError: It cannot be had, or the file not be written.
    """
    version = stores.look(index_url)
    path = path_of(stores, index_url, version)
    if os.path.exists(path):
        return path
    data, _ = stores.ask(partial(_whole, stores, index_url, version))
    try:
        _write(path, data)
    except OSError as error:
        raise StoreError(error.errno or errno.EIO, f"cannot keep it in {path}: {error.strerror}") from error
    return path


def _whole(stores: Stores, url: str, version: Version) -> bytes:
    if version.size == 0:
        return b""
    return bytes(stores.read(url, 0, version.size))


def _write(path: str, data: bytes) -> None:
    import tempfile

    os.makedirs(os.path.dirname(path), exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def fetch(stores: Stores, url: str, *, any_age: bool) -> str:
    """A file with the index that lies beside an object or was built here for its version.

    Raises:
        ReadError: There is none, or none that is not older than the object.
    """
    try:
        if url.endswith("/"):
            return _fetch_raw(stores, url)
        of_shard = stores.look(url)
        try:
            of_index = stores.look(url + SUFFIX)
        except StoreError as failure:
            if failure.number != errno.ENOENT:
                raise
        else:
            if of_index.size > 0 and (any_age or of_index.modified >= of_shard.modified):
                return download(stores, url + SUFFIX)
        built = path_of(stores, url, of_shard)
        if os.path.exists(built):
            return built
        raise StoreError(errno.ENOENT, f"there is no index beside it{'' if any_age else ' that is not older'}")
    except StoreError as failure:
        raise _read_error(url + SUFFIX, failure) from failure


def _fetch_raw(stores: Stores, url: str) -> str:
    try:
        return download(stores, url.rstrip("/") + SUFFIX)
    except StoreError as failure:
        kept = path_of(stores, url, None)
        if failure.number != errno.ENOENT or not os.path.exists(kept):
            raise
        return kept


def has_raw_index(stores: Stores, url: str) -> bool:
    """Whether a folder is a shard itself: its index is beside it, or was made on this machine.

    Raises:
        StoreError: The store cannot be asked.
    """
    try:
        stores.size(url + SUFFIX)
    except StoreError as failure:
        if failure.number != errno.ENOENT:
            raise
        return os.path.exists(path_of(stores, url + "/", None))
    return True


def keep_raw(stores: Stores, url: str, data: bytes) -> list[str]:
    """Put the index of a folder beside it, or else into the cache; and what to warn of."""
    try:
        stores.ask(partial(stores.put, url.rstrip("/") + SUFFIX, data))
    except StoreError as failure:
        path = path_of(stores, url, None)
        _write(path, data)
        return [f"{url}: the index stays in {path}: the store does not take it: {failure.text}"]
    return []


def of_script(stores: Stores, index_url: str) -> str:
    """A file with the index of that URL, or the one that was built here for its object.

    Raises:
        StoreError: There is none.
    """
    try:
        return download(stores, index_url)
    except StoreError as failure:
        url = index_url.removesuffix(SUFFIX)
        if failure.number != errno.ENOENT or url == index_url:
            raise
        try:
            version = stores.look(url)
            kept = path_of(stores, url, version)
        except StoreError:
            kept = path_of(stores, url + "/", None)
        if not os.path.exists(kept):
            raise
        return kept


def any_index(stores: Stores, url: str) -> str:
    """A file with an index, given its URL or that of its object.

    Raises:
        ReadError: There is none.
    """
    url = stores.bare(url)
    if not url.endswith(SUFFIX):
        return fetch(stores, url, any_age=True)
    try:
        return download(stores, url)
    except StoreError as failure:
        raise _read_error(url, failure) from failure


def find(fetching: Fetching, url: str, mode: str) -> str:
    """A file with the index of an object, for a dataset: built here if need be.

    Raises:
        ReadError: There is none with `mode` "require", or the object cannot be read.
        TarFormatError: It is no tar.
    """
    if mode != "rebuild":
        try:
            return fetch(fetching.stores, url, any_age=mode == "require")
        except ReadError as error:
            if error.errno != errno.ENOENT or mode == "require":
                raise
    if url.endswith("/"):
        from . import raw

        raw.renew(url, "msgpack", fetching.stores)
        return fetch(fetching.stores, url, any_age=True)
    return _build(fetching, url, format="msgpack", rules=[], verify=False)[0]


def build(
    fetching: Fetching,
    url: str,
    fits: Callable[[str], bool] | None,
    **how: Any,
) -> IndexCounts | None:
    """Put an index beside an object; None if there is one for which `fits` is true.

    Args:
        how: Format, rules and verify, as for `_native.index_shard`.

    Raises:
        ReadError: The object cannot be read.
        TarFormatError: It is no tar.
    """
    stores = fetching.stores
    if fits is not None:
        try:
            path = fetch(stores, url, any_age=False)
            if fits(path):
                if path == path_of(stores, url, stores.version(url)) and not url.startswith("http"):
                    # Of a dataset, which writes to no store.
                    _put(stores, url, path)
                return None
        except ReadError as error:
            if error.errno != errno.ENOENT:
                raise
    path, counts = _build(fetching, url, **how)
    if refusal := _put(stores, url, path):
        counts["warnings"].append(f"{url}: the index stays in {path}: the store does not take it: {refusal}")
    return counts


def _put(stores: Stores, url: str, path: str) -> str | None:
    """Put an index beside its object; else why not."""
    with open(path, "rb") as file:
        data = file.read()
    try:
        stores.ask(partial(stores.put, url + SUFFIX, data))
    except StoreError as failure:
        return failure.text
    return None


def _build(fetching: Fetching, url: str, **how: Any) -> tuple[str, IndexCounts]:
    try:
        version = fetching.stores.look(url)
    except StoreError as failure:
        raise _read_error(url, failure) from failure
    path = path_of(fetching.stores, url, version)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    datasets = how.pop("datasets", None)
    from . import hdf5  # Late, as it knows paths, which know indexes.

    if hdf5.is_hdf5(url, fetching.stores):
        return path, hdf5.write_index(url, fetching.stores, path, how["format"], datasets)
    counts = _native.index_shard(url, **how, check=False, index_path=path, stores=fetching)
    return path, counts


def _read_error(url: str, failure: StoreError) -> ReadError:
    return ReadError(failure.number or None, f"{url}: {failure.text}", url)
