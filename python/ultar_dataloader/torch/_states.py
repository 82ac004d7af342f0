"""Epochs of streams, and from the states of a loader's workers to the one of their stream."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from .._stream.iterator import Progress
from .._stream.run import Start
from .._stream.state import unpack
from .._stream.stream import Stream

_NOT_IN_TURN = (
    "the workers have not made step after step in turn, so that there is no one position: have the stream make "
    "the batches, with DataLoader(batch_size=None), and no steps without element or with several, as filter "
    "and flat_map leave them"
)
_NO_STATE = "not the state of a StatefulDataLoader over an IterableDataset of ultar_dataloader"


def merged(stream: Stream, loader_state: Mapping[str, Any]) -> dict[str, Any]:
    """See `IterableDataset.stream_state`."""
    if not isinstance(loader_state, Mapping):
        raise TypeError(f"a loader's state must be a mapping, not {type(loader_state).__name__}")
    since = loader_state.get("_steps_since_snapshot", 0)
    if since:
        raise ValueError(
            f"the state is of {since} steps ago: take states when snapshot_every_n_steps says, or set it to 1"
        )
    workers = _worker_snapshots(loader_state)
    # Behind an epoch's end the dataset is at the next one already, and its iterator is not.
    states = [
        max((_checked(stream, one) for one in _states_in(worker)), key=_how_far, default=None) for worker in workers
    ]
    found = [state for state in states if state is not None]
    if not found or len(found) < len(states):
        raise ValueError(_NO_STATE)
    furthest = max(found, key=_how_far)
    if len(found) > 1 and any("worker" in state for state in found):
        _check_turns(stream, found)
    state = {name: value for name, value in furthest.items() if name != "worker"}
    if loader_state.get("_iterator_finished") and state["position"] == state["rows"]:
        state |= {"epoch": epoch_after(stream, state["epoch"]), "position": 0}
    return state


def _worker_snapshots(loader_state: Mapping[str, Any]) -> list[Any]:
    if "_snapshot" not in loader_state:
        return [loader_state]  # There were no workers.
    snapshot = loader_state["_snapshot"]
    workers = snapshot.get("_worker_snapshots") if isinstance(snapshot, Mapping) else None
    if not isinstance(workers, Mapping):
        raise ValueError(_NO_STATE)
    return list(workers.values())


def _checked(stream: Stream, state: dict[str, Any]) -> dict[str, Any]:
    """The state of a worker, if it is one of this stream. Raises what `Stream.load_state_dict` does."""
    plan, worker = stream._plan, state.get("worker")
    if isinstance(worker, (list, tuple)) and len(worker) == 3:
        plan = replace(plan, worker=(worker[0], worker[1]))
    unpack(plan, stream._fingerprint(), state)
    return state


def next_start(stream: Stream) -> Start:
    """Where the stream's next iteration begins."""
    return stream._progress.next_start(stream._plan)


def epoch_after(stream: Stream, epoch: int) -> int:
    """The one that an iteration begins after one that began with this."""
    begun = Progress(Start(epoch))
    begun.started = True
    return begun.next_start(stream._plan).epoch


def _states_in(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, Mapping):
        if {"fingerprint", "epoch", "position"} <= value.keys():
            yield dict(value)
        else:
            for one in value.values():
                yield from _states_in(one)


def _how_far(state: Mapping[str, Any]) -> tuple[int, int]:
    return state["epoch"], state["position"]


def _check_turns(stream: Stream, states: list[dict[str, Any]]) -> None:
    """That what the workers have made, taken together, is all steps up to one."""
    reader = stream._plan
    first_epoch, first_position = min(map(_how_far, states))
    # In turn they are no more epochs apart than there are of them, as each epoch has a step.
    if max(state["epoch"] for state in states) - first_epoch > len(states):
        raise ValueError(_NOT_IN_TURN)
    done, upcoming = [], []
    for state in states:
        steps, start = 0, first_position
        for epoch in range(first_epoch, state["epoch"]):
            steps, start = steps + reader.split(epoch, start).steps, 0
        split = reader.split(state["epoch"], start)
        steps += bisect_left(range(split.steps), state["position"], key=split.position)
        done.append(steps)
        # The worker's own next step.
        upcoming.append(steps + state.get("worker", (0, 0, 0))[2])
    wanted = list(range(max(done), max(done) + len(states)))
    if sorted(upcoming) != wanted or any("within" in state for state in states):
        raise ValueError(_NOT_IN_TURN)
