"""At least once, and what records look like to a stranger who reads them, with both clients."""

import json
import struct
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import stream_em as se
from stream_em.engine import run
from stream_em.engine.rejects import dead_letters
from stream_em.errors import SinkFailed, Unreachable
from stream_em.streams import Rejected
from stream_em_connectors.kafka.fitting import Message
from stream_em_connectors.kafka.messages import messages
from stream_em_connectors.kafka.sink import KafkaSink
from stream_em_connectors.kafka.source import KafkaSource

ROOM = 1_000_000  # bytes of a record, unless told otherwise
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=["kafka-python", "librdkafka"])
def client(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def sink(broker: Any, client: str) -> Iterator[Callable[..., KafkaSink]]:
    """A sink that writes at least once, closed in the end."""
    made: list[KafkaSink] = []

    def make(topic: str, **settings: Any) -> KafkaSink:
        settings = {"delivery": "at-least-once", "client": client, **settings}
        made.append(KafkaSink(broker.bootstrap, topic, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


def rows(keys: list[Any], start: int = 0) -> dict[str, Any]:
    """Rows with these keys, numbered from `start` in their offsets."""
    n = len(keys)
    return {
        "source": ["readings"] * n,
        "partition": [2] * n,
        "offset": list(range(start, start + n)),
        "key": keys,
        "cluster": [1] * n,
    }


def test_rows_are_visible_after_a_barrier_and_tell_where_they_came_from(
    topic: Any, sink: Any, read_topic: Any
) -> None:
    out = sink(topic())
    assert out.begin("i", False) == {"rows": 0}
    out.write(rows(["a", "b"]))
    out.write(rows([None], start=2))
    assert out.barrier(1) == {"rows": 3}
    found = read_topic(out.topic)
    assert [(record.key, json.loads(record.value)["offset"]) for record in found] == [
        *((b"a", 0), (b"b", 1), (None, 2)),
    ]
    assert found[1].headers == (
        ("stream-em-source", b"readings"),
        ("stream-em-partition", b"2"),
        ("stream-em-offset", b"1"),
    )


def test_after_a_crash_rows_come_twice_and_can_be_told_by_their_origin(
    topic: Any, sink: Any, read_topic: Any
) -> None:
    out = sink(topic())
    out.begin("i", False)
    out.write(rows(["a", "b"]))
    out.barrier(1)
    out.close()
    again = sink(out.topic)
    again.roll_back({"rows": 1}, 0, "j")
    again.write(rows(["b"], start=1))
    assert again.barrier(1) == {"rows": 2}
    origins = [record.headers for record in read_topic(out.topic)]
    assert len(origins) == 3
    assert origins[1] == origins[2]


def test_a_row_goes_on_under_the_key_that_its_record_came_with(
    broker: Any, topic: Any, sink: Any, client: str, produce: Any, read_topic: Any
) -> None:
    name, out = topic(), sink(topic())
    keys = [struct.pack(">q", 1000 + i % 2) + b"\xff" for i in range(8)] + [b"text", None]
    produce(name, [b'{"x": %d}' % i for i in range(10)], keys=keys)
    source = KafkaSource(broker.bootstrap, [name], ["x"], client=client, until_end=True)
    run(source, se.KMeans(n_clusters=2), [out])
    found = {json.loads(one.value)["offset"]: one for one in read_topic(out.topic)}
    assert [found[i].key for i in range(10)] == keys
    assert json.loads(found[0].value)["key"] == b64encode(keys[0]).decode()


def test_equal_keys_share_a_partition_and_rows_without_spread(
    topic: Any, sink: Any, read_topic: Any
) -> None:
    out = sink(topic(4), linger_ms=0)
    out.begin("i", False)
    out.write(rows(["a", "b", "c", "d", "e", "f"] * 50))
    for start in range(300, 400, 10):
        out.write(rows([None] * 10, start))
        out.barrier(1)
    found = read_topic(out.topic)
    by_key = {key: {r.partition for r in found if r.key == key} for key in {r.key for r in found}}
    assert len(by_key.pop(None)) > 1
    assert all(len(partitions) == 1 for partitions in by_key.values())


def test_a_dead_letter_arrives_with_its_own_key_and_headers(
    topic: Any, sink: Any, read_topic: Any
) -> None:
    came = (("trace", b"\xff1"), ("trace", b"2"))
    one = Rejected("readings", 2, 40, "schema", "x", "no number", b"bad", 1.5, b"\xffkey", came)
    out = sink(topic())
    out.begin("i", False)
    out.write(dead_letters([one]))
    out.barrier(1)
    [record] = read_topic(out.topic)
    assert record.key == b"\xffkey"
    assert record.headers == (
        *came,
        ("stream-em-source", b"readings"),
        ("stream-em-partition", b"2"),
        ("stream-em-offset", b"40"),
        ("stream-em-reason", b"schema"),
    )
    assert json.loads(record.value)["raw"] == "bad"


def test_the_largest_record_that_is_not_cut_is_taken(
    topic: Any, sink: Any, read_topic: Any
) -> None:
    [(key, value, headers)] = messages(rows([""]), True, ROOM)
    spare = ROOM - Message(key, value, headers).size
    long = "k" * (spare // 2)
    assert Message(*next(messages(rows([long]), True, ROOM))).size in (ROOM - 1, ROOM)
    out = sink(topic())
    out.begin("i", False)
    out.write(rows([long]))
    out.barrier(1)
    [record] = read_topic(out.topic)
    assert record.key == long.encode()


def test_records_too_large_for_any_broker_are_cut_and_taken(
    topic: Any, sink: Any, read_topic: Any
) -> None:
    out, dead = sink(topic()), sink(topic())
    for one in (out, dead):
        one.begin("i", False)
    out.write(rows(["k" * 3 * ROOM, "next"]))
    out.barrier(1)
    raw, came = b"\xff" * 2 * ROOM, (("large", b"\x01" * 2 * ROOM),)
    dead.write(
        dead_letters([Rejected("t", 0, 1, "too_large", None, "", raw, None, b"k" * ROOM, came)])
    )
    dead.barrier(1)
    first, second = read_topic(out.topic)
    assert (first.key, json.loads(first.value)["key"]) == (None, None)
    assert second.key == b"next"
    [letter] = read_topic(dead.topic)
    assert json.loads(letter.value)["truncated"]["raw"]["length"] == len(raw)


def test_records_can_be_compressed(topic: Any, sink: Any, read_topic: Any) -> None:
    out = sink(topic(), compression="gzip")
    out.begin("i", False)
    out.write(rows(["a"] * 1000))
    out.barrier(1)
    assert len(read_topic(out.topic)) == 1000


def test_a_topic_that_does_not_exist_is_unreachable(sink: Any, topic: Any) -> None:
    missing = f"{topic()}-missing"
    out = sink(missing)
    for start in (lambda: out.begin("i", False), lambda: out.roll_back({"rows": 0}, 1, "i")):
        with pytest.raises(Unreachable, match=rf"--create --topic {missing}"):
            start()


def test_nobody_there_is_unreachable(client: str, brokers: Any) -> None:
    servers = f"127.0.0.1:{brokers.free_port()}"
    out = KafkaSink(servers, "out", "at-least-once", client, timeout_seconds=1.0)
    for use in (lambda: out.begin("i", False), lambda: list(out.probes())):
        with pytest.raises(Unreachable, match="check bootstrap_servers"):
            use()


def test_a_closed_sink_takes_nothing(sink: Any, topic: Any) -> None:
    out = sink(topic())
    out.begin("i", False)
    out.close()
    out.close()
    with pytest.raises(SinkFailed, match="not open for writing"):
        out.write(rows(["a"]))


def test_a_broker_that_goes_away_fails_the_barrier_in_time(
    brokers: Any, own_broker: Any, new_topic: Any, client: str
) -> None:
    name = new_topic(own_broker.bootstrap)
    out = KafkaSink(own_broker.bootstrap, name, "at-least-once", client, timeout_seconds=1.0)
    out.begin("i", False)
    out.write(rows(["a"]))
    out.barrier(1)
    own_broker.freeze()
    try:
        out.write(rows(["b"]))
        with pytest.raises(SinkFailed):
            out.barrier(2)
    finally:
        own_broker.thaw()
        out.close()
