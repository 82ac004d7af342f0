"""How a config reaches the script: what arrives in Lua, and what is refused and how."""

from __future__ import annotations

import collections
import enum
import os
import pathlib
import types
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ultar_dataloader import DataLoader

# One entry a value: under its path in the table, its type and text.
DESCRIBE = """
local loader = require("ultar.loader")
local function describe(value, path)
  if type(value) ~= "table" then
    local text = type(value) == "number" and ("%.17g"):format(value) or tostring(value)
    loader:add_entry_bytes(path, type(value) .. " " .. text)
    return
  end
  loader:add_entry_bytes(path, "table")
  for key, inner in pairs(value) do
    describe(inner, ("%s/%s:%s"):format(path, type(key), tostring(key)))
  end
end
return {
  init_ctx = function(rank, world_size, config) return config end,
  row_generator = function(config)
    describe(config, "")
    loader:finish_row()
  end,
}
"""


def arrived(config: Mapping[Any, object]) -> dict[str, str]:
    """Paths in the script's table, and what stands there."""
    (row,) = DataLoader(DESCRIBE, config)
    return {path: text.decode("utf-8", "surrogateescape") for path, text in row.items()}


def expected(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    match value:
        case None:
            pass  # As ever in Lua: what is nil is not there.
        case bool():
            yield path, f"boolean {str(value).lower()}"
        case int() | float():
            yield path, f"number {float(value):.17g}"
        case str():
            yield path, f"string {value}"
        case dict():
            yield path, "table"
            for key, inner in value.items():
                kind = "string" if isinstance(key, str) else "number"
                yield from expected(inner, f"{path}/{kind}:{key}")
        case list():
            yield path, "table"
            for i, inner in enumerate(value, 1):
                yield from expected(inner, f"{path}/number:{i}")


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
leaves = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts | st.integers(0, 9), inner, max_size=4)
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(texts, values, max_size=5))
def test_values_arrive_as_themselves(config: dict[str, object]) -> None:
    assert as_numbers(arrived(config)) == as_numbers(dict(expected(config)))


def as_numbers(texts: Mapping[str, str]) -> dict[str, object]:
    """Seventeen digits name one number, but the last of them may be rounded either way."""
    return {
        path: float(text.removeprefix("number ")) if text.startswith("number ") else text
        for path, text in texts.items()
    }


class Registered(collections.abc.Mapping[str, object]):
    """A mapping that is no dict."""

    def __init__(self, **values: object) -> None:
        self.values_ = values

    def __getitem__(self, key: str) -> object:
        return self.values_[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_)

    def __len__(self) -> int:
        return len(self.values_)


class Level(enum.IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (pathlib.Path("/data/a.tar"), "string /data/a.tar"),
        (b"\xffbytes", "string \udcffbytes"),
        (bytearray(b"more"), "string more"),
        (os.fsdecode(b"\xff.tar"), "string \udcff.tar"),
        ("nul\0nul", "string nul\0nul"),
        ("", "string "),
        (np.int64(-7), "number -7"),
        (np.uint8(200), "number 200"),
        (np.float64(0.1), "number 0.10000000000000001"),
        (np.str_("text"), "string text"),
        (np.array(5), "number 5"),
        (Level.HIGH, "number 3"),
        (2**53, "number 9007199254740992"),
        (-(2**53), "number -9007199254740992"),
        (float("inf"), "number inf"),
        (1e308, f"number {1e308:.17g}"),
        (True, "boolean true"),
    ],
    ids=repr,
)
def test_a_value_of_another_type_arrives(value: object, text: str) -> None:
    assert arrived({"v": value}) == {"": "table", "/string:v": text}


@pytest.mark.parametrize("value", [(1, 2), [1, 2], range(1, 3), collections.deque([1, 2])], ids=repr)
def test_any_sequence_is_an_array(value: object) -> None:
    assert arrived({"v": value}) == {
        "": "table",
        "/string:v": "table",
        "/string:v/number:1": "number 1",
        "/string:v/number:2": "number 2",
    }


@pytest.mark.parametrize("value", [Registered(a=1), types.MappingProxyType({"a": 1}), collections.OrderedDict(a=1)])
def test_any_mapping_is_a_table(value: Mapping[str, object]) -> None:
    assert arrived(value) == {"": "table", "/string:a": "number 1"}
    assert arrived({"v": value})["/string:v/string:a"] == "number 1"


def test_no_config_is_an_empty_table() -> None:
    (row,) = DataLoader(DESCRIBE)
    assert row.to_dict() == {"": b"table"}


def test_a_large_text_arrives_whole() -> None:
    text = "x" * 5_000_000
    assert arrived({"v": text})["/string:v"] == f"string {text}"


def test_whatever_nests_at_all_may_nest_64_deep() -> None:
    config: dict[str, object] = {}
    for _ in range(63):
        config = {"a": config}
    assert len(arrived(config)) == 64
    with pytest.raises(ValueError, match=r'config\["a"\].*deeper than 64'):
        arrived({"a": config})


def test_what_contains_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(ValueError, match=r'config\["loop"\]\[0\].*contains itself'):
        arrived({"loop": loop})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"a": [1, 2, {3}]}, r'config\["a"\]\[2\]: cannot pass a set to Lua'),
        ({"a": {"b": object()}}, r'config\["a"\]\["b"\]: cannot pass an object to Lua'),
        ({7: 1j}, r"config\[7\]: cannot pass a complex to Lua"),
        ({"a": np.arange(3)}, r'config\["a"\]: cannot pass a numpy\.ndarray to Lua'),
        ({"a": np.float32(1)}, r'config\["a"\]: cannot pass a numpy\.float32 to Lua'),
        ({"a": memoryview(b"x")}, r'config\["a"\]: cannot pass a memoryview to Lua'),
        ({"a": (i for i in [1])}, r'config\["a"\]: cannot pass a generator to Lua'),
        ({"a": int}, r'config\["a"\]: cannot pass a type to Lua'),
        ({"k" * 1000: {1}}, r'config\["k{60}\.\.\."\]: cannot pass a set to Lua'),
        ({1.5: 1}, r"config: keys must be str or int, not float"),
        ({"a": {None: 1}}, r'config\["a"\]: keys must be str or int, not NoneType'),
        ({True: 1}, r"config: keys must be str or int, not bool"),
    ],
    ids=repr,
)
def test_a_type_that_lua_lacks_is_refused_with_its_place(config: dict[Any, object], message: str) -> None:
    with pytest.raises(TypeError, match=f"^{message}"):
        DataLoader(DESCRIBE, config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"a": 2**53 + 1}, r'config\["a"\]: 9007199254740993 is beyond 2\^53'),
        ({"a": [-(2**53) - 1]}, r'config\["a"\]\[0\]: -9007199254740993 is beyond 2\^53'),
        ({"a": 2**200}, r'config\["a"\]: an int of more than 64 bits is beyond 2\^53'),
        ({"a": np.uint64(2**63)}, r'config\["a"\]: an int of more than 64 bits is beyond 2\^53'),
        ({2**60: 1}, r"config\[1152921504606846976\]: 1152921504606846976 is beyond 2\^53"),
        ({"a": "\ud800"}, r'config\["a"\]: the str has surrogates'),
    ],
    ids=ascii,
)
def test_a_value_that_lua_cannot_hold_is_refused_with_its_place(config: dict[Any, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        DataLoader(DESCRIBE, config)


class Broken(Registered):
    def items(self) -> Any:
        return [1]


class Raising(Registered):
    def __getitem__(self, key: str) -> object:
        raise ZeroDivisionError(key)


class RaisingIndex:
    def __index__(self) -> int:
        raise ZeroDivisionError("index")


def test_an_error_of_the_caller_s_own_objects_is_the_error() -> None:
    with pytest.raises(TypeError, match=r'config\["v"\]: items\(\) of the mapping gave what is no pair'):
        DataLoader(DESCRIBE, {"v": Broken(a=1)})
    with pytest.raises(ZeroDivisionError, match="key"):
        DataLoader(DESCRIBE, {"v": Raising(key=1)})
    with pytest.raises(ZeroDivisionError, match="index"):
        DataLoader(DESCRIBE, {"v": RaisingIndex()})
