"""The client port: all that the source and the sink ask of a Kafka client.

Two implementations stand behind it, `kafka_python` and `librdkafka`. Everything a client
raises is translated here to errors of `stream_em.errors`; nothing of a client's own
types comes through, but for two opaque values that only travel back into it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from stream_em_connectors.kafka.security import Security

Headers = tuple[tuple[str, bytes | None], ...]


class TopicPartition(NamedTuple):
    """One partition of a topic."""

    topic: str
    partition: int


class Topic(NamedTuple):
    """What the cluster says of a topic."""

    id: str  # a new one whenever a topic is made again under the same name
    partitions: tuple[int, ...]  # sorted


class Chunk(NamedTuple):
    """Consecutive records of one partition, in order of their offsets."""

    place: TopicPartition
    offsets: Sequence[int]  # (n,) with gaps where transaction markers or compacted records were
    values: Sequence[bytes | None]  # (n,) None for tombstones
    keys: Sequence[bytes | None]  # (n,)
    times: Sequence[int]  # (n,) record timestamps, milliseconds
    headers: Callable[[int], Headers]  # of record i: asked for dead letters only


class OutOfRange(Exception):
    """A position lies below the first or beyond the last offset of its partition."""

    def __init__(self, place: TopicPartition, offset: int) -> None:
        self.place, self.offset = place, offset

    def __str__(self) -> str:
        return f"{self.place.topic} partition {self.place.partition} has no offset {self.offset}"


class Committed(NamedTuple):
    """A committed offset with its metadata, the trailing NULs of some clients stripped."""

    offset: int
    metadata: str


class Rebalance(NamedTuple):
    """What a consumer in a group calls, on the polling thread, from within `poll`."""

    assigned: Callable[[frozenset[TopicPartition]], Mapping[TopicPartition, int]]
    """New partitions -> where to start in each."""
    revoked: Callable[[frozenset[TopicPartition]], None]
    """Partitions about to go; they are still ours while this runs."""
    lost: Callable[[frozenset[TopicPartition]], None]
    """Partitions that are no longer ours."""


class Consumer(ABC):
    """Reads. Used by one thread; its reset policy is always to raise `OutOfRange`.

    Isolation is `read_committed`, offsets are never committed automatically. Methods
    that ask the cluster raise `Unreachable` when nobody answers in time (or refuses the
    credentials), `SettingsError` for what may not be done (authorisation).
    """

    @abstractmethod
    def cluster(self) -> str:
        """The id of the cluster."""

    @abstractmethod
    def topics(self, names: Sequence[str]) -> Mapping[str, Topic]:
        """What is known of the topics; those that do not exist are left out."""

    def permitted(self, topic: str) -> frozenset[str] | None:
        """What this user may do with a topic: READ, WRITE and others; None where nobody says."""
        return None

    @abstractmethod
    def beginnings(self, places: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The first offset that is still kept."""

    @abstractmethod
    def ends(self, places: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The last stable offset: where the next readable record would come at the earliest."""

    @abstractmethod
    def offsets_at(
        self, places: Sequence[TopicPartition], milliseconds: int
    ) -> Mapping[TopicPartition, int | None]:
        """The first offset with a timestamp of at least `milliseconds`; None beyond the last."""

    @abstractmethod
    def committed(
        self, places: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, Committed | None]:
        """What the consumer's group committed, pending transactions waited for."""

    @abstractmethod
    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read these partitions from these positions on; others no longer."""

    @abstractmethod
    def subscribe(self, topics: Sequence[str], rebalance: Rebalance) -> None:
        """Join the group: cooperative-sticky, static membership under the instance's id."""

    @abstractmethod
    def seek(self, place: TopicPartition, offset: int) -> None:
        """Go on elsewhere in an assigned partition."""

    @abstractmethod
    def position(self, place: TopicPartition) -> int:
        """The next offset to be read; moves past transaction markers. Asks nobody."""

    @abstractmethod
    def poll(self, seconds: float, max_records: int) -> list[Chunk]:
        """Records that are there, waiting up to `seconds` for the first.

        Broken connections are mended by the client; until then nothing comes and
        `errors` count. Raises `OutOfRange` for a position that is not there and
        `SourceFailed` for what no waiting mends.
        """

    @abstractmethod
    def pause(self, places: Sequence[TopicPartition]) -> None:
        """Hand out nothing of these partitions until they are resumed."""

    @abstractmethod
    def resume(self, places: Sequence[TopicPartition]) -> None:
        """Hand out records of these partitions again."""

    @abstractmethod
    def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Commit positions for the group, synchronously. Raises `SourceFailed`."""

    @abstractmethod
    def membership(self) -> object:
        """The group's metadata with its generation, for `Producer.send_offsets`.

        May be asked on any thread.
        """

    @property
    @abstractmethod
    def steady(self) -> bool:
        """False while the group divides its partitions anew, as far as the client tells.

        What `membership` says meanwhile may be out of date. May be asked on any thread.
        """

    @property
    @abstractmethod
    def connected(self) -> bool:
        """Whether any broker answers at present, as far as the client knows."""

    @property
    @abstractmethod
    def errors(self) -> Mapping[str, int]:
        """transport, auth -> how often the client reported such a thing."""

    @abstractmethod
    def close(self, leave: bool = True) -> None:
        """Release everything; leave the group unless told (or static) to stay. Idempotent."""


class Producer(ABC):
    """Writes. `send` may come from several threads, everything else from one at a time."""

    @abstractmethod
    def partitions(self, topic: str) -> int | None:
        """How many partitions a topic has; None when there is no such topic.

        Raises `Unreachable` when nobody answers.
        """

    @abstractmethod
    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
    ) -> None:
        """Queue a record, waiting for room. Raises `SinkFailed` once any delivery failed."""

    @abstractmethod
    def flush(self, seconds: float) -> None:
        """Wait until every record sent so far is acknowledged.

        Raises `SinkFailed` when one was refused or time ran out, `Fenced` when a rival has
        taken over.
        """

    @abstractmethod
    def init_transactions(self, seconds: float) -> None:
        """Fence rivals and abort what they left open. Raises `Unreachable`, `SettingsError`."""

    @abstractmethod
    def begin(self) -> None:
        """Begin a transaction. Raises `Fenced`."""

    @abstractmethod
    def send_offsets(
        self, group: str | object, offsets: Mapping[TopicPartition, Committed], seconds: float
    ) -> None:
        """Add offsets of a group (its name, or a consumer's `membership`) to the transaction."""

    @abstractmethod
    def commit(self, seconds: float) -> None:
        """Commit the transaction. Raises `Fenced`, or `OutcomeUnknown` on anything else."""

    @abstractmethod
    def abort(self, seconds: float) -> None:
        """Abort the transaction. Raises `Fenced` or `SinkFailed`."""

    @abstractmethod
    def close(self) -> None:
        """Release everything, waiting for nothing and completing nothing. Idempotent."""


class ClientSettings(NamedTuple):
    """What both roles of a client are told."""

    bootstrap_servers: str
    security: Mapping[str, str | bool] | Security  # as in [source.security], or read from it
    client_id: str
    patience_seconds: float = 10.0  # for an answer, before the cluster counts as unreachable


class ConsumerSettings(NamedTuple):
    """What a consumer is told beside."""

    group_id: str
    instance_id: str | None  # static membership; None where nothing is shared
    max_poll_seconds: float = 300.0  # longest time between two polls in a group
    session_seconds: float = 45.0  # a member silent for longer is put out of its group


class ProducerSettings(NamedTuple):
    """What a producer is told beside."""

    transactional_id: str | None
    transaction_seconds: float
    linger_ms: float
    max_record_bytes: int
    compression: str | None


class Client(ABC):
    """A client library. Subclasses are final and hold nothing."""

    name: str  # as in `client = "..."`

    @abstractmethod
    def consumer(self, settings: ClientSettings, reading: ConsumerSettings) -> Consumer:
        """A consumer. Raises `SettingsError` when its package is missing; connects later."""

    @abstractmethod
    def producer(self, settings: ClientSettings, writing: ProducerSettings) -> Producer:
        """A producer. Raises `SettingsError` when its package is missing; connects later."""
