"""Sources of a real broker with both clients, and what comes of their streams in time."""

import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from stream_em.streams import Batch, Positions, Stream
from stream_em_connectors.kafka import KafkaSource


@pytest.fixture(params=["kafka-python", "librdkafka"])
def client(request: pytest.FixtureRequest) -> str:
    """The name of each client, one after the other."""
    return str(request.param)


@pytest.fixture
def kafka(broker: Any, client: str) -> Callable[..., KafkaSource]:
    """`kafka(topic, ...)`: a source of a topic, or of several."""

    def made(topic: str | list[str], **settings: Any) -> KafkaSource:
        topics = [topic] if isinstance(topic, str) else topic
        given = {"features": ["x"], "client": client, **settings}
        return KafkaSource(broker.bootstrap, topics=topics, **given)

    return made


@pytest.fixture(scope="session")
def seconds() -> float:
    """How long anything may take to happen."""
    return 60.0


@pytest.fixture(scope="session")
def polled(seconds: float) -> Callable[..., list[Batch]]:
    """`polled(stream, enough)`: batches until there are enough, or the stream has ended."""

    def found(
        stream: Stream, enough: Callable[[list[Batch]], bool] = lambda batches: False
    ) -> list[Batch]:
        batches: list[Batch] = []
        deadline = time.monotonic() + seconds
        while not stream.ended and not enough(batches):
            assert time.monotonic() < deadline, f"only {batches} came"
            batch = stream.poll(0.2)
            if batch is not None:
                batches.append(batch)
        return batches

    return found


@pytest.fixture(scope="session")
def so_many(
    rows: Callable[[list[Batch]], list[float]],
) -> Callable[[int], Callable[[list[Batch]], bool]]:
    """`so_many(n)`: whether batches have n rows and rejected records, or more."""

    def enough(n: int) -> Callable[[list[Batch]], bool]:
        return lambda batches: len(rows(batches)) + sum(len(b.rejected) for b in batches) >= n

    return enough


@pytest.fixture(scope="session")
def offset() -> Callable[..., int]:
    """`offset(positions, topic, partition=0)`: where a partition stands."""

    def found(positions: Positions, topic: str, partition: int = 0) -> int:
        return int(positions.parts[f"{topic}/{partition}"]["offset"])

    return found


@pytest.fixture(scope="session")
def told(polled: Callable[..., list[Batch]]) -> Callable[..., list[Batch]]:
    """`told(source, positions=None)`: all batches of a source with an end."""

    def found(source: KafkaSource, positions: Positions | None = None) -> list[Batch]:
        with closing(source.opened_at(positions)) as stream:
            return polled(stream)

    return found
