"""The exceptions, and how a failure of the native module becomes one of them."""

from __future__ import annotations


class UltarError(Exception):
    """Base of all errors that are raised here.

    Wrong arguments are an exception to it: they raise ``TypeError`` and ``ValueError``.
    """

    offset: int | None = None
    """Where in the file it went wrong, in bytes, when that is known."""
    length: int | None = None
    """How many bytes were wanted there, when that is known."""


class ScriptError(UltarError, RuntimeError):
    """A script does not compile, or failed. The text has its name, line and Lua traceback."""


class ShardFormatError(UltarError, ValueError):
    """A shard is not what its name or first bytes say: malformed, cut off, or damaged."""

    filename: str | None = None
    """The shard."""


class TarFormatError(ShardFormatError):
    """A shard is not a tar that can be read: malformed, cut off, or compressed."""


class IndexFormatError(UltarError, ValueError):
    """A ``.utix``, or a side file of another loader, is malformed, or does not describe its shard."""

    filename: str | None = None
    """The index, or the side file."""


class FieldError(UltarError, ValueError):
    """A payload is not what the declared field says: another type, shape or size, or no such key.

    ``offset`` and ``length`` tell the payload in the shard, in bytes.
    """

    filename: str | None = None
    """The shard."""


class DecodeError(UltarError, ValueError):
    """An entry is not what its decoder takes. ``__cause__`` is what the decoder raised.

    ``offset`` and ``length`` tell where its payload lies in the shard, in bytes.
    """

    filename: str | None = None
    """The shard."""
    key: str | None = None
    """Of the entry."""


class _FileError(UltarError, OSError):
    """An ``OSError`` whose whole text is the engine's message."""

    def __str__(self) -> str:
        return self.strerror or super().__str__()


class ReadError(_FileError):
    """A file could not be opened or read, or ended before a range that was wanted.

    ``errno`` and ``filename`` are as in ``OSError``; ``errno`` is None when the file was too
    short. ``offset`` and ``length`` tell the range in bytes.
    """


class WriteError(_FileError):
    """A file could not be written. ``errno`` and ``filename`` are as in ``OSError``; ``errno`` is
    None when its format cannot hold what was to be in it.
    """


class CacheError(UltarError, RuntimeError):
    """A cache of `LoadIt` cannot give an item: it is not there, or is not what it was."""

    filename: str | None = None
    """The file it is about, if any."""


def _plain(kind: type[UltarError], message: str, filename: str | None) -> UltarError:
    error = kind(message)
    if filename is not None:
        error.filename = filename  # type: ignore[attr-defined]
    return error


def from_native(
    kind: int,
    message: str,
    errno: int,
    filename: str | None,
    offset: int | None,
    length: int | None,
) -> BaseException:
    """The exception for a report of the native module, which raises it.

    Args:
        kind: The number of a ``Kind`` of ``src/base/Diagnostics.zig``.
        message: The whole text.
        errno: The kernel's number; 0 when the kernel had no part in it.
        filename: The file it is about, if any.
        offset: Where in the file, in bytes, if known.
        length: How many bytes were wanted there, if known.
    """
    error: BaseException
    match kind:
        case 1:
            error = ScriptError(message)
        case 2:
            error = _plain(TarFormatError, message, filename)
        case 3:
            error = _plain(IndexFormatError, message, filename)
        case 4:
            error = ReadError(errno or None, message, filename)
        case 5:
            error = WriteError(errno or None, message, filename)
        case 6:
            return MemoryError(message)
        case 8:
            error = _plain(FieldError, message, filename)
        case 9:
            error = _plain(ShardFormatError, message, filename)
        case _:
            error = UltarError(message)
    if offset is not None:
        error.offset = offset
    if length is not None:
        error.length = length
    return error
