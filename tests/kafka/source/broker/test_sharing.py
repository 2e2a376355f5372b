"""Two engines in one group."""

import time
import uuid
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from stream_em.streams import Stream
from stream_em_connectors.kafka import KafkaSource

Produce = Callable[..., None]
Make = Callable[..., str]


class TestSharing:
    """Two engines in one group."""

    @pytest.fixture
    def engine(self, kafka: Any) -> Callable[[str, str, str], KafkaSource]:
        def made(name: str, group: str, instance: str) -> KafkaSource:
            source: KafkaSource = kafka(name, sharing="group", group_id=group, batch_size=50)
            return source.named("engine", instance)

        return made

    def test_partitions_are_divided_and_each_record_is_handed_out_once(
        self,
        engine: Any,
        topic: Make,
        produce: Produce,
        x: Any,
        polled: Any,
        so_many: Any,
        rows: Any,
        seconds: float,
    ) -> None:
        name, group = topic(4), uuid.uuid4().hex
        for partition in range(4):
            produce(name, x(*range(1000 * partition, 1000 * partition + 500)), partition=partition)
        found: list[float] = []
        with closing(engine(name, group, "one").opened_at(None)) as one:
            one.attend(lambda: None)
            found += rows(polled(one, so_many(300)))
            with closing(engine(name, group, "two").opened_at(None)) as two:
                two.attend(lambda: None)
                deadline = time.monotonic() + 3 * seconds  # of several rounds of rebalancing
                while len(found) < 2000 or not _both_own_two(one, two):
                    assert time.monotonic() < deadline, (len(found), one.status(), two.status())
                    for stream in (one, two):
                        batch = stream.poll(0.1)
                        found += [] if batch is None else rows([batch])
                for partition in range(4):
                    produce(name, x(1000 * partition + 999), partition=partition)
                while len(found) < 2004:
                    assert time.monotonic() < deadline, len(found)
                    for stream in (one, two):
                        batch = stream.poll(0.1)
                        found += [] if batch is None else rows([batch])
        wanted = [1000 * p + i for p in range(4) for i in [*range(500), 999]]
        assert sorted(found) == wanted


def _both_own_two(one: Stream, two: Stream) -> bool:
    return all(
        status is not None and status.assigned == 2 for status in (one.status(), two.status())
    )
