"""Where the headers of members begin, which an index does not say.

Nearly always a member's header is the block before its payload, behind the end of the member
before. Where more lies between (extended headers, folders, links) that is read.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from typing import Self

from .._errors import IndexFormatError, ReadError
from ._names import Part
from ._shards import bad

BLOCK = 512
_MALFORMED = (tarfile.TarError, ValueError, OverflowError, RecursionError, MemoryError)
"""What `tarfile` raises on headers that are none, too many, or of an absurd size."""


class Headers:
    """The headers of a tar, asked for in its order.

    Args:
        path: Of the tar.
        blame: The side file or index that says what is in it, for messages.
        passed: Called with each regular file that is met and was not asked for.
    """

    def __init__(self, path: str, blame: str, passed: Callable[[tarfile.TarInfo], object] = id) -> None:
        self._path = path
        self._blame = blame
        self._passed = passed
        self._end = 0
        try:
            self._file = open(path, "rb")  # noqa: SIM115
        except OSError as error:
            raise self._unread(error) from error
        try:
            # It reads the first member, which no tar that has an index is without.
            self._tar = tarfile.TarFile(fileobj=self._file, mode="r", encoding="utf-8", errors="surrogateescape")
        except (*_MALFORMED, OSError) as error:
            self._file.close()
            if isinstance(error, OSError):
                raise self._unread(error) from error
            raise self._odd(0, f"no header is there: {error}") from error
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def start_of(self, part: Part, *, look: bool = False) -> int:
        """Offset of the first header of a member, with extended ones; in bytes.

        Args:
            part: The member, behind the one that was asked for before.
            look: Read the header also where the place leaves no doubt, and compare.

        Raises:
            IndexFormatError: The tar has another member there.
        """
        begin, at = self._end, self._end
        self._end = part.offset + _padded(part.size)
        if not look and part.offset == at + BLOCK:
            return begin
        while at < part.offset:
            info = self._member(at)
            if info.offset_data == part.offset:
                if (info.name, info.size, info.isreg()) != (part.name, part.size, True):
                    raise self._odd(
                        at, f"wanted member {info.name!r} of {info.size} bytes, got {part.name!r} of {part.size}"
                    )
                return info.offset
            if info.offset_data > part.offset:
                break
            self._pass(info)
            at = self._tar.offset
        raise self._odd(begin, f"no member of the tar has its payload at {part.offset}, where {part.name!r} should be")

    def end(self) -> int:
        """Offset behind the last member, in bytes: of the end marker, where there is one."""
        at = self._end
        while True:
            block = self._block(at)
            if len(block) < BLOCK or not any(block):
                return at
            self._pass(self._member(at))
            at = self._tar.offset

    def _block(self, at: int) -> bytes:
        try:
            self._file.seek(at)
            return self._file.read(BLOCK)
        except OSError as error:
            raise self._unread(error) from error

    def _member(self, at: int) -> tarfile.TarInfo:
        try:
            self._file.seek(at)
            info = tarfile.TarInfo.fromtarfile(self._tar)
        except OSError as error:
            raise self._unread(error) from error
        except _MALFORMED as error:
            raise self._odd(at, f"wanted a tar header, got {error or type(error).__name__}") from error
        if self._tar.offset <= at:
            raise self._odd(at, f"member {info.name!r} has a size below 0")
        return info

    def _pass(self, info: tarfile.TarInfo) -> None:
        if info.isreg():
            self._passed(info)

    def _unread(self, error: OSError) -> ReadError:
        return ReadError(error.errno, f"{self._path}: cannot read: {error.strerror}", self._path)

    def _odd(self, at: int, text: str) -> IndexFormatError:
        error = bad(self._blame, f"does not describe {self._path}: at offset {at}: {text}")
        error.offset = at
        return error


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
