"""Arrays of batches in other libraries' hands: without a copy, writable, and for as long as they like."""

from __future__ import annotations

import ctypes
import io as bytesio
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ultar_dataloader import Dataset, _fields, _native

IMAGES = [np.arange(i, i + 15, dtype="<u2").reshape(3, 5) for i in range(6)]


@pytest.fixture
def dataset(make_shard: Callable[..., Path]) -> Dataset:
    return Dataset(
        make_shard({f"{i}": {".img": image.tobytes(), ".cls": np.int64(i).tobytes()} for i, image in enumerate(IMAGES)})
    )


def one(dataset: Dataset, declaration: Any, rows: list[int]) -> Any:
    batches = dataset._store.native().gatherer(_fields.parse(declaration), access="auto", threads=1, stores=None)
    batches.submit(array("Q", rows))
    return batches.take()


def test_dlpack(dataset: Dataset) -> None:
    (image,) = one(dataset, {".img": ("u2", (3, 5))}, [4, 2])
    tensor = np.from_dlpack(image)
    np.asarray(image)[0, 0, 0] = 999
    assert tensor[0, 0, 0] == 999 and tensor.shape == (2, 3, 5)
    # Older versions know no tensors that say whether they may be written to.
    is_new = np.lib.NumpyVersion(np.__version__) >= "2.3.0"
    assert tensor.flags.writeable or not is_new
    assert image.__dlpack_device__() == (1, 0)
    if is_new:
        copied = np.from_dlpack(image, copy=True)
        copied[0, 0, 0] = 1
        assert np.asarray(image)[0, 0, 0] == 999
    # Of both kinds, and thrown away unused.
    assert '"dltensor"' in repr(image.__dlpack__())
    assert '"dltensor_versioned"' in repr(image.__dlpack__(max_version=(1, 1), dl_device=(1, 0), copy=True))
    for arguments in ({"dl_device": (2, 0)}, {"stream": 1}):
        with pytest.raises(BufferError):
            image.__dlpack__(**arguments)
    (swapped,) = one(dataset, {".cls": (">i8", ())}, [4])
    with pytest.raises(BufferError, match=">i8"):
        swapped.__dlpack__()


def test_the_buffer_protocol(dataset: Dataset) -> None:
    (image,) = one(dataset, {".img": ("u2", (3, 5))}, [4, 2])
    view = memoryview(image)
    assert (view.format, view.shape, view.strides, view.readonly) == ("H", (2, 3, 5), (30, 10, 2), False)
    assert view.tolist() == [IMAGES[4].tolist(), IMAGES[2].tolist()]
    view[1, 2, 4] = 77
    assert np.asarray(image)[1, 2, 4] == 77
    assert bytes(image) == np.asarray(image).tobytes()
    assert bytesio.BytesIO(bytes(60)).readinto(image) == 60
    assert not np.asarray(image).any()


class ArrowSchema(ctypes.Structure):
    """As in the specification of Arrow's C data interface."""


class ArrowArray(ctypes.Structure):
    """As in the specification of Arrow's C data interface."""


ArrowSchema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_char_p),
    ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("children", ctypes.POINTER(ctypes.POINTER(ArrowSchema))),
    ("dictionary", ctypes.c_void_p),
    ("release", ctypes.CFUNCTYPE(None, ctypes.POINTER(ArrowSchema))),
    ("private_data", ctypes.c_void_p),
]
ArrowArray._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(ArrowArray))),
    ("dictionary", ctypes.c_void_p),
    ("release", ctypes.CFUNCTYPE(None, ctypes.POINTER(ArrowArray))),
    ("private_data", ctypes.c_void_p),
]


def content(capsule: object, name: bytes, kind: type[Any]) -> Any:
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    return kind.from_address(get(capsule, name))


def test_arrow_by_hand(dataset: Dataset) -> None:
    (image,) = one(dataset, {".img": ("u2", (3, 5))}, [4, 2])
    capsules = image.__arrow_c_array__()
    schema = content(capsules[0], b"arrow_schema", ArrowSchema)
    made = content(capsules[1], b"arrow_array", ArrowArray)
    formats, lengths = [], []
    level, values = schema, made
    while True:
        formats.append(level.format)
        lengths.append((values.length, values.null_count, values.offset, values.n_buffers, values.n_children))
        if not level.n_children:
            break
        level, values = level.children[0].contents, values.children[0].contents
    assert formats == [b"+w:3", b"+w:5", b"S"]
    assert lengths == [(2, 0, 0, 1, 1), (6, 0, 0, 1, 1), (30, 0, 0, 2, 0)]
    assert values.buffers[0] is None
    assert values.buffers[1] == np.asarray(image).ctypes.data

    # A child that is moved elsewhere lives on without its parent.
    parent = made.children[0].contents
    moved = ArrowArray.from_buffer_copy(parent)
    parent.release = type(parent.release)()
    del image
    made.release(ctypes.byref(made))
    assert not made.release
    elements = ctypes.cast(moved.children[0].contents.buffers[1], ctypes.POINTER(ctypes.c_uint16))
    assert elements[:15] == IMAGES[4].ravel().tolist()
    moved.release(ctypes.byref(moved))
    schema.release(ctypes.byref(schema))
    assert not schema.release and not moved.release


@pytest.mark.parametrize(("dtype", "shape"), [("|b1", (30,)), (">u2", (15,)), ("<c8", (1,)), ("b1", (30,))])
def test_what_arrow_does_not_have(dataset: Dataset, dtype: str, shape: tuple[int, ...]) -> None:
    key = ".cls" if dtype == "<c8" else ".img"
    (made,) = one(dataset, {key: (dtype, shape)}, [1])
    with pytest.raises(BufferError, match="Arrow has no type"):
        made.__arrow_c_array__()


def test_pyarrow(dataset: Dataset) -> None:
    import pyarrow as arrow

    image, label = one(dataset, {".img": ("u2", (3, 5)), "cls": ("i8", ())}, [4, 2])
    for made, expected in ((image, arrow.list_(arrow.list_(arrow.uint16(), 5), 3)), (label, arrow.int64())):
        seen = arrow.array(made)
        assert seen.type == expected
        assert seen.to_pylist() == np.asarray(made).tolist()


def test_an_array_keeps_its_memory(dataset: Dataset) -> None:
    """However it is held: new batches get memory of their own."""
    (first,) = one(dataset, {".img": ("u2", (3, 5))}, [4])
    held = [np.asarray(first), np.from_dlpack(first), memoryview(first), first.__arrow_c_array__()]
    addresses = {np.asarray(first).ctypes.data}
    del first
    while held:
        (other,) = one(dataset, {".img": ("u2", (3, 5))}, [1])
        assert np.asarray(other).ctypes.data not in addresses
        del held[0]
    (other,) = one(dataset, {".img": ("u2", (3, 5))}, [1])
    assert np.asarray(other).ctypes.data in addresses, "memory is used again"


def test_other_libraries(dataset: Dataset) -> None:
    torch = pytest.importorskip("torch", reason="too large for the extra `test`")
    for dtype, shape in (("u1", (30,)), ("i2", (3, 5)), ("f2", (3, 5)), ("b1", (30,)), ("u2", (15,))):
        (made,) = one(dataset, {".img": (dtype, shape)}, [4, 2])
        tensor = torch.from_dlpack(made)
        assert tensor.shape == (2, *shape)
        assert tensor.data_ptr() == np.asarray(made).ctypes.data
        tensor.zero_()
        assert not np.asarray(made).any()


def test_none_can_be_made() -> None:
    for kind in (_native.Gatherer, _native.Array):
        with pytest.raises(TypeError, match="comes from"):
            kind()
