"""A real broker for the tests of Kafka, helpers that use none of the code under test, and
both clients behind the port.

`STREAM_EM_TEST_BROKER=host:port` names a broker that is there already; else one is started
on free ports. Where neither Java nor Maven is, these tests skip, which in CI is a failure.
"""

import importlib.util
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from stream_em_connectors.kafka.client import (
    Chunk,
    Client,
    ClientSettings,
    Consumer,
    ConsumerSettings,
    Producer,
    ProducerSettings,
    TopicPartition,
)
from stream_em_connectors.kafka.clients import client

REAL = {"brokers", "broker", "own_broker", "secure_broker"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if REAL & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.needs_server)


class Named(NamedTuple):
    """A broker that somebody else runs."""

    bootstrap: str


class Record(NamedTuple):
    """A record as a plain consumer sees it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    time: int  # milliseconds


@pytest.fixture(scope="session")
def brokers(repository: Path) -> ModuleType:
    """The module `examples/kafka/broker.py`; skips where no broker can be started."""
    pytest.importorskip("confluent_kafka")
    path = repository / "examples" / "kafka" / "broker.py"
    spec = importlib.util.spec_from_file_location("stream_em_example_broker", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if reason := module.available():
        pytest.skip(reason)
    return module


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest) -> Any:
    """A broker to share: `bootstrap` is its address. Make topics with `topic`."""
    if named := os.environ.get("STREAM_EM_TEST_BROKER"):
        pytest.importorskip("confluent_kafka")
        return Named(named)
    return request.getfixturevalue("own_broker")


@pytest.fixture(scope="session")
def own_broker(brokers: ModuleType) -> Iterator[Any]:
    """A broker that a test may stop, kill or freeze if it has it running again at its end."""
    with brokers.Broker() as started:
        yield started


@pytest.fixture(scope="session")
def secure_broker(brokers: ModuleType) -> Iterator[Any]:
    """A broker with `secured`: TLS, SCRAM and access lists; its plain listener may do all."""
    with brokers.Broker(secure=True) as started:
        yield started


@pytest.fixture(scope="session")
def new_topic() -> Callable[..., str]:
    """`new_topic(bootstrap, partitions=1, **configs)`, with dots of configs as underscores."""

    def made(bootstrap: str, partitions: int = 1, name: str = "", **configs: str) -> str:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient, NewTopic

        name = name or f"t-{uuid.uuid4().hex[:12]}"
        config = {key.replace("_", "."): value for key, value in configs.items()}
        admin = AdminClient({"bootstrap.servers": bootstrap})
        wanted = NewTopic(name, partitions, 1, config=config)
        deadline = time.monotonic() + 60
        while len(admin.list_topics(name, 10).topics[name].partitions) < partitions:
            assert time.monotonic() < deadline, f"topic {name} does not appear"
            # A broker that has just come back may forget what it was asked.
            with suppress(KafkaException, TimeoutError):
                admin.create_topics([wanted], request_timeout=5)[name].result(6)
        return name

    return made


@pytest.fixture
def topic(broker: Any, new_topic: Callable[..., str]) -> Callable[..., str]:
    """`topic(partitions=1, **configs)` makes a topic of its own name, and returns that."""

    def made(partitions: int = 1, name: str = "", **configs: str) -> str:
        return new_topic(broker.bootstrap, partitions, name, **configs)

    return made


@pytest.fixture
def grow(broker: Any) -> Callable[[str, int], None]:
    """`grow(topic, partitions)` gives a topic more partitions."""

    def grown(name: str, partitions: int) -> None:
        from confluent_kafka.admin import AdminClient, NewPartitions

        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        admin.create_partitions([NewPartitions(name, partitions)])[name].result(30)

    return grown


@pytest.fixture
def delete_topic(broker: Any) -> Callable[[str], None]:
    """`delete_topic(topic)`, and wait until it is gone."""

    def deleted(name: str) -> None:
        from confluent_kafka.admin import AdminClient

        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        admin.delete_topics([name])[name].result(30)
        deadline = time.monotonic() + 30
        while name in admin.list_topics(timeout=10).topics:
            assert time.monotonic() < deadline, f"topic {name} does not go"
            time.sleep(0.05)

    return deleted


@pytest.fixture
def delete_records(broker: Any) -> Callable[[str, int, int], None]:
    """`delete_records(topic, partition, offset)` removes what lies below an offset."""

    def deleted(name: str, partition: int, offset: int) -> None:
        from confluent_kafka import TopicPartition
        from confluent_kafka.admin import AdminClient

        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        for future in admin.delete_records([TopicPartition(name, partition, offset)]).values():
            future.result(30)

    return deleted


@pytest.fixture
def produce(broker: Any) -> Callable[..., None]:
    """`produce(topic, values, partition=0, ...)`: fast, and acknowledged when it returns.

    `keys` and `times` (milliseconds) are as long as `values`; `headers` go with each
    record; `transaction` is "commit" or "abort"; what else there is are librdkafka's
    settings with underscores for dots.
    """

    def produced(
        name: str,
        values: Iterable[bytes | None],
        partition: int = 0,
        *,
        keys: Iterable[bytes | None] | None = None,
        times: Iterable[int] | None = None,
        headers: list[tuple[str, bytes | None]] | None = None,
        transaction: str | None = None,
        bootstrap: str = "",
        **settings: Any,
    ) -> None:
        from confluent_kafka import Producer

        failed: list[Any] = []
        values = list(values)
        keys = list(keys) if keys is not None else [None] * len(values)
        times = list(times) if times is not None else [0] * len(values)
        config = {key.replace("_", "."): value for key, value in settings.items()}
        config |= {"bootstrap.servers": bootstrap or broker.bootstrap, "linger.ms": 5}
        if transaction:
            config["transactional.id"] = uuid.uuid4().hex
        producer = Producer({**config, "on_delivery": lambda e, _: e and failed.append(e)})
        if transaction:
            producer.init_transactions(30)
            producer.begin_transaction()
        for key, value, at in zip(keys, values, times, strict=True):
            while True:
                try:
                    producer.produce(name, value, key, partition, timestamp=at, headers=headers)
                except BufferError:
                    producer.poll(0.1)
                else:
                    break
        assert producer.flush(60) == 0 and not failed, failed[:1]
        if transaction == "commit":
            producer.commit_transaction(30)
        elif transaction:
            producer.abort_transaction(30)

    return produced


@pytest.fixture
def read_topic(broker: Any) -> Callable[..., list[Record]]:
    """`read_topic(topic)`: all records up to the last stable offset, ordered by partition."""

    def read(name: str, bootstrap: str = "") -> list[Record]:
        from confluent_kafka import Consumer, TopicPartition

        config = _reading(bootstrap or broker.bootstrap, uuid.uuid4().hex)
        consumer = Consumer({**config, "enable.partition.eof": True})
        partitions = consumer.list_topics(name, 10).topics[name].partitions
        consumer.assign([TopicPartition(name, partition, 0) for partition in partitions])
        found, open_still = [], set(partitions)
        deadline = time.monotonic() + 60
        while open_still:
            assert time.monotonic() < deadline, f"{name} cannot be read to its end"
            for message in consumer.consume(10_000, 0.05):
                if message.error():
                    assert message.error().name() == "_PARTITION_EOF", message.error()
                    open_still.discard(message.partition())
                else:
                    found.append(_record(message))
        consumer.close()
        return sorted(found)

    return read


@pytest.fixture
def committed_offsets(broker: Any) -> Callable[..., Mapping[int, tuple[int, str]]]:
    """`committed_offsets(group, topic)`: partition -> offset, metadata; stable ones only."""

    def committed(group: str, name: str, bootstrap: str = "") -> dict[int, tuple[int, str]]:
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer(_reading(bootstrap or broker.bootstrap, group))
        partitions = consumer.list_topics(name, 10).topics[name].partitions
        asked = [TopicPartition(name, partition) for partition in partitions]
        found = {
            place.partition: (place.offset, _metadata(place))
            for place in consumer.committed(asked, 30)
            if place.offset >= 0
        }
        consumer.close()
        return found

    return committed


def _reading(bootstrap: str, group: str) -> dict[str, Any]:
    return {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
    }


def _metadata(place: Any) -> str:
    """Up to the NUL; where none was written, librdkafka may read on into foreign memory."""
    try:
        metadata = place.metadata or ""
    except UnicodeDecodeError as error:
        metadata = error.object.decode("utf-8", "replace")
    return str(metadata).partition("\0")[0]


def _record(message: Any) -> Record:
    return Record(
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        tuple(message.headers() or ()),
        message.timestamp()[1],
    )


@pytest.fixture(params=["kafka-python", "librdkafka"])
def any_client(request: pytest.FixtureRequest) -> Client:
    """Both clients, one after the other."""
    return client(request.param)


@pytest.fixture(scope="session")
def every_client() -> tuple[Client, ...]:
    """Both clients at once."""
    return client("kafka-python"), client("librdkafka")


@pytest.fixture
def reader(broker: Any, any_client: Client) -> Iterator[Callable[..., Consumer]]:
    """`reader(group="", instance_id=None, ...)` makes consumers, which are closed at the end.

    More arguments are fields of `ClientSettings` and `ConsumerSettings`.
    """
    made: list[Consumer] = []

    def opened(
        group: str = "",
        instance_id: str | None = None,
        *,
        servers: str = "",
        security: Mapping[str, str | bool] | None = None,
        patience: float = 15.0,
        of: Client | None = None,
        **more: float,
    ) -> Consumer:
        settings = ClientSettings(
            servers or broker.bootstrap, security or {}, "test-reader", patience
        )
        reading = ConsumerSettings(group or f"g-{uuid.uuid4().hex}", instance_id, **more)
        made.append((of or any_client).consumer(settings, reading))
        return made[-1]

    yield opened
    for one in made:
        one.close()


@pytest.fixture
def writer(broker: Any, any_client: Client) -> Iterator[Callable[..., Producer]]:
    """`writer(transactional_id=None, ...)` makes producers, which are closed at the end."""
    made: list[Producer] = []

    def opened(
        transactional_id: str | None = None,
        transaction_seconds: float = 60.0,
        *,
        servers: str = "",
        security: Mapping[str, str | bool] | None = None,
        patience: float = 15.0,
        room: int = 2**21,
        compression: str | None = None,
        of: Client | None = None,
    ) -> Producer:
        settings = ClientSettings(
            servers or broker.bootstrap, security or {}, "test-writer", patience
        )
        writing = ProducerSettings(transactional_id, transaction_seconds, 1.0, room, compression)
        made.append((of or any_client).producer(settings, writing))
        return made[-1]

    yield opened
    for one in made:
        one.close()


@pytest.fixture
def drain() -> Callable[..., list[Record]]:
    """`drain(consumer, ends)`: all records up to positions, in order within partitions."""

    def drained(
        consumer: Consumer, ends: Mapping[TopicPartition, int], seconds: float = 30.0
    ) -> list[Record]:
        found: list[Record] = []
        deadline = time.monotonic() + seconds
        while any(consumer.position(place) < end for place, end in ends.items()):
            assert time.monotonic() < deadline, (
                f"at {[consumer.position(place) for place in ends]} of {list(ends.values())}"
            )
            for chunk in consumer.poll(0.1, 1000):
                found.extend(_records(chunk))
        return sorted(found, key=lambda one: (one.partition, one.offset))

    return drained


def _records(chunk: Chunk) -> list[Record]:
    columns = zip(chunk.offsets, chunk.keys, chunk.values, chunk.times, strict=True)
    return [
        Record(chunk.place.partition, offset, key, value, chunk.headers(index), at)
        for index, (offset, key, value, at) in enumerate(columns)
    ]
