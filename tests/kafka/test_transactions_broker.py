"""Exactly once, on a real broker and with both clients: one transaction, one marker, one writer."""

import json
from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

import pytest

from stream_em.engine.rejects import dead_letters
from stream_em.errors import Fenced, SettingsError, SinkFailed, Unreachable
from stream_em.streams import Marker, Rejected, Transactions
from stream_em_connectors.kafka.client import ClientSettings, Committed, ProducerSettings
from stream_em_connectors.kafka.client import TopicPartition as Place
from stream_em_connectors.kafka.courtesy import Courtesy
from stream_em_connectors.kafka.link import Link
from stream_em_connectors.kafka.settings import client_of
from stream_em_connectors.kafka.sink import KafkaSink
from stream_em_connectors.kafka.transactions import KafkaTransactions

CLIENTS = ("kafka-python", "librdkafka")
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def name(topic: Callable[..., str]) -> str:
    """A transactional id that nobody else has: that of a topic of its own."""
    return topic()


@pytest.fixture
def sink(broker: Any, client: str) -> Callable[..., KafkaSink]:
    def made(topic: str, **settings: Any) -> KafkaSink:
        return KafkaSink(broker.bootstrap, topic, **{"client": client, **settings})

    return made


@pytest.fixture
def opened() -> Iterator[Callable[..., tuple[Transactions, Marker | None]]]:
    """Transactions of that name for some sinks, opened, with the marker found."""
    made: list[Transactions] = []

    def open_(name: str, *sinks: KafkaSink) -> tuple[Transactions, Marker | None]:
        transactions = sinks[0].transactions(name, 10.0)
        made.append(transactions)
        for one in sinks:
            one.enlist(transactions)
        return transactions, transactions.open()

    yield open_
    for transactions in made:
        transactions.close()


def marker(number: int) -> Marker:
    return Marker(number, f"{number:010d}-a1b2.ckpt", f"{number:016x}")


def rows(start: int, stop: int) -> dict[str, Any]:
    """Rows with their numbers as offsets and keys."""
    numbers = list(range(start, stop))
    return {
        "source": ["readings"] * len(numbers),
        "partition": [0] * len(numbers),
        "offset": numbers,
        "key": [f"k{number}" for number in numbers],
        "cluster": [number % 3 for number in numbers],
    }


def offsets(records: list[Any]) -> list[int]:
    """The numbers of the rows in a topic, in order."""
    return sorted(json.loads(record.value)["offset"] for record in records)


def test_rows_become_visible_with_the_commit_and_not_before(
    topic: Any, sink: Any, opened: Any, name: str, read_topic: Any
) -> None:
    out = sink(topic(3))
    transactions, _ = opened(name, out)
    assert out.begin("i", False) == {"rows": 0}
    out.write(rows(0, 500))
    out.write(rows(500, 1000))
    assert out.barrier(1) == {"rows": 1000}
    assert read_topic(out.topic) == []
    transactions.commit(marker(1), None)
    found = read_topic(out.topic)
    assert offsets(found) == list(range(1000))
    assert {record.partition for record in found} == {0, 1, 2}
    assert all(record.key == f"k{json.loads(record.value)['offset']}".encode() for record in found)
    assert all(record.headers == () for record in found)


@pytest.mark.parametrize("reader", CLIENTS)
def test_a_marker_of_either_client_is_read_with_both(
    topic: Any, sink: Any, opened: Any, name: str, reader: str, committed_offsets: Any
) -> None:
    out = topic()
    transactions, found = opened(name, sink(out))
    assert found is None
    transactions.commit(marker(41), None)
    transactions.commit(marker(42), None)
    transactions.close()
    assert committed_offsets(f"{name}.marker", out) == {
        0: (42, "0000000042-a1b2.ckpt 000000000000002a")
    }
    assert opened(name, sink(out, client=reader))[1] == marker(42)


def test_what_a_dead_process_left_open_is_aborted_before_the_marker_is_read(
    broker: Any, client: str, topic: Any, sink: Any, opened: Any, name: str, read_topic: Any
) -> None:
    out = topic()
    transactions, _ = opened(name, sink(out))
    transactions.commit(marker(1), None)
    transactions.close()
    dying = client_of(client).producer(
        ClientSettings(broker.bootstrap, {}, "dying"),
        ProducerSettings(name, 300.0, 5.0, 1_000_000, None),
    )
    dying.init_transactions(30.0)
    dying.begin()
    dying.send(out, None, b'{"offset":1}')
    dying.flush(30.0)
    ours = {Place(out, 0): Committed(2, "never committed")}
    dying.send_offsets(f"{name}.marker", ours, 30.0)
    dying.close()
    assert opened(name, sink(out))[1] == marker(1)
    assert read_topic(out) == []


def test_all_sinks_of_a_run_share_one_transaction(
    topic: Any, sink: Any, opened: Any, name: str, read_topic: Any
) -> None:
    outs = [sink(topic(2)), sink(topic())]
    dead = sink(topic(), linger_ms=0, max_record_bytes=50_000)
    transactions, _ = opened(name, *outs, dead)
    letters = dead_letters([Rejected("readings", 0, 7, "schema", "x", "no number", b"bad", 1.0)])

    def write(start: int) -> None:
        writing = [Thread(target=out.write, args=(rows(start, start + 300),)) for out in outs]
        for thread in writing:
            thread.start()
        dead.write(letters)
        for thread in writing:
            thread.join()
        for one in (*outs, dead):
            one.barrier(1)

    write(0)
    transactions.abort()
    write(300)
    assert not any(read_topic(one.topic) for one in (*outs, dead))
    transactions.commit(marker(1), None)
    assert [offsets(read_topic(out.topic)) for out in outs] == [list(range(300, 600))] * 2
    assert offsets(read_topic(dead.topic)) == [7]


def test_the_inputs_positions_are_committed_in_the_same_transaction(
    broker: Any, client: str, topic: Any, sink: Any, opened: Any, name: str, committed_offsets: Any
) -> None:
    source, out = topic(2), topic()
    link = Link(client_of(client), ClientSettings(broker.bootstrap, {}, "asks"), None, 0.0, 10.0)
    consumer = link.consumer("asks")
    cluster = consumer.cluster()
    consumer.close()
    transactions, _ = opened(name, sink(out))
    read = {Place(source, 0): Committed(11, ""), Place(source, 1): Committed(12, "")}
    group = f"{name}-readers"
    transactions._producer.send_offsets(group, read, 10.0)  # type: ignore[attr-defined]
    transactions.abort()
    assert committed_offsets(group, source) == {}
    assert transactions.commit(marker(1), Courtesy(cluster, group, read))
    assert committed_offsets(group, source) == {0: (11, ""), 1: (12, "")}
    assert committed_offsets(f"{name}.marker", out)[0][0] == 1
    further = {Place(source, 0): Committed(21, "")}
    assert not transactions.commit(marker(2), Courtesy("elsewhere", group, further))
    assert committed_offsets(group, source)[0] == (11, "")
    assert committed_offsets(f"{name}.marker", out)[0][0] == 2


def test_a_zombie_is_fenced_and_nothing_of_it_is_seen(
    topic: Any, sink: Any, opened: Any, name: str, read_topic: Any
) -> None:
    out = topic()
    zombie_sink, sink_ = sink(out), sink(out)
    zombie, _ = opened(name, zombie_sink)
    zombie.commit(marker(1), None)
    zombie_sink.write(rows(0, 50))
    zombie_sink.barrier(2)
    rival, found = opened(name, sink_)
    assert found == marker(1)
    with pytest.raises(Fenced):
        zombie.commit(marker(2), None)
    zombie.abort()
    with pytest.raises(SinkFailed, match="ended before"):
        zombie_sink.write(rows(0, 1))
    sink_.write(rows(50, 60))
    sink_.barrier(2)
    rival.commit(marker(2), None)
    assert offsets(read_topic(out)) == list(range(50, 60))


def test_after_an_abort_the_run_goes_on_in_a_new_transaction(
    topic: Any, sink: Any, opened: Any, name: str, read_topic: Any
) -> None:
    out = sink(topic())
    transactions, _ = opened(name, out)
    out.write(rows(0, 100))
    transactions.abort()
    out.write(rows(100, 200))
    out.barrier(1)
    transactions.commit(marker(1), None)
    out.write(rows(200, 300))
    out.barrier(2)
    transactions.commit(marker(2), None)
    assert offsets(read_topic(out.topic)) == list(range(100, 300))


def test_what_was_not_committed_when_the_run_ended_is_never_seen(
    topic: Any, sink: Any, opened: Any, name: str, read_topic: Any
) -> None:
    out = sink(topic())
    transactions, _ = opened(name, out)
    out.write(rows(0, 100))
    out.barrier(1)
    out.close()
    transactions.close()
    again = sink(out.topic)
    resumed, found = opened(name, again)
    assert found is None
    again.roll_back({"rows": 40}, 3, "i")
    again.write(rows(40, 50))
    assert again.barrier(4) == {"rows": 50}
    resumed.commit(marker(4), None)
    assert offsets(read_topic(out.topic)) == list(range(40, 50))


def test_a_record_that_the_broker_refuses_fails_the_barrier(
    topic: Any, sink: Any, opened: Any, name: str, read_topic: Any
) -> None:
    out = sink(topic(max_message_bytes="2000"))
    transactions, _ = opened(name, out)
    out.write(rows(0, 1) | {"key": ["k" * 5_000]})
    with pytest.raises(SinkFailed, match=out.topic):
        out.barrier(1)
    transactions.abort()
    assert read_topic(out.topic) == []


def test_a_topic_that_does_not_exist_is_told_with_the_command_that_makes_it(
    broker: Any, topic: Any, sink: Any, opened: Any, name: str
) -> None:
    missing = f"{name}-missing"
    with pytest.raises(Unreachable, match=rf"topic {missing} does not.*--create --topic {missing}"):
        opened(name, sink(topic()), sink(missing))
    topic(name=missing)
    assert opened(name, sink(missing))[1] is None


def test_a_timeout_beyond_the_brokers_limit_is_told_as_a_setting(
    broker: Any, client: str, topic: Any, name: str
) -> None:
    link = Link(client_of(client), ClientSettings(broker.bootstrap, {}, "long"), None, 0.0, 10.0)
    transactions = KafkaTransactions(link, name, 1_000.0)
    transactions.enlist(topic(), 1_000_000)
    with pytest.raises(SettingsError, match=r"transaction\.max\.timeout\.ms"):
        transactions.open()


def test_nobody_there_is_unreachable(sink: Any, brokers: Any, opened: Any, client: str) -> None:
    out = KafkaSink(f"127.0.0.1:{brokers.free_port()}", "out", client=client, timeout_seconds=1.0)
    with pytest.raises(Unreachable, match="check bootstrap_servers"):
        opened("nobody", out)


def test_probes_fence_nobody_and_write_nothing(
    topic: Any, sink: Any, opened: Any, name: str, read_topic: Any
) -> None:
    out = sink(topic(2))
    transactions, _ = opened(name, out)
    out.write(rows(0, 10))
    broker_probe, topic_probe = sink(out.topic).probes()
    assert broker_probe.problem is None
    assert broker_probe.detail.startswith("cluster ")
    assert topic_probe == (f"topic {out.topic}", None, "2 partitions")
    out.barrier(1)
    transactions.commit(marker(1), None)
    assert offsets(read_topic(out.topic)) == list(range(10))


def test_a_probe_of_a_missing_topic_tells_what_to_do(sink: Any, name: str) -> None:
    _, probe = sink(f"{name}-missing").probes()
    assert f"--create --topic {name}-missing" in probe.problem


def test_a_restart_of_the_broker_in_between_loses_and_doubles_nothing(
    own_broker: Any, new_topic: Any, opened: Any, read_topic: Any
) -> None:
    outs = [
        KafkaSink(own_broker.bootstrap, new_topic(own_broker.bootstrap, 3), client=client)
        for client in CLIENTS
    ]
    runs = [opened(out.topic, out)[0] for out in outs]
    for out in outs:
        out.write(rows(0, 2_000))
    own_broker.kill()
    later = [Thread(target=out.write, args=(rows(2_000, 5_000),)) for out in outs]
    for thread in later:
        thread.start()
    own_broker.start()
    for thread, out, run in zip(later, outs, runs, strict=True):
        thread.join()
        out.barrier(1)
        run.commit(marker(1), None)
        assert offsets(read_topic(out.topic, own_broker.bootstrap)) == list(range(5_000))
