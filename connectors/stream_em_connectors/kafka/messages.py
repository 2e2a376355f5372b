"""A table of results to records of a topic: a JSON value for each row, its key, its headers.

The value is the row as JSON, the same bytes as its line in a file of JSON lines.
"""

import base64
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, final

import numpy as np

from stream_em.arrays import Array
from stream_em.streams import Base64, Columns, Json
from stream_em_connectors.codecs.json_rows import json_rows, json_value
from stream_em_connectors.kafka.client import Headers
from stream_em_connectors.kafka.fitting import Message, fitted, outsize

SOURCE, PARTITION, OFFSET = "stream-em-source", "stream-em-partition", "stream-em-offset"
REASON = "stream-em-reason"

Record = tuple[bytes | None, bytes, Headers]


def messages(columns: Columns, traced: bool, room: int) -> Iterator[Record]:
    """Key, value and headers for each row of a table, together at most `room` bytes.

    `traced` rows tell in headers where they came from; dead letters always do. What is too
    large is cut, see `fitting`.

    >>> list(messages({"key": ["a"], "cluster": np.array([2])}, False, 1000))
    [(b'a', b'{"key":"a","cluster":2}', ())]
    """
    layout = _layout_of(columns, traced)
    keys, values, headers = layout.keys(columns), json_rows(columns), layout.headers(columns)
    for place in outsize(keys, values, headers, room):
        row = {name: column[place] for name, column in columns.items()}
        message = Message(keys[place], values[place], headers[place])
        keys[place], values[place], headers[place] = fitted(row, message, room)
    return zip(keys, values, headers, strict=True)


class _Layout(ABC):
    """What the rows of a table are to a topic."""

    @abstractmethod
    def keys(self, columns: Columns) -> list[bytes | None]:
        """The key of each row's record; records without one spread over the partitions."""

    @abstractmethod
    def headers(self, columns: Columns) -> list[Headers]:
        """The headers of each row's record."""


@final
class _Rows(_Layout):
    """Output rows, and changes of clusters."""

    def keys(self, columns: Columns) -> list[bytes | None]:
        return _row_keys(columns)

    def headers(self, columns: Columns) -> list[Headers]:
        return [()] * _length(columns)


@final
class _TracedRows(_Layout):
    """Output rows that may come twice: a reader can tell by where they came from."""

    def keys(self, columns: Columns) -> list[bytes | None]:
        return _row_keys(columns)

    def headers(self, columns: Columns) -> list[Headers]:
        return _origins(columns)


@final
class _DeadLetters(_Layout):
    """Rejected records: key and headers as they came, then where from and why."""

    def keys(self, columns: Columns) -> list[bytes | None]:
        return list(map(_bytes, columns["key"], columns["key_encoding"]))

    def headers(self, columns: Columns) -> list[Headers]:
        came = (tuple(map(_header, headers or ())) for headers in columns["headers"])
        reasons = ((REASON, reason.encode()) for reason in columns["reason"])
        together = zip(came, _origins(columns), reasons, strict=True)
        return [(*own, *origin, reason) for own, origin, reason in together]


def _layout_of(columns: Columns, traced: bool) -> _Layout:
    if "raw" in columns:
        return _DeadLetters()
    return _TracedRows() if traced and "source" in columns else _Rows()


def _row_keys(columns: Columns) -> list[bytes | None]:
    """Text as UTF-8, `Base64` as its bytes, other values as their JSON text."""
    keys = columns.get("key")
    if keys is None:
        return [None] * _length(columns)
    return [
        key.encode("utf-8", "backslashreplace") if type(key) is str else _other_key(key)
        for key in _plain(keys)
    ]


def _other_key(key: Json) -> bytes | None:
    if isinstance(key, Base64):
        return key.raw
    text = None if key is None else json_value(key)
    return None if text == b"null" else text


def _origins(columns: Columns) -> list[Headers]:
    names = _plain(columns["source"])
    sources = {name: (SOURCE, name.encode("utf-8", "backslashreplace")) for name in set(names)}
    places = zip(names, _plain(columns["partition"]), _plain(columns["offset"]), strict=True)
    return [
        (sources[name], (PARTITION, b"%d" % partition), (OFFSET, b"%d" % offset))
        for name, partition, offset in places
    ]


def _header(header: Mapping[str, Any]) -> tuple[str, bytes | None]:
    return header["name"], _bytes(header["value"], header["encoding"])


def _bytes(text: str | None, encoding: str | None) -> bytes | None:
    if text is None:
        return None
    return base64.b64decode(text) if encoding == "base64" else text.encode()


def _plain(column: Sequence[Any] | Array) -> list[Any]:
    return column.tolist() if isinstance(column, np.ndarray) else list(column)


def _length(columns: Columns) -> int:
    return len(next(iter(columns.values())))
