"""Arrow columns to rows."""

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stream_em.arrays import Array
from stream_em.streams import Json
from stream_em_connectors.codecs.table import (
    Decoded,
    Fields,
    Flaw,
    FlawError,
    Raw,
    Row,
    doubtful,
    settled,
)
from stream_em_connectors.codecs.values import (
    as_weight,
    not_negative,
    plain_number,
    seconds,
    seconds_or_infinity,
)

PLAIN = (str, int, float, bool, type(None))


def floats(column: pa.Array | pa.ChunkedArray) -> Array:
    """A numeric column as float64, NaN for nulls.

    Reads the buffers itself, for pyarrow's own way to NumPy loads pandas.

    >>> floats(pa.array([1, None, 3]))
    array([ 1., nan,  3.])
    """
    column = pc.cast(column, pa.float64(), safe=False)
    if column.null_count:
        column = pc.fill_null(column, math.nan)
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts = [
        np.frombuffer(chunk.buffers()[1], np.float64, len(chunk), 8 * chunk.offset)
        for chunk in chunks
        if len(chunk)
    ]
    return np.concatenate(parts) if parts else np.empty(0)


def observed(column: pa.Array | pa.ChunkedArray) -> Array:
    """A numeric column as float64, NaN for nulls and infinity for NaN.

    >>> observed(pa.array([1, None, math.nan]))
    array([ 1., nan, inf])
    """
    column = pc.cast(column, pa.float64(), safe=False)
    values = floats(column)
    if np.count_nonzero(np.isnan(values)) > column.null_count:
        return floats(pc.if_else(pc.is_nan(column), math.inf, column))
    return values


def decoded(batch: pa.RecordBatch, fields: Fields) -> Decoded:
    """Rows of a record batch that are good, flaws of the others.

    >>> batch = pa.record_batch({"x": [1.0, None], "y": [2, 3]})
    >>> found = decoded(batch, Fields(("x", "y")))
    >>> found.rows, found.flaws[0][1].reason
    (array([[1., 2.]]), 'missing_feature')
    """
    columns = {name: _plain(batch.column(name)) for name in fields.names}
    rows = np.empty((batch.num_rows, len(fields.features)))
    numbers = observed if fields.missing else floats
    for j, name in enumerate(fields.features):
        rows[:, j] = numbers(columns[name])
    raw = Raw(
        rows=rows,
        weights=None if fields.weight is None else floats(columns[fields.weight]),
        times=None if fields.time is None else _seconds(columns[fields.time]),
        keys=None if fields.key is None else [_key(one) for one in columns[fields.key].to_pylist()],
    )
    doubts = doubtful(raw, fields.missing)
    return settled(raw, {place: _judged(columns, place, fields) for place in doubts})


def numeric(kind: pa.DataType) -> bool:
    """Whether a column of this type holds numbers."""
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or (pa.types.is_dictionary(kind) and numeric(kind.value_type))
    )


def misfit(kind: pa.DataType, name: str, fields: Fields) -> str | None:
    """Why a column of this type cannot be used as the fields say, if it cannot."""
    nothing = fields.missing and name in fields.features and pa.types.is_null(kind)
    if (name in fields.features or name == fields.weight) and not (numeric(kind) or nothing):
        return f"holds {kind}, expected numbers; choose another column or convert it"
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    moment = pa.types.is_timestamp(kind) or pa.types.is_date(kind)
    if name == fields.time and not (numeric(kind) or text or moment):
        return f"holds {kind}, expected timestamps, seconds or ISO 8601 text as `time`"
    return None


def as_json(batch: pa.RecordBatch, place: int) -> bytes:
    """The values of a row, for a dead letter; whatever JSON does not know becomes text."""
    values = {name: batch.column(name)[place].as_py() for name in batch.schema.names}
    texts = {name: _key(value) for name, value in values.items()}
    safe = {name: str(v) if isinstance(v, float) and v - v != 0 else v for name, v in texts.items()}
    return json.dumps(safe).encode()


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _seconds(column: pa.Array) -> Array:
    if numeric(column.type):
        return floats(column)
    if pa.types.is_date(column.type):
        column = pc.cast(column, pa.timestamp("us"))
    if pa.types.is_timestamp(column.type):
        moments = pc.cast(column, pa.timestamp("us", column.type.tz), safe=False)
        return floats(pc.cast(moments, pa.int64())) / 1e6
    return np.array(seconds_or_infinity(column.to_pylist()), dtype=np.float64)


def _key(value: Any) -> Json:
    return value if isinstance(value, PLAIN) else str(value)


def _judged(columns: dict[str, pa.Array], place: int, fields: Fields) -> Row | Flaw:
    """One row on its own, by the values as they are in the file."""
    try:
        return Row(
            values=tuple(_feature(columns[name], place, name, fields) for name in fields.features),
            weight=1.0
            if fields.weight is None
            else _weight(columns[fields.weight], place, fields.weight),
            time=math.nan
            if fields.time is None
            else seconds(columns[fields.time][place].as_py(), fields.time),
            key=None if fields.key is None else _key(columns[fields.key][place].as_py()),
        )
    except FlawError as error:
        return error.flaw


def _feature(column: pa.Array, place: int, name: str, fields: Fields) -> float:
    if not column[place].is_valid:
        if fields.missing:
            return math.nan
        raise FlawError("missing_feature", name, "null came, expected a number")
    return plain_number(column[place].cast(pa.float64(), safe=False).as_py(), name)


def _weight(column: pa.Array, place: int, name: str) -> float:
    if not column[place].is_valid:
        raise FlawError("weight", name, "null came, expected a number >= 0")
    try:
        value = column[place].cast(pa.float64(), safe=False).as_py()
        return not_negative(plain_number(value, name), name)
    except FlawError as error:
        raise as_weight(error, name) from None
