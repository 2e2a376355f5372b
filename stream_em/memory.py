"""A source and a sink in memory: for tests, for notebooks, and to read how the ports work.

The source takes marks among its rows. `Crash` raises where a process could die,
`Stop` ends the input there for one run. Each goes off once; the run after passes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any, ClassVar, NamedTuple, final

import numpy as np

from stream_em.arrays import Array
from stream_em.errors import OutputChanged, SettingsError, SourceChanged
from stream_em.streams import (
    Batch,
    Columns,
    Json,
    Origins,
    Positions,
    Progress,
    Rejected,
    Sink,
    Source,
    Stream,
)


class Crashed(Exception):
    """Raised where a `Crash` mark stands, as if the process had died there."""


@final
@dataclass(frozen=True, eq=False)
class Crash:
    """A mark: reading raises `Crashed` here, the first time it comes by."""

    gone_off: Event = field(default_factory=Event, repr=False)


@final
@dataclass(frozen=True, eq=False)
class Stop:
    """A mark: the input ends here, the first time; later it has grown and goes on."""

    gone_off: Event = field(default_factory=Event, repr=False)


Item = Any  # an array (n, D'), a Rejected, a Stop or a Crash


class _Row(NamedTuple):
    values: Array  # (D',), features and the columns of time and weight


@final
@dataclass(frozen=True)
class MemorySource(Source):
    """Rows in memory, cut into batches of `batch_size` accepted rows.

    `items` are arrays (n, D') of rows, `Rejected` records, `Stop()` and `Crash()`
    marks; `time`, `weight` and `key` name columns that are no features. Positions
    count rows and rejected records from 0.

    >>> source = MemorySource([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0]]], batch_size=2)
    >>> stream = source.opened_at(Positions({"memory": 1}))
    >>> stream.poll(0).rows, stream.ended
    (array([[3., 4.],
           [5., 6.]]), True)
    """

    kind: ClassVar[str] = "memory"
    items: Sequence[Item]
    batch_size: int = 1000
    features: tuple[str, ...] | None = None  # of all columns; default "x0", "x1", ...
    time: str | None = None
    weight: str | None = None
    key: str | None = None
    max_reject_ratio: float = 0.5
    name: str = "memory"

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise SettingsError(f"batch_size came as {self.batch_size}, expected at least 1")

    def opened_at(self, positions: Positions | None) -> "MemoryStream":
        """Open after as many records as `positions` say. Raises `SourceChanged` beyond the end."""
        entries = _entries(self.items)
        records = _count(entries)
        start = 0 if positions is None else int(positions.parts.get(self.name, 0))
        if start > records:
            raise SourceChanged(
                f"{self.name} has {records} records, but the checkpoint stands at {start}; "
                "give the same items, or start anew with fresh=True"
            )
        return MemoryStream(self, entries, start)

    def identity(self) -> dict[str, Json]:
        """The name and the columns' parts; the items may grow."""
        return {"name": self.name, "time": self.time, "weight": self.weight, "key": self.key}


@final
class MemoryStream(Stream):
    """An opened `MemorySource`."""

    def __init__(self, source: MemorySource, entries: list[Any], start: int) -> None:
        self._source = source
        self._entries = entries
        self._columns = _columns(source, entries)
        special = {source.time, source.weight, source.key}
        self.features = tuple(name for name in self._columns if name not in special)
        self.positions = Positions({source.name: start})
        self._at = _place(entries, start)  # index into entries
        self._record = start  # records handed out
        self._records = _count(entries)
        self._size = source.batch_size
        self._cut = False  # a Stop mark was met

    def poll(self, seconds: float) -> Batch | None:
        """The next batch; never waits. Raises `Crashed` at a `Crash` mark."""
        rows: list[_Row] = []
        offsets: list[int] = []
        rejected: list[Rejected] = []
        while not self._exhausted and len(rows) < self._size and len(rejected) < self._size:
            entry = self._entries[self._at]
            self._at += 1
            if isinstance(entry, (Stop, Crash)):
                self._mark(entry)
                continue
            if isinstance(entry, Rejected):
                rejected.append(entry)
            else:
                rows.append(entry)
                offsets.append(self._record)
            self._record += 1
        self._pass_marks()
        return self._batch(rows, offsets, rejected) if rows or rejected else None

    def _batch(self, rows: list[_Row], offsets: list[int], rejected: list[Rejected]) -> Batch:
        table = np.array([row.values for row in rows]).reshape(len(rows), len(self._columns))
        names, source = list(self._columns), self._source
        keep = [place for place, name in enumerate(names) if name in self.features]
        origins = Origins(
            sources=(source.name,),
            source=np.zeros(len(rows), dtype=np.int32),
            partition=np.zeros(len(rows), dtype=np.int32),
            offset=np.array(offsets, dtype=np.int64),
            keys=None if source.key is None else tuple(table[:, names.index(source.key)].tolist()),
            times=None if source.time is None else table[:, names.index(source.time)].copy(),
        )
        return Batch(
            rows=np.ascontiguousarray(table[:, keep]),
            weights=None if source.weight is None else table[:, names.index(source.weight)].copy(),
            origins=origins,
            rejected=tuple(rejected),
            next_positions=Positions({source.name: self._record}),
            read_bytes=table.nbytes + sum(len(one.raw) for one in rejected),
        )

    def _mark(self, mark: Stop | Crash) -> None:
        if mark.gone_off.is_set():
            return
        mark.gone_off.set()
        if isinstance(mark, Crash):
            raise Crashed(f"a crash mark after record {self._record}")
        self._cut = True

    def _pass_marks(self) -> None:
        """Step over marks that went off, so that the end is seen with the last batch."""
        while not self._exhausted:
            entry = self._entries[self._at]
            if not (isinstance(entry, (Stop, Crash)) and entry.gone_off.is_set()):
                return
            self._at += 1

    @property
    def _exhausted(self) -> bool:
        return self._cut or self._at == len(self._entries)

    @property
    def ended(self) -> bool:
        """True once all items, or those up to a `Stop`, have been handed out."""
        return self._exhausted

    def limit(self, rows: int) -> None:
        """Hand out no batch larger than `rows` from now on."""
        self._size = min(self._size, rows)

    def progress(self) -> Progress:
        """Records instead of bytes."""
        return Progress(self._record, self._records)

    def close(self) -> None:
        """End the input."""
        self._cut = True


def _entries(items: Sequence[Item]) -> list[Any]:
    entries: list[Any] = []
    for item in items:
        if isinstance(item, (Stop, Crash, Rejected)):
            entries.append(item)
        else:
            entries.extend(_Row(row) for row in np.atleast_2d(np.asarray(item, dtype=np.float64)))
    return entries


def _count(entries: list[Any]) -> int:
    return sum(not isinstance(entry, (Stop, Crash)) for entry in entries)


def _place(entries: list[Any], record: int) -> int:
    """Index of the entry at which record number `record` stands, marks before it included."""
    seen = 0
    for place, entry in enumerate(entries):
        if seen == record:
            return place
        seen += not isinstance(entry, (Stop, Crash))
    return len(entries)


def _columns(source: MemorySource, entries: list[Any]) -> tuple[str, ...]:
    if source.features is not None:
        return source.features
    width = next((len(entry.values) for entry in entries if isinstance(entry, _Row)), 0)
    return tuple(f"x{place}" for place in range(width))


@final
class MemorySink(Sink):
    """Rows kept in a list of dicts, the same object over several runs.

    `rows` is what a file would hold: rows written after the last barrier stay
    there after a crash, and only `roll_back` takes them away. `visible` is how many
    of them are behind a committed checkpoint.
    """

    kind: ClassVar[str] = "memory"

    def __init__(self, name: str = "memory", append: bool = False) -> None:
        self.name = name
        self.exactly_once = True
        self.append = append
        self.rows: list[dict[str, Any]] = []
        self.visible = 0
        self._overwritten = 0  # rows that go with the first checkpoint
        self._lengths: dict[int, int] = {}  # number of a checkpoint -> length at its barrier

    def begin(self, incarnation: str, overwrite: bool) -> Json:
        """Take the list as it is if empty or appending; what is overwritten goes later."""
        if self.rows and not self.append:
            if not overwrite:
                raise OutputChanged(
                    f"{self.name} holds {len(self.rows)} rows of nobody; expected an empty output, "
                    "append=True or overwrite=True"
                )
            self._overwritten = len(self.rows)
        self.visible = len(self.rows)
        self._lengths[0] = len(self.rows) - self._overwritten
        return {"length": self._lengths[0]}

    def roll_back(self, extent: Json, number: int, incarnation: str) -> None:
        """Cut to the recorded length. Raises `OutputChanged` if there is less."""
        if len(self.rows) < extent["length"]:
            raise OutputChanged(
                f"{self.name} holds {len(self.rows)} rows, checkpoint {number} recorded "
                f"{extent['length']}; give the output back, or start anew with fresh=True"
            )
        del self.rows[extent["length"] :]
        self._overwritten = 0
        self.visible = len(self.rows)

    def write(self, columns: Columns) -> None:
        """Append the rows as dicts of plain values, NaN as None as files do."""
        lists = [_plain(column) for column in columns.values()]
        self.rows.extend(
            dict(zip(columns, values, strict=True)) for values in zip(*lists, strict=True)
        )

    def barrier(self, number: int) -> Json:
        """Report the length."""
        self._lengths[number] = len(self.rows) - self._overwritten
        return {"length": self._lengths[number]}

    def committed(self, number: int) -> None:
        """Everything before that barrier is visible, and what it overwrites is gone."""
        del self.rows[: self._overwritten]
        self._overwritten = 0
        self.visible = self._lengths.pop(number, self.visible)

    def close(self) -> None:
        """Forget open barriers; the rows stay."""
        self._lengths.clear()
        self._overwritten = 0


def _plain(column: Any) -> list[Any]:
    values = column.tolist() if isinstance(column, np.ndarray) else list(column)
    return [None if value != value else value for value in values]
