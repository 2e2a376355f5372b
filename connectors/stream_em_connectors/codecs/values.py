"""Single values: what counts as a number, a weight, a time."""

import math
import re
import sys
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from stream_em.arrays import LARGEST
from stream_em_connectors.codecs.table import FlawError

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
NO_FINITE = re.compile(r"[+-]?(inf|infinity|nan)", re.ASCII | re.IGNORECASE)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
SHOWN = 80  # characters of a value in a message


def shown(value: Any) -> str:
    """A value as a message shows it, cut short."""
    text = repr(value)
    if isinstance(value, float) and abs(value) == sys.float_info.max:
        return f"{text} or beyond"  # where literals that no float holds end up
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def number(text: str, field: str, decimal: str = ".") -> float:
    """The number that a text says. Raises `FlawError`.

    >>> number(" 1e3", "x"), number("2,5", "x", decimal=",")
    (1000.0, 2.5)
    """
    plain = text.strip(" \t")
    dotted = plain
    if decimal != ".":
        dotted = plain.replace(".", "\0").replace(decimal, ".")
    if NUMBER.fullmatch(dotted):
        return magnitude(float(dotted), field, plain)
    if NO_FINITE.fullmatch(plain):
        raise FlawError("non_finite", field, f"{shown(plain)} came, expected a finite number")
    raise FlawError("decode_error", field, f"text {shown(plain)} came, expected a number")


def magnitude(value: float, field: str, came: Any = None) -> float:
    """The value itself if it can be learned. Raises `FlawError`.

    An infinity that was written as a number (`came` holds digits) is too large, not infinite.
    """
    if abs(value) <= LARGEST:
        return value
    came = value if came is None else came
    if math.isnan(value) or (math.isinf(value) and NO_FINITE.fullmatch(str(came))):
        raise FlawError("non_finite", field, f"{shown(came)} came, expected a finite number")
    raise FlawError("too_large", field, f"{shown(came)} came, expected at most {LARGEST:g}")


def plain_number(value: Any, field: str) -> float:
    """The number a decoded value is; text and booleans are none. Raises `FlawError`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        what = "text" if isinstance(value, str) else type(value).__name__
        raise FlawError("decode_error", field, f"{what} {shown(value)} came, expected a number")
    try:
        return magnitude(float(value), field)
    except OverflowError:
        raise FlawError("too_large", field, "an integer beyond all floats came") from None


def as_weight(judged: FlawError, field: str) -> FlawError:
    """The same finding about a weight, whose reason is always `weight`."""
    return FlawError("weight", field, judged.flaw.detail)


def not_negative(value: float, field: str) -> float:
    """A weight that is no less than zero. Raises `FlawError`."""
    if value < 0:
        raise FlawError("weight", field, f"{value:g} came, expected a number >= 0")
    return value


def seconds(value: Any, field: str, decimal: str = ".") -> float:
    """Seconds since 1970, from seconds or ISO 8601; NaN for nothing. Raises `FlawError`.

    >>> seconds("1970-01-01T00:01", "at"), seconds("1970-01-01 02:00+02:00", "at"), seconds(5, "at")
    (60.0, 0.0, 5.0)
    """
    if value is None:
        return math.nan
    if isinstance(value, str):
        value = _time_text(value, field, decimal)
    if isinstance(value, datetime):
        return _since_epoch(value)
    if isinstance(value, date):
        return _since_epoch(datetime(value.year, value.month, value.day))
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    if known and (value != value or abs(value) <= LARGEST):
        return float(value)
    raise FlawError(
        "decode_error", field, f"{shown(value)} came, expected seconds or an ISO 8601 time"
    )


def _time_text(text: str, field: str, decimal: str) -> float | datetime:
    plain = text.strip(" \t")
    if not plain:
        return math.nan
    dotted = plain.replace(decimal, ".")
    if NUMBER.fullmatch(dotted):
        return float(dotted)
    try:
        return datetime.fromisoformat(plain)
    except ValueError:
        raise FlawError(
            "decode_error", field, f"text {shown(plain)} came, expected seconds or ISO 8601"
        ) from None


def _since_epoch(moment: datetime) -> float:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return ((aware - EPOCH) // MICROSECOND) / 1e6


def seconds_or_infinity(values: Iterable[Any], decimal: str = ".") -> list[float]:
    """Each value's seconds; an infinity marks what is no time, for a closer look later."""
    return [_lenient(value, decimal) for value in values]


def _lenient(value: Any, decimal: str) -> float:
    try:
        return seconds(value, "", decimal)
    except FlawError:
        return math.inf


def mostly_numbers(good: int, bad: int) -> bool:
    """Whether a column with so many numbers, and so many other values, is a numeric one.

    One slip in twenty is forgiven, and always a single one among several numbers.
    """
    return good > bad and bad <= max(1, (good + bad) // 20)
