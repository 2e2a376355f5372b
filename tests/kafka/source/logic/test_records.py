"""Rejected records, keys and timestamps."""

from typing import Any

from stream_em.streams import Base64


def test_rejected_records_come_with_all_that_is_known_of_them(
    cluster: Any, kafka: Any, x: Any, polled: Any, rows: Any
) -> None:
    cluster.add(0, *x(1), b"bad", None, b"", *x(2), key=b"k")
    (batch,) = polled(kafka(max_record_bytes=20).opened_at(None))
    assert rows([batch]) == [1, 2]
    told = [(one.offset, one.reason, one.raw, one.key, one.time) for one in batch.rejected]
    assert told == [
        (1, "decode_error", b"bad", b"k", 1.0),
        (2, "empty", b"", b"k", 2.0),
        (3, "empty", b"", b"k", 3.0),
    ]
    assert {(one.source, one.partition, one.headers) for one in batch.rejected} == {
        ("t", 0, (("h", b"1"),))
    }
    assert batch.origins.keys == ("k", "k")
    assert batch.next_positions.parts["t/0"]["offset"] == 5


def test_rejected_records_behind_the_last_row_belong_to_the_next_batch(
    cluster: Any, kafka: Any, x: Any, polled: Any
) -> None:
    cluster.add(0, b"bad", *x(1), b"bad", *x(2), b"bad")
    stream = kafka(batch_size=1).opened_at(None)
    batches = polled(stream)
    assert [(len(b.rows), len(b.rejected)) for b in batches] == [(1, 1), (1, 1), (0, 1)]
    assert [b.next_positions.parts["t/0"]["offset"] for b in batches] == [2, 4, 5]


def test_nothing_but_rejected_records_still_moves_on(cluster: Any, kafka: Any, polled: Any) -> None:
    cluster.add(0, *[None] * 10)
    (batch,) = polled(kafka().opened_at(None))
    assert (len(batch.rows), len(batch.rejected)) == (0, 10)
    assert batch.next_positions.parts["t/0"]["offset"] == 10


def test_keys_that_are_no_text_are_base64(cluster: Any, kafka: Any, x: Any, polled: Any) -> None:
    cluster.add(0, *x(1), key="é".encode())
    cluster.add(0, *x(2))
    cluster.add(0, *x(3), key=b"\xff\x00")
    (batch,) = polled(kafka().opened_at(None))
    assert batch.origins.keys == ("é", None, "/wA=")
    assert [type(key) for key in batch.origins.keys] == [str, type(None), Base64]


def test_a_rejected_record_has_its_own_timestamp_where_a_field_is_the_event_time(
    cluster: Any, kafka: Any, x: Any, polled: Any
) -> None:
    cluster.add(0, *x(1), b'{"x": 1, "w": -1, "t": 5}', b'{"x": 1, "w": 1, "t": "soon"}')
    (batch,) = polled(kafka(time="t", weight="w").opened_at(None))
    assert [(one.field, one.time) for one in batch.rejected[1:]] == [("w", 1.0), ("t", 2.0)]


def test_record_timestamps_are_event_times_where_wanted(
    cluster: Any, kafka: Any, x: Any, polled: Any
) -> None:
    cluster.add(0, *x(1), b"bad", *x(2))
    (batch,) = polled(kafka(time="@timestamp").opened_at(None))
    assert batch.origins.times is not None
    assert batch.origins.times.tolist() == [0.0, 2.0]
    (without,) = polled(kafka().opened_at(None))
    assert without.origins.times is None
