"""Brokers and topics that answer, are not there, or come back."""

import uuid
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from stream_em.errors import Unreachable
from stream_em_connectors.kafka import KafkaSource

Produce = Callable[..., None]
Make = Callable[..., str]


def test_probes_find_broker_topic_and_a_record(
    kafka: Any, topic: Make, produce: Produce, x: Any
) -> None:
    name = topic(2)
    *_, last = kafka(name).probes()
    assert (last.problem, last.detail) == (None, "no record yet")
    produce(name, x(1, 2))
    found = list(kafka(name, group_id="never-joined").probes())
    assert [one.problem for one in found] == [None, None, None]
    other = topic()
    produce(other, [b"1;2"])
    assert "offset 0 is no row: decode_error" in str(list(kafka(other).probes())[-1].problem)
    absent = list(kafka(f"{name}-absent").probes())
    assert "does not exist" in str(absent[-1].problem)


def test_a_topic_that_does_not_exist_is_out_of_reach(kafka: Any) -> None:
    with pytest.raises(Unreachable, match="does not exist"):
        kafka(uuid.uuid4().hex).opened_at(None)


def test_a_broker_that_restarts_is_waited_for(
    own_broker: Any,
    client: str,
    new_topic: Any,
    produce: Produce,
    x: Any,
    polled: Any,
    so_many: Any,
    rows: Any,
) -> None:
    name = new_topic(own_broker.bootstrap, 2)
    produce(name, x(1), bootstrap=own_broker.bootstrap)
    source = KafkaSource(own_broker.bootstrap, [name], ["x"], client=client)
    with closing(source.opened_at(None)) as stream:
        assert rows(polled(stream, so_many(1))) == [1]
        own_broker.restart()
        produce(name, x(2), partition=1, bootstrap=own_broker.bootstrap)
        assert rows(polled(stream, so_many(1))) == [2]


def test_nobody_at_the_address_is_unreachable(client: str, brokers: Any) -> None:
    source = KafkaSource(f"127.0.0.1:{brokers.free_port()}", ["t"], ["x"], client=client)
    with pytest.raises(Unreachable):
        source.opened_at(None)
    with pytest.raises(Unreachable):
        list(source.probes())
