"""Records that would not fit into the topic: cut until they do, and said so in the row.

A record that no broker takes would stop the run, and every restart after it at the same
place. Its key goes to null with a `key_digest` beside it; other cells are shortened, and
`truncated` tells their length and digest. What was cut can be read at the row's origin.
"""

import base64
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from stream_em.errors import SinkFailed
from stream_em_connectors.codecs.json_rows import json_value
from stream_em_connectors.kafka.client import Headers

FRAME = 256  # bytes of a record beside key, value and headers, and of the batch around it
HEADER_FRAME = 12  # bytes of a header beside name and value; a letter takes up to four
OURS = 4  # headers of a dead letter, the last ones, that say where it came from and why
KEPT = 64  # a shortened cell keeps the room's `KEPT`-th part: in JSON up to six times as much
DIGITS = 16  # of a SHA-256 that stands for a key


class Message(NamedTuple):
    """A record to be sent."""

    key: bytes | None
    value: bytes
    headers: Headers

    @property
    def size(self) -> int:
        """Bytes on the wire, or a few more."""
        return len(self.key or b"") + len(self.value) + _size(self.headers) + FRAME


def outsize(
    keys: Sequence[bytes | None],
    values: Sequence[bytes],
    headers: Sequence[Headers],
    room: int,
) -> frozenset[int]:
    """Which of the records need more than `room` bytes; quick when none does."""
    longest = max(map(len, values), default=0) + FRAME
    longest += max((len(key) for key in keys if key), default=0)
    longest += max(map(_size, headers)) if any(headers) else 0
    if longest <= room:
        return frozenset()
    together = enumerate(map(Message, keys, values, headers))
    return frozenset(place for place, message in together if message.size > room)


def fitted(row: dict[str, Any], message: Message, room: int) -> Message:
    """The record of a row, cut to `room` bytes: the largest cell first, then the next.

    Raises `SinkFailed` when nothing is left to be cut.

    >>> found = fitted({"key": "k" * 900, "cluster": 3}, Message(b"k" * 900, b"", ()), 1000)
    >>> found.key, found.value
    (None, b'{"key":null,"cluster":3,"key_digest":"a17c16c3bf2c31e6"}')
    """
    row, left = dict(row), set(row)
    message = message._replace(value=json_value(row))
    while message.size > room:
        name = max(left, key=lambda one: len(json_value(row[one])), default=None)
        if name is None:
            raise SinkFailed(
                f"a row takes {message.size} bytes with nothing left to be cut, but only {room} "
                "may be sent; raise max_record_bytes, and max.message.bytes of the topic"
            )
        left.discard(name)
        message = _without(name, row, message, room)
    return message


def _without(name: str, row: dict[str, Any], message: Message, room: int) -> Message:
    """The record after one more cell of its row is cut, in the row too."""
    key, headers = message.key, message.headers
    if name == "key":
        if key is not None:
            row.update(key=None, key_digest=hashlib.sha256(key).hexdigest()[:DIGITS])
        key = None
    else:
        cell, encoding = row[name], row.get(f"{name}_encoding")
        whole, row[name] = _shortened(cell, encoding, room // KEPT)
        cut = {"length": len(whole), "sha256": hashlib.sha256(whole).hexdigest()}
        row["truncated"] = {**row.get("truncated", {}), name: cut}
    if name == "headers":
        headers = headers[-OURS:]
    return Message(key, json_value(row), headers)


def _shortened(cell: Any, encoding: str | None, length: int) -> tuple[bytes, Any]:
    """All bytes of a cell, and what stays of it: `length` bytes of text, else nothing."""
    if not isinstance(cell, str):
        return json_value(cell), None
    if encoding == "base64":
        whole = base64.b64decode(cell)
        return whole, base64.b64encode(whole[:length]).decode("ascii")
    whole = cell.encode("utf-8", "backslashreplace")
    return whole, whole[:length].decode("utf-8", "ignore")


def _size(headers: Headers) -> int:
    size = 0
    for name, value in headers:
        size += HEADER_FRAME + 4 * len(name) + (len(value) if value else 0)
    return size
