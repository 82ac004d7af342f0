"""Payloads to values: JSON, text, class numbers, NumPy arrays and images. Never pickle."""

from __future__ import annotations

import ast
import functools
import io
import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from ._errors import DecodeError
from ._native import LoadedRow
from ._optional import need

IMAGES = ("bmp", "gif", "jpeg", "jpg", "png", "ppm", "tif", "tiff", "webp")
"""Names that stand for an image. Pillow tells by the bytes which it is."""
_IMAGE_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's names, and no others: some of its formats start programs."""
_DEFLATED = ".deflate"
"""Behind the key of an array in a zip that is deflated: see docs/formats.md."""
_NPY_HEADER_MAX = 10_000
"""Characters of a header that are looked at, as in NumPy: it is parsed as Python."""


def decoder(spec: str | Mapping[str, str | Callable[[memoryview], Any]] = "auto") -> Decoder:
    """What makes a dict of decoded entries of a row.

    Args:
        spec: ``"auto"`` decodes each entry by the end of its key: ``.seg.png`` is an image, and
            what has an unknown end stays a memoryview. A mapping names for a key (``".json"``,
            or ``"json"`` for short) a decoder or a function of a memoryview; entries of other
            keys stay memoryviews.

    Raises:
        TypeError: `spec` is of another type, or a decoder in it is no name and no function.
        ValueError: There is no decoder of that name.
        ImportError: A name in the mapping needs a package that is not installed.
    """
    return Decoder(spec)


class Decoder:
    """A row as a dict of decoded entries; see `decoder`. Can be pickled, if its functions can.

    Of a key that a row has twice the first entry counts, as in ``row[key]``.

    Raises:
        DecodeError: An entry cannot be decoded. What a function of the user raises is raised as it
            is, with a note that says the same.
        ImportError: With ``"auto"``: an entry needs a package that is not installed.
    """

    def __init__(self, spec: str | Mapping[str, str | Callable[[memoryview], Any]]) -> None:
        self._spec: dict[str, str | Callable[[memoryview], Any]] | None = None
        if isinstance(spec, Mapping):
            self._spec = {key: _checked(key, kind) for key, kind in spec.items()}
        elif not isinstance(spec, str):
            raise TypeError(f'decode must be "auto" or a mapping of keys, got {type(spec).__name__}')
        elif spec != "auto":
            raise ValueError(f'decode must be "auto" or a mapping of keys, got {spec!r}')

    def __call__(self, row: LoadedRow) -> dict[str, Any]:
        decoded: dict[str, Any] = {}
        for place, key in enumerate(row.keys()):
            if key not in decoded:
                decoded[key] = self.entry(row, place)
        return decoded

    def entry(self, row: LoadedRow, place: int) -> Any:
        """One entry of a row, decoded."""
        view = row.view(place)
        kind = self._kind(row.keys()[place])
        if kind is None:
            return view
        try:
            return _DECODERS[kind](view) if isinstance(kind, str) else kind(view)
        except (MemoryError, ImportError):
            raise
        except Exception as error:
            _fail(row, place, kind, error)

    def _kind(self, key: str) -> str | Callable[[memoryview], Any] | None:
        if self._spec is not None:
            found = self._spec.get(key)
            return self._spec.get(key[1:]) if found is None and key.startswith(".") else found
        folded = key.lower()
        plain = folded.removesuffix(_DEFLATED)
        end = plain.rpartition(".")[2] + folded[len(plain) :]
        return end if end in _DECODERS else None

    def __repr__(self) -> str:
        return f"decoder({'auto' if self._spec is None else self._spec!r})"


def _checked(key: object, kind: object) -> str | Callable[[memoryview], Any]:
    if not isinstance(key, str):
        raise TypeError(f"a key must be str, got {type(key).__name__}: {key!r}")
    if isinstance(kind, str):
        if kind not in _DECODERS:
            raise ValueError(f"there is no decoder {kind!r} (for {key!r}): known are {', '.join(sorted(_DECODERS))}")
        if kind in IMAGES:
            _pillow()
        return kind
    if not callable(kind):
        raise TypeError(f"the decoder of {key!r} must be a name or a function, got {type(kind).__name__}")
    return kind


def _fail(row: LoadedRow, place: int, kind: object, error: Exception) -> NoReturn:
    """Raises what says which entry it was."""
    key = row.keys()[place]
    path, offset, size = row.sources()[place]
    where = f"{path}: entry {key!r}, {size} bytes at offset {offset}" if path else f"entry {key!r}, {size} bytes"
    if not isinstance(kind, str):
        error.add_note(f"while decoding {where}")
        raise error
    failure = DecodeError(f"{where}: not {kind}: {error or type(error).__name__}")
    failure.key = key
    if path:
        failure.filename, failure.offset, failure.length = path, offset, size
    raise failure from error


def _json(view: memoryview) -> Any:
    return json.loads(bytes(view))


def _txt(view: memoryview) -> str:
    return str(view, "utf-8")


def _cls(view: memoryview) -> int:
    return int(bytes(view))


def _npy(view: memoryview) -> Any:
    """A read-only array on the memory of the row."""
    numpy = need("numpy", "numpy", "decoding .npy")
    if bytes(view[:6]) != b"\x93NUMPY":
        raise ValueError("it does not begin as such a file does")
    if len(view) < 10 or view[6] not in (1, 2, 3):
        raise ValueError(f"its version is {view[6]}, known are 1 to 3" if len(view) >= 10 else "its header is cut off")
    begin = 10 if view[6] == 1 else 12
    end = begin + int.from_bytes(view[8:begin], "little")
    if end > len(view):
        raise ValueError(f"its header is cut off: it ends at byte {end}")
    dtype, in_fortran_order, shape = _npy_header(bytes(view[begin:end]), "utf-8" if view[6] == 3 else "latin-1")
    count = 1
    for size in shape:
        count *= size
    if end + count * dtype.itemsize != len(view):
        raise ValueError(
            f"an array of {dtype} and shape {shape} wants {count * dtype.itemsize} bytes, got {len(view) - end}"
        )
    return numpy.ndarray(shape, dtype, view, end, order="F" if in_fortran_order else "C")


def _npy_deflated(view: memoryview) -> Any:
    return _npy(memoryview(zlib.decompress(view, -zlib.MAX_WBITS)))


# To parse one takes longer than all else of an array, and those of a dataset are mostly the same.
@functools.lru_cache(maxsize=64)
def _npy_header(text: bytes, encoding: str) -> tuple[Any, bool, tuple[int, ...]]:
    if len(text) > _NPY_HEADER_MAX:
        raise ValueError(f"its header has {len(text)} bytes, at most {_NPY_HEADER_MAX} are read")
    try:
        header = ast.literal_eval(str(text, encoding).strip())
    except (SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f"its header cannot be parsed: {error}") from error
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        raise ValueError("its header must have descr, fortran_order and shape")
    dtype = need("numpy", "numpy", "decoding .npy").lib.format.descr_to_dtype(header["descr"])
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are pickled: they are refused")
    shape = header["shape"]
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"its shape must be a tuple of whole numbers, got {shape!r}")
    if not isinstance(header["fortran_order"], bool):
        raise ValueError(f"fortran_order must be True or False, got {header['fortran_order']!r}")
    return dtype, header["fortran_order"], shape


def _image(view: memoryview) -> Any:
    image = _pillow().open(io.BytesIO(view), formats=_IMAGE_FORMATS)
    image.load()
    return image


def _pillow() -> Any:
    return need("PIL.Image", "images", "decoding images")


_DECODERS: dict[str, Callable[[memoryview], Any]] = {
    "json": _json,
    "txt": _txt,
    "cls": _cls,
    "npy": _npy,
    f"npy{_DEFLATED}": _npy_deflated,
    **dict.fromkeys(IMAGES, _image),
}
