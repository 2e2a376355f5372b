"""Decoded objects to rows: dotted paths into nested dictionaries, and what is wrong with values."""

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np

from stream_em.arrays import Array
from stream_em.errors import SettingsError
from stream_em_connectors.codecs.table import Fields, FlawError, Row
from stream_em_connectors.codecs.values import (
    as_weight,
    not_negative,
    plain_number,
    seconds,
    seconds_or_infinity,
)

NUMBERS = frozenset({int, float, type(None)})


def at(item: Any, name: str) -> Any:
    """The value at a dotted path, None where there is none.

    >>> at({"engine": {"pressure": 2}}, "engine.pressure"), at({"engine": 1}, "engine.pressure")
    (2, None)
    """
    for part in name.split("."):
        item = item.get(part) if isinstance(item, dict) else None
    return item


def check_paths(fields: Fields) -> None:
    """Raises `SettingsError` for a path with a part that names nothing.

    >>> check_paths(Fields(("x.",)))
    Traceback (most recent call last):
    ...
    stream_em.errors.SettingsError: field 'x.' has an empty part, expected names with dots \
between; a dot in a name reads a nested field
    """
    for name in fields.names:
        if not whole(name):
            raise SettingsError(
                f"field {name!r} has an empty part, expected names with dots between; a dot in a "
                "name reads a nested field"
            )


def whole(path: str) -> bool:
    """Whether every part of a dotted path names something."""
    return all(path.split("."))


def row_of(item: Mapping[str, Any], fields: Fields) -> Row:
    """The row that an object makes. Raises `FlawError`.

    >>> row_of({"x": 1, "inner": {"y": 2}}, Fields(("x", "inner.y"))).values
    (1.0, 2.0)
    """
    return Row(
        values=tuple(_feature(item, name, fields) for name in fields.features),
        weight=1.0 if fields.weight is None else _weight(item, fields.weight),
        time=math.nan if fields.time is None else seconds(at(item, fields.time), fields.time),
        key=None if fields.key is None else at(item, fields.key),
    )


def times_of(values: list[Any], dtype: Any) -> Array:
    """Values as seconds, NaN for nothing, an infinity for what needs a closer look."""
    if NUMBERS.issuperset(map(type, values)):
        try:
            return np.array(values, dtype=dtype)
        except OverflowError:
            pass
    return np.array(seconds_or_infinity(values), dtype=dtype)


def _feature(item: Mapping[str, Any], name: str, fields: Fields) -> float:
    value = at(item, name)
    if value is None and fields.missing:
        return math.nan
    if value is None:
        raise FlawError("missing_feature", name, "absent or null, expected a number")
    return plain_number(_plain(value), name)


def _weight(item: Mapping[str, Any], name: str) -> float:
    value = at(item, name)
    if value is None:
        raise FlawError("weight", name, "absent or null, expected a number >= 0")
    try:
        return not_negative(plain_number(_plain(value), name), name)
    except FlawError as error:
        raise as_weight(error, name) from None


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value
