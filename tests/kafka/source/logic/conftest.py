"""A cluster in memory that every client reaches, and the sources and streams that read it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import pytest

from stream_em.errors import SourceFailed, Unreachable
from stream_em.streams import Batch, Stream
from stream_em_connectors.kafka import KafkaSource, watch
from stream_em_connectors.kafka import source as source_module
from stream_em_connectors.kafka.client import (
    Chunk,
    Committed,
    Consumer,
    OutOfRange,
    Rebalance,
    Topic,
    TopicPartition,
)

Offsets = Mapping[TopicPartition, int]


@dataclass
class Log:
    """One partition: records by offset, what is gone, and where it ends."""

    first: int = 0
    records: dict[int, tuple[bytes | None, bytes | None]] = field(default_factory=dict)
    end: int = 0

    def add(self, *values: bytes | None, key: bytes | None = None) -> None:
        for value in values:
            self.records[self.end] = (value, key)
            self.end += 1


class Cluster:
    """What consumers read."""

    def __init__(self, **topics: int) -> None:
        self.ids = {name: f"{name}-id" for name in topics}
        self.logs = {
            TopicPartition(name, number): Log()
            for name, partitions in topics.items()
            for number in range(partitions)
        }
        self.committed: dict[TopicPartition, int] = {}
        self.consumers: list[Fake] = []
        self.down = False

    def add(self, partition: int, *values: bytes | None, key: bytes | None = None) -> None:
        self.logs[TopicPartition("t", partition)].add(*values, key=key)

    def made_again(self, name: str, partitions: int) -> None:
        for place in [place for place in self.logs if place.topic == name]:
            del self.logs[place]
        self.ids[name] = f"{self.ids[name]}-again"
        self.logs.update({TopicPartition(name, n): Log() for n in range(partitions)})


class Fake(Consumer):
    """A consumer in memory. `rebalance` is for the test to call from within a poll."""

    connected = True
    errors: Mapping[str, int] = MappingProxyType({"transport": 2})

    def __init__(self, cluster: Cluster, group: str, instance: str | None) -> None:
        self.cluster_, self.group, self.instance = cluster, group, instance
        self.at: dict[TopicPartition, int] = {}
        self.paused: set[TopicPartition] = set()
        self.callbacks: Rebalance | None = None
        self.during_poll: list[Callable[[], None]] = []
        self.commits: list[dict[TopicPartition, int]] = []
        self.left: bool | None = None
        self.refuses_commits = False

    def _ask(self) -> None:
        if self.cluster_.down:
            raise Unreachable("nobody answers")

    def cluster(self) -> str:
        self._ask()
        return "cluster-id"

    def topics(self, names: Sequence[str]) -> Mapping[str, Topic]:
        self._ask()
        found: dict[str, Topic] = {}
        for name in names:
            numbers = sorted(p.partition for p in self.cluster_.logs if p.topic == name)
            if numbers:
                found[name] = Topic(self.cluster_.ids[name], tuple(numbers))
        return found

    def beginnings(self, places: Sequence[TopicPartition]) -> Offsets:
        self._ask()
        return {place: self.cluster_.logs[place].first for place in places}

    def ends(self, places: Sequence[TopicPartition]) -> Offsets:
        self._ask()
        return {place: self.cluster_.logs[place].end for place in places}

    def offsets_at(
        self, places: Sequence[TopicPartition], milliseconds: int
    ) -> Mapping[TopicPartition, int | None]:
        logs = self.cluster_.logs
        return {
            place: next((o for o in sorted(logs[place].records) if o >= milliseconds), None)
            for place in places
        }

    def committed(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, Committed | None]:
        known = self.cluster_.committed
        return {place: Committed(known[place], "") if place in known else None for place in places}

    def assign(self, positions: Offsets) -> None:
        self.at = dict(positions)

    def subscribe(self, topics: Sequence[str], rebalance: Rebalance) -> None:
        self.callbacks = rebalance

    def give(self, *places: TopicPartition) -> None:
        assert self.callbacks is not None
        self.at.update(self.callbacks.assigned(frozenset(places)))

    def take(self, *places: TopicPartition) -> None:
        assert self.callbacks is not None
        self.callbacks.revoked(frozenset(places))
        for place in places:
            del self.at[place]

    def lose(self, *places: TopicPartition) -> None:
        assert self.callbacks is not None
        self.callbacks.lost(frozenset(places))
        for place in places:
            del self.at[place]

    def seek(self, place: TopicPartition, offset: int) -> None:
        self.at[place] = offset

    def position(self, place: TopicPartition) -> int:
        return self.at[place]

    def poll(self, seconds: float, max_records: int) -> list[Chunk]:
        while self.during_poll:
            self.during_poll.pop(0)()
        found = []
        for place in sorted(self.at):
            log = self.cluster_.logs.get(place, Log())
            if place in self.paused:
                continue
            if not log.first <= self.at[place] <= log.end:
                raise OutOfRange(place, self.at[place])
            offsets = sorted(o for o in log.records if o >= max(self.at[place], log.first))
            self.at[place] = log.end  # past markers
            if offsets:
                found.append(_chunk(place, log, offsets))
        return found

    def pause(self, places: Sequence[TopicPartition]) -> None:
        self.paused.update(places)

    def resume(self, places: Sequence[TopicPartition]) -> None:
        self.paused.difference_update(places)

    def commit(self, positions: Offsets) -> None:
        if self.refuses_commits:
            raise SourceFailed("not now")
        self.commits.append(dict(positions))
        self.cluster_.committed.update(positions)

    @property
    def steady(self) -> bool:
        return True

    def membership(self) -> object:
        return ("member", self.instance)

    def close(self, leave: bool = True) -> None:
        self.left = leave


def _chunk(place: TopicPartition, log: Log, offsets: list[int]) -> Chunk:
    values, keys = zip(*(log.records[offset] for offset in offsets), strict=True)
    return Chunk(
        place, offsets, values, keys, [1000 * o for o in offsets], lambda i: (("h", b"1"),)
    )


class FakeClient:
    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def consumer(self, settings: Any, reading: Any) -> Fake:
        made = Fake(self.cluster, reading.group_id, reading.instance_id)
        self.cluster.consumers.append(made)
        return made


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A topic "t" of two partitions, reached by every client."""
    made = Cluster(t=2)
    monkeypatch.setattr(source_module, "client_of", lambda name: FakeClient(made))
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.0)
    return made


@pytest.fixture(scope="session")
def log() -> type[Log]:
    """`log(first=0, ...)`: the records of a partition."""
    return Log


@pytest.fixture(scope="session")
def kafka() -> Callable[..., KafkaSource]:
    """`kafka(...)`: a source of the topic "t"."""

    def made(**settings: Any) -> KafkaSource:
        given = {"topics": ["t"], "features": ["x"], "max_wait_ms": 0, **settings}
        return KafkaSource("localhost:9092", **given)

    return made


@pytest.fixture(scope="session")
def shared(kafka: Callable[..., KafkaSource]) -> Callable[..., KafkaSource]:
    """`shared(...)`: a source that shares the topic "t" with others of its group."""

    def made(**settings: Any) -> KafkaSource:
        return kafka(sharing="group", group_id="g", **settings).named("engine", "one")

    return made


@pytest.fixture(scope="session")
def polled() -> Callable[..., list[Batch]]:
    """`polled(stream, polls=4)`: the batches that come of some polls."""

    def found(stream: Stream, polls: int = 4) -> list[Batch]:
        batches = [stream.poll(0) for _ in range(polls)]
        return [batch for batch in batches if batch is not None]

    return found
