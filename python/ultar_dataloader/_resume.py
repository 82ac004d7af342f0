"""States of a `DataLoader`: what makes its rows, by fingerprint, and how many were delivered."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import index as as_int
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import _native

VERSION = 1
_KEYS = ("version", "script", "config", "rank", "world_size", "position")
_POSITION_MAX = 2**63 - 1


class Origin:
    """What an epoch is made from: a state only means something for the same."""

    __slots__ = ("_arguments", "_state")

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._arguments = arguments
        self._state: dict[str, Any] | None = None

    def state(self, position: int) -> dict[str, Any]:
        """As JSON takes it. What was computed once is kept: neither script nor config changes."""
        if self._state is None:
            arguments = self._arguments
            source = arguments["source"]
            self._state = {
                "version": VERSION,
                "script": _digest([source.encode(errors="surrogateescape") if isinstance(source, str) else source]),
                "config": {_name(key): _digest(_pieces(value)) for key, value in arguments["config"].items()},
                "rank": arguments["rank"],
                "world_size": arguments["world_size"],
            }
        return {**self._state, "config": dict(self._state["config"]), "position": position}

    def position_in(self, state: Mapping[str, Any]) -> int:
        """The position of a state that was taken of the same.

        Raises:
            TypeError: `state` is no mapping, or its position no int.
            ValueError: It is not a state, or one of another script, config or rank.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"a state must be a mapping, not {type(state).__name__}")
        if missing := [key for key in _KEYS if key not in state]:
            raise ValueError(f"not a state of a DataLoader: it lacks {', '.join(missing)}")
        if state["version"] != VERSION:
            raise ValueError(f"the state has version {state['version']!r}, known is {VERSION}")
        if unknown := [str(key) for key in state if key not in _KEYS]:
            raise ValueError(f"not a state of this version: it has {', '.join(unknown)}")
        if not isinstance(state["config"], Mapping):
            raise TypeError(f"config of a state must be a mapping, got {state['config']!r}")
        if changes := list(_changes(state, self.state(0))):
            raise ValueError(f"the state is of other rows, so its position means nothing here: {'; '.join(changes)}")
        position = state["position"]
        try:
            number = as_int(position)
        except TypeError:
            raise TypeError(f"position of a state must be an int, got {position!r}") from None
        if isinstance(position, bool) or not 0 <= number <= _POSITION_MAX:
            raise ValueError(f"position of a state must be from 0 to {_POSITION_MAX}, got {position!r}")
        return number


class Progress:
    """How far an epoch has come. Its iterator notes the position here when it is done."""

    __slots__ = ("_origin", "iterator", "position")

    def __init__(self, origin: Origin, position: int = 0) -> None:
        self._origin = origin
        self.position = position
        self.iterator: Callable[[], _native.Pipeline | None] = lambda: None
        """A weak reference, for who wants to know before that."""

    def state_dict(self) -> dict[str, Any]:
        """The state at `position`."""
        return self._origin.state(self.position)

    def position_in(self, state: Mapping[str, Any], /) -> int:
        """As `Origin.position_in`."""
        return self._origin.position_in(state)


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    if old["script"] != new["script"]:
        yield "the text of the script is another one"
    before, now = old["config"], new["config"]
    for key in sorted(now.keys() | before.keys(), key=str):
        if key not in before:
            yield f"config has {key!r}, and had not"
        elif key not in now:
            yield f"config had {key!r}, and has not"
        elif before[key] != now[key]:
            yield f"config[{key!r}] is another one"
    for name in ("rank", "world_size"):
        if old[name] != new[name]:
            yield f"{name} was {old[name]!r}, now {new[name]!r}"


def _name(key: object) -> str:
    """A key of a config as JSON has it. One that is no str is told from the str by its look."""
    return key.encode(errors="backslashreplace").decode() if isinstance(key, str) else f"[{key!r}]"


def _digest(pieces: Iterable[bytes]) -> str:
    from hashlib import blake2b  # Not needed to begin.

    digest = blake2b(digest_size=8)
    for piece in pieces:
        digest.update(b"%d:" % len(piece))
        digest.update(piece)
    return digest.hexdigest()


def _pieces(value: Any) -> Iterator[bytes]:
    """What a script sees of a value of a config, unambiguously, whatever the order of its keys."""
    if isinstance(value, str):
        yield b"s" + value.encode(errors="surrogateescape")
    elif isinstance(value, (bytes, bytearray)):
        yield b"s" + value
    elif value is None or isinstance(value, bool):
        yield b"%a" % value
    elif isinstance(value, float):
        yield b"f%a" % float(value)
    elif hasattr(value, "__index__"):
        yield b"i%d" % as_int(value)
    elif isinstance(value, Mapping):
        yield b"m%d" % len(value)
        for key in sorted(value, key=lambda key: (isinstance(key, str), key)):
            yield from _pieces(key)
            yield from _pieces(value[key])
    elif isinstance(value, Sequence):
        yield b"l%d" % len(value)
        for item in value:
            yield from _pieces(item)
    else:
        yield from _pieces(os.fspath(value))
