"""Batches taken apart at once: the same records as one by one, and no damage goes unnoticed."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import TopicPartition as Place
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.protocol.consumer import IsolationLevel
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder

from stream_em_connectors.kafka.kafka_python_records import BatchRecords, chunk
from stream_em_connectors.kafka.record_batches import BROKEN, headers_at, pieces, taken_apart

PLACE = Place("t", 3)
blobs = st.none() | st.binary(max_size=300)
headers = st.lists(st.tuples(st.text(max_size=5), blobs), max_size=3)
records = st.lists(st.tuples(blobs, blobs, st.integers(0, 2**42), headers), max_size=30)
HEADER = DefaultRecordBatch.HEADER_STRUCT.size


def built(some: list[Any], compression: int = 0, base: int = 0, **traits: Any) -> bytes:
    """A batch as kafka-python writes it."""
    builder = DefaultRecordBatchBuilder(
        2, compression, traits.get("transactional", False), traits.get("producer", -1), 0, 0, 10**9
    )
    for place, (key, value, time, more) in enumerate(some):
        builder.append(place, time, key, value, more)
    data = bytearray(builder.build())
    data[:8] = base.to_bytes(8, "big")
    return bytes(data)


def fetched(kind: Any, data: bytes, position: int = 0, **more: Any) -> Any:
    options = {"check_crcs": True, "isolation_level": IsolationLevel.READ_COMMITTED, **more}
    return kind(position, PLACE, MemoryRecords(data), **options)


def one_by_one(data: bytes, position: int = 0, **more: Any) -> tuple[list[Any], int]:
    """Records as the client makes them by itself, and where it goes on."""
    theirs = fetched(Fetcher.PartitionRecords, data, position, **more)
    found = theirs.take(10**6)
    return [
        (one.offset, one.timestamp, one.key, one.value, tuple(one.headers)) for one in found
    ], theirs.next_fetch_offset


def at_once(data: bytes, position: int = 0, n: int = 10**6, **more: Any) -> tuple[list[Any], int]:
    """The same through columns, n records at a time."""
    ours, found = fetched(BatchRecords, data, position, **more), []
    while ours:
        taken = ours.take(n)
        assert len(taken) <= n
        if not len(taken):
            break
        some = chunk(PLACE, list(taken))
        assert some.place == PLACE
        assert len(some.offsets) == len(taken)
        told = map(some.headers, range(len(taken)))
        found += zip(some.offsets, some.times, some.keys, some.values, told, strict=True)
        assert ours.next_fetch_offset > some.offsets[-1]
    return found, ours.next_fetch_offset


@given(some=records, more=records, compression=st.sampled_from([0, 1]), n=st.integers(1, 40))
def test_the_same_records_as_one_by_one(some: Any, more: Any, compression: int, n: int) -> None:
    data = built(some, compression) + built(more, base=len(some) + 7)
    for position in {0, len(some) // 2, len(some) + 7}:
        assert at_once(data, position, n) == one_by_one(data, position)


def varint(value: int) -> bytes:
    """Zigzag, seven bits to a byte."""
    coded, found = (value << 1) ^ (value >> 63), []
    while coded > 127:
        found.append(coded & 127 | 128)
        coded >>= 7
    return bytes([*found, coded])


HUGE = 2**63 - 1
BEYOND = [
    varint(HUGE) + b"\0\0\0" + varint(HUGE - 13) + bytes(40),
    varint(20) + b"\0\0\0" + varint(HUGE) + bytes(40),
    varint(20) + b"\0\0\0" + varint(-2) + bytes(40),
    varint(20) + b"\0\0\0\1\1" + varint(HUGE) + bytes(40),
    b"\xff" * 60,
]


@pytest.mark.parametrize("data", BEYOND)
def test_lengths_beyond_all_bounds_are_faults(data: bytes) -> None:
    with pytest.raises(ValueError, match="damaged"):
        taken_apart(data, 1)


def test_headers_may_not_reach_into_the_next_record() -> None:
    data = bytearray(built([(None, b"a", 0, [("k", b"v")]), (None, b"secret", 0, [])]))
    data[data.index(b"\x02k\x02v") + 2] += 6  # the length of its value
    with pytest.raises(CorruptRecordError, match="record 0 is damaged"):
        fetched(BatchRecords, bytes(data), check_crcs=False).take(10)


@given(some=records.filter(bool), damage=st.data())
def test_damage_is_a_fault_or_changes_nothing_else(some: Any, damage: Any) -> None:
    """Without checksums: whatever is read lies within the data, and nothing crashes."""
    data = bytearray(built(some)[HEADER:])
    for _ in range(damage.draw(st.integers(1, 4))):
        data[damage.draw(st.integers(0, len(data) - 1))] = damage.draw(st.integers(0, 255))
    try:
        found = taken_apart(bytes(data), len(some))
    except ValueError:
        return
    for begins, ends in ((found.keys, found.key_ends), (found.values, found.value_ends)):
        assert np.all(ends - begins >= BROKEN)
        assert np.all((begins >= 0) & (ends <= len(data)))
        assert len(pieces(bytes(data), begins, ends)) == len(some)
    for place in found.headers.tolist():
        headers_at(bytes(data), place)


@pytest.mark.parametrize("n", [-1, 0, 1, 3, 10**9])
def test_a_wrong_number_of_records_is_a_fault(n: int) -> None:
    data = built([(None, b"a", 0, []), (b"k", None, 0, [])])[HEADER:]
    with pytest.raises(ValueError, match="records"):
        taken_apart(data, n)
    assert len(taken_apart(data, 2).times) == 2


def test_a_batch_without_its_checksum_follows_the_good_ones_before_it() -> None:
    good, bad = built([(None, b"a", 0, [])]), bytearray(built([(None, b"b", 0, [])], base=1))
    bad[-2] ^= 1
    ours = fetched(BatchRecords, good + bytes(bad))
    assert len(ours.take(10)) == 1
    assert ours.next_fetch_offset == 1
    with pytest.raises(CorruptRecordError):
        ours.take(10)
    assert not ours  # the next poll fetches anew, from the position


def test_a_damaged_batch_with_the_right_checksum_is_an_error() -> None:
    data = bytearray(built([(None, b"abc", 0, [])]))
    data[HEADER + 5] = 100  # longer than what is left
    with pytest.raises(CorruptRecordError, match="damaged"):
        fetched(BatchRecords, bytes(data), check_crcs=False).take(10)


class Aborted:
    """A transaction that was aborted, as the broker tells it."""

    def __init__(self, producer_id: int, first_offset: int) -> None:
        self.producer_id, self.first_offset = producer_id, first_offset


def test_aborted_transactions_are_left_out_and_passed() -> None:
    rows = [(None, b"x", 0, [])] * 3
    data = (
        built(rows, transactional=True, producer=5)
        + built(rows, base=3, transactional=True, producer=6)
        + built(rows, base=6)
    )
    told = {"aborted_transactions": [Aborted(5, 0)]}
    found, position = at_once(data, 0, **told)
    assert (found, position) == one_by_one(data, 0, **told)
    assert [one[0] for one in found] == [3, 4, 5, 6, 7, 8]
    assert at_once(built(rows, transactional=True, producer=5), **told) == ([], 3)


@pytest.mark.parametrize("magic", [0, 1])
def test_older_formats_go_record_by_record(magic: int) -> None:
    builder = MemoryRecordsBuilder(magic, 0, 10**6)
    for place in range(5):
        builder.append(1000 + place, b"k", b"%d" % place)
    builder.close()
    data = bytes(builder.buffer())
    expected = [
        (place, 1000 + place if magic else -1, b"k", b"%d" % place, ()) for place in range(5)
    ]
    assert at_once(data, 2, 2) == (expected[2:], 5)
    assert at_once(data) == (expected, 5)


def test_times_of_the_log_count_where_the_topic_says_so() -> None:
    data = bytearray(built([(None, b"a", 1000, []), (None, b"b", 3000, [])]))
    batch = DefaultRecordBatch(data)
    data[22] |= batch.TIMESTAMP_TYPE_MASK
    found = at_once(bytes(data), check_crcs=False)
    assert found == one_by_one(bytes(data), check_crcs=False)
    assert [one[1] for one in found[0]] == [3000, 3000]
