"""Files that take their place whole or not at all."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import BinaryIO

from ._errors import WriteError

_numbers = count()


class Output:
    """A file on its way to its place, to be written from front to back."""

    def __init__(self, path: str, file: BinaryIO) -> None:
        self._path = path
        self._file = file

    def write(self, data: bytes | array[int]) -> None:
        """Append bytes.

        Raises:
            WriteError: They cannot be written.
        """
        try:
            self._file.write(data)
        except OSError as error:
            raise _failure(self._path, error) from error


@contextmanager
def replacing(path: str) -> Iterator[Output]:
    """A file to write, which replaces the one at `path` when the block ends without an error.

    Whoever reads meanwhile has the old file. A process that is killed leaves the old file,
    and beside it a `.ultar-PID-N.tmp`.

    Raises:
        WriteError: The file cannot be created, written or put in its place.
    """
    temporary = os.path.join(os.path.dirname(path), f".ultar-{os.getpid()}-{next(_numbers)}.tmp")
    try:
        file = open(temporary, "xb")  # noqa: SIM115
    except OSError as error:
        raise _failure(path, error) from error
    try:
        try:
            yield Output(path, file)
        except BaseException:
            file.close()
            raise
        try:
            with file:
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            raise _failure(path, error) from error
    except BaseException:
        os.unlink(temporary)
        raise


def _failure(path: str, error: OSError) -> WriteError:
    return WriteError(error.errno, f"{path}: cannot write: {error.strerror}", path)
