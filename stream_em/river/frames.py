"""Mini-batches: data frames of any kind through narwhals, and NumPy arrays.

The columns of an array are the features 0, 1, ..., as in `river.stream.iter_array`. Answers
come back in the kind of what was asked, with the index of a pandas frame.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable
from typing import Any, final

import narwhals.stable.v2 as nw
import numpy as np
from narwhals.exceptions import DuplicateError
from river.utils import dataframe

from stream_em.arrays import Array, as_rows
from stream_em.errors import RowsError


class Table(ABC):
    """A mini-batch: the names of its columns, its values, and how to answer in its kind."""

    columns: tuple[Hashable, ...]
    values: Array  # (n, m) float64, NaN where missing

    @abstractmethod
    def one_each(self, values: Array, name: str) -> Any:
        """One value for each row (n,)."""

    @abstractmethod
    def some_each(self, values: Array, columns: list[int]) -> Any:
        """Several values for each row (n, k), under integer column names."""


@final
class ArrayTable(Table):
    """Rows of an array, or what NumPy makes one of."""

    def __init__(self, X: Any) -> None:
        self.values = as_rows(X, missing=True).values
        self.columns = tuple(range(self.values.shape[1]))

    def one_each(self, values: Array, name: str) -> Array:
        return values

    def some_each(self, values: Array, columns: list[int]) -> Array:
        return values


@final
class FrameTable(Table):
    """Rows of an eager data frame: pandas, polars, pyarrow and others."""

    def __init__(self, frame: Any, known: Collection[Hashable] | None) -> None:
        self._frame = frame
        self.columns = tuple(frame.columns)
        if known is not None:
            wanted = frozenset(known)
            places = [place for place, name in enumerate(self.columns) if name in wanted]
            self.columns = tuple(self.columns[place] for place in places)
            if not places:
                self.values = np.zeros((len(frame), 0))
                return
            frame = frame[:, places]
        try:
            values = np.ascontiguousarray(dataframe.to_numpy(frame))
        except (TypeError, ValueError) as error:
            raise RowsError(
                f"the columns {', '.join(map(str, self.columns))} are not all numeric ({error}); "
                "choose the numeric ones or encode the others first"
            ) from None
        names = tuple(map(str, self.columns))
        self.values = as_rows(values, names, missing=True).values

    def one_each(self, values: Array, name: str) -> Any:
        return dataframe.to_native_series(values, name=name, like=self._frame)

    def some_each(self, values: Array, columns: list[int]) -> Any:
        named = dict(zip(columns, values.T, strict=True))
        return dataframe.to_native_frame(named, like=self._frame)


def as_table(X: Any, known: Collection[Hashable] | None = None) -> Table:
    """A mini-batch as a table, of a frame only the `known` columns where they are given.

    Raises `RowsError` for what holds no numbers.
    """
    if isinstance(X, (np.ndarray, list, tuple)):
        return ArrayTable(X)
    try:
        frame = nw.from_native(X, eager_only=True)
    except TypeError:
        raise RowsError(
            f"a mini-batch came as {type(X).__name__}, expected a data frame with its rows in "
            "memory or an array (n, D)"
        ) from None
    except DuplicateError as error:
        raise RowsError(
            f"a mini-batch has columns of the same name ({' '.join(str(error).split())}); "
            "give each a name of its own, or leave the others out"
        ) from None
    return FrameTable(frame, known)
