"""All partitions of all topics are read, over markers and holes, up to the end."""

import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

Produce = Callable[..., None]
Make = Callable[..., str]


def test_all_partitions_are_read_the_empty_ones_too(
    kafka: Any,
    topic: Make,
    produce: Produce,
    x: Any,
    polled: Any,
    rows: Any,
    after: Any,
    offset: Any,
) -> None:
    name = topic(3)
    produce(name, x(1, 2), partition=0)
    produce(name, x(3), partition=2)
    with closing(kafka(name, until_end=True).opened_at(None)) as stream:
        assert [offset(stream.positions, name, n) for n in range(3)] == [0, 0, 0]
        batches = polled(stream)
        assert sorted(rows(batches)) == [1, 2, 3]
        assert [offset(after(stream, batches), name, n) for n in range(3)] == [2, 0, 1]
        origins = batches[0].origins
        assert set(origins.sources) == {name}


def test_an_empty_topic_ends_at_once(kafka: Any, topic: Make, told: Any) -> None:
    assert told(kafka(topic(2), until_end=True)) == []


def test_the_end_is_reached_over_transaction_markers(
    kafka: Any,
    topic: Make,
    produce: Produce,
    x: Any,
    polled: Any,
    rows: Any,
    after: Any,
    offset: Any,
) -> None:
    name = topic(1)
    produce(name, x(1, 2), transaction="commit")
    produce(name, x(3), transaction="abort")
    with closing(kafka(name, until_end=True).opened_at(None)) as stream:
        batches = polled(stream)
        assert rows(batches) == [1, 2]
        assert (
            offset(after(stream, batches), name) == 5
        )  # two rows, a marker, one aborted, a marker
        status = stream.status()
        assert status is not None
        assert status.lag == {(name, 0): 0}


def test_only_committed_transactions_are_read(
    kafka: Any, topic: Make, produce: Produce, x: Any, rows: Any, told: Any
) -> None:
    name = topic(1)
    for place in range(10):
        produce(name, x(place), transaction="abort" if place % 3 == 0 else "commit")
    batches = told(kafka(name, until_end=True))
    assert rows(batches) == [1, 2, 4, 5, 7, 8]


def test_markers_alone_move_positions_without_a_row(
    kafka: Any,
    topic: Make,
    produce: Produce,
    x: Any,
    polled: Any,
    rows: Any,
    after: Any,
    offset: Any,
) -> None:
    name = topic(1)
    with closing(kafka(name).opened_at(None)) as stream:
        produce(name, x(1, 2), transaction="abort")
        batches = polled(stream, lambda found: offset(after(stream, found), name) == 3)
        assert rows(batches) == []


def test_a_compacted_topic_is_read_over_its_holes(
    kafka: Any,
    topic: Make,
    produce: Produce,
    read_topic: Any,
    x: Any,
    rows: Any,
    told: Any,
    seconds: float,
) -> None:
    settings = {
        "cleanup_policy": "compact",
        "min_cleanable_dirty_ratio": "0.01",
        "segment_ms": "100",
        "max_compaction_lag_ms": "100",
    }
    name = topic(1, **settings)
    keys = [str(i % 7).encode() for i in range(700)]
    produce(name, x(*range(700)), keys=keys)
    deadline = time.monotonic() + seconds
    while len(left := read_topic(name)) > 100:
        assert time.monotonic() < deadline, "the topic is not compacted"
        time.sleep(0.3)
        produce(name, x(-1), keys=[b"other"])  # closes a segment
    batches = told(kafka(name, until_end=True))
    found = [place for batch in batches for place in batch.origins.offset.tolist()]
    assert found == sorted(found)
    assert set(found) <= {record.offset for record in left} | set(range(700, 2000))
    assert rows(batches)[-1] == -1


def test_a_hot_partition_among_twelve_keeps_none_waiting(
    kafka: Any, topic: Make, produce: Produce, x: Any, rows: Any, told: Any
) -> None:
    name = topic(12)
    produce(name, x(*range(30_000)), partition=5)
    for partition in range(12):
        if partition != 5:
            produce(name, x(*range(100)), partition=partition)
    batches = told(kafka(name, until_end=True))
    assert len(rows(batches)) == 31_100
    places: dict[int, list[float]] = {}
    for batch in batches:
        for partition, value in zip(
            batch.origins.partition.tolist(), batch.rows[:, 0], strict=True
        ):
            places.setdefault(partition, []).append(value)
    assert places.pop(5) == list(range(30_000))
    assert all(values == list(range(100)) for values in places.values())


def test_new_partitions_are_noticed_and_read_from_their_beginning(
    kafka: Any,
    topic: Make,
    grow: Any,
    produce: Produce,
    x: Any,
    polled: Any,
    so_many: Any,
    rows: Any,
    after: Any,
    offset: Any,
) -> None:
    name = topic(1)
    produce(name, x(1))
    with closing(kafka(name, start="latest").opened_at(None)) as stream:
        assert stream.poll(0.5) is None
        grow(name, 3)
        produce(name, x(2), partition=0)
        produce(name, x(3), partition=2)
        batches = polled(stream, so_many(2))
        assert sorted(rows(batches)) == [2, 3]
        assert offset(after(stream, batches), name, 2) == 1


def test_several_topics_are_one_stream(
    kafka: Any, topic: Make, produce: Produce, x: Any, told: Any
) -> None:
    one, two = topic(1), topic(2)
    produce(one, x(1))
    produce(two, x(2), partition=1)
    batches = told(kafka([one, two], until_end=True))
    found = {
        (batch.origins.sources[source], partition, value)
        for batch in batches
        for source, partition, value in zip(
            batch.origins.source, batch.origins.partition, batch.rows[:, 0], strict=True
        )
    }
    assert found == {(one, 0, 1), (two, 1, 2)}
