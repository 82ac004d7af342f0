"""Which of how many processes this one is, for streams that are not told."""

from __future__ import annotations

import os
import sys


def current() -> tuple[int, int]:
    """Rank and world size: of ``torch.distributed`` where it is initialised, else of the
    environment's ``RANK`` and ``WORLD_SIZE``, as torchrun sets them, else 0 and 1.

    Raises:
        ValueError: The environment has only one of the two, or no such numbers.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    rank, world_size = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if rank is None and world_size is None:
        return 0, 1
    if rank is None or world_size is None:
        missing, given = ("RANK", "WORLD_SIZE") if rank is None else ("WORLD_SIZE", "RANK")
        raise ValueError(f"the environment has {given} but not {missing}: set both, or call shard(rank, world_size)")
    return check(_number("RANK", rank), _number("WORLD_SIZE", world_size))


def check(rank: int, world_size: int) -> tuple[int, int]:
    """The two as they are.

    Raises:
        ValueError: There is no such rank.
    """
    if world_size < 1:
        raise ValueError(f"world_size must be at least 1, got {world_size}")
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be from 0 to {world_size - 1}, got {rank}")
    return rank, world_size


def _number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"the environment's {name} must be a number, got {text!r}") from None
