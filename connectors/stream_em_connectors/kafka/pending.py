"""Decoded stretches of partitions, and how batches are cut from them."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, final

import numpy as np

from stream_em.arrays import Array
from stream_em.streams import Batch, Json, Origins, Partition, Positions, Rejected
from stream_em_connectors.codecs import Decoded
from stream_em_connectors.kafka.client import TopicPartition

REJECTED_COST = 100_000  # a batch ends early at so many rejected records (or KiB of them)


@dataclass(frozen=True, eq=False, slots=True)
class Run:
    """Consecutive records of one partition: accepted rows, and rejected ones."""

    place: TopicPartition
    rows: Array  # (n, D)
    weights: Array | None  # (n,)
    times: Array | None  # (n,) seconds
    keys: tuple[Json, ...] | None  # (n,)
    offsets: Array  # (n,) int64
    stamps: Array  # (n,) int64, record timestamps in milliseconds
    rejected: tuple[Rejected, ...]
    end: int  # the offset behind its last record
    read_bytes: int

    @property
    def cost(self) -> int:
        """What its rejected records weigh in memory, in records of up to a KiB."""
        return sum(1 + len(one.raw) // 1024 for one in self.rejected)


class _Slice(NamedTuple):
    """Rows `first` to `last` of a run."""

    run: Run
    first: int
    last: int


@dataclass
class Draft:
    """A batch in the making, and what it says of the partitions it moves."""

    slices: list[_Slice] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    reached: dict[TopicPartition, int] = field(default_factory=dict)  # the next offset of each
    rows: int = 0
    read_bytes: float = 0.0

    def newest(self) -> dict[Partition, float]:
        """The newest record time of each partition, seconds."""
        found: dict[Partition, float] = {}
        for run, first, last in self.slices:
            latest = float(run.stamps[first:last].max()) / 1000
            found[run.place] = max(latest, found.get(run.place, latest))
        return found


@final
class Pending:
    """Runs that wait, in the order they came."""

    def __init__(self) -> None:
        self._queue: deque[Run] = deque()
        self._waiting: Counter[TopicPartition] = Counter()  # runs of each partition
        self._row = self._reject = 0  # how much of the first run has been handed out
        self._cost = 0  # of the rejected records that wait
        self.rows = 0  # that wait

    @property
    def empty(self) -> bool:
        """Whether no record waits."""
        return not self._queue

    def holds(self, place: TopicPartition) -> bool:
        """Whether records of a partition wait."""
        return place in self._waiting

    def put(self, run: Run) -> None:
        """Add what was read next."""
        self._queue.append(run)
        self._waiting[run.place] += 1
        self.rows += len(run.offsets)
        self._cost += run.cost

    def full(self, rows: int) -> bool:
        """Whether a batch of `rows` rows can be cut, or so much was rejected that it is time."""
        return self.rows >= rows or self._cost >= REJECTED_COST

    def drop(self, places: Iterable[TopicPartition]) -> None:
        """Forget all that waits of these partitions."""
        gone = set(places)
        if not self._queue or not gone & set(self._waiting):
            return
        if self._queue[0].place in gone:
            self._row = self._reject = 0
        self._queue = deque(run for run in self._queue if run.place not in gone)
        self._waiting = Counter(run.place for run in self._queue)
        self.rows = sum(len(run.offsets) for run in self._queue) - self._row
        self._cost = sum(run.cost for run in self._queue)

    def cut(self, rows: int) -> Draft:
        """The next batch: up to `rows` rows, and the rejected records that lie before them.

        Rejected records behind its last row belong to the next batch.
        """
        draft = Draft()
        while self._queue and draft.rows < rows:
            self._take(self._queue[0], draft, rows - draft.rows)
        self.rows -= draft.rows
        return draft

    def _take(self, run: Run, draft: Draft, room: int) -> None:
        first, last = self._row, min(self._row + room, len(run.offsets))
        rejects = len(run.rejected)
        filled = last - first == room
        stop = int(run.offsets[last - 1]) + 1 if filled else run.end
        until = self._reject
        while until < rejects and run.rejected[until].offset < stop:
            until += 1
        done = last == len(run.offsets) and until == rejects
        records = last - first + until - self._reject
        draft.read_bytes += run.read_bytes * records / (len(run.offsets) + rejects)
        draft.rejected.extend(run.rejected[self._reject : until])
        draft.reached[run.place] = run.end if done else stop
        draft.rows += last - first
        if last > first:
            draft.slices.append(_Slice(run, first, last))
        self._row, self._reject = last, until
        if done:
            self._next(run)

    def _next(self, run: Run) -> None:
        self._queue.popleft()
        self._row = self._reject = 0
        self._cost -= run.cost
        self._waiting[run.place] -= 1
        if not self._waiting[run.place]:
            del self._waiting[run.place]


def batch_of(draft: Draft, nothing: Decoded, positions: Positions, timed: bool) -> Batch:
    """The batch that a draft becomes; `nothing` is a run of no rows."""
    slices = draft.slices
    rows = [run.rows[first:last] for run, first, last in slices]
    return Batch(
        rows=np.concatenate(rows) if rows else nothing.rows,
        weights=_joined([(run.weights, one) for one in slices for run in one[:1]], nothing.weights),
        origins=_origins(slices, nothing),
        rejected=tuple(draft.rejected),
        next_positions=positions,
        read_bytes=round(draft.read_bytes),
        timed=timed,
    )


def _joined(columns: list[tuple[Array | None, _Slice]], nothing: Array | None) -> Array | None:
    parts = [column[one.first : one.last] for column, one in columns if column is not None]
    return np.concatenate(parts) if parts else nothing


def _origins(slices: list[_Slice], nothing: Decoded) -> Origins:
    topics = tuple(dict.fromkeys(one.run.place.topic for one in slices))
    places: Mapping[str, int] = {topic: i for i, topic in enumerate(topics)}
    counts = [one.last - one.first for one in slices]
    offsets = [one.run.offsets[one.first : one.last] for one in slices]

    def repeated(values: list[Any]) -> Array:
        return np.repeat(np.array(values, dtype=np.int32), counts)

    return Origins(
        sources=topics,
        source=repeated([places[one.run.place.topic] for one in slices]),
        partition=repeated([one.run.place.partition for one in slices]),
        offset=np.concatenate(offsets) if offsets else np.empty(0, dtype=np.int64),
        keys=_keys(slices),
        times=_joined([(one.run.times, one) for one in slices], nothing.times),
    )


def _keys(slices: list[_Slice]) -> tuple[Json, ...] | None:
    if all(one.run.keys is None for one in slices):
        return None
    keys: list[Json] = []
    for run, first, last in slices:
        keys.extend([None] * (last - first) if run.keys is None else run.keys[first:last])
    return tuple(keys)
