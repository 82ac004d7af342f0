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
        device: A ``jax.Device`` or sharding; None for JAX's default one.
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
    if isinstance(value, Array) and found.dtype == jax.dtypes.canonicalize_dtype(found.dtype) and found.size:
        on_cpu = jax.dlpack.from_dlpack(value)
        return on_cpu if device is None and _default_is_cpu() else jax.device_put(on_cpu, device)
    return jax.device_put(found, device)


def _default_is_cpu() -> bool:
    return bool(jax.default_backend() == "cpu")
