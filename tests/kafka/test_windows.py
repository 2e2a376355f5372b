"""A kill in each single window of the protocol, on a real broker, with both clients.

A process dies before or after one call: of its producer, of its store, or of a file output
beside the topics. From then on it touches nothing, so what was open stays open, as after a
SIGKILL. A second run has to find each record once in every output, and the truth at once.
"""

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
import pyarrow.parquet as pq
import pytest

import stream_em as se
from stream_em.checkpoints import Checkpoint
from stream_em.engine import Schedule, Summary, run
from stream_em.engine.saving import Draft, InStore
from stream_em.stores import DirectoryStore, Store
from stream_em.streams import Columns, Json, Sink
from stream_em_connectors.files.jsonl_sink import JsonLinesSink
from stream_em_connectors.files.parquet_sink import ParquetSink
from stream_em_connectors.kafka.client import (
    Client,
    ClientSettings,
    Committed,
    Consumer,
    ConsumerSettings,
    Headers,
    Producer,
    ProducerSettings,
    TopicPartition,
)
from stream_em_connectors.kafka.clients import client
from stream_em_connectors.kafka.sink import KafkaSink
from stream_em_connectors.kafka.source import KafkaSource

MODEL = se.GaussianMixture(n_components=2, seeding=se.Seeding(rows=90, restarts=1))
EVERY = Schedule(every_events=80, every_seconds=300, keep=2)
ROWS, PARTITIONS, BATCH = 390, 3, 40
BROKEN = 12  # records among them that are no rows
CLIENTS = ("kafka-python", "librdkafka")
pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("lockstep")]


class Died(BaseException):
    """The process ended here."""


@final
class Fuse:
    """Burns at one call of one method, before or after it is done; then all is dead."""

    def __init__(self, method: str, calls: int, after: bool) -> None:
        self.method, self.left, self.after = method, calls, after
        self.burnt = False
        self.abandoned: list[Producer] = []  # what the dead process held
        self._lock = threading.Lock()

    def around(self, method: str, call: Callable[[], Any]) -> Any:
        with self._lock:
            self.check()
            mine = method == self.method
            self.left -= mine
            burning = mine and self.left < 0
            self.burnt = burning and not self.after
            self.check()
        result = call()
        if burning:
            self.burnt = True
            self.check()
        return result

    def check(self) -> None:
        if self.burnt:
            raise Died


@final
class DyingProducer(Producer):
    """The real one is never touched again once the fuse has burnt: not even closed."""

    def __init__(self, inner: Producer, fuse: Fuse) -> None:
        self.inner, self.fuse = inner, fuse

    def partitions(self, topic: str) -> int | None:
        return self.inner.partitions(topic)

    def send(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()
    ) -> None:
        self.fuse.around("send", lambda: self.inner.send(topic, key, value, headers))

    def flush(self, seconds: float) -> None:
        self.fuse.around("flush", lambda: self.inner.flush(seconds))

    def init_transactions(self, seconds: float) -> None:
        self.fuse.around("init_transactions", lambda: self.inner.init_transactions(seconds))

    def begin(self) -> None:
        self.fuse.around("begin", self.inner.begin)

    def send_offsets(
        self, group: str | object, offsets: dict[TopicPartition, Committed], seconds: float
    ) -> None:
        marker = isinstance(group, str) and group.endswith(".marker")
        what = "marker" if marker else "courtesy"
        self.fuse.around(what, lambda: self.inner.send_offsets(group, offsets, seconds))

    def commit(self, seconds: float) -> None:
        self.fuse.around("commit", lambda: self.inner.commit(seconds))

    def abort(self, seconds: float) -> None:
        self.fuse.around("abort", lambda: self.inner.abort(seconds))

    def close(self) -> None:
        if self.fuse.burnt:
            self.fuse.abandoned.append(self.inner)
        else:
            self.inner.close()


@final
class DyingClient(Client):
    """A client whose producers die."""

    def __init__(self, inner: Client, fuse: Fuse) -> None:
        self.name, self.inner, self.fuse = inner.name, inner, fuse

    def consumer(self, settings: ClientSettings, reading: ConsumerSettings) -> Consumer:
        return self.inner.consumer(settings, reading)

    def producer(self, settings: ClientSettings, writing: ProducerSettings) -> Producer:
        return DyingProducer(self.inner.producer(settings, writing), self.fuse)


@final
class DyingStore(Store):
    """A folder of checkpoints; files are deleted one after the other, as a crash finds them."""

    kind = "dying"

    def __init__(self, inner: Store, fuse: Fuse) -> None:
        self.inner, self.fuse = inner, fuse

    def lock(self) -> AbstractContextManager[None]:
        return self.inner.lock()

    def save(self, checkpoint: Checkpoint) -> str:
        name: str = self.fuse.around("save", lambda: self.inner.save(checkpoint))
        return name

    def names(self) -> tuple[str, ...]:
        return self.inner.names()

    def digest(self, name: str) -> str:
        return self.inner.digest(name)

    def size(self, name: str) -> int:
        return self.inner.size(name)

    def load(self, name: str) -> Checkpoint:
        loaded: Checkpoint = self.fuse.around("load", lambda: self.inner.load(name))
        return loaded

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            self.fuse.around("delete", lambda name=name: self.inner.delete([name]))

    def clean(self) -> None:
        self.fuse.around("clean", self.inner.clean)


@final
class DyingSink(Sink):
    """A file output; the fuse knows its methods as `parquet.barrier` and so on."""

    def __init__(self, inner: Sink, fuse: Fuse) -> None:
        self.kind, self.name = inner.kind, inner.name  # type: ignore[misc]
        self.exactly_once = inner.exactly_once
        self.inner, self.fuse = inner, fuse

    def _around(self, method: str, *arguments: Any) -> Any:
        call = getattr(self.inner, method)
        return self.fuse.around(f"{self.kind}.{method}", lambda: call(*arguments))

    def begin(self, incarnation: str, overwrite: bool) -> Json:
        return self._around("begin", incarnation, overwrite)

    def roll_back(self, extent: Json, number: int, incarnation: str) -> None:
        self._around("roll_back", extent, number, incarnation)

    def write(self, columns: Columns) -> None:
        self._around("write", columns)

    def barrier(self, number: int) -> Json:
        return self._around("barrier", number)

    def committed(self, number: int) -> None:
        self._around("committed", number)

    def close(self) -> None:
        """The operating system would do the same."""
        self.inner.close()


@pytest.fixture
def lockstep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every checkpoint land before the next batch, so that calls can be counted."""
    turn = InStore.turn

    def turned(self: InStore, draft: Draft) -> None:
        turn(self, draft)
        self._landed("the checkpoint just begun")

    monkeypatch.setattr(InStore, "turn", turned)


@pytest.fixture(scope="module")
def filled(broker: Any, new_topic: Any) -> str:
    """A topic that all tests read: its records, broken ones among them, in three partitions."""
    from confluent_kafka import Producer as Plain

    draw = np.random.default_rng(11)
    X = draw.normal(size=(ROWS, 2)) + 10.0 * draw.integers(0, 2, size=(ROWS, 1))
    values = [b'{"a":%.6f,"b":%.6f}' % (a, b) for a, b in X.tolist()]
    for place in np.linspace(3, ROWS - 5, BROKEN, dtype=int).tolist():
        values[place] = b'{"a":"n/a"'
    topic: str = new_topic(broker.bootstrap, PARTITIONS)
    plain = Plain({"bootstrap.servers": broker.bootstrap})
    for place, value in enumerate(values):
        plain.produce(topic, value, partition=place % PARTITIONS)
    assert plain.flush(30) == 0
    return topic


@final
class World:
    """What outlives a process: topics, files, and the folder of checkpoints."""

    def __init__(self, bootstrap: str, client: str, topics: tuple[str, str, str], at: Path) -> None:
        self.bootstrap, self.client = bootstrap, client
        self.source, self.output, self.dead = topics
        self.name = f"engine-{self.output}"
        self.lines, self.parts = at / "rows.jsonl", at / "parts"
        self.store = DirectoryStore(str(at / "checkpoints"))
        self.abandoned: list[Producer] = []

    def run(self, **options: Any) -> Summary:
        return self._run(self.store, lambda sink: sink, options)

    def dies(self, fuse: Fuse, **options: Any) -> None:
        """A run that ends at the fuse."""
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(
                "stream_em_connectors.kafka.settings.client",
                lambda name: DyingClient(client(name), fuse),
            )
            store = DyingStore(self.store, fuse)
            with pytest.raises(Died):
                self._run(store, lambda sink: DyingSink(sink, fuse), options)
        self.abandoned += fuse.abandoned

    def _run(self, store: Store, held: Callable[[Sink], Sink], options: Any) -> Summary:
        source = KafkaSource(
            self.bootstrap,
            [self.source],
            ["a", "b"],
            group_id=self.name,
            batch_size=BATCH,
            client=self.client,
            until_end=True,
        )
        rows, dead = (
            KafkaSink(self.bootstrap, topic, client=self.client)
            for topic in (self.output, self.dead)
        )
        files = [held(JsonLinesSink(str(self.lines))), held(ParquetSink(str(self.parts)))]
        settings = {"schedule": EVERY, "name": self.name, "dead_letters": dead, **options}
        return run(source, MODEL, [rows, *files], store, **settings)


@pytest.fixture(params=CLIENTS)
def world(
    request: pytest.FixtureRequest, broker: Any, filled: str, topic: Any, tmp_path: Path
) -> Iterator[World]:
    world = World(broker.bootstrap, request.param, (filled, topic(2), topic()), tmp_path)
    yield world
    for producer in world.abandoned:
        producer.close()


@pytest.fixture
def whole(read_topic: Any, committed_offsets: Any) -> Callable[[World, Summary], None]:
    """`whole(world, summary)`: model, outputs, positions and marker agree: each record once."""

    def check(world: World, summary: Summary) -> None:
        assert (summary.total_events, summary.total_rejected) == (ROWS - BROKEN, BROKEN)
        dead = places(read_topic(world.dead))
        everything = {(n % PARTITIONS, n // PARTITIONS) for n in range(ROWS)}
        accepted = sorted(everything - set(dead))
        assert len(dead) == len(set(dead)) == BROKEN
        assert places(read_topic(world.output)) == accepted
        assert sorted(position(row) for row in world_lines(world)) == accepted
        parts = pq.read_table(world.parts).to_pylist()
        assert sorted(position(row) for row in parts) == accepted
        held_by_the_group(world)
        named_by_the_marker(world)

    def held_by_the_group(world: World) -> None:
        offsets = committed_offsets(world.name, world.source)
        assert {place: offset for place, (offset, _) in offsets.items()} == dict.fromkeys(
            range(PARTITIONS), ROWS // PARTITIONS
        )

    def named_by_the_marker(world: World) -> None:
        newest = world.store.names()[-1]
        checkpoint = world.store.load(newest)
        assert checkpoint.state.total_events == ROWS - BROKEN
        marker = checkpoint.number, f"{newest} {world.store.digest(newest)[:16]}"
        assert committed_offsets(f"{world.name}.marker", world.output) == {0: marker}

    return check


def world_lines(world: World) -> list[dict[str, Any]]:
    return [json.loads(line) for line in world.lines.read_bytes().splitlines()]


def position(row: dict[str, Any]) -> tuple[int, int]:
    return row["partition"], row["offset"]


def places(records: list[Any]) -> list[tuple[int, int]]:
    return sorted(position(json.loads(one.value)) for one in records)


def resumed(summary: Summary) -> int | None:
    """The number of the checkpoint that a run went on from."""
    return None if summary.resumed_from is None else int(summary.resumed_from.split("-")[0])


class Window(NamedTuple):
    """Where a process dies, and which checkpoint is true then."""

    when: str
    method: str
    calls: int  # done before
    truth: int | None  # None: none yet

    def __str__(self) -> str:
        return f"{self.when}-{self.method}-{self.calls}"

    def fuse(self) -> Fuse:
        return Fuse(self.method, self.calls, self.when == "after")


WINDOWS = [
    Window("before", "init_transactions", 0, None),
    Window("after", "init_transactions", 0, None),
    Window("after", "begin", 0, None),
    Window("before", "save", 0, None),  # checkpoint 0; the outputs are begun
    Window("after", "save", 0, 0),  # with no marker yet
    Window("after", "marker", 0, 0),
    Window("after", "courtesy", 0, 0),
    Window("after", "commit", 0, 0),
    Window("after", "begin", 1, 0),
    Window("after", "parquet.committed", 0, 0),  # what it overwrites is gone
    Window("before", "send", 0, 0),
    Window("after", "send", 0, 0),
    Window("after", "flush", 0, 0),  # in the barrier of one of the two topics
    Window("after", "parquet.barrier", 0, 0),  # its part is closed, not yet renamed
    Window("before", "save", 1, 0),  # all outputs are durable
    Window("after", "save", 1, 0),  # durable, but not yet true
    Window("after", "marker", 1, 0),
    Window("before", "commit", 2, 1),
    Window("after", "commit", 2, 2),  # the part is not yet renamed
    Window("after", "begin", 3, 2),
    Window("after", "parquet.committed", 2, 2),
    Window("before", "delete", 0, 2),  # checkpoint 0 is about to be pruned
    Window("after", "delete", 0, 2),
]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_dying_in_any_window(world: World, whole: Any, window: Window) -> None:
    world.dies(window.fuse())
    summary = world.run()
    assert resumed(summary) == window.truth
    whole(world, summary)


LATER = [
    Window("after", "init_transactions", 0, 2),
    Window("after", "load", 0, 2),
    Window("after", "delete", 0, 2),  # checkpoint 3 is gone, which was never true
    Window("after", "parquet.roll_back", 0, 2),
    Window("before", "commit", 0, 2),
]


@pytest.mark.parametrize("window", LATER, ids=str)
def test_dying_again_while_recovering(world: World, whole: Any, window: Window) -> None:
    """The first died with checkpoint 3 durable, and its transaction open and full."""
    world.dies(Fuse("commit", 3, after=False))
    world.dies(window.fuse())
    summary = world.run()
    assert resumed(summary) == window.truth
    whole(world, summary)


def test_another_client_goes_on_where_one_died(
    world: World, whole: Any, every_client: tuple[Client, ...]
) -> None:
    world.dies(Fuse("commit", 2, after=True))
    world.client = next(one.name for one in every_client if one.name != world.client)
    summary = world.run()
    assert resumed(summary) == 2
    whole(world, summary)


def test_dying_around_the_first_commit_of_a_fresh_start(
    world: World, whole: Any, read_topic: Any
) -> None:
    """Until marker 0 is committed the old checkpoints stay; then the new run is the true one."""
    world.run()
    before = set(world.store.names())
    world.dies(Fuse("commit", 0, after=False), fresh=True)
    assert before < set(world.store.names())
    world.dies(Fuse("commit", 0, after=True), fresh=True)
    assert resumed(world.run()) == 0
    assert not before & set(world.store.names())
    assert len(world_lines(world)) == ROWS - BROKEN
    assert len(read_topic(world.output)) == 2 * (ROWS - BROKEN)  # a topic cannot be cut
