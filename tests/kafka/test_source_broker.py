"""`KafkaSource` against a real broker, with both clients: one test for each rule."""

import json
import random
import struct
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

import stream_em as se
from stream_em.errors import SavedStateError, SourceChanged, Unreachable
from stream_em.stores import DirectoryStore
from stream_em.streams import Batch, Positions, Stream
from stream_em_connectors.kafka import KafkaSource
from stream_em_connectors.kafka.client import TopicPartition

SECONDS = 60.0  # for anything to happen
NOW = int(time.time()) * 1000  # milliseconds; records from long ago would be deleted at once
AT = datetime.fromtimestamp(NOW / 1000, UTC).isoformat()

Produce = Callable[..., None]
Make = Callable[..., str]


@pytest.fixture(params=["kafka-python", "librdkafka"])
def client(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def kafka(broker: Any, client: str) -> Callable[..., KafkaSource]:
    """`kafka(topic, ...)`: a source of a topic, or of several."""

    def made(topic: str | list[str], **settings: Any) -> KafkaSource:
        topics = [topic] if isinstance(topic, str) else topic
        given = {"features": ["x"], "client": client, **settings}
        return KafkaSource(broker.bootstrap, topics=topics, **given)

    return made


def x(*values: float) -> list[bytes | None]:
    return [json.dumps({"x": value}).encode() for value in values]


def polled(
    stream: Stream, enough: Callable[[list[Batch]], bool] = lambda batches: False
) -> list[Batch]:
    """Batches until there are enough of them, or the stream has ended."""
    found: list[Batch] = []
    deadline = time.monotonic() + SECONDS
    while not stream.ended and not enough(found):
        assert time.monotonic() < deadline, f"only {found} came"
        batch = stream.poll(0.2)
        if batch is not None:
            found.append(batch)
    return found


def rows(batches: Sequence[Batch]) -> list[float]:
    return [value for batch in batches for value in batch.rows[:, 0].tolist()]


def so_many(n: int) -> Callable[[list[Batch]], bool]:
    return lambda batches: len(rows(batches)) + sum(len(b.rejected) for b in batches) >= n


def after(stream: Stream, batches: Sequence[Batch]) -> Positions:
    at = stream.positions
    for batch in batches:
        at = at.advanced(batch.next_positions)
    return Positions(json.loads(json.dumps(dict(at.parts))))


def offset(positions: Positions, topic: str, partition: int = 0) -> int:
    return int(positions.parts[f"{topic}/{partition}"]["offset"])


def told(source: KafkaSource, positions: Positions | None = None) -> list[Batch]:
    """All batches of a source with an end."""
    with closing(source.opened_at(positions)) as stream:
        return polled(stream)


def test_all_partitions_are_read_the_empty_ones_too(
    kafka: Any, topic: Make, produce: Produce
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


def test_an_empty_topic_ends_at_once(kafka: Any, topic: Make) -> None:
    assert told(kafka(topic(2), until_end=True)) == []


@pytest.mark.parametrize(
    ("start", "found"),
    [("earliest", [0, 1, 2, 3, 4]), ("latest", []), ("committed", [2, 3, 4]), (AT, [3, 4])],
    ids=["earliest", "latest", "committed", "time"],
)
def test_a_fresh_run_starts_where_it_is_told(
    kafka: Any, topic: Make, produce: Produce, start: str, found: list[float]
) -> None:
    name, group = topic(1), uuid.uuid4().hex
    produce(name, x(*range(5)), times=[NOW + second * 1000 for second in range(-3, 2)])
    with closing(kafka(name, group_id=group, batch_size=2).opened_at(None)) as stream:
        batches = polled(stream, so_many(2))
        stream.commit(after(stream, batches))
    assert rows(told(kafka(name, group_id=group, start=start, until_end=True))) == found


def test_latest_is_resolved_once_and_loses_nothing_on_resume(
    kafka: Any, topic: Make, produce: Produce
) -> None:
    name = topic(2)
    produce(name, x(1))
    with closing(kafka(name, start="latest").opened_at(None)) as stream:
        checkpoint_0 = stream.positions
    produce(name, x(2), partition=0)
    produce(name, x(3), partition=1)
    again = told(kafka(name, start="latest", until_end=True), checkpoint_0)
    assert sorted(rows(again)) == [2, 3]


def test_a_resumed_stream_gives_the_rest_whatever_was_committed(
    kafka: Any, topic: Make, produce: Produce
) -> None:
    name, group = topic(1), uuid.uuid4().hex
    produce(name, x(*range(1000)))
    with closing(kafka(name, group_id=group, batch_size=100).opened_at(None)) as stream:
        batches = polled(stream, so_many(300))
        at = after(stream, batches)
        stream.commit(Positions({f"{name}/0": {**at.parts[f"{name}/0"], "offset": 7}}))
    assert rows(told(kafka(name, group_id=group, until_end=True), at)) == list(range(300, 1000))


def test_the_end_is_reached_over_transaction_markers(
    kafka: Any, topic: Make, produce: Produce
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


def test_only_committed_transactions_are_read(kafka: Any, topic: Make, produce: Produce) -> None:
    name = topic(1)
    for place in range(10):
        produce(name, x(place), transaction="abort" if place % 3 == 0 else "commit")
    batches = told(kafka(name, until_end=True))
    assert rows(batches) == [1, 2, 4, 5, 7, 8]


def test_markers_alone_move_positions_without_a_row(
    kafka: Any, topic: Make, produce: Produce
) -> None:
    name = topic(1)
    with closing(kafka(name).opened_at(None)) as stream:
        produce(name, x(1, 2), transaction="abort")
        batches = polled(stream, lambda found: offset(after(stream, found), name) == 3)
        assert rows(batches) == []


def test_a_hot_partition_among_twelve_keeps_none_waiting(
    kafka: Any, topic: Make, produce: Produce
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
    kafka: Any, topic: Make, grow: Any, produce: Produce
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


def test_several_topics_are_one_stream(kafka: Any, topic: Make, produce: Produce) -> None:
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


class TestGaps:
    def test_a_gap_at_the_start_is_an_error_of_known_size(
        self, kafka: Any, topic: Make, produce: Produce, delete_records: Any
    ) -> None:
        name = topic(1)
        produce(name, x(*range(10)))
        with closing(kafka(name, batch_size=2).opened_at(None)) as stream:
            at = after(stream, polled(stream, so_many(2)))
        delete_records(name, 0, 6)
        with pytest.raises(SavedStateError, match=rf"{name} partition 0 .*: 4 offsets"):
            kafka(name).opened_at(at)
        with closing(kafka(name, on_gap="skip", until_end=True).opened_at(at)) as stream:
            assert rows(polled(stream)) == [6, 7, 8, 9]
            assert stream.skipped == 4

    @pytest.mark.parametrize("on_gap", ["error", "skip"])
    def test_a_gap_under_the_run(
        self, kafka: Any, topic: Make, produce: Produce, delete_records: Any, on_gap: str
    ) -> None:
        name = topic(2)
        with closing(kafka(name, on_gap=on_gap).opened_at(None)) as stream:
            consumer = stream._consumer
            consumer.pause([TopicPartition(name, 0)])
            produce(name, x(*range(10)))
            produce(name, x(*range(10, 20)), partition=1)
            first = polled(stream, so_many(10))
            delete_records(name, 0, 6)
            consumer.seek(TopicPartition(name, 0), 0)  # forget what was fetched before
            consumer.resume([TopicPartition(name, 0)])
            if on_gap == "error":
                with pytest.raises(SavedStateError, match="6 offsets are gone"):
                    polled(stream)
                return
            second = polled(stream, so_many(4))
            assert (rows(first), rows(second)) == (list(range(10, 20)), [6, 7, 8, 9])
            assert stream.skipped == 6


class TestRecreated:
    """A topic deleted and made again under the same name."""

    @pytest.fixture
    def again(self, topic: Make, delete_topic: Any, produce: Produce) -> Callable[[str, int], None]:
        def made(name: str, records: int) -> None:
            delete_topic(name)
            topic(1, name)
            produce(name, x(*range(1000, 1000 + records)))

        return made

    def test_at_the_start(self, kafka: Any, topic: Make, produce: Produce, again: Any) -> None:
        name = topic(2)
        produce(name, x(1, 2))
        with closing(kafka(name).opened_at(None)) as stream:
            at = after(stream, polled(stream, so_many(2)))
        again(name, 5)
        with pytest.raises(SourceChanged, match="made again"):
            kafka(name).opened_at(at)
        batches = told(kafka(name, on_recreated="beginning", until_end=True), at)
        assert rows(batches) == [1000, 1001, 1002, 1003, 1004]

    def test_under_the_run(self, kafka: Any, topic: Make, produce: Produce, again: Any) -> None:
        name = topic(1)
        produce(name, x(1, 2))
        with closing(kafka(name).opened_at(None)) as stream:
            polled(stream, so_many(2))
            again(name, 5)
            with pytest.raises(SourceChanged, match=r"made again|deleted|truncated"):
                polled(stream)

    def test_under_the_run_it_may_begin_again(
        self, kafka: Any, topic: Make, produce: Produce, again: Any
    ) -> None:
        name = topic(1)
        produce(name, x(1, 2))
        with closing(kafka(name, on_recreated="beginning").opened_at(None)) as stream:
            first = polled(stream, so_many(2))
            again(name, 1)
            rest = polled(stream, so_many(1))
            assert rows(rest)[-1] == 1000
            assert offset(after(stream, [*first, *rest]), name) == 1


def test_a_shorter_topic_is_never_skipped(kafka: Any, topic: Make, produce: Produce) -> None:
    name = topic(1)
    produce(name, x(1))
    with closing(kafka(name).opened_at(None)) as stream:
        at = dict(stream.positions.parts)
    at[f"{name}/0"] = {**at[f"{name}/0"], "offset": 5}
    with pytest.raises(SourceChanged, match="ends at offset 1, but reading stands at 5"):
        kafka(name, on_gap="skip").opened_at(Positions(at))


CODECS: dict[str, tuple[Any, Callable[[float, float], bytes]]] = {
    "json": ("json", lambda a, b: json.dumps({"a": {"b": a}, "y": b}).encode()),
    "csv": (
        {"kind": "csv", "delimiter": ";", "columns": ["y", "a.b"]},
        lambda a, b: f"{b};{a}".encode(),
    ),
    "floats32": ("floats32", lambda a, b: struct.pack("<2f", a, b)),
    "floats64": ("floats64", lambda a, b: struct.pack("<2d", a, b)),
    "avro": ("avro", lambda a, b: struct.pack("<2d", a, b)),
}


@pytest.mark.parametrize("name", CODECS)
def test_every_codec_reads_its_records(
    kafka: Any, topic: Make, produce: Produce, tmp_path: Any, name: str
) -> None:
    codec, written = CODECS[name]
    if codec == "avro":
        doubles = [{"name": "b", "type": "double"}]
        inner = {"type": "record", "name": "A", "fields": doubles}
        fields = [{"name": "a", "type": inner}, {"name": "y", "type": "double"}]
        path = tmp_path / "r.avsc"
        path.write_text(json.dumps({"type": "record", "name": "R", "fields": fields}))
        codec = {"kind": "avro", "schema_file": str(path)}
    made = topic(1)
    produce(made, [written(i / 2, -i) for i in range(50)])
    batches = told(kafka(made, codec=codec, features=["a.b", "y"], until_end=True))
    found = np.concatenate([batch.rows for batch in batches])
    assert found.tolist() == [[i / 2, -i] for i in range(50)]


def test_fields_keys_and_timestamps(kafka: Any, topic: Make, produce: Produce) -> None:
    name = topic(1)
    record = {"x": 1, "w": 2, "at": "1970-01-01T00:00:07Z", "who": {"id": "a"}}
    produce(name, [json.dumps(record).encode()], keys=[b"k"], times=[NOW])
    (own,) = told(kafka(name, weight="w", time="@timestamp", until_end=True))
    assert own.weights is not None and own.origins.times is not None
    assert (own.weights.tolist(), own.origins.keys) == ([2], ("k",))
    assert own.origins.times.tolist() == [NOW / 1000]
    (fields,) = told(kafka(name, key="who.id", time="at", until_end=True))
    assert fields.origins.times is not None
    assert (fields.origins.keys, fields.origins.times.tolist()) == (("a",), [7])


def test_rejected_records_carry_key_headers_bytes_and_time(
    kafka: Any, topic: Make, produce: Produce
) -> None:
    name = topic(1)
    headers = [("trace", b"\x01"), ("none", None)]
    produce(name, [b"bad", None, b""], keys=[b"\xff", b"t", None], times=[NOW] * 3, headers=headers)
    (batch,) = told(kafka(name, until_end=True))
    found = [(o.offset, o.reason, o.raw, o.key, o.time) for o in batch.rejected]
    assert found == [
        (0, "decode_error", b"bad", b"\xff", NOW / 1000),
        (1, "empty", b"", b"t", NOW / 1000),
        (2, "empty", b"", None, NOW / 1000),
    ]
    assert {one.headers for one in batch.rejected} == {tuple(headers)}
    assert len(batch.rows) == 0


def test_a_compacted_topic_is_read_over_its_holes(
    kafka: Any, topic: Make, produce: Produce, read_topic: Any
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
    deadline = time.monotonic() + SECONDS
    while len(left := read_topic(name)) > 100:
        assert time.monotonic() < deadline, "the topic is not compacted"
        time.sleep(0.3)
        produce(name, x(-1), keys=[b"other"])  # closes a segment
    batches = told(kafka(name, until_end=True))
    found = [place for batch in batches for place in batch.origins.offset.tolist()]
    assert found == sorted(found)
    assert set(found) <= {record.offset for record in left} | set(range(700, 2000))
    assert rows(batches)[-1] == -1


def test_records_of_a_megabyte(kafka: Any, topic: Make, produce: Produce) -> None:
    name = topic(1, max_message_bytes="4000000")
    large = [json.dumps({"x": i, "more": "-" * 1_000_000}).encode() for i in range(20)]
    produce(
        name, [*large, json.dumps({"more": "-" * 2_000_000}).encode()], message_max_bytes=4_000_000
    )
    batches = told(kafka(name, until_end=True))
    assert rows(batches) == list(range(20))
    assert [one.reason for batch in batches for one in batch.rejected] == ["too_large"]
    assert sum(batch.read_bytes for batch in batches) > 22_000_000


def test_a_smaller_batch_is_handed_out_after_a_while(
    kafka: Any, topic: Make, produce: Produce
) -> None:
    name = topic(1)
    produce(name, x(*range(25)))
    with closing(kafka(name, batch_size=10, max_wait_ms=50).opened_at(None)) as stream:
        batches = polled(stream, so_many(25))
        assert [len(batch.rows) for batch in batches] == [10, 10, 5]
        assert [batch.timed for batch in batches] == [False, False, True]


def test_rows_wait_for_others_as_long_as_they_may(
    kafka: Any, topic: Make, produce: Produce
) -> None:
    name = topic(1)
    produce(name, x(1, 2))
    with closing(kafka(name, batch_size=3, max_wait_ms=3_600_000).opened_at(None)) as stream:
        assert stream.poll(2.0) is None
        produce(name, x(3))
        (batch,) = polled(stream, so_many(3))
        assert rows([batch]) == [1, 2, 3]


def test_a_limit_holds_and_positions_stay_behind_it(
    kafka: Any, topic: Make, produce: Produce
) -> None:
    name = topic(2)
    produce(name, x(*range(500)), partition=0)
    produce(name, x(*range(500, 1000)), partition=1)
    source = kafka(name, batch_size=1000)
    with closing(source.opened_at(None)) as stream:
        stream.limit(30)
        batches = polled(stream, so_many(300))
        assert max(len(batch.rows) for batch in batches) == 30
        at = after(stream, batches)
    rest = told(kafka(name, until_end=True), at)
    assert sorted(rows(batches) + rows(rest)) == list(range(1000))


def test_positions_committed_for_the_group_are_seen_by_all(
    kafka: Any, topic: Make, produce: Produce, committed_offsets: Any
) -> None:
    name, group = topic(2), uuid.uuid4().hex
    produce(name, x(1, 2, 3))
    with closing(kafka(name, group_id=group).opened_at(None)) as stream:
        stream.commit(after(stream, polled(stream, so_many(3))))
        assert {n: at for n, (at, _) in committed_offsets(group, name).items()} == {0: 3, 1: 0}
        status = stream.status()
        assert status is not None
        assert (status.commits, status.failed_commits) == (1, 0)
        assert status.uncommitted == {(name, 0): 0, (name, 1): 0}


def test_status_tells_the_lag(kafka: Any, topic: Make, produce: Produce) -> None:
    name = topic(1)
    produce(name, x(*range(100)), times=[NOW] * 100)
    with closing(kafka(name, batch_size=30).opened_at(None)) as stream:
        stream.limit(30)
        polled(stream, so_many(30))
        status = stream.status()
        assert status is not None
        assert status.lag == {(name, 0): 70}
        assert status.newest == {(name, 0): NOW / 1000}
        assert status.connected
        polled(stream, so_many(70))
        produce(name, x(1))

        def caught_up(found: list[Batch]) -> bool:
            status = stream.status()
            return status is not None and len(rows(found)) == 1 and status.lag == {(name, 0): 0}

        polled(stream, caught_up)


def test_probes_find_broker_topic_and_a_record(kafka: Any, topic: Make, produce: Produce) -> None:
    name = topic(2)
    assert [one.detail for one in kafka(name).probes()][-1] == "no record yet"
    produce(name, x(1, 2))
    found = list(kafka(name, group_id="never-joined").probes())
    assert [one.problem for one in found] == [None, None, None]
    produce(name, [b"1;2"], partition=1)
    absent = list(kafka(f"{name}-absent").probes())
    assert "does not exist" in str(absent[-1].problem)


def test_a_topic_that_does_not_exist_is_out_of_reach(kafka: Any) -> None:
    with pytest.raises(Unreachable, match="does not exist"):
        kafka(uuid.uuid4().hex).opened_at(None)


def broken(dice: random.Random) -> tuple[bytes | None, str]:
    """A record that makes no row, and why."""
    return dice.choice(
        [
            (None, "empty"),
            (b"", "empty"),
            (b"   ", "empty"),
            (b"{", "decode_error"),
            (b"nonsense", "decode_error"),
            (b"\xff\xfe", "decode_error"),
            (b'{"x": 1, "y": 2, "n": "\xff"}', "decode_error"),
            (b'{"x": 1, "y": 2}{"x": 1}', "decode_error"),
            (b'{"x": 1, "y": "2"}', "decode_error"),
            (b'{"x": 1, "y": true}', "decode_error"),
            (b'{"x": 1, "y": [2]}', "decode_error"),
            (b'{"x": 1, "y": 2, "w": 1, "at": "noon"}', "decode_error"),
            (b"[1, 2]", "schema"),
            (b"7", "schema"),
            (b"{}", "missing_feature"),
            (b'{"x": 1}', "missing_feature"),
            (b'{"x": null, "y": 1}', "missing_feature"),
            (b'{"x": NaN, "y": 1}', "non_finite"),
            (b'{"x": -Infinity, "y": 1}', "non_finite"),
            (b'{"x": 1e101, "y": 1}', "too_large"),
            (b'{"x": 1, "y": 2, "more": "' + b"-" * 3000 + b'"}', "too_large"),
            (b'{"x": 1, "y": 2, "w": -1}', "weight"),
            (b'{"x": 1, "y": 2, "w": "one"}', "weight"),
        ]
    )


def test_twenty_kinds_of_broken_records_are_all_accounted_for(
    kafka: Any, topic: Make, produce: Produce
) -> None:
    dice, name = random.Random(5), topic(2)
    sent: list[list[tuple[bytes | None, str]]] = [[], []]
    for place in range(3000):
        good = json.dumps({"x": place, "y": 1, "w": 1, "at": place}).encode()
        sent[place % 2].append(broken(dice) if dice.random() < 0.4 else (good, ""))
    for partition, records in enumerate(sent):
        produce(name, [value for value, _ in records], partition=partition)
    settings = {"features": ["x", "y"], "weight": "w", "time": "at", "max_record_bytes": 2000}
    batches = told(kafka(name, batch_size=77, until_end=True, **settings))
    expected = {
        (partition, place): reason
        for partition, records in enumerate(sent)
        for place, (_, reason) in enumerate(records)
        if reason
    }
    found = {(o.partition, o.offset): o.reason for b in batches for o in b.rejected}
    accepted = {
        (partition, place)
        for batch in batches
        for partition, place in zip(
            batch.origins.partition.tolist(), batch.origins.offset.tolist(), strict=True
        )
    }
    assert found == expected
    assert len(accepted) + len(found) == 3000
    assert not accepted & found.keys()


def test_an_engine_killed_and_started_again_counts_each_record_once(
    kafka: Any, topic: Make, produce: Produce, tmp_path: Any
) -> None:
    name = topic(3)
    dice = np.random.default_rng(1)
    for partition in range(3):
        values = dice.normal(size=(2000, 2)).round(3).tolist()
        made = [json.dumps({"x": a, "y": b}).encode() for a, b in values]
        produce(name, [*made, b"bad"], partition=partition)
    source = kafka(name, features=["x", "y"], batch_size=500, until_end=True, group_id=name)
    model, store = se.KMeans(3), DirectoryStore(tmp_path / "checkpoints")
    first = se.run(source, model, store=store, max_events=2500)
    assert first.events == 2500
    second = se.run(source, model, store=store)
    assert (second.total_events, second.total_rejected) == (6000, 3)


def test_a_broker_that_restarts_is_waited_for(
    own_broker: Any, client: str, new_topic: Any, produce: Produce
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


class TestSharing:
    """Two engines in one group."""

    @pytest.fixture
    def engine(self, kafka: Any) -> Callable[[str, str, str], KafkaSource]:
        def made(name: str, group: str, instance: str) -> KafkaSource:
            source: KafkaSource = kafka(name, sharing="group", group_id=group, batch_size=50)
            return source.named("engine", instance)

        return made

    def test_partitions_are_divided_and_each_record_is_handed_out_once(
        self, engine: Any, topic: Make, produce: Produce
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
                deadline = time.monotonic() + 3 * SECONDS  # of several rounds of rebalancing
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
