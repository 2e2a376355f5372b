"""Rows that wait for their scores, and the output rows they become."""

import numpy as np

from stream_em.arrays import Array
from stream_em.state import Scores
from stream_em.streams import Columns, Json, Origins

#: The columns of an output row, in order.
COLUMNS = (
    "source",
    "partition",
    "offset",
    "key",
    "time",
    "cluster",
    "cluster_uid",
    "probability",
    "squared_distance",
    "log_likelihood",
)


def joined(first: Origins | None, second: Origins) -> Origins:
    """The origins of `first`, then those of `second`.

    >>> zero = np.zeros(1, np.int32)
    >>> one = Origins(("a",), zero, zero, np.array([7]), None, None)
    >>> joined(None, one) is one, joined(one, one).offset
    (True, array([7, 7]))
    """
    if first is None or not len(first.offset):
        return second
    if not len(second.offset):
        return first
    sources = first.sources + tuple(s for s in second.sources if s not in first.sources)
    places = np.array([sources.index(s) for s in second.sources], dtype=np.int32)
    return Origins(
        sources=sources,
        source=np.concatenate([first.source, places[second.source]]),
        partition=np.concatenate([first.partition, second.partition]),
        offset=np.concatenate([first.offset, second.offset]),
        keys=_joined_keys(first, second),
        times=_joined_times(first, second),
    )


def _joined_keys(first: Origins, second: Origins) -> tuple[Json, ...] | None:
    if first.keys is None and second.keys is None:
        return None
    return tuple(
        key
        for part in (first, second)
        for key in (part.keys if part.keys is not None else (None,) * len(part.offset))
    )


def _joined_times(first: Origins, second: Origins) -> Array | None:
    if first.times is None and second.times is None:
        return None
    return np.concatenate(
        [
            part.times if part.times is not None else np.full(len(part.offset), np.nan)
            for part in (first, second)
        ]
    )


def chosen(origins: Origins, rows: slice | Array) -> Origins:
    """The origins of some rows: a slice, or a boolean mask (n,)."""
    keys = origins.keys
    if keys is not None:
        places = range(len(keys))[rows] if isinstance(rows, slice) else np.flatnonzero(rows)
        keys = tuple(keys[place] for place in places)
    return Origins(
        sources=origins.sources,
        source=origins.source[rows],
        partition=origins.partition[rows],
        offset=origins.offset[rows],
        keys=keys,
        times=None if origins.times is None else origins.times[rows],
    )


def paired(waiting: Origins, scored: int) -> tuple[Origins, Origins | None]:
    """Cut the first `scored` rows off those that wait; None when none is left."""
    if scored == len(waiting.offset):
        return waiting, None
    return chosen(waiting, slice(0, scored)), chosen(waiting, slice(scored, None))


def output_columns(origins: Origins, scores: Scores) -> Columns:
    """The output rows of `origins` (n,) and their `scores` (n,)."""
    return dict(
        zip(
            COLUMNS,
            (
                source_names(origins),
                origins.partition,
                origins.offset,
                [None] * len(origins.offset) if origins.keys is None else list(origins.keys),
                nullable(origins.times, len(origins.offset)),
                scores.slots[scores.labels],
                scores.uids[scores.labels],
                scores.probability,
                nullable(scores.squared_distance, len(origins.offset)),
                nullable(scores.log_likelihood, len(origins.offset)),
            ),
            strict=True,
        )
    )


def source_names(origins: Origins) -> list[str]:
    """The name of each row's source."""
    if len(origins.sources) == 1:
        return [origins.sources[0]] * len(origins.offset)
    return [origins.sources[place] for place in origins.source.tolist()]


def nullable(values: Array | None, n: int) -> list[float | None] | Array:
    """Numbers with None where there is none.

    >>> nullable(np.array([1.0, np.nan]), 2), nullable(None, 2)
    ([1.0, None], [None, None])
    """
    if values is None:
        return [None] * n
    absent = np.isnan(values)
    if not absent.any():
        return values
    return [None if gone else value for value, gone in zip(values.tolist(), absent, strict=True)]


def slices(columns: Columns, size: int) -> list[Columns]:
    """Cut a table into pieces of up to `size` rows.

    >>> slices({"a": [1, 2, 3]}, 2)
    [{'a': [1, 2]}, {'a': [3]}]
    """
    n = len(next(iter(columns.values())))
    if n <= size:
        return [columns] if n else []
    return [
        {name: column[start : start + size] for name, column in columns.items()}
        for start in range(0, n, size)
    ]
