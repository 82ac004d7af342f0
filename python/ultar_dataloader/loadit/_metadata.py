"""What a cache keeps beside its shards: how they are made, and what the user wants to know of them."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

from .._errors import CacheError
from ._options import Options, shard_limits
from ._packed import KEYS

_FORMAT = "ultar_dataloader.loadit"
_VERSION = 1


class Metadata:
    """`metadata.json`. Those who write it hold lock 0 of the cache."""

    def __init__(self, root: str, options: Options) -> None:
        self._path = os.path.join(root, "metadata.json")
        self._mode = options.mode
        self._first = {
            "format": _FORMAT,
            "version": _VERSION,
            "compression": options.compression,
            "max_shard_length": options.max_shard_length,
            "info": None,
        }
        self.compression: str | None = None
        self.max_shard_length: int | str = options.max_shard_length
        self.shard_limits = shard_limits(options.max_shard_length)

    def exists(self) -> bool:
        return os.path.exists(self._path)

    def create(self) -> None:
        """Write it, unless it is there: who comes first decides how shards are made."""
        if not self.exists():
            self._write(self._first)

    def load(self) -> dict[str, Any]:
        """Read it.

        Raises:
            CacheError: There is none, or it is not ours.
        """
        try:
            with open(self._path, encoding="utf-8") as file:
                found = json.load(file)
        except FileNotFoundError:
            raise self._error("there is no cache here, and no create_it to make one") from None
        except (OSError, ValueError, RecursionError) as error:
            raise self._error(f"cannot be read, and should be JSON: {error}") from error
        if not isinstance(found, dict) or found.get("format") != _FORMAT:
            raise self._error("this folder is the cache of something else: choose another root_dir")
        version, compression = found.get("version"), found.get("compression", "none at all")
        if version != _VERSION or isinstance(version, bool):
            raise self._error(f"version {version!r} of a cache, and only {_VERSION} is known")
        if not isinstance(compression, str | None) or compression not in KEYS:
            raise self._error(f"compression must be one of {', '.join(map(repr, KEYS))}, got {compression!r}")
        try:
            self.shard_limits = shard_limits(found.get("max_shard_length"))
        except (TypeError, ValueError) as error:
            raise self._error(str(error)) from error
        self.compression, self.max_shard_length = compression, found["max_shard_length"]
        return found

    def set_info(self, info: Any) -> None:
        try:
            json.dumps(info)
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(f"info must be what JSON can hold: {error}") from error
        self._write({**self.load(), "info": info})

    def _write(self, values: dict[str, Any]) -> None:
        temporary = f"{self._path}.tmp"
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                os.fchmod(file.fileno(), self._mode)
                json.dump(values, file, indent=2)
                file.write("\n")
            os.rename(temporary, self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def _error(self, why: str) -> CacheError:
        error = CacheError(f"{self._path}: {why}")
        error.filename = self._path
        return error
