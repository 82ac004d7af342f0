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
from ._stream.streamable import Streamable

__all__ = ["dataset"]


def dataset(stream: Streamable, output_signature: Any = None) -> Any:
    """A ``tf.data.Dataset`` of a stream's elements, by ``from_generator``.

    Each iteration of it is one of the stream, so epochs go on; shuffling, mapping and batching are
    the stream's. Views become strings of bytes, ragged fields ``tf.RaggedTensor``, rows dicts.

    In a plain loop over it ``stream.state_dict()`` is exact: TensorFlow takes an element when it is
    asked for one. It takes more ahead where ``map``, ``prefetch`` or Keras's ``fit`` come behind.

    An error of the stream is an error of TensorFlow, ``tf.errors.UnknownError`` or another, with
    our message and traceback as its text; where the stream stands is known as ever.

    Args:
        stream: Or a `Dataset`. Elements are dicts, tuples or single values that TensorFlow knows.
        output_signature: As for ``from_generator``. None: that of the first element, with
            first dimensions left open; it is read for this, which changes nothing of the stream.

    Raises:
        ValueError: The stream has no element to take the signature from.
        TypeError: `stream` is none, or TensorFlow has no type for a value of the first element.
    """
    if not isinstance(stream, Streamable):
        raise TypeError(f"wanted a stream or a Dataset, got {type(stream).__name__}")
    source = stream.stream()
    if output_signature is None:
        # A copy, so that the stream itself stands where it stood.
        first = next(_elements(source.share(0, 1)), None)
        if first is None:
            raise ValueError("a stream without elements has no signature: give output_signature")
        output_signature = _signature(first)
    found = tf.data.Dataset.from_generator(lambda: _elements(source), output_signature=output_signature)
    options = tf.data.Options()
    # TensorFlow would take elements ahead that nobody asked for, and states would count them.
    options.experimental_optimization.inject_prefetch = False
    return found.with_options(options)


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
    try:
        tensor = tf.convert_to_tensor(value)
    except (ValueError, TypeError) as error:
        raise TypeError(f"TensorFlow has no type for a {type(value).__name__}: {error}") from error
    shape = tensor.shape.as_list()
    return tf.TensorSpec([None, *shape[1:]] if shape else [], tensor.dtype)
