"""Feature names, and the way from an event's dict to a row.

An event is a dict, a row is (D,) float64 in the order of the names. A key that is absent,
None, NaN or pandas' NA is a missing value. Names are sorted when they come in, so that the order of
an event's keys has no effect; a later one comes behind them.
"""

import math
import struct
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, final

import numpy as np

from stream_em.arrays import LARGEST, Array
from stream_em.errors import RowsError

Event = Mapping[Any, Any]


@final
class Features:
    """The features a learner knows, and how events become rows of them.

    The row that `row` answers with is used again by the next call: copy it to keep it.

    >>> known = Features().wider({"b": 2.0, "a": 1.0})
    >>> known.names, known.row({"b": 5, "z": 7})
    (('a', 'b'), array([nan,  5.]))
    """

    def __init__(self, names: Sequence[Hashable] = ()) -> None:
        self.names = tuple(names)
        self._size = len(self.names) or -1
        self._row = np.empty(len(self.names))
        self._bytes = self._row.data.cast("B") if self.names else memoryview(b"")
        self._pack = struct.Struct(f"{len(self.names)}d").pack_into
        self._values = _getter(self.names)

    def __reduce__(self) -> tuple[Any, ...]:
        return Features, (self.names,)

    def exact(self, x: Event) -> Array | None:
        """The event as a row (D,) if it is a dict of numbers under exactly the known names."""
        if type(x) is not dict or len(x) != self._size:
            return None
        try:
            self._pack(self._bytes, 0, *self._values(x))
        except (KeyError, struct.error, OverflowError):
            return None
        return self._row

    def row(self, x: Event) -> Array:
        """The event as a row (D,); keys that are not known are left out."""
        row = self.exact(x)
        if row is not None:
            return row
        for place, name in enumerate(self.names):
            self._row[place] = _number(name, x[name]) if name in x else np.nan
        return self._row

    def new(self, names: Iterable[Hashable]) -> tuple[Hashable, ...]:
        """Those of `names` that are not known yet, sorted."""
        return _sorted(set(names).difference(self.names))

    def wider(self, names: Iterable[Hashable]) -> "Features":
        """These features followed by the new ones of `names`."""
        return Features(self.names + self.new(names))

    def placed(self, names: Sequence[Hashable], values: Array) -> Array:
        """Columns (n, m) called `names` as rows (n, D); absent columns are NaN."""
        if tuple(names) == self.names:
            return values
        column = {name: place for place, name in enumerate(names)}
        rows = np.full((len(values), len(self.names)), np.nan)
        for place, name in enumerate(self.names):
            if name in column:
                rows[:, place] = values[:, column[name]]
        return rows


def with_value(x: Event) -> list[Hashable]:
    """The keys of an event under which there is a value."""
    return [name for name, value in x.items() if not math.isnan(_number(name, value))]


def _getter(names: tuple[Hashable, ...]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) == 1:
        return lambda x: (x[names[0]],)
    return itemgetter(*names) if names else lambda x: ()


def _sorted(names: Iterable[Hashable]) -> tuple[Hashable, ...]:
    """Names by kind and value; by their spelling where values have no order."""
    names = list(names)
    try:
        return tuple(sorted(names, key=lambda name: (type(name).__name__, name)))
    except TypeError:
        return tuple(sorted(names, key=repr))


def _number(name: Hashable, value: Any) -> float:
    if value is None or type(value).__name__ == "NAType":  # pandas.NA, which may not be there
        return np.nan
    try:
        number = float(value)
        if not abs(number) > LARGEST:
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    raise RowsError(
        f"feature {name!r} holds {value!r} ({type(value).__name__}), expected a number of "
        f"magnitude up to {LARGEST:g}, or None where it is missing; encode it, or select the "
        "numeric features before"
    )
