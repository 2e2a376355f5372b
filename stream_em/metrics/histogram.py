"""Histograms as values: counts by bucket, filled by vectorised bucketing."""

from bisect import bisect_left
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from stream_em.arrays import Array

PHASE_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
DELAY_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
SIZE_BOUNDS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)


class Histogram(NamedTuple):
    """Some rows of buckets with the same bounds; a value equal to a bound is below it."""

    bounds: tuple[float, ...]  # (B,) ascending
    counts: Array  # (rows, B + 1) int64, not cumulated; the last is above all bounds
    sums: Array  # (rows,) of the values themselves

    def cumulated(self, row: int) -> list[tuple[str, float]]:
        """The buckets as exposed: upper bound and how many are not above it."""
        names = [*(f"{bound:g}" for bound in self.bounds), "+Inf"]
        totals = np.cumsum(self.counts[row]).tolist()
        return list(zip(names, totals, strict=True))


def empty(bounds: tuple[float, ...], rows: int = 1) -> Histogram:
    """A histogram of nothing.

    >>> empty((1, 10)).cumulated(0)
    [('1', 0), ('10', 0), ('+Inf', 0)]
    """
    counts = np.zeros((rows, len(bounds) + 1), dtype=np.int64)
    return _sealed(bounds, counts, np.zeros(rows))


def observed(held: Histogram, values: Array, row: int = 0) -> Histogram:
    """The histogram with many more values (n,) in one of its rows; NaN counts nowhere.

    >>> observed(empty((1, 10)), np.array([1.0, 5.0, 50.0])).cumulated(0)
    [('1', 1), ('10', 2), ('+Inf', 3)]
    """
    total = values.sum()
    if total != total:
        values = values[~np.isnan(values)]
        total = values.sum()
    counts, sums = held.counts.copy(), held.sums.copy()
    places = np.searchsorted(held.bounds, values)
    counts[row] += np.bincount(places, minlength=counts.shape[1])
    sums[row] += total
    return _sealed(held.bounds, counts, sums)


def observed_each(held: Histogram, values: Mapping[int, float]) -> Histogram:
    """The histogram with one more value in some of its rows.

    >>> observed_each(empty((1, 10)), {0: 7.0}).cumulated(0)
    [('1', 0), ('10', 1), ('+Inf', 1)]
    """
    counts, sums = held.counts.copy(), held.sums.copy()
    for row, value in values.items():
        counts[row, bisect_left(held.bounds, value)] += 1
        sums[row] += value
    return _sealed(held.bounds, counts, sums)


def _sealed(bounds: tuple[float, ...], counts: Array, sums: Array) -> Histogram:
    counts.flags.writeable = sums.flags.writeable = False
    return Histogram(bounds, counts, sums)
