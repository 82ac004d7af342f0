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

from . import _native, hdf5
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


def path_of(stores: Stores, url: str, version: Version) -> str:
    """The file for an index of this version of an object, there or not."""
    import hashlib  # Late, as in `_store`.

    text = f"{stores.options.given.get('endpoint')}\0{url}\0{version.size}\0{version.e_tag}\0{version.modified}"
    return os.path.join(folder(stores), hashlib.blake2b(text.encode(), digest_size=20).hexdigest() + SUFFIX)


def download(stores: Stores, index_url: str) -> str:
    """The path of a file with the content of an index in a store.

    Raises:
        StoreError: It cannot be had, or the file not be written.
    """
    version, _ = stores.insist(partial(stores.version, index_url))
    path = path_of(stores, index_url, version)
    if os.path.exists(path):
        return path
    data, _ = stores.insist(partial(_whole, stores, index_url, version))
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
        of_shard, _ = stores.insist(partial(stores.version, url))
        try:
            of_index, _ = stores.insist(partial(stores.version, url + SUFFIX))
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


def any_index(stores: Stores, url: str) -> str:
    """A file with an index, given its URL or that of its object.

    Raises:
        ReadError: There is none.
    """
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
            if fits(fetch(stores, url, any_age=False)):
                return None
        except ReadError as error:
            if error.errno != errno.ENOENT:
                raise
    path, counts = _build(fetching, url, **how)
    try:
        with open(path, "rb") as file:
            data = file.read()
        stores.insist(partial(stores.put, url + SUFFIX, data))
    except StoreError as failure:
        counts["warnings"].append(f"{url}: the index stays in {path}: the store does not take it: {failure.text}")
    return counts


def _build(fetching: Fetching, url: str, **how: Any) -> tuple[str, IndexCounts]:
    try:
        version, _ = fetching.stores.insist(partial(fetching.stores.version, url))
    except StoreError as failure:
        raise _read_error(url, failure) from failure
    path = path_of(fetching.stores, url, version)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    datasets = how.pop("datasets", None)
    if hdf5.is_hdf5(url, fetching.stores):
        return path, hdf5.write_index(url, fetching.stores, path, how["format"], datasets)
    counts = _native.index_shard(url, **how, check=False, index_path=path, stores=fetching)
    return path, counts


def _read_error(url: str, failure: StoreError) -> ReadError:
    return ReadError(failure.number or None, f"{url}: {failure.text}", url)
