"""Columns of results to JSON lines.

One msgspec struct per set of columns: several times faster than dictionaries. NaN and
infinities become null, as JSON has no words for them.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from stream_em.streams import Columns


def json_lines(columns: Columns) -> bytes:
    r"""A table as JSON, one object to a line, in the order of the columns.

    >>> json_lines({"cluster": np.array([2, 0]), "log_likelihood": np.array([-1.5, np.nan])})
    b'{"cluster":2,"log_likelihood":-1.5}\n{"cluster":0,"log_likelihood":null}\n'
    """
    values = [_plain_column(column) for column in columns.values()]
    places = [f"c{place}" for place in range(len(values))]
    row = msgspec.defstruct(
        "Row",
        [(place, object) for place in places],
        rename=dict(zip(places, columns, strict=True)),
        gc=False,
    )
    encoder = msgspec.json.Encoder(enc_hook=_plain)
    try:
        return encoder.encode_lines(list(map(row, *values)))
    except (UnicodeEncodeError, OverflowError):  # lone surrogates, integers beyond 64 bits
        names = list(columns)
        rows = [dict(zip(names, cells, strict=True)) for cells in zip(*values, strict=True)]
        return "".join(json.dumps(_finite(row)) + "\n" for row in rows).encode("ascii")


def _plain_column(column: Any) -> list[Any]:
    return column.tolist() if isinstance(column, np.ndarray) else list(column)


def _plain(value: Any) -> Any:
    """Scalars and arrays of NumPy among the cells of a list."""
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
