"""Decoders: what they make of rows of real shards, and what they say of entries that are something else."""

from __future__ import annotations

import contextlib
import io
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import ultar_dataloader as ultar
from ultar_dataloader._decode import _npy, decoder

ROW = Callable[..., ultar.LoadedRow]


@pytest.fixture
def row_of(make_shard: Callable[..., Path]) -> ROW:
    """A row of a shard with these entries."""
    return lambda **members: ultar.Dataset(
        make_shard({"stem": {f".{key.replace('__', '.')}": data for key, data in members.items()}})
    )[0]


def npy(array: np.ndarray[Any, Any], **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def image(kind: str, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (5, 3), 77 if mode == "L" else (10, 200, 30)).save(file, kind)
    return file.getvalue()


def test_auto_decodes_by_the_last_end_of_a_key(row_of: ROW) -> None:
    row = row_of(
        json=b'{"a": [1, null]}', txt="naïve".encode(), cls=b"12\n", seg__PNG=image("PNG"), pkl=b"\x80\x04N.", xyz=b"?"
    )
    decoded = decoder()(row)
    assert list(decoded) == list(row)
    assert (decoded[".json"], decoded[".txt"], decoded[".cls"]) == ({"a": [1, None]}, "naïve", 12)
    assert decoded[".seg.PNG"].size == (5, 3) and decoded[".seg.PNG"].getpixel((4, 2)) == (10, 200, 30)
    for key in (".pkl", ".xyz"):
        assert isinstance(decoded[key], memoryview) and bytes(decoded[key]) == row[key]


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("jpg", "JPEG"),
        ("jpeg", "JPEG"),
        ("png", "PNG"),
        ("webp", "WEBP"),
        ("bmp", "BMP"),
        ("ppm", "PPM"),
        ("gif", "GIF"),
        ("tif", "TIFF"),
        ("tiff", "TIFF"),
    ],
)
def test_each_kind_of_image_is_loaded(row_of: ROW, key: str, kind: str) -> None:
    decoded = decoder()(row_of(**{key: image(kind)}))[f".{key}"]
    assert (decoded.format, decoded.size) == (kind, (5, 3))
    close = np.asarray(decoded.convert("RGB")).astype(int) - (10, 200, 30)
    assert np.abs(close).max() <= 4
    assert decoder()(row_of(**{key: image(kind, "L")}))[f".{key}"].convert("L").getpixel((0, 0)) in range(73, 82)


def test_a_mapping_says_what_is_decoded_and_how(row_of: ROW) -> None:
    row = row_of(json=b"[1]", txt=b"7", bin=b"\x01\x02", cls=b"3", mask=image("PNG", "L"))
    decoded = decoder({".json": "json", "txt": "cls", "bin": lambda view: sum(view), "mask": "png", "gone": "txt"})(row)
    assert decoded.pop(".mask").mode == "L"
    assert bytes(decoded.pop(".cls")) == b"3"
    assert decoded == {".json": [1], ".txt": 7, ".bin": 3}


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype="<f4").reshape(2, 3, 4),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.array(5, ">u2"),
        np.zeros((0, 3), "f8"),
        np.array([(1, 2.5)], [("a", "i4"), ("größe", "f8")]),
        np.array([(1, 2)], [("a", "i4"), ("b", "<u2", (3,))]),
        np.array(["ab", "c"]),
        np.array([True, False]),
    ],
    ids=lambda array: str(array.dtype),
)
def test_arrays_are_views_of_the_row(row_of: ROW, array: np.ndarray[Any, Any]) -> None:
    row = row_of(npy=npy(array))
    decoded = decoder()(row)[".npy"]
    assert decoded.dtype == array.dtype and decoded.shape == array.shape
    assert np.array_equal(decoded, array)
    assert not decoded.flags.writeable and not decoded.flags.owndata
    if array.size:
        assert np.shares_memory(decoded, np.asarray(row.view("npy")))
    del row
    assert np.array_equal(decoded, array)


@pytest.mark.parametrize(
    ("key", "payload", "says"),
    [
        ("json", b"{", "not json: Expecting property name"),
        ("json", b"[" * 100_000, "not json: "),
        ("json", b"\xff", "not json: 'utf-8' codec"),
        ("txt", b"a\xff", "not txt: 'utf-8' codec can't decode byte 0xff in position 1"),
        ("cls", b"cat", "not cls: invalid literal for int"),
        ("npy", b"", "does not begin"),
        ("npy", b"\x93NUMPY\x01", "its header is cut off"),
        ("npy", b"\x93NUMPY\x09\x00\x10\x00", "its version is 9"),
        ("npy", b"\x93NUMPY\x01\x00\x10\x00{", "it ends at byte 26"),
        ("npy", npy(np.arange(4))[:-1], "wants 32 bytes, got 31"),
        ("npy", npy(np.arange(4)) + b"x", "wants 32 bytes, got 33"),
        (
            "npy",
            npy(np.array([{}, 1], object), allow_pickle=True),
            "Python objects, which are pickled: they are refused",
        ),
        ("npy", npy(np.arange(4)).replace(b"(4,)", b"(-4)"), "its shape must be a tuple"),
        ("npy", npy(np.arange(4)).replace(b"'descr'", b"'other'"), "must have descr"),
        ("npy", npy(np.arange(4)).replace(b"False", b"12345"), "fortran_order must be"),
        ("npy", b"\x93NUMPY\x02\x00" + (20_000).to_bytes(4, "little") + bytes(20_000), "at most 10000 are read"),
        ("npy", b"\x93NUMPY\x02\x00" + (9_000).to_bytes(4, "little") + b"(" * 9_000, "cannot be parsed"),
        ("png", b"\x89PNG\r\n\x1a\n", "not png: "),
        ("png", image("PNG")[:-30], "not png: "),
        ("jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not jpg: cannot identify image"),
    ],
)
def test_what_is_something_else_is_named(row_of: ROW, key: str, payload: bytes, says: str) -> None:
    row = row_of(txt2=b"before", **{key: payload})
    with pytest.raises(ultar.DecodeError) as caught:
        decoder()(row)
    error = caught.value
    path, offset, size = row.sources()[1]
    assert str(error).startswith(f"{path}: entry '.{key}', {size} bytes at offset {offset}: ") and says in str(error)
    assert (error.key, error.filename, error.offset, error.length) == (f".{key}", path, offset, len(payload))
    assert isinstance(error, ValueError) and error.__cause__ is not None


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_arrays_are_errors_or_arrays(data: st.DataObject) -> None:
    payload = bytearray(npy(np.arange(6, dtype="<i2").reshape(2, 3)))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError, TypeError):
        assert _npy(memoryview(bytes(payload))).nbytes <= len(payload)


def test_an_error_of_a_function_is_its_own_with_a_note(row_of: ROW) -> None:
    def fail(view: memoryview) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        decoder({"txt": fail})(row_of(txt=b"abc"))
    (note,) = caught.value.__notes__
    assert note.startswith("while decoding /") and "entry '.txt', 3 bytes at offset 512" in note


def test_of_a_key_given_twice_the_first_counts() -> None:
    script = """
    local loader = require("ultar.loader")
    return { row_generator = function()
      loader:add_entry_bytes("json", "[1]") loader:add_entry_bytes("json", "broken") loader:add_entry_bytes("txt", "x")
      loader:finish_row()
      loader:add_entry_bytes("json", "broken") loader:finish_row()
    end }"""
    first, second = ultar.DataLoader(script)
    assert decoder()(first) == {"json": [1], "txt": "x"}
    with pytest.raises(ultar.DecodeError, match="^entry 'json', 6 bytes: not json: Expecting value") as caught:
        decoder()(second)
    assert caught.value.filename is None and caught.value.offset is None


@pytest.mark.parametrize(
    ("spec", "kind", "says"),
    [
        ("json", ValueError, "must be \"auto\" or a mapping of keys, got 'json'"),
        (["json"], TypeError, 'must be "auto" or a mapping of keys, got list'),
        (
            {".a": "pkl"},
            ValueError,
            r"no decoder 'pkl' \(for '.a'\): known are bmp, cls, .*json, npy, npy.deflate, png",
        ),
        ({".a": 3}, TypeError, "decoder of '.a' must be a name or a function, got int"),
        ({3: "txt"}, TypeError, "a key must be str, got int: 3"),
    ],
)
def test_wrong_specs_are_refused_at_once(spec: Any, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says):
        decoder(spec)


def test_without_pillow_the_extra_is_named(row_of: ROW, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r"decoding images needs PIL.Image: pip install 'ultar-dataloader\[images\]'"):
        decoder({"a": "jpg"})
    auto = decoder()
    assert auto(row_of(txt=b"x")) == {".txt": "x"}
    with pytest.raises(ImportError, match="images"):
        auto(row_of(jpg=image("JPEG")))


def test_decoders_are_pickled(row_of: ROW) -> None:
    row = row_of(json=b"{}", bin=b"abc")
    for spec in ("auto", {"json": "json"}, {".bin": len}):
        made = decoder(spec)
        copy = pickle.loads(pickle.dumps(made))
        assert repr(copy) == repr(made)
    assert copy(row)[".bin"] == 3
