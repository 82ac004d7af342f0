"""For JAX: batches as arrays on its devices. Imports JAX; nothing else of the package does."""

from __future__ import annotations

from typing import Any

import jax
import numpy

from ._native import Array
from ._nesting import through

__all__ = ["arrays"]


def arrays(batch: Any, device: Any = None) -> Any:
    """A batch with JAX arrays where there were arrays of this package, of NumPy, and memoryviews.

    On a CPU, batches of declared fields become JAX arrays on the same memory, without a copy: do
    not write to them any more through other views, as JAX takes its arrays for constant. To
    another device they are sent. Dicts, lists and tuples are gone through, rows become dicts;
    all else stays as it is, arrays of text and objects among it.

    64-bit numbers become 32-bit ones unless ``jax_enable_x64`` is set, as in all of JAX.

    Args:
        batch: Of any nesting.
        device: A ``jax.Device``, or None for JAX's default one. Or a sharding: each array is then
            this process's part of a global one, made by ``jax.make_array_from_process_local_data``,
            so that ranks of a stream are processes of JAX.

    Raises:
        ValueError: An array cannot be divided as the sharding says.
    """
    return through(batch, lambda value: _array(value, device))


def _array(value: Any, device: Any) -> Any:
    if isinstance(value, Array | memoryview):
        found = numpy.asarray(value)
    elif isinstance(value, numpy.ndarray):
        found = value
    else:
        return value
    if found.dtype.kind not in "biufc":
        return value
    if not found.dtype.isnative:
        found = found.astype(found.dtype.newbyteorder("="))
    if isinstance(device, jax.sharding.Sharding):
        return jax.make_array_from_process_local_data(device, found)
    is_same = found.dtype == jax.dtypes.canonicalize_dtype(found.dtype)
    if device is None and isinstance(value, Array) and is_same and found.size and _default_is_first_cpu():
        return jax.dlpack.from_dlpack(value)
    return jax.device_put(found, device)


def _default_is_first_cpu() -> bool:
    """Whether what DLPack brings is already where JAX wants what nobody put anywhere."""
    return bool(jax.default_backend() == "cpu" and jax.config.jax_default_device is None)
