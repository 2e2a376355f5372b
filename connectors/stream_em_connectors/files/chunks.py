"""Decoded stretches of input, and how exact batches are cut from them."""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, final

import numpy as np

from stream_em.arrays import Array
from stream_em.streams import Batch, Json, Origins, Positions, Rejected
from stream_em_connectors.codecs import Decoded

REJECTED_COST = 100_000  # a batch ends early at so many rejected records (or KiB of them)


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive records of one file: accepted rows, rejected ones, and their places.

    A place is what its reader counts in: bytes, or row numbers.
    """

    source: str
    rows: Array  # (n, D)
    weights: Array | None  # (n,)
    times: Array | None  # (n,)
    keys: tuple[Json, ...] | None  # (n,)
    offsets: Array  # (n,) int64, place where each record begins
    afters: Array  # (n,) int64, place behind it
    rejected: tuple[Rejected, ...]
    rejected_afters: list[int]
    begin: int  # place of the first record
    end: int  # place behind the last one
    mark: Callable[[int], Json]  # from a place to a saved position
    unit: float = 1.0  # bytes of the file behind one step of a place

    @property
    def empty(self) -> bool:
        """Whether there is neither a row nor a rejected record."""
        return not len(self.offsets) and not self.rejected


class Passed(NamedTuple):
    """Reading went on from this file to the next one."""

    source: str
    mark: Json


class _Taken(NamedTuple):
    """Rows `first` to `last` of a chunk."""

    chunk: Chunk
    first: int
    last: int


@dataclass
class _Draft:
    """A batch in the making."""

    taken: list[_Taken] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    parts: dict[str, Callable[[], Json]] = field(default_factory=dict)
    rows: int = 0
    cost: int = 0
    read_bytes: float = 0.0


def cost(one: Rejected) -> int:
    """What a rejected record weighs in memory, in records of up to a KiB."""
    return 1 + len(one.raw) // 1024


@final
class Pending:
    """Chunks that wait to be cut into batches. Where the cuts lie depends on the records alone."""

    def __init__(self, nothing: Decoded) -> None:
        self._nothing = nothing  # a run of no rows, for batches that have none
        self._queue: deque[Chunk | Passed] = deque()
        self._row = self._reject = 0  # how much of the first chunk has been handed out
        self._place = 0  # and up to which place
        self.rows = 0  # that wait
        self.cost = 0  # of the rejected records that wait

    @property
    def empty(self) -> bool:
        """Whether no record waits."""
        return self.rows == 0 and self.cost == 0

    def put(self, item: Chunk | Passed) -> None:
        """Add what was read next."""
        if isinstance(item, Chunk):
            if item.empty:
                return
            self.rows += len(item.offsets)
            self.cost += sum(map(cost, item.rejected))
        self._queue.append(item)
        if len(self._queue) == 1:
            self._begin()

    def full(self, rows: int) -> bool:
        """Whether a batch of `rows` accepted rows can be cut."""
        return self.rows >= rows or self.cost >= REJECTED_COST

    def cut(self, rows: int, timed: bool) -> Batch:
        """The next batch: `rows` accepted ones and the rejected among them, or all there is.

        Rejected records behind its last row belong to the next batch.
        """
        draft = _Draft()
        while self._queue and draft.rows < rows and draft.cost < REJECTED_COST:
            first = self._queue[0]
            if isinstance(first, Passed):
                draft.parts[first.source] = _constant(first.mark)
                self._next()
            else:
                self._take(first, draft, rows - draft.rows)
        self.rows -= draft.rows
        self.cost -= draft.cost
        return self._batch(draft, timed)

    def _take(self, chunk: Chunk, draft: _Draft, rows: int) -> None:
        last = min(self._row + rows, len(chunk.offsets))
        filled = last - self._row == rows
        stop = int(chunk.afters[last - 1]) if filled else chunk.end
        reject = bisect_right(chunk.rejected_afters, stop)
        full = self._full_at(chunk, reject, REJECTED_COST - draft.cost)
        if full is not None:
            reject, stop = full, chunk.rejected_afters[full - 1]
            last = max(self._row, bisect_left(chunk.offsets, stop))
        rejected = chunk.rejected[self._reject : reject]
        draft.taken.append(_Taken(chunk, self._row, last))
        draft.rejected.extend(rejected)
        draft.rows += last - self._row
        draft.cost += sum(map(cost, rejected))
        draft.read_bytes += (stop - self._place) * chunk.unit
        draft.parts[chunk.source] = _marked(chunk, stop)
        self._row, self._reject, self._place = last, reject, stop
        if last == len(chunk.offsets) and reject == len(chunk.rejected):
            self._next()

    def _full_at(self, chunk: Chunk, reject: int, room: int) -> int | None:
        """How many rejected records of the chunk fit, if not all up to `reject` do."""
        if self.cost < REJECTED_COST:
            return None
        for place in range(self._reject, reject):
            room -= cost(chunk.rejected[place])
            if room <= 0:
                return place + 1
        return None

    def _next(self) -> None:
        self._queue.popleft()
        self._begin()

    def _begin(self) -> None:
        self._row = self._reject = 0
        if self._queue and isinstance(self._queue[0], Chunk):
            self._place = self._queue[0].begin

    def _batch(self, draft: _Draft, timed: bool) -> Batch:
        taken = [one for one in draft.taken if one.last > one.first]
        rows = [chunk.rows[first:last] for chunk, first, last in taken]
        none = self._nothing
        return Batch(
            rows=np.concatenate(rows) if rows else none.rows,
            weights=_joined([(t.chunk.weights, t) for t in taken], none.weights),
            origins=_origins(taken, none),
            rejected=tuple(draft.rejected),
            next_positions=Positions({name: mark() for name, mark in draft.parts.items()}),
            read_bytes=round(draft.read_bytes),
            timed=timed,
        )


def _constant(mark: Json) -> Callable[[], Json]:
    return lambda: mark


def _marked(chunk: Chunk, place: int) -> Callable[[], Json]:
    return lambda: chunk.mark(place)


def _joined(columns: list[tuple[Array | None, _Taken]], nothing: Array | None) -> Array | None:
    parts = [column[t.first : t.last] for column, t in columns if column is not None]
    return np.concatenate(parts) if parts else nothing


def _origins(taken: list[_Taken], nothing: Decoded) -> Origins:
    sources = tuple(dict.fromkeys(one.chunk.source for one in taken))
    counts = [one.last - one.first for one in taken]
    places = [sources.index(one.chunk.source) for one in taken]
    keys: list[Json] = []
    for chunk, first, last in taken:
        keys.extend(() if chunk.keys is None else chunk.keys[first:last])
    offsets = _joined([(one.chunk.offsets, one) for one in taken], nothing.kept)
    return Origins(
        sources=sources,
        source=np.repeat(np.array(places, dtype=np.int32), counts),
        partition=np.zeros(sum(counts), dtype=np.int32),
        offset=np.asarray(offsets, dtype=np.int64),
        keys=None if nothing.keys is None else tuple(keys),
        times=_joined([(one.chunk.times, one) for one in taken], nothing.times),
    )
