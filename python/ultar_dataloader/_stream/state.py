"""The states of streams: a few integers, checked against the stream that takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._split import POSITION_MAX, whole
from .plan import Plan
from .run import Start

VERSION = 1
_KEYS = ("version", "fingerprint", "rows", "shards", "seed", "window", "epoch", "position")
_OPTIONAL = ("within", "worker")


def pack(plan: Plan, fingerprint: str, start: Start, counts_worker: bool) -> dict[str, Any]:
    """As JSON takes it.

    Args:
        fingerprint: Of the plan's source.
        counts_worker: Whether `start.phase` means something.
    """
    source = plan.source
    state: dict[str, Any] = {
        "version": VERSION,
        "fingerprint": fingerprint,
        "rows": len(source),
        "shards": source.shards,
        "seed": source.seed,
        "window": source.window,
        "epoch": start.epoch,
        "position": start.position,
    }
    if start.within:
        state["within"] = [start.within, *plan.ranks, _unit(plan)]
    if counts_worker:
        state["worker"] = [*plan.worker, start.phase]
    return state


def unpack(plan: Plan, fingerprint: str, state: Mapping[str, Any]) -> Start:
    """Where to go on.

    Raises:
        TypeError: `state` is no mapping, or a value of it is not of its type.
        ValueError: It is not a state, or one of another dataset, order or worker.
    """
    _check_shape(state)
    source = plan.source
    if state["fingerprint"] != fingerprint:
        raise ValueError(_what_changed(plan, state))
    for name, mine in (("seed", source.seed), ("window", source.window)):
        if state[name] != mine:
            raise ValueError(f"the state is of an order with {name}={state[name]!r}, the stream has {name}={mine!r}")
    for name, counted in (("rows", len(source)), ("shards", source.shards)):
        # The fingerprint covers both: somebody changed them.
        if whole(name, state[name], 0, POSITION_MAX) != counted:
            raise ValueError(f"not a state as it was taken: it has {state[name]} {name}, and its dataset {counted}")
    epoch = whole("epoch", state["epoch"], 0, POSITION_MAX)
    position = whole("position", state["position"], 0, len(source))
    within, phase = 0, plan.worker[0]
    if "within" in state:
        within, *where = state["within"]
        whole("the first number of within", within, 1, POSITION_MAX)
        here = (*plan.ranks, _unit(plan))
        if tuple(where) != here:
            raise ValueError(
                "the state was taken between the elements that one step gave, on rank {} of {} with batches of {}: it "
                "means nothing on rank {} of {} with batches of {} (0: rows)".format(*where, *here)
            )
        if not any(stage.kind == "flat_map" for stage in (*plan.stages, *plan.after)):
            raise ValueError(
                "the state was taken between the elements that one step gave, and here, without flat_map, it gives one"
            )
    if "worker" in state:
        number, workers, phase = state["worker"]
        if (number, workers) != plan.worker:
            raise ValueError(
                "the state is that of worker {} of {}, and this is worker {} of {}".format(
                    number, workers, *plan.worker
                )
            )
        whole("the last number of worker", phase, 0, max(workers, 1) - 1)
    return Start(epoch, position, within, phase)


def _unit(plan: Plan) -> int:
    """What a step is: so many rows, or 0 for one row by itself."""
    return 0 if plan.batch_size is None or plan.refill else plan.batch_size


def _check_shape(state: Mapping[str, Any]) -> None:
    if not isinstance(state, Mapping):
        raise TypeError(f"a state must be a mapping, not {type(state).__name__}")
    if missing := [name for name in _KEYS if name not in state]:
        raise ValueError(f"not a state of a stream: it lacks {', '.join(missing)}")
    if unknown := [str(name) for name in state if name not in _KEYS + _OPTIONAL]:
        raise ValueError(f"not a state of this version: it has {', '.join(unknown)}")
    if state["version"] != VERSION:
        raise ValueError(f"the state has version {state['version']!r}, known is {VERSION}")
    for name, length in (("within", 4), ("worker", 3)):
        values = state.get(name)
        if name in state and not (
            isinstance(values, (list, tuple)) and len(values) == length and all(isinstance(v, int) for v in values)
        ):
            raise TypeError(f"{name} of a state must be {length} ints, got {values!r}")


def _what_changed(plan: Plan, state: Mapping[str, Any]) -> str:
    now = {"rows": len(plan.source), "shards": plan.source.shards}
    changes = [f"{state[name]} {name}, now {now[name]}" for name in now if state[name] != now[name]]
    what = "; ".join(changes) or "as many shards and rows, but other ones: names, sizes or counts of shards differ"
    return f"the dataset is not the one of the state, so its position means nothing here: it had {what}"
