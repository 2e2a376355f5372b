"""What every client promises of reading: the same records, positions and complaints."""

import time

import pytest

from stream_em.errors import SettingsError, SourceFailed, Unreachable
from stream_em_connectors.kafka.client import Committed, OutOfRange, TopicPartition
from stream_em_connectors.kafka.clients import client

CODECS = ("gzip", "snappy", "lz4", "zstd")


def values(count: int) -> list[bytes]:
    return [b"%d" % i for i in range(count)]


def test_a_topic_has_an_id_that_changes_when_it_is_made_again(reader, topic, delete_topic) -> None:
    name = topic(3)
    consumer = reader()
    first = consumer.topics([name, "no-such-topic"])
    assert set(first) == {name}
    assert first[name].partitions == (0, 1, 2)
    assert len(first[name].id) == 22
    delete_topic(name)
    assert consumer.topics([name]) == {}
    topic(1, name=name)
    assert consumer.topics([name])[name].id != first[name].id


def test_both_clients_tell_the_same_ids(reader, topic, every_client) -> None:
    name = topic()
    consumers = [reader(of=one) for one in every_client]
    assert len({one.cluster() for one in consumers}) == 1
    assert len({one.topics([name])[name].id for one in consumers}) == 1


def test_new_partitions_are_seen(reader, topic, grow) -> None:
    name = topic(1)
    consumer = reader()
    assert consumer.topics([name])[name].partitions == (0,)
    grow(name, 2)
    deadline = time.monotonic() + 15
    while consumer.topics([name])[name].partitions != (0, 1):
        assert time.monotonic() < deadline


def test_offsets_of_beginnings_ends_and_times(reader, topic, produce, delete_records) -> None:
    name = topic(2)
    base = int(time.time()) * 1000  # what is older than a week is deleted
    produce(name, values(10), times=range(base, base + 10_000, 1000))
    places = [TopicPartition(name, 0), TopicPartition(name, 1)]
    consumer = reader()
    assert consumer.beginnings(places) == {places[0]: 0, places[1]: 0}
    assert consumer.ends(places) == {places[0]: 10, places[1]: 0}
    assert consumer.offsets_at(places, base + 3500) == {places[0]: 4, places[1]: None}
    assert consumer.offsets_at(places, base + 10_000) == {places[0]: None, places[1]: None}
    delete_records(name, 0, 3)
    assert consumer.beginnings(places)[places[0]] == 3
    assert consumer.beginnings([]) == consumer.ends([]) == consumer.offsets_at([], 0) == {}


def test_an_end_is_the_last_stable_offset(reader, topic, writer) -> None:
    name = topic()
    place = TopicPartition(name, 0)
    producer, consumer = writer(f"tx-{name}"), reader()
    producer.init_transactions(15)
    producer.begin()
    producer.send(name, None, b"pending")
    producer.flush(15)
    assert consumer.ends([place]) == {place: 0}
    producer.commit(15)
    deadline = time.monotonic() + 15
    while consumer.ends([place]) != {place: 2}:  # the record, and the marker behind it
        assert time.monotonic() < deadline


def test_records_come_whole_and_in_order(reader, topic, produce, drain, read_topic) -> None:
    name = topic(2)
    headers = [("source", b"a"), ("none", None), ("source", b"b")]
    produce(name, [b"x", None, b"", b"y"], keys=[b"k", b"gone", None, b""], headers=headers)
    produce(name, values(2000), 1)
    consumer = reader()
    ends = consumer.ends([TopicPartition(name, 0), TopicPartition(name, 1)])
    consumer.assign(dict.fromkeys(ends, 0))
    assert drain(consumer, ends) == read_topic(name)


def test_a_poll_hands_out_no_more_than_asked_for(reader, topic, produce) -> None:
    name = topic()
    produce(name, values(500))
    consumer = reader()
    place = TopicPartition(name, 0)
    consumer.assign({place: 0})
    offsets: list[int] = []
    deadline = time.monotonic() + 20
    while len(offsets) < 500:
        assert time.monotonic() < deadline
        polled = consumer.poll(0.2, 7)
        count = sum(len(chunk.offsets) for chunk in polled)
        assert count <= 7
        assert consumer.position(place) == len(offsets) + count
        for chunk in polled:
            offsets.extend(chunk.offsets)
    assert offsets == list(range(500))


def test_positions_pass_markers_and_aborted_transactions(reader, topic, produce, drain) -> None:
    name = topic()
    produce(name, values(3), transaction="commit")
    produce(name, values(5), transaction="abort")
    produce(name, values(2))
    produce(name, values(4), transaction="abort")
    consumer = reader()
    place = TopicPartition(name, 0)
    ends = consumer.ends([place])
    consumer.assign({place: 0})
    assert consumer.position(place) == 0
    found = drain(consumer, ends)
    assert [record.value for record in found] == [*values(3), *values(2)]
    assert [record.offset for record in found] == [0, 1, 2, 10, 11]
    assert consumer.position(place) == ends[place] == 17


def test_a_compacted_topic_has_gaps(reader, topic, produce, drain, read_topic) -> None:
    name = topic(
        cleanup_policy="compact",
        segment_ms="100",
        min_cleanable_dirty_ratio="0.01",
        max_compaction_lag_ms="100",
        delete_retention_ms="0",
    )
    produce(name, values(100), keys=[b"same"] * 100)
    deadline = time.monotonic() + 40
    while len(read_topic(name)) > 20:
        assert time.monotonic() < deadline, "the broker does not compact"
        produce(name, [b"last"], keys=[b"same"])  # only segments that are closed are compacted
    consumer = reader()
    place = TopicPartition(name, 0)
    ends = consumer.ends([place])
    consumer.assign({place: 0})
    found = drain(consumer, ends)
    assert found[0].offset > 0
    assert consumer.position(place) == ends[place] == found[-1].offset + 1


@pytest.mark.parametrize("codec", CODECS)
def test_compressed_records(reader, topic, produce, drain, codec) -> None:
    name = topic()
    produce(name, [b"x" * 1000] * 300, compression_type=codec)
    consumer = reader()
    ends = consumer.ends([TopicPartition(name, 0)])
    consumer.assign(dict.fromkeys(ends, 0))
    assert [one.value for one in drain(consumer, ends)] == [b"x" * 1000] * 300


def test_a_codec_whose_library_is_gone_is_named(reader, topic, produce, drain, monkeypatch) -> None:
    name = topic()
    produce(name, [b"x" * 1000] * 300, compression_type="lz4")
    consumer = reader(of=client("kafka-python"))
    ends = consumer.ends([TopicPartition(name, 0)])
    consumer.assign(dict.fromkeys(ends, 0))
    monkeypatch.setattr("kafka.codec.lz4", None)
    with pytest.raises(SourceFailed, match=r"^UnsupportedCodecError: [^:]*; pip install lz4"):
        drain(consumer, ends)


def test_large_records(reader, topic, produce, drain) -> None:
    name = topic(max_message_bytes="2000000")
    produce(name, [b"a" * 1_000_000, b"b", b"c" * 1_900_000], message_max_bytes=2_000_000)
    consumer = reader()
    ends = consumer.ends([TopicPartition(name, 0)])
    consumer.assign(dict.fromkeys(ends, 0))
    assert [len(one.value) for one in drain(consumer, ends)] == [1_000_000, 1, 1_900_000]


def test_assigning_anew_replaces_what_was_read(reader, topic, produce, drain) -> None:
    name = topic(2)
    produce(name, values(10), 0)
    produce(name, values(10), 1)
    one, other = TopicPartition(name, 0), TopicPartition(name, 1)
    consumer = reader()
    consumer.assign({one: 5, other: 8})
    found = drain(consumer, {one: 10, other: 10})
    assert [(record.partition, record.offset) for record in found] == [
        *((0, offset) for offset in range(5, 10)),
        *((1, offset) for offset in range(8, 10)),
    ]
    consumer.assign({other: 2})
    assert consumer.position(other) == 2
    assert [record.offset for record in drain(consumer, {other: 10})] == list(range(2, 10))


def test_seeking(reader, topic, produce, drain) -> None:
    name = topic(2)
    produce(name, values(100))
    place, other = TopicPartition(name, 0), TopicPartition(name, 1)
    consumer = reader()
    consumer.assign({place: 0, other: 0})
    consumer.seek(place, 90)  # before anything has been fetched
    assert consumer.position(place) == 90
    assert len(drain(consumer, {place: 100})) == 10
    consumer.seek(place, 40)
    assert consumer.position(place) == 40
    assert [record.offset for record in drain(consumer, {place: 100})] == list(range(40, 100))


def test_a_paused_partition_hands_out_nothing(reader, topic, produce, drain) -> None:
    name = topic(2)
    produce(name, values(10), 0)
    produce(name, values(10), 1)
    held, free = TopicPartition(name, 0), TopicPartition(name, 1)
    consumer = reader()
    consumer.assign({held: 0, free: 0})
    consumer.pause([held])
    found = drain(consumer, {free: 10})
    for _ in range(5):
        assert all(chunk.place != held for chunk in consumer.poll(0.05, 100))
    assert {record.partition for record in found} == {1}
    assert consumer.position(held) == 0
    consumer.resume([held])
    assert len(drain(consumer, {held: 10})) == 10


@pytest.mark.parametrize("offset", [2, 50])
def test_a_position_out_of_range_is_told_and_mended_by_seeking(
    reader, topic, produce, delete_records, drain, offset
) -> None:
    name = topic(2)
    produce(name, values(10), 0)
    produce(name, values(10), 1)
    delete_records(name, 0, 5)
    place, fine = TopicPartition(name, 0), TopicPartition(name, 1)
    consumer = reader()
    consumer.assign({place: offset, fine: 0})
    offsets: list[int] = []

    def poll() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for chunk in consumer.poll(0.1, 100):
                assert chunk.place == fine
                offsets.extend(chunk.offsets)

    with pytest.raises(OutOfRange) as caught:
        poll()
    assert (caught.value.place, caught.value.offset) == (place, offset)
    consumer.seek(place, 5)
    rest = drain(consumer, {place: 10, fine: 10})
    assert [one.offset for one in rest if one.partition == 0] == list(range(5, 10))
    assert offsets + [one.offset for one in rest if one.partition == 1] == list(range(10))


def test_committing_for_a_group(reader, topic, produce, committed_offsets) -> None:
    name = topic(2)
    produce(name, values(5))
    places = [TopicPartition(name, 0), TopicPartition(name, 1)]
    consumer = reader(f"group-{name}")
    assert consumer.committed(places) == {places[0]: None, places[1]: None}
    consumer.assign(dict.fromkeys(places, 0))
    consumer.commit({places[0]: 3})
    assert consumer.committed(places) == {places[0]: Committed(3, ""), places[1]: None}
    assert committed_offsets(f"group-{name}", name) == {0: (3, "")}
    consumer.commit({places[0]: 4, places[1]: 0})
    assert committed_offsets(f"group-{name}", name) == {0: (4, ""), 1: (0, "")}
    assert consumer.committed([]) == {}


def test_nobody_there(reader) -> None:
    consumer = reader(servers="127.0.0.1:1", patience=1.0)
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1 cannot be connected to.*refused"):
        consumer.topics(["any"])
    assert not consumer.connected
    with pytest.raises(Unreachable):
        reader(servers="no-such-host.invalid:9092", patience=1.0).cluster()


def test_a_name_that_no_topic_can_have(reader) -> None:
    with pytest.raises(SettingsError):
        reader().topics(["no topic/name"])


def test_a_closed_consumer_is_closed(reader, topic) -> None:
    consumer = reader()
    consumer.cluster()
    consumer.close()
    consumer.close()
    with pytest.raises(SourceFailed, match="closed"):
        consumer.poll(0.0, 1)
