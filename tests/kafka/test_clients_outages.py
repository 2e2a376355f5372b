"""What every client promises when brokers go, hang and come back."""

import subprocess
import sys
import time

import pytest

from stream_em.errors import OutcomeUnknown, SinkFailed, SourceFailed, Unreachable
from stream_em_connectors.kafka.client import Committed, TopicPartition

SECONDS = 20.0
ASKS = """
import sys
from stream_em_connectors.kafka.client import ClientSettings, ConsumerSettings, TopicPartition
from stream_em_connectors.kafka.clients import client
settings, place = ClientSettings(sys.argv[2], {}, "test", 30.0), TopicPartition("t", 0)
consumer = client(sys.argv[1]).consumer(settings, ConsumerSettings("group", None))
print(consumer.committed([place])[place])
consumer.close()
"""


@pytest.fixture
def own(own_broker):
    """A broker that runs again when the test is over, whatever the test did to it."""
    yield own_broker
    own_broker.thaw()
    if own_broker.pid is None:
        own_broker.start()


@pytest.fixture
def filled(own, new_topic, produce):
    """The only partition of a new topic with a hundred records."""
    name = new_topic(own.bootstrap)
    produce(name, [b"%d" % i for i in range(100)], bootstrap=own.bootstrap)
    return TopicPartition(name, 0)


def test_polling_goes_on_when_the_broker_is_back(own, reader, filled, produce, drain) -> None:
    consumer = reader(servers=own.bootstrap)
    consumer.assign({filled: 0})
    drain(consumer, {filled: 100})
    assert consumer.connected
    own.kill()
    deadline = time.monotonic() + 30
    while consumer.connected or not consumer.errors["transport"]:
        assert time.monotonic() < deadline
        assert consumer.poll(0.1, 100) == []
    assert consumer.position(filled) == 100
    own.start()
    produce(filled.topic, [b"more"], bootstrap=own.bootstrap)
    found = drain(consumer, {filled: 101}, seconds=60.0)
    assert [(one.offset, one.value) for one in found] == [(100, b"more")]
    assert consumer.connected
    assert consumer.errors["auth"] == 0


@pytest.mark.parametrize("name", ["kafka-python", "librdkafka"])
def test_a_broker_that_has_just_started_is_asked_for_offsets(brokers, name) -> None:
    """Nobody coordinates the group yet; the first answers say so."""
    with brokers.Broker() as new:
        command = [sys.executable, "-c", ASKS, name, new.bootstrap]
        asked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (asked.returncode, asked.stdout.strip()) == (0, "None"), asked.stderr


def test_transactions_go_on_when_the_broker_is_back(own, writer, new_topic, read_topic) -> None:
    name = new_topic(own.bootstrap)
    producer = writer(f"tx-{name}", servers=own.bootstrap)
    producer.init_transactions(SECONDS)
    for number in range(3):
        producer.begin()
        producer.send(name, None, b"%d" % number)
        if number == 1:
            own.kill()
            time.sleep(1.0)  # for the client to see that all brokers are gone
            own.start()
        producer.flush(SECONDS)
        place = {TopicPartition(name, 0): Committed(number, "")}
        producer.send_offsets(f"g-{name}", place, SECONDS)
        producer.commit(SECONDS)
    assert [one.value for one in read_topic(name, own.bootstrap)] == [b"0", b"1", b"2"]


def test_questions_to_a_broker_that_hangs_end(own, reader, filled) -> None:
    consumer = reader(servers=own.bootstrap, patience=1.0)
    consumer.assign({filled: 0})
    consumer.topics([filled.topic])
    consumer.ends([filled])
    consumer.committed([filled])
    own.freeze()
    for ask in (
        lambda: consumer.topics([filled.topic]),
        lambda: consumer.ends([filled]),
        lambda: consumer.committed([filled]),
    ):
        with pytest.raises(Unreachable):
            ask()
    with pytest.raises(SourceFailed):
        consumer.commit({filled: 1})
    consumer.close()


def test_deadlines_of_transactions_hold_when_the_broker_hangs(own, writer, filled) -> None:
    producers = [writer(f"tx-{filled.topic}-{i}", servers=own.bootstrap) for i in range(3)]
    for producer in producers:
        producer.init_transactions(SECONDS)
        producer.begin()
        producer.send(filled.topic, None, b"x")
        producer.flush(SECONDS)
    own.freeze()
    producers[0].send(filled.topic, None, b"y")
    with pytest.raises(SinkFailed):
        producers[0].flush(1.0)
    with pytest.raises(SinkFailed):
        producers[0].send_offsets("any", {filled: Committed(1, "")}, 1.0)
    with pytest.raises(OutcomeUnknown):
        producers[1].commit(1.0)
    with pytest.raises(SinkFailed):
        producers[2].abort(1.0)
    for producer in producers:
        producer.close()


def test_writing_goes_on_when_the_broker_is_back(own, writer, filled, read_topic) -> None:
    plain = writer(servers=own.bootstrap)
    transacting = writer(f"tx-{filled.topic}", servers=own.bootstrap)
    transacting.init_transactions(SECONDS)
    transacting.begin()
    for producer in (plain, transacting):
        producer.send(filled.topic, None, b"before")
        producer.flush(SECONDS)
    own.stop()
    for producer in (plain, transacting):
        producer.send(filled.topic, None, b"meanwhile")
    own.start()
    plain.flush(60.0)
    transacting.send(filled.topic, None, b"after")
    transacting.commit(60.0)
    values = [one.value for one in read_topic(filled.topic, own.bootstrap)]
    assert sorted(values[100:]) == sorted([b"before", b"meanwhile"] * 2 + [b"after"])
