"""Columns of results to Arrow, under one schema for the whole output."""

import json
from typing import Any

import numpy as np
import pyarrow as pa

from stream_em.streams import Columns

_TEXT, _FLOAT = pa.string(), pa.float64()
_TYPES = {
    "source": _TEXT,
    "partition": pa.int32(),
    "offset": pa.int64(),
    "key": _TEXT,
    "time": _FLOAT,
    "cluster": pa.int32(),
    "cluster_uid": pa.int64(),
    "probability": _FLOAT,
    "squared_distance": _FLOAT,
    "log_likelihood": _FLOAT,
    "reason": _TEXT,
    "field": _TEXT,
    "detail": _TEXT,
    "raw": _TEXT,
    "raw_encoding": _TEXT,
    "row": pa.int64(),
    "change": _TEXT,
    "old_uid": pa.int64(),
    "new_uid": pa.int64(),
    "position": pa.list_(_FLOAT),
}


def schema_of(columns: Columns) -> pa.Schema:
    """Declared types for known columns; others as their first rows look, text if all are null."""
    types = {}
    for name, column in columns.items():
        found = _TYPES.get(name) or pa.array(column, from_pandas=True).type
        types[name] = _TEXT if pa.types.is_null(found) else found
    return pa.schema(types)


def record_batch(columns: Columns, schema: pa.Schema) -> pa.RecordBatch:
    """A table under a schema; NaN becomes null, and what is no text in a text column JSON.

    Raises `pyarrow.ArrowException` for other columns, or values of another type.
    """
    if list(columns) != schema.names:
        raise pa.ArrowInvalid(f"rows came with columns {list(columns)}, expected {schema.names}")
    arrays = [_array(columns[field.name], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(column: Any, wanted: pa.DataType) -> pa.Array:
    if wanted != _TEXT:
        return pa.array(column, wanted, from_pandas=True)
    cells = column.tolist() if isinstance(column, np.ndarray) else column
    text = [cell if cell is None or isinstance(cell, str) else _json(cell) for cell in cells]
    try:
        return pa.array(text, wanted)
    except UnicodeEncodeError:  # lone surrogates, as in names of files that are not UTF-8
        return pa.array(
            [c and c.encode("utf-8", "backslashreplace").decode() for c in text], wanted
        )


def _json(value: Any) -> str:
    plain = value.tolist() if isinstance(value, np.generic) else value
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
