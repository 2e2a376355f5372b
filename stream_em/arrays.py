"""Records of read-only arrays, and the one gate through which rows come in.

The letters used everywhere:

    n   rows of one batch          D   features
    K   live clusters              X   rows as they came, (n, D)
    Z   rows moved into the model's coordinates, (n, D)
    R   responsibilities, (n, K)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, dataclass_transform, get_args

import numpy as np

from stream_em.errors import RowsError, ShapeMismatch

Array = np.ndarray[Any, np.dtype[Any]]
T = TypeVar("T")

LARGEST = 1e100  # larger magnitudes are refused: their weighted squares would overflow


@dataclass_transform(frozen_default=True, eq_default=True)
def record(cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass whose arrays are read-only and compared bit for bit.

    The arrays handed to it are sealed in place: a record owns what it is given, and rows
    of others come in as views, through the gate.

    >>> @record
    ... class Point:
    ...     at: Array  # (D,)
    >>> a, b = Point(np.array([1.0, np.nan])), Point(np.array([1.0, np.nan]))
    >>> a == b, a.at.flags.writeable
    (True, False)
    """
    arrays = tuple(name for name, kind in cls.__annotations__.items() if _may_be_array(kind))

    def seal(self: Any) -> None:
        for name in arrays:
            value = getattr(self, name)
            if value is not None:
                value.setflags(False)

    def restore(self: Any, state: list[Any]) -> None:
        for name, value in zip(cls.__annotations__, state, strict=True):
            object.__setattr__(self, name, value)
        seal(self)

    setattr(cls, "__post_init__", seal)
    setattr(cls, "__setstate__", restore)  # copies and pickles are as read-only
    setattr(cls, "__eq__", _same)
    setattr(cls, "__hash__", None)
    return dataclass(frozen=True, eq=False, slots=True)(cls)


def altered(value: T, **changes: Any) -> T:
    """The record with some fields replaced; `dataclasses.replace` without its checks.

    >>> @record
    ... class Point:
    ...     at: Array  # (D,)
    ...     name: str
    >>> altered(Point(np.zeros(1), "a"), name="b").name
    'b'
    """
    names = getattr(value, "__match_args__")
    fields = [changes[name] if name in changes else getattr(value, name) for name in names]
    return type(value)(*fields)


def _may_be_array(kind: Any) -> bool:
    return kind == Array or Array in get_args(kind)


def _same(self: Any, other: object) -> bool:
    if type(self) is not type(other):
        return NotImplemented
    names: dict[str, Any] = getattr(type(self), "__dataclass_fields__")
    return all(identical(getattr(self, name), getattr(other, name)) for name in names)


def identical(a: Any, b: Any) -> bool:
    """Whether two values are equal, arrays to the last bit (NaN equals the same NaN)."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        if type(a) is not type(b) or a.dtype != b.dtype or a.shape != b.shape:
            return False
        return bool(a.tobytes() == b.tobytes())
    return bool(a == b) or (a != a and b != b)


class Rows(NamedTuple):
    """Rows that passed the gate."""

    values: Array  # (n, D) float64, C order
    features: tuple[str, ...] | None  # names, when the data had any
    ignored: int  # columns the model does not know


def as_rows(
    data: Any,
    features: tuple[str, ...] | None = None,
    width: int | None = None,
    missing: bool = False,
) -> Rows:
    """Take rows in: an array-like (n, D), or a data frame of any kind.

    `features` are the names the model was started with: a frame's columns are
    reordered to them, absent ones count as missing, new ones are ignored and
    counted. `width` is the D the model was started with; `missing` lets NaN pass. Raises
    `RowsError` for values that are no finite numbers and `ShapeMismatch` for another D.

    >>> as_rows([[1, 2], [3, 4]]).values
    array([[1., 2.],
           [3., 4.]])
    """
    names = _column_names(data)
    ignored = 0
    if names is None:
        values = _as_matrix(data, width)
    else:
        wanted = features if features is not None else names
        ignored = len(set(names) - set(wanted))
        values = _from_columns(data, names, wanted)
    if width is not None and values.shape[1] != width:
        raise ShapeMismatch(
            f"rows have {values.shape[1]} features, the model was started with {width}; "
            "give rows of that width, or start a new state with init()"
        )
    _refuse_unusable(values, features if names is None else (features or names), missing)
    return Rows(values, features if names is None else (features or names), ignored)


def _column_names(data: Any) -> tuple[str, ...] | None:
    if isinstance(data, (np.ndarray, list, tuple)):
        return None
    names = getattr(data, "column_names", None)  # pyarrow
    if names is None:
        names = getattr(data, "columns", None)  # pandas, polars, ...
    return None if names is None else tuple(str(name) for name in names)


def _as_matrix(data: Any, width: int | None) -> Array:
    try:
        values = _as_numbers(data).view()
    except (TypeError, ValueError) as error:
        raise RowsError(
            f"rows must be numbers in (n, D), but could not be read as such ({error}); "
            "give an array, a list of equally long rows, or a data frame"
        ) from None
    if values.size == 0 and values.ndim == 1:
        return values.reshape(0, width or 0)
    if values.ndim != 2:
        raise ShapeMismatch(
            f"rows came in shape {values.shape}, expected (n, D); "
            "use X.reshape(1, -1) for one row or X.reshape(-1, 1) for one feature"
        )
    if values.shape[1] == 0 and len(values):
        raise ShapeMismatch(f"{len(values)} rows came without any feature, expected (n, D), D > 0")
    return values


def _as_numbers(data: Any) -> Array:
    """Values as float64 in C order, masked ones as NaN; `TypeError` for what is no real number."""
    values = np.asanyarray(data)
    if values.dtype.kind not in "biufOUS":
        raise TypeError(f"they are of type {values.dtype}")
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(np.float64), np.nan)
    return np.ascontiguousarray(values, dtype=np.float64)


def _from_columns(data: Any, names: Sequence[str], wanted: Sequence[str]) -> Array:
    present = dict(zip(names, data.columns, strict=True))
    n = len(data)
    values = np.full((n, len(wanted)), np.nan)
    for place, name in enumerate(wanted):
        if name not in present:
            continue
        key = present[name]
        column = data[name] if not isinstance(key, (str, int)) else data[key]
        try:
            values[:, place] = _as_numbers(column)
        except (TypeError, ValueError) as error:
            raise RowsError(
                f"column {name!r} is not numeric ({error}); "
                "choose numeric columns or encode it first"
            ) from None
    return values


def _refuse_unusable(values: Array, names: Sequence[str] | None, missing: bool) -> None:
    good = np.abs(values) <= LARGEST  # False for NaN and infinities too
    if missing:
        good |= np.isnan(values)
    if good.all():
        return
    row, column = (int(i) for i in np.argwhere(~good)[0])
    what = f"feature {names[column]!r}" if names else f"column {column}"
    raise RowsError(
        f"row {row} holds {values[row, column]} in {what}, expected a finite number "
        f"of magnitude up to {LARGEST:g}; remove or impute such rows"
    )


def as_weights(weights: Any, n: int) -> Array:
    """Take row weights in: (n,) float64, finite and not negative; None means ones."""
    if weights is None:
        return np.ones(n)
    values = _as_vector(weights, n, "weights")
    bad = ~((values >= 0) & (values <= LARGEST))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise RowsError(
            f"weight {values[row]} of row {row} is not usable, expected a number from 0 to "
            f"{LARGEST:g}; weight 0 skips a row, negative weights cannot unlearn one"
        )
    return values


def as_times(times: Any, n: int) -> Array | None:
    """Take event times in: (n,) float64 seconds, from seconds or datetime64; None stays None."""
    if times is None:
        return None
    values = np.asarray(times)
    if values.dtype.kind == "M":
        seconds = values.astype("datetime64[ns]").astype(np.int64) / 1e9
        values = np.where(np.isnat(values), np.nan, seconds)
    return _as_vector(values, n, "times")


def _as_vector(values: Any, n: int, what: str) -> Array:
    try:
        vector = np.ascontiguousarray(values, dtype=np.float64).view()
    except (TypeError, ValueError) as error:
        raise RowsError(f"{what} must be numbers, one for each row ({error})") from None
    if vector.shape != (n,):
        raise ShapeMismatch(
            f"{what} came in shape {vector.shape}, expected ({n},): one for each row"
        )
    return vector
