"""Records in every codec: fields, keys and timestamps, large ones and broken ones."""

import json
import random
import struct
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

NOW = int(time.time()) * 1000  # milliseconds; records from long ago would be deleted at once

Produce = Callable[..., None]
Make = Callable[..., str]

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
    kafka: Any, topic: Make, produce: Produce, tmp_path: Any, told: Any, name: str
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


def test_fields_keys_and_timestamps(kafka: Any, topic: Make, produce: Produce, told: Any) -> None:
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
    kafka: Any, topic: Make, produce: Produce, told: Any
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


def test_records_of_a_megabyte(
    kafka: Any, topic: Make, produce: Produce, rows: Any, told: Any
) -> None:
    name = topic(1, max_message_bytes="4000000")
    large = [json.dumps({"x": i, "more": "-" * 1_000_000}).encode() for i in range(20)]
    produce(
        name, [*large, json.dumps({"more": "-" * 2_000_000}).encode()], message_max_bytes=4_000_000
    )
    batches = told(kafka(name, until_end=True))
    assert rows(batches) == list(range(20))
    assert [one.reason for batch in batches for one in batch.rejected] == ["too_large"]
    assert sum(batch.read_bytes for batch in batches) > 22_000_000


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
    kafka: Any, topic: Make, produce: Produce, told: Any
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
