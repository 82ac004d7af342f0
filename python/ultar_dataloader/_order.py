"""`order`: which row an epoch visits when."""

from __future__ import annotations

from ._native import Order


def order(n: int, seed: int, epoch: int = 0, *, window: int | None = None) -> Order:
    """The numbers from 0 to n-1 in shuffled order: exact, repeatable, and without a list.

    The same arguments give the same order on every machine and in every version, and the
    same as ``shuffle.permutation(n, seed, epoch, window)`` of the Lua module `ultar.shuffle`,
    which counts from 1. Another seed or epoch gives an unrelated one.

    Args:
        n: How many; 0 to 2**53.
        seed: 0 to 2**53.
        epoch: 0 to 2**53.
        window: Trades randomness for reads in runs: blocks of ``isqrt(window)`` neighbouring
            rows are shuffled, then the places within each stretch of `window`. None, or n and
            more, for a shuffle of everything. docs/order.md says what each guarantees.

    Returns:
        A sequence. ``order[i]`` is the row at place i, ``order.index(row)`` the place of a row,
        ``order[a:b:c]`` an ``array("Q")``.

    Raises:
        TypeError: An argument is no int.
        ValueError: n, seed or epoch is not from 0 to 2**53, or window not from 1.
    """
    return Order(n, seed, epoch, window=window)
