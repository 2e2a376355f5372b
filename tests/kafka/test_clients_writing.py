"""What every client promises of writing: deliveries, transactions, and who is fenced."""

import threading
import time

import pytest

from stream_em.errors import Fenced, OutcomeUnknown, SettingsError, SinkFailed, Unreachable
from stream_em_connectors.kafka.client import Committed, TopicPartition
from stream_em_connectors.kafka.clients import client

CODECS = ("gzip", "snappy", "lz4", "zstd")
SECONDS = 20.0


@pytest.fixture
def transacting(writer):
    """`transacting(transactional_id)`: a producer whose transactions are open."""

    def opened(transactional_id: str, **more):
        producer = writer(transactional_id, **more)
        producer.init_transactions(SECONDS)
        return producer

    return opened


def test_how_many_partitions_a_topic_has(writer, topic) -> None:
    producer = writer()
    assert producer.partitions(topic(3)) == 3
    assert producer.partitions("no-such-topic") is None


def test_records_arrive_as_they_were_sent(writer, topic, read_topic) -> None:
    name = topic()
    producer = writer()
    producer.send(name, b"k", b"v", (("a", b"1"), ("a", b"2")))
    producer.send(name, None, b"")
    producer.send(name, b"gone", None)
    producer.send(name, b"", b"x" * 1_000_000)
    producer.flush(SECONDS)
    found = read_topic(name)
    assert [(one.key, one.value[:1] if one.value else one.value) for one in found] == [
        *((b"k", b"v"), (None, b""), (b"gone", None), (b"", b"x")),
    ]
    assert found[0].headers == (("a", b"1"), ("a", b"2"))


def test_equal_keys_go_to_equal_partitions_with_every_client(
    writer, topic, read_topic, every_client
) -> None:
    name = topic(5)
    for one in every_client:
        producer = writer(of=one)
        for i in range(100):
            producer.send(name, b"key %d" % i, b"")
        producer.flush(SECONDS)
    assert len({(record.key, record.partition) for record in read_topic(name)}) == 100


def test_several_threads_send_more_than_is_ever_under_way(writer, topic, read_topic) -> None:
    name = topic(2)
    producer = writer()

    def send(thread: int) -> None:
        for i in range(60):
            producer.send(name, b"%d" % thread, b"%d " % i + bytes(300_000))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    producer.flush(SECONDS)
    found = read_topic(name)
    for number in range(3):
        mine = [one.value.split()[0] for one in found if one.key == b"%d" % number]
        assert mine == [b"%d" % i for i in range(60)]


def test_a_record_that_is_too_large_is_refused(writer, topic) -> None:
    name = topic(max_message_bytes="1000")
    producer = writer()

    def send() -> None:
        producer.send(name, None, bytes(10_000))
        producer.flush(SECONDS)

    with pytest.raises(SinkFailed, match=name):
        send()
    with pytest.raises(SinkFailed):
        producer.send(name, None, b"small")  # once one is lost, nothing goes on


def test_a_record_larger_than_ever_asked_for_is_refused(writer, topic) -> None:
    name = topic()
    producer = writer(room=1000)
    with pytest.raises(SinkFailed):
        producer.send(name, None, bytes(3_000_000))


@pytest.mark.parametrize("codec", CODECS)
def test_compression(writer, topic, read_topic, codec) -> None:
    name = topic()
    producer = writer(compression=codec)
    for _ in range(100):
        producer.send(name, None, b"x" * 1000)
    producer.flush(SECONDS)
    assert len(read_topic(name)) == 100


def test_a_codec_whose_library_is_gone_is_named(writer, topic, monkeypatch) -> None:
    monkeypatch.setattr("kafka.codec.zstd", None)
    producer = writer(compression="zstd", of=client("kafka-python"))
    with pytest.raises(SettingsError, match=r"^UnsupportedCodecError: [^:]*; pip install zstan"):
        producer.send(topic(), None, b"x")


def test_nobody_there(writer) -> None:
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1"):
        writer(servers="127.0.0.1:1", patience=1.0).partitions("any")
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1"):
        writer("tx", servers="127.0.0.1:1", patience=1.0).init_transactions(1.0)


def test_a_transaction_is_visible_once_committed(transacting, topic, read_topic) -> None:
    name = topic(2)
    producer = transacting(f"tx-{name}")
    for number, decision in enumerate([producer.commit, producer.abort, producer.commit]):
        before = read_topic(name)
        producer.begin()
        for i in range(20):
            producer.send(name, b"%d" % i, b"%d" % number)
        producer.flush(SECONDS)
        assert read_topic(name) == before
        decision(SECONDS)
    assert sorted(one.value for one in read_topic(name)) == [b"0"] * 20 + [b"2"] * 20


def test_a_commit_flushes(transacting, topic, read_topic) -> None:
    name = topic()
    producer = transacting(f"tx-{name}")
    producer.begin()
    for _ in range(500):
        producer.send(name, None, b"x")
    producer.commit(SECONDS)
    assert len(read_topic(name)) == 500


def test_offsets_and_metadata_are_read_alike_by_every_client(
    transacting, reader, topic, committed_offsets, every_client
) -> None:
    name = topic(2)
    groups = (f"{name}.marker", f"{name}.inputs")
    places = [TopicPartition(name, 0), TopicPartition(name, 1)]
    producer = transacting(f"tx-{name}")
    producer.begin()
    producer.send(name, None, b"x")
    producer.send_offsets(groups[0], {places[0]: Committed(7, "7-ab.ckpt é")}, SECONDS)
    producer.send_offsets(groups[1], {places[0]: Committed(1, ""), places[1]: Committed(2, "")}, 9)
    producer.commit(SECONDS)
    assert committed_offsets(groups[1], name) == {0: (1, ""), 1: (2, "")}
    for one in every_client:
        assert reader(groups[0], of=one).committed(places) == {
            places[0]: Committed(7, "7-ab.ckpt é"),
            places[1]: None,
        }
        assert reader(groups[1], of=one).committed(places) == {
            places[0]: Committed(1, ""),
            places[1]: Committed(2, ""),
        }


def test_aborted_offsets_are_never_seen(transacting, reader, topic) -> None:
    name = topic()
    place = TopicPartition(name, 0)
    producer = transacting(f"tx-{name}")
    for offset, decision in ((5, producer.commit), (6, producer.abort)):
        producer.begin()
        producer.send_offsets(f"group-{name}", {place: Committed(offset, "m")}, SECONDS)
        decision(SECONDS)
    assert reader(f"group-{name}").committed([place]) == {place: Committed(5, "m")}


def test_opening_aborts_what_a_dead_producer_left(transacting, reader, topic, read_topic) -> None:
    name = topic()
    place = TopicPartition(name, 0)
    dead = transacting(f"tx-{name}")
    dead.begin()
    dead.send(name, None, b"lost")
    dead.send_offsets(f"group-{name}", {place: Committed(1, "lost")}, SECONDS)
    dead.flush(SECONDS)
    dead.close()
    heir = transacting(f"tx-{name}")
    assert reader(f"group-{name}").committed([place]) == {place: None}
    heir.begin()
    heir.send(name, None, b"kept")
    heir.commit(SECONDS)
    assert [one.value for one in read_topic(name)] == [b"kept"]


def test_a_fenced_producer_with_records_under_way_does_not_fence_its_rival(
    transacting, topic, read_topic
) -> None:
    name = topic(3)
    zombie = transacting(f"tx-{name}")
    zombie.begin()
    for number in range(500):
        zombie.send(name, None, b"old %d" % number)
    zombie.flush(SECONDS)
    rival = transacting(f"tx-{name}")
    rival.begin()
    rival.send(name, None, b"new")

    def go_on() -> None:
        for number in range(5_000):
            zombie.send(name, None, b"late %d" % number)
        zombie.flush(SECONDS)

    with pytest.raises(Fenced):
        go_on()
    time.sleep(2.0)  # for what the client does by itself
    rival.flush(SECONDS)
    rival.commit(SECONDS)
    rival.begin()
    rival.send(name, None, b"newer")
    rival.flush(SECONDS)
    rival.commit(SECONDS)
    assert sorted(one.value for one in read_topic(name)) == [b"new", b"newer"]


def fences_at_commit(producer, name: str) -> None:
    producer.send(name, None, b"late")
    producer.commit(SECONDS)


def fences_at_flush(producer, name: str) -> None:
    producer.send(name, None, b"late")
    producer.flush(SECONDS)


def fences_at_offsets(producer, name: str) -> None:
    producer.send_offsets("any", {TopicPartition(name, 0): Committed(1, "")}, SECONDS)


def fences_at_abort(producer, name: str) -> None:
    producer.abort(SECONDS)


@pytest.mark.parametrize(
    "late", [fences_at_commit, fences_at_flush, fences_at_offsets, fences_at_abort]
)
def test_a_second_producer_fences_the_first(transacting, topic, read_topic, late) -> None:
    name = topic()
    first = transacting(f"tx-{name}")
    first.begin()
    first.send(name, None, b"early")
    first.flush(SECONDS)
    second = transacting(f"tx-{name}")
    with pytest.raises(Fenced, match="taken over"):
        late(first, name)
    with pytest.raises(Fenced):
        first.commit(SECONDS)
    second.begin()
    second.send(name, None, b"second")
    second.commit(SECONDS)
    assert [one.value for one in read_topic(name)] == [b"second"]


def test_clients_fence_each_other(transacting, topic, every_client, any_client) -> None:
    name = topic()
    (other,) = (one for one in every_client if one.name != any_client.name)
    first = transacting(f"tx-{name}", of=other)
    first.begin()
    first.send(name, None, b"x")
    transacting(f"tx-{name}")
    with pytest.raises(Fenced):
        first.commit(SECONDS)


def test_a_transaction_that_outlives_its_timeout(transacting, topic, read_topic) -> None:
    name = topic()
    producer = transacting(f"tx-{name}", transaction_seconds=2.0)
    producer.begin()
    producer.send(name, None, b"x")
    producer.flush(SECONDS)
    deadline = time.monotonic() + 30
    writer_of_others = transacting(f"tx-other-{name}")
    while not [one for one in read_topic(name) if one.value == b"seen"]:
        # What is written behind an open transaction is seen once that is aborted.
        assert time.monotonic() < deadline
        writer_of_others.begin()
        writer_of_others.send(name, None, b"seen")
        writer_of_others.commit(SECONDS)
    with pytest.raises((Fenced, OutcomeUnknown)):
        producer.commit(SECONDS)
    assert b"x" not in {one.value for one in read_topic(name)}


def test_a_transaction_timeout_that_brokers_refuse(writer) -> None:
    producer = writer("tx-too-long", 3600.0)
    with pytest.raises(SettingsError, match=r"3600 s.*transaction\.max\.timeout\.ms"):
        producer.init_transactions(SECONDS)


def test_closing_completes_nothing_and_waits_for_nothing(transacting, topic, read_topic) -> None:
    name = topic()
    producer = transacting(f"tx-{name}")
    producer.begin()
    producer.send(name, None, b"never")
    producer.close()
    producer.close()
    with pytest.raises(SinkFailed, match="closed"):
        producer.send(name, None, b"x")
    transacting(f"tx-{name}")
    assert read_topic(name) == []
