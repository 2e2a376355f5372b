"""Columns of results to JSON, row by row.

One msgspec struct per set of columns: several times faster than dictionaries. NaN and
infinities become null, as JSON has no words for them.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from stream_em.streams import Base64, Columns


def json_lines(columns: Columns) -> bytes:
    r"""A table as JSON, one object to a line, in the order of the columns.

    >>> json_lines({"cluster": np.array([2, 0]), "log_likelihood": np.array([-1.5, np.nan])})
    b'{"cluster":2,"log_likelihood":-1.5}\n{"cluster":0,"log_likelihood":null}\n'
    """
    rows, encoder = _rows(columns), msgspec.json.Encoder(enc_hook=_plain)
    try:
        return encoder.encode_lines(rows)
    except (UnicodeEncodeError, OverflowError):  # lone surrogates, integers beyond 64 bits
        return b"".join(line + b"\n" for line in _slowly(columns))


def json_rows(columns: Columns) -> list[bytes]:
    """A table as JSON, one object for each row: the same bytes as the lines of `json_lines`.

    >>> json_rows({"cluster": np.array([2, 0]), "key": ["a", None]})
    [b'{"cluster":2,"key":"a"}', b'{"cluster":0,"key":null}']
    """
    rows, encoder = _rows(columns), msgspec.json.Encoder(enc_hook=_plain)
    try:
        return [encoder.encode(row) for row in rows]
    except (UnicodeEncodeError, OverflowError):
        return _slowly(columns)


def json_value(value: Any) -> bytes:
    """One value as JSON, by the same rules.

    >>> json_value([np.float64(0.5), "a", math.nan])
    b'[0.5,"a",null]'
    """
    try:
        return msgspec.json.encode(value, enc_hook=_plain)
    except (UnicodeEncodeError, OverflowError):
        return json.dumps(_finite(value)).encode("ascii")


def _rows(columns: Columns) -> list[Any]:
    places = [f"c{place}" for place in range(len(columns))]
    row = msgspec.defstruct(
        "Row",
        [(place, object) for place in places],
        rename=dict(zip(places, columns, strict=True)),
        gc=False,
    )
    return list(map(row, *(_plain_column(column) for column in columns.values())))


def _slowly(columns: Columns) -> list[bytes]:
    names, values = list(columns), [_plain_column(column) for column in columns.values()]
    rows = (dict(zip(names, cells, strict=True)) for cells in zip(*values, strict=True))
    return [json.dumps(_finite(row)).encode("ascii") for row in rows]


def _plain_column(column: Any) -> list[Any]:
    return column.tolist() if isinstance(column, np.ndarray) else list(column)


def _plain(value: Any) -> Any:
    """Bytes as their base64, and scalars and arrays of NumPy among the cells of a list."""
    if isinstance(value, Base64):
        return str(value)
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"cannot write a {type(value).__name__} as JSON")


def _finite(value: Any) -> Any:
    """The same rules for the slower encoder of the standard library."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return _finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
