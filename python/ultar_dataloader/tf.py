"""For TensorFlow: a stream as a `tf.data.Dataset`. Imports TensorFlow; nothing else of the package does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy
import tensorflow as tf

from ._fields import Ragged
from ._native import Array
from ._nesting import through
from ._stream.stream import Stream

__all__ = ["dataset"]


def dataset(stream: Stream, output_signature: Any = None) -> Any:
    """A ``tf.data.Dataset`` of a stream's elements, by ``from_generator``.

    Each iteration of it is one of the stream, so epochs go on; shuffling, batching and states are
    the stream's (``stream.state_dict()`` counts what TensorFlow has taken, which prefetches if it
    is told to). Views become strings of bytes, ragged fields ``tf.RaggedTensor``.

    Args:
        stream: Its elements are dicts, tuples or single values that TensorFlow knows.
        output_signature: As for ``from_generator``. None: that of the first element, with
            first dimensions left open; it is read for this, which changes nothing of the stream.

    Raises:
        ValueError: The stream has no element to take the signature from.
    """
    if output_signature is None:
        # A copy, so that the stream itself stands where it stood.
        first = next(_elements(stream.share(0, 1)), None)
        if first is None:
            raise ValueError("a stream without elements has no signature: give output_signature")
        output_signature = _signature(first)
    return tf.data.Dataset.from_generator(lambda: _elements(stream), output_signature=output_signature)


def _elements(stream: Stream) -> Iterator[Any]:
    for element in stream:
        yield _structure(element)


def _structure(value: Any) -> Any:
    if isinstance(value, Ragged):
        return tf.RaggedTensor.from_row_splits(numpy.asarray(value.values), numpy.asarray(value.offsets))
    if isinstance(value, dict):
        return {key: _structure(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_structure, value))
    return through(value, _plain)


def _plain(value: Any) -> Any:
    if isinstance(value, Array):
        return numpy.asarray(value)
    return bytes(value) if isinstance(value, memoryview) else value


def _signature(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _signature(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_signature, value))
    if isinstance(value, tf.RaggedTensor):
        return tf.RaggedTensorSpec([None, None, *value.shape[2:]], value.dtype, ragged_rank=1)
    tensor = tf.convert_to_tensor(value)
    shape = tensor.shape.as_list()
    return tf.TensorSpec([None, *shape[1:]] if shape else [], tensor.dtype)
