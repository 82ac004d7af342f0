"""What rows and batches are made of, as tensors, or as what may go to another process."""

from __future__ import annotations

from typing import Any

import numpy
import torch

from .._mapped import plain
from .._native import Array
from .._nesting import through


def tensors(batch: Any, *, pin: bool = False) -> Any:
    """A batch with tensors on the same memory, where there were arrays and views.

    Dicts, lists and tuples are gone through, rows become dicts. Arrays of this package, of
    NumPy and of whoever speaks DLPack become tensors, memoryviews too (of ``uint8``, if they
    are of bytes); all else stays as it is, arrays of text, dates and objects among it.

    PyTorch has no read-only tensors. What comes from a view must not be written to: it is
    the memory of a row, which others may share. No file changes by that, mapped or not.

    Args:
        batch: Of any nesting.
        pin: Copy to page-locked memory, from where a GPU can fetch without waiting
            (``tensor.to("cuda", non_blocking=True)``). Where there is no CUDA, nothing is copied.

    Raises:
        TypeError: PyTorch has no such number format.
    """
    if pin and torch.cuda.is_available():
        return through(batch, lambda value: _pinned(_tensor(value)))
    return through(batch, _tensor)


def portable(value: Any) -> Any:
    """As worker processes can hand it on: rows as dicts, views as bytes, batches as tensors."""
    return through(value, _portable)


def _tensor(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, (memoryview, Array)):
        value = numpy.asarray(value)
    if isinstance(value, numpy.ndarray):
        return _of_numpy(value)
    return torch.from_dlpack(value) if hasattr(value, "__dlpack__") else value


def _of_numpy(array: Any) -> Any:
    if array.dtype.kind not in "biufc":
        return array
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if any(stride < 0 for stride in array.strides):
        array = array.copy()
    if array.flags.writeable:
        return torch.from_numpy(array)
    try:
        # `from_numpy` would warn that the tensor can be written to, which `tensors` says.
        return torch.from_dlpack(array)
    except BufferError:  # NumPy before 2.1 has no way to say "read-only".
        return torch.from_numpy(array.copy())


def _pinned(value: Any) -> Any:
    return value.pin_memory() if isinstance(value, torch.Tensor) and not value.is_cuda else value


def _portable(value: Any) -> Any:
    # PyTorch would take a memoryview for a sequence of numbers.
    return _tensor(value) if isinstance(value, Array) else plain(value)
