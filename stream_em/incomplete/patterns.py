"""Incomplete rows, grouped by what they lack."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from stream_em.arrays import Array


class Patterns(NamedTuple):
    """Incomplete rows by what they lack, P kinds in all; a kind with many rows comes repeatedly."""

    rows: Array  # (p,) indices of the incomplete rows, kind after kind
    edges: Array  # (P + 1,) where the rows of each kind begin and end
    observed: Array  # (P, D) bool

    @property
    def each(self) -> Iterator[tuple[slice, Array]]:
        """Where the rows of each kind lie in `rows`, and what they have (D,)."""
        for i, observed in enumerate(self.observed):
            yield slice(self.edges[i], self.edges[i + 1]), observed

    def turns(self, kinds: int, rows: int) -> Iterator["Patterns"]:
        """The same in turns of up to so many kinds and so many rows, each of one kind or more."""
        first, P = 0, len(self.observed)
        while first < P:
            fit = np.searchsorted(self.edges, self.edges[first] + rows, side="right") - 1
            last = min(max(int(fit), first + 1), first + kinds, P)
            edges = self.edges[first : last + 1]
            yield Patterns(
                self.rows[edges[0] : edges[-1]], edges - edges[0], self.observed[first:last]
            )
            first = last


def patterns(Z: Array, most: int) -> Patterns:
    """The incomplete rows of Z (n, D) by what they lack, up to `most` at a time of each kind.

    >>> found = patterns(np.array([[1.0, np.nan], [2.0, 3.0], [np.nan, 4.0], [5.0, np.nan]]), 9)
    >>> found.rows, found.edges, found.observed.tolist()
    (array([0, 3, 2]), array([0, 2, 3]), [[True, False], [False, True]])
    """
    lacking = np.isnan(Z)
    incomplete = np.flatnonzero(lacking.any(axis=1))
    kinds, which = np.unique(lacking[incomplete], axis=0, return_inverse=True)
    which = which.ravel()
    counts = np.bincount(which, minlength=len(kinds))
    ends = np.cumsum(counts)
    begins = [range(end - count, end, most) for end, count in zip(ends, counts, strict=True)]
    edges = np.array([begin for kind in begins for begin in kind] + [len(which)])
    observed = np.repeat(~kinds, [len(kind) for kind in begins], axis=0)
    return Patterns(incomplete[np.argsort(which, kind="stable")], edges, observed)
