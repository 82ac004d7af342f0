"""What a dataset and a stream have in common: the ways to go on from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from .._split import Tail

if TYPE_CHECKING:
    from .stream import Stream

Calls = int | Literal["auto"]


class Streamable:
    """The fluent methods. Each gives a new stream, and reads nothing."""

    __slots__ = ()

    def stream(self) -> Stream:
        """The rows as a stream: in order, one by one, until told otherwise."""
        raise NotImplementedError

    def shuffle(self, seed: int = 0, *, window: int | None = None) -> Stream:
        """Each epoch in an exact shuffled order of its own: that of `ultar_dataloader.order`.

        Args:
            seed: 0 to 2**53.
            window: Trades randomness for locality; None for a shuffle of everything.

        Raises:
            TypeError, ValueError: As `order` raises them, or rows are batched or multiplied already.
        """
        return self.stream()._shuffled(seed, window)

    def shard(self, rank: int | None = None, world_size: int | None = None, *, tail: Tail | None = None) -> Stream:
        """The share of one of several processes, with the same number of steps on each of them.

        Args:
            rank, world_size: Both, or neither: then ``torch.distributed`` is asked where it is
                initialised, else the environment's RANK and WORLD_SIZE, else they are 0 and 1.
            tail: What becomes of a last global batch that is not full: ``"repeat"`` fills it
                with rows from the beginning of the order (usual for several ranks), ``"drop"``
                leaves it out, ``"short"`` gives it as it is (usual for one rank, and only there).

        Raises:
            ValueError: There is no such rank, or tail is ``"short"`` for several ranks.
        """
        return self.stream()._sharded(rank, world_size, tail)

    def map(self, function: Callable[[Any], Any], num_parallel_calls: Calls = "auto") -> Stream:
        """What a function makes of each row; after `batch`, of each batch.

        Calls are made on threads, and results come in order. With several stages, the
        smallest number that one of them names holds for all.

        Args:
            function: Of one argument. An exception that it raises reaches the consumer with a
                note of the step, the shard and the stem.
            num_parallel_calls: At once, at most; 1 for calls one after the other on the thread
                that iterates. ``"auto"`` starts small and grows while the consumer has to wait.
        """
        return self.stream()._staged("map", function, num_parallel_calls)

    def filter(self, function: Callable[[Any], Any], num_parallel_calls: Calls = "auto") -> Stream:
        """Only that for which a function is true.

        What an index knows is better asked by `Dataset.where`: nothing is read then, and
        lengths stay exact. A filter before `batch` makes batches shorter, see there.
        """
        return self.stream()._staged("filter", function, num_parallel_calls)

    def flat_map(self, function: Callable[[Any], Iterable[Any]], num_parallel_calls: Calls = "auto") -> Stream:
        """All that a function makes of each row, one after the other; it may be nothing."""
        return self.stream()._staged("flat_map", function, num_parallel_calls)

    def batch(
        self,
        batch_size: int,
        drop_last: bool = False,
        *,
        collate: Callable[[list[Any]], Any] | Mapping[str, Any] | None = None,
        decode: str | Mapping[str, Any] | None = None,
        refill: bool = False,
    ) -> Stream:
        """Rows in batches.

        A step of a rank is `batch_size` places of the order. What a filter takes out is
        missing from its batch, and what flat_map adds comes on top: so all ranks have the same
        steps, and a position means the same for all of them.

        Args:
            batch_size: Rows a rank, from 1.
            drop_last: Leave out a last global batch that is not full: ``tail="drop"``.
            collate: None for a dict of lists, one a key: views of rows, or the values where
                `map` or `decode` made dicts; a list of what else there is. A mapping of keys to
                ``(dtype, shape)``: these entries only, read straight into one contiguous
                array a key, of shape ``(rows, *shape)``, without an object a row; a first
                dimension of None makes it ragged. A function: what it makes of the list of rows.
            decode: As `decode`, before.
            refill: Batches of exactly `batch_size` behind a filter or flat_map. For one rank
                only: several would end at different steps.

        Raises:
            TypeError, ValueError: An argument is of no use, or there are batches already.
        """
        stream = self.stream() if decode is None else self.stream().decode(decode)
        return stream._batched(batch_size, drop_last, collate, refill)

    def decode(self, spec: str | Mapping[str, Any] = "auto", num_parallel_calls: Calls = "auto") -> Stream:
        """Each row as a dict of decoded entries.

        Args:
            spec: ``"auto"``, by the ends of keys, or a mapping of keys to names of decoders
                (``"json"``, ``"txt"``, ``"cls"``, ``"npy"``, ``"png"`` …) or functions of bytes.
        """
        from .._decode import decoder

        return self.map(decoder(spec), num_parallel_calls)

    def prefetch(self, depth: int | Literal["auto"] = "auto") -> Stream:
        """Make what comes next on a thread, while the consumer is busy.

        Args:
            depth: How many elements ahead, at most; 0 for none. ``"auto"`` starts with few and
                grows while the consumer has to wait, within `prefetch_bytes`.
        """
        return self.stream()._prefetched(depth)

    def repeat(self, epochs: int | None = None) -> Stream:
        """So many epochs in one iteration, each in an order of its own; None: without end.

        Batches do not reach over the end of an epoch.
        """
        return self.stream()._repeated(epochs)

    def skip(self, skip_list: Iterable[int] = (), skip_ranges: Iterable[tuple[int, int]] = ()) -> Stream:
        """Leave rows out, without a change to the order of the others or to what positions mean.

        Args:
            skip_list: Numbers of rows, as in ``ds[number]``.
            skip_ranges: Pairs of a first number and the one behind the last.
        """
        return self.stream()._skipped(skip_list, skip_ranges)

    def take(self, count: int) -> Stream:
        """Only the first rows of each epoch's order; all of them, where there are no more.

        Of a shuffled stream that is a sample, another one each epoch: for the same rows in
        every epoch take ``ds[:count]``. What positions of states mean does not change.

        Args:
            count: Rows of all ranks together. Those that are skipped count, too.

        Raises:
            TypeError, ValueError: It is not from 0 to 2**53, or how many rows there are is not
                known, behind `batch`, `filter` and `flat_map`.
        """
        return self.stream()._taken(count)

    def zip(self, *others: Streamable) -> Stream:
        """Elements side by side, as tuples: the first ones, then the second ones, and so on.

        Streams that are shuffled with the same seed stay side by side: that is how rows whose
        parts lie in different shards are put together. It is sharded, batched and resumed like
        any other stream; `which` and `when` name the rows of the first one.

        Args:
            others: Of the same length; shuffled and mapped, and nothing else, which is done to
                what comes of them.

        Raises:
            TypeError: One is no stream or dataset.
            ValueError: They are not of the same length, or batched or the like.
        """
        return self.stream()._zipped(others)

    def options(self, **options: Any) -> Stream:
        """How to read: ``io``, ``access``, ``threads``, ``prefetch_rows``, ``prefetch_bytes`` and
        ``on_error``, as `Dataset` has them. None of them changes what is delivered, or a state.

        Two more are known by the names that others have for them. ``intra``, threads inside
        one operation, is ``threads``. ``inter``, operations at once, is how many calls of
        functions are made at the same time where `map` and its like do not say.

        Raises:
            TypeError: There is no such option, or one is given by both of its names.
            ValueError: One is out of range.
        """
        return self.stream()._with_options(options)
