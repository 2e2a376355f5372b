"""Rows to records: the same JSON as in a file, keys, headers, and sizes that every broker takes."""

import base64
import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_em.engine.rejects import dead_letters
from stream_em.errors import SinkFailed
from stream_em.streams import Base64, Columns, Rejected
from stream_em_connectors.files import JsonLinesSink
from stream_em_connectors.kafka.client import Headers
from stream_em_connectors.kafka.messages import messages

ROOM = 20_000


def rows(keys: list[Any]) -> dict[str, Any]:
    """Output rows with these keys."""
    n = len(keys)
    return {
        "source": ["readings"] * n,
        "partition": np.arange(n, dtype=np.int32),
        "offset": np.arange(n) + 2**40,
        "key": keys,
        "time": [None if place % 2 else 1.7e9 + place / 3 for place in range(n)],
        "cluster": np.arange(n) % 4,
        "cluster_uid": np.arange(n) % 5,
        "probability": np.linspace(0.1, 1.0, n),
        "squared_distance": np.arange(n) / 7,
        "log_likelihood": np.full(n, np.nan),
    }


def changes(length: int) -> dict[str, Any]:
    """A change of a cluster, at a position of that many coordinates."""
    return {"row": [5], "change": ["birth"], "new_uid": [7], "position": [[0.125] * length]}


def rejected(raw: bytes, key: bytes | None = None, headers: Headers = ()) -> Columns:
    """The dead letter of one record."""
    one = Rejected("readings", 2, 40, "schema", "x", "detail", raw, 1.5, key, headers)
    return dead_letters([one])


def sent(columns: Columns, traced: bool = False) -> list[tuple[bytes | None, Any, Headers]]:
    """Key, row and headers of each record; each of them within the room."""
    found = []
    for key, value, headers in messages(columns, traced, ROOM):
        told = sum(len(name) + len(text or b"") for name, text in headers)
        assert len(key or b"") + len(value) + told <= ROOM
        found.append((key, json.loads(value), headers))
    return found


@pytest.mark.parametrize(
    "columns",
    [
        rows(["a", None, "ü\n\"'\\ ", "\x00\x1f", 7, 0.1, True, {"b": [1]}, 2**63 - 1]),
        rows(["lone \ud800", "plain", 2**70]),
        changes(3),
        rejected(b"a,b\n"),
        rejected(b"\xff\x00"),
    ],
    ids=["rows", "surrogates", "changes", "text", "binary"],
)
def test_a_value_is_the_line_of_a_json_lines_file(columns: Columns, tmp_path: Path) -> None:
    file = JsonLinesSink(tmp_path / "rows.jsonl")
    file.begin("i", False)
    file.write(columns)
    file.barrier(0)
    file.close()
    values = [value for _, value, _ in messages(columns, True, ROOM)]
    assert [value + b"\n" for value in values] == (tmp_path / "rows.jsonl").read_bytes().splitlines(
        keepends=True
    )


def test_the_rows_key_is_the_records_key() -> None:
    keys = ["a", "ü", None, 7, 2.5, True, [1, "b"], float("nan"), "\ud800"]
    assert [key for key, _, _ in sent(rows(keys))] == [
        *(b"a", "ü".encode(), None, b"7", b"2.5", b"true", b'[1,"b"]', None, b"\\ud800"),
    ]


def test_a_key_that_is_no_text_goes_on_as_the_bytes_it_came_as() -> None:
    raw = struct.pack(">q", 1000) + b"\xff"
    [(key, row, _), (text, _, _)] = sent(rows([Base64.of(raw), str(Base64.of(raw))]))
    assert (key, row["key"]) == (raw, str(Base64.of(raw)))
    assert text == row["key"].encode()


def test_numeric_keys_may_come_as_an_array() -> None:
    columns = rows([1, 2]) | {"key": np.array([1, 2])}
    assert [key for key, _, _ in sent(columns)] == [b"1", b"2"]


def test_changes_have_neither_key_nor_origin() -> None:
    [(key, row, headers)] = sent(changes(2), traced=True)
    assert (key, row["position"], headers) == (None, [0.125, 0.125], ())


def test_traced_rows_tell_where_they_came_from() -> None:
    columns = rows(["a", "b"]) | {"source": ["one", "two-ü"]}
    assert [headers for _, _, headers in sent(columns, traced=True)][1] == (
        ("stream-em-source", "two-ü".encode()),
        ("stream-em-partition", b"1"),
        ("stream-em-offset", b"%d" % (2**40 + 1)),
    )


def test_rows_in_transactions_carry_no_headers() -> None:
    assert [headers for _, _, headers in sent(rows(["a", "b"]))] == [(), ()]


@pytest.mark.parametrize("traced", [False, True])
def test_dead_letters_keep_key_and_headers_and_tell_origin_and_reason(traced: bool) -> None:
    came = (("trace", b"12"), ("trace", b"\xff"), ("empty", None))
    [(key, row, headers)] = sent(rejected(b"bad", b"\xffkey", came), traced)
    assert key == b"\xffkey"
    assert headers == (
        *came,
        ("stream-em-source", b"readings"),
        ("stream-em-partition", b"2"),
        ("stream-em-offset", b"40"),
        ("stream-em-reason", b"schema"),
    )
    assert (row["raw"], row["raw_encoding"], row["reason"]) == ("bad", "utf-8", "schema")


def test_a_key_that_does_not_fit_is_null_and_told_by_its_digest() -> None:
    long = "k" * ROOM
    first, second, third = sent(rows(["a", long, "c"]), traced=True)
    assert (first[0], third[0]) == (b"a", b"c")
    assert second[0] is None
    assert second[1]["key"] is None
    assert second[1]["key_digest"] == hashlib.sha256(long.encode()).hexdigest()[:16]
    assert "key_digest" not in first[1]
    assert second[1]["offset"] == 2**40 + 1
    assert len(second[2]) == 3


def test_a_key_that_fits_stays_however_long_it_is() -> None:
    long = "k" * (ROOM // 2 - 400)
    [(key, row, _)] = sent(rows([long]))
    assert (key, row["key"]) == (long.encode(), long)


@pytest.mark.parametrize(
    ("raw", "encoding"),
    [(b"x" * ROOM, "utf-8"), ("ü".encode() * ROOM, "utf-8"), (b"\xff" * ROOM, "base64")],
)
def test_a_dead_letters_raw_bytes_are_cut_and_told_by_length_and_digest(
    raw: bytes, encoding: str
) -> None:
    [(key, row, headers)] = sent(rejected(raw, b"key", (("h", b"v"),)))
    digest = hashlib.sha256(raw).hexdigest()
    assert row["truncated"] == {"raw": {"length": len(raw), "sha256": digest}}
    assert row["raw_encoding"] == encoding
    kept = base64.b64decode(row["raw"]) if encoding == "base64" else row["raw"].encode()
    assert kept
    assert raw.startswith(kept)
    assert (key, headers[0]) == (b"key", ("h", b"v"))


def test_a_dead_letter_of_nothing_but_large_parts_still_fits() -> None:
    nasty = "\x01" * ROOM  # six bytes of JSON for each
    came = (("h", b"\x01" * ROOM),)
    one = Rejected("t" * 249, 0, 1, "schema", nasty, nasty, b"\x01" * ROOM, 0.0, b"k" * ROOM, came)
    [(key, row, headers)] = sent(dead_letters([one]))
    assert key is None
    assert row["key"] is None
    assert row["key_digest"] == hashlib.sha256(b"k" * ROOM).hexdigest()[:16]
    assert {"raw", "headers"} <= set(row["truncated"])
    assert [name for name, _ in headers] == [
        *("stream-em-source", "stream-em-partition", "stream-em-offset", "stream-em-reason"),
    ]


def test_a_change_far_from_home_loses_its_position() -> None:
    [(_, row, _)] = sent(changes(ROOM))
    assert row["position"] is None
    assert row["truncated"]["position"]["length"] > ROOM
    assert row["new_uid"] == 7


def test_what_cannot_be_cut_to_size_says_so() -> None:
    columns = rows(["a"]) | {"source": ["s" * ROOM]}
    with pytest.raises(SinkFailed, match=r"only 20000 may be sent; raise max_record_bytes"):
        sent(columns, traced=True)
