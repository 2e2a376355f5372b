"""The ports of a stream: where rows come from, where results go, where to resume.

A `Source` holds settings; `opened_at(positions)` takes the past and gives a
`Stream`, which is polled for batches. A `Sink` takes columns of results. Whatever
is needed to resume is in the `Positions` and extents, both plain JSON values, and
they live in the checkpoint and nowhere else.
"""

from abc import ABC, abstractmethod
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, final

from stream_em.arrays import Array, record

Json = Any  # None, bool, int, float, str, list or dict of such
Columns = Mapping[str, Sequence[Any] | Array]  # a table: column name -> values, equally long

#: The reasons a record can be rejected for; the catalogue of metrics lists the same.
REASONS = (
    "decode_error",
    "schema",
    "empty",
    "non_finite",
    "missing_feature",
    "weight",
    "late",
    "future",
    "too_large",
)


@dataclass(frozen=True)
class Positions:
    """Where to resume: partition -> next position, a JSON value that its source understands.

    >>> Positions({"a": 1, "b": 2}).advanced(Positions({"b": 5})).parts
    {'a': 1, 'b': 5}
    """

    parts: Mapping[str, Json] = field(default_factory=dict)

    def advanced(self, later: "Positions") -> "Positions":
        """The dict union; the later position of a partition wins."""
        return Positions({**self.parts, **later.parts})


@final
class Base64(str):
    r"""The text of bytes that are none, as base64: outputs that keep bytes write `raw`.

    >>> Base64.of(b"\xff\x00") == "/wA=", Base64("/wA=").raw
    (True, b'\xff\x00')
    """

    __slots__ = ()

    @classmethod
    def of(cls, raw: bytes) -> "Base64":
        """From the bytes."""
        return cls(b64encode(raw).decode("ascii"))

    @property
    def raw(self) -> bytes:
        """The bytes."""
        return b64decode(self)


class Rejected(NamedTuple):
    """A record that could not become a row: a dead letter and its reason."""

    source: str
    partition: int
    offset: int
    reason: str  # one of REASONS
    field: str | None  # the offending field, where one is to blame
    detail: str  # for people: what came, what was expected
    raw: bytes  # the record as it came
    time: float | None = None  # seconds: the row's event time, else when the record was made
    key: bytes | None = None  # the record's own key, where records have keys
    headers: tuple[tuple[str, bytes | None], ...] = ()  # and its headers


@record
class Origins:
    """Where each row came from: all that an output row says beside its scores."""

    sources: tuple[str, ...]  # names of topics or paths as matched
    source: Array  # (n,) int32, index into `sources`
    partition: Array  # (n,) int32, 0 for files
    offset: Array  # (n,) int64, byte of the record's first character, or row number
    keys: tuple[Json, ...] | None  # (n,), `Base64` for bytes; None where there are none
    times: Array | None  # (n,) float64 seconds, NaN where absent


@record
class Batch:
    """Rows accepted from a stream, the records rejected among them, and where to go on."""

    rows: Array  # (n, D) float64
    weights: Array | None  # (n,) float64, None means ones
    origins: Origins  # of the accepted rows; its times are the rows' event times
    rejected: tuple[Rejected, ...]  # all that lay before `next_positions`, in order
    next_positions: Positions  # of the partitions that this batch moved
    read_bytes: int  # input bytes behind this batch
    timed: bool = False  # cut by the clock, not by its size


class Progress(NamedTuple):
    """How far a finite input has been read; `total_bytes` is None when it has no end."""

    read_bytes: int
    total_bytes: int | None


Partition = tuple[str, int]  # name of the source (a topic), number


class InputStatus(NamedTuple):
    """What an input from a server knows of itself; counts are since it was opened."""

    connected: bool
    lag: Mapping[Partition, int]  # records between the read position and the end
    uncommitted: Mapping[Partition, int]  # records between the committed and the read position
    newest: Mapping[Partition, float]  # newest record time handed out, unix seconds
    assigned: int  # partitions
    rebalances: int
    rebalance_seconds: float  # spent in them
    errors: Mapping[str, int]  # transport, auth, deserialize -> how many
    commits: int
    failed_commits: int
    commit_seconds: float  # spent in them


class Probe(NamedTuple):
    """One thing that was tried of an input or output before a run: `check --online`."""

    what: str  # "broker 127.0.0.1:9092", "topic readings"
    problem: str | None  # what came, what was expected, what to do; None when all is well
    detail: str = ""  # what was found, for people


class Marker(NamedTuple):
    """What a committed transaction says of the run: this checkpoint is the true one."""

    number: int
    name: str  # of the checkpoint in its store
    digest: str  # the first 16 hexadecimal digits of its SHA-256


class Transactions(ABC):
    """One producer's transactions, shared by all transactional sinks of a run.

    `open` comes first, then `write`s of the sinks and a `commit` per checkpoint. All
    methods but the sinks' writes come from one thread at a time.
    """

    identity: str  # who decides, as checkpoints remember it: cluster and transactional id
    timeout_seconds: float  # after which the server aborts an open transaction

    @abstractmethod
    def open(self) -> Marker | None:
        """Fence rivals, abort what a dead process left open, and only then read the marker.

        Raises `Unreachable` when the server cannot be reached.
        """

    @abstractmethod
    def commit(self, marker: Marker, courtesy: object | None) -> bool:
        """Make visible together: the outputs since the last commit, the marker, the positions.

        `courtesy` is what `Stream.courtesy` gave. Returns whether it was committed along:
        False when the input lives elsewhere. Raises `Fenced` when a rival has taken over
        and `OutcomeUnknown` when nobody can tell whether the commit happened.
        """

    @abstractmethod
    def abort(self) -> None:
        """Take back the outputs since the last commit. Raises nothing that matters less."""

    @abstractmethod
    def close(self) -> None:
        """Release the producer without committing anything. Idempotent."""


class Source(ABC):
    """Settings of an input. Subclasses are frozen dataclasses and final."""

    kind: ClassVar[str]  # the word in `kind = "..."`
    seekable: ClassVar[bool] = True  # False for standard input: at most once, and said so

    @abstractmethod
    def opened_at(self, positions: Positions | None) -> "Stream":
        """Open for reading after `positions`, or at the configured start when None.

        Raises `Unreachable` when the input cannot be opened, `SourceChanged` when it
        is not the one that `positions` speak of.
        """

    @abstractmethod
    def identity(self) -> dict[str, Json]:
        """The settings that may not change once rows are learned: path, codec, parsing."""

    def named(self, name: str, instance_id: str | None) -> "Source":
        """The source as the engine of that name and instance uses it.

        Raises `SettingsError` when it needs an `instance_id` and there is none.
        """
        return self

    def probes(self) -> Iterator[Probe]:
        """Try what a run would need of the input, without joining, committing or locking.

        Raises `Unreachable` when there is nobody to ask.
        """
        yield from ()


class Stream(ABC):
    """An opened source. Used by one thread; `close` may come from another."""

    features: tuple[str, ...]  # names of the columns of `Batch.rows`
    positions: Positions  # where reading starts, resolved for every partition known now

    @abstractmethod
    def poll(self, seconds: float) -> Batch | None:
        """The next batch, or None when none is ready within `seconds` or the end is reached."""

    @property
    @abstractmethod
    def ended(self) -> bool:
        """True once the last batch of a finite input has been handed out."""

    @abstractmethod
    def limit(self, rows: int) -> None:
        """Hand out no batch larger than `rows` from now on."""

    @abstractmethod
    def progress(self) -> Progress:
        """How far reading has come. Cheap: called after every batch."""

    def commit(self, positions: Positions) -> None:  # noqa: B027 - most sources owe none
        """Courtesy to the outside after a checkpoint; the checkpoint alone is the truth."""

    def courtesy(self, positions: Positions) -> object | None:
        """The same courtesy for a transaction to carry along; None where none is owed.

        May be asked on any thread.
        """
        return None

    def committed(  # noqa: B027 - most sources owe none
        self, positions: Positions, seconds: float
    ) -> None:
        """A transaction, which took `seconds` to commit, carried their courtesy along."""

    def status(self) -> InputStatus | None:
        """What is known of the input, without asking anybody. None for plain files."""
        return None

    def attend(self, settle: Callable[[], None]) -> None:  # noqa: B027 - most keep what they have
        """Hear how to end an epoch: a stream about to give up partitions calls `settle`.

        It does so on the polling thread, from within `poll`; `settle` returns once all
        that was handed out is learned, saved and committed, and raises when that fails.
        """

    @abstractmethod
    def close(self) -> None:
        """Release the input. Idempotent."""


class Sink(ABC):
    """An output of tables of rows. One thread uses it; methods come in this order:

    `begin` or `roll_back` once, then `write`s with `barrier`s between them, each
    followed by `committed` when its checkpoint is durable, and `close` at the end.
    """

    kind: ClassVar[str]
    name: str  # identifies the output in checkpoints: its path or topic
    exactly_once: bool  # False: after a crash rows may come twice
    cluster: Json = None  # where its transactions live; None for outputs without any

    @abstractmethod
    def begin(self, incarnation: str, overwrite: bool) -> Json:
        """First run: check the output is empty (or append, or `overwrite`). Returns its extent.

        What is overwritten stays until the first `committed`: an engine that dies before
        finds all as it was.

        Raises `OutputChanged` for a non-empty output that may not be touched and
        `Unreachable` for one that cannot be opened.
        """

    @abstractmethod
    def roll_back(self, extent: Json, number: int, incarnation: str) -> None:
        """Resume: make the output exactly what checkpoint `number` recorded as `extent`."""

    @abstractmethod
    def write(self, columns: Columns) -> None:
        """Take a slice of rows. Raises `SinkFailed` when they cannot be written."""

    @abstractmethod
    def barrier(self, number: int) -> Json:
        """Make all rows so far durable; the extent is recorded in checkpoint `number`."""

    @abstractmethod
    def committed(self, number: int) -> None:
        """Checkpoint `number` is durable: what waited for it may become visible."""

    @abstractmethod
    def close(self) -> None:
        """Release the output without making anything durable or visible. Idempotent."""

    def transactions(self, name: str, every_seconds: float) -> Transactions:
        """The transactions of a run of that name, for all its sinks with an equal `cluster`.

        `every_seconds` lie between two checkpoints. Nothing is opened yet. Raises
        `SettingsError` for intervals that no transaction outlives.
        """
        raise NotImplementedError(f"{self.kind} has no transactions")

    def enlist(self, transactions: Transactions) -> None:
        """Write within these transactions from now on. Called before `begin` or `roll_back`."""
        raise NotImplementedError(f"{self.kind} has no transactions")

    def probes(self) -> Iterator[Probe]:
        """Try what a run would need of the output, without writing or fencing anything."""
        yield from ()

    def keep(self, extent: Json, number: int, incarnation: str) -> Json:
        """Resume behind an input that cannot be read again: rows after `extent` may stay.

        Returns the extent reached. An output that cannot tell whole rows from torn
        ones rolls back.
        """
        self.roll_back(extent, number, incarnation)
        return extent
