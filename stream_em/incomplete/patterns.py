"""Incomplete rows, grouped by what they lack."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from stream_em.arrays import Array


class Patterns(NamedTuple):
    """Incomplete rows by what they lack, P kinds in all."""

    rows: Array  # (p,) indices of the incomplete rows, kind after kind
    edges: Array  # (P + 1,) where the rows of each kind begin and end
    observed: Array  # (P, D) bool

    @property
    def each(self) -> Iterator[tuple[slice, Array]]:
        """Where the rows of each kind lie in `rows`, and what they have (D,)."""
        for i, observed in enumerate(self.observed):
            yield slice(self.edges[i], self.edges[i + 1]), observed

    def some(self, first: int, last: int) -> "Patterns":
        """The kinds from `first` up to `last`."""
        edges = self.edges[first : last + 1]
        rows = self.rows[edges[0] : edges[-1]]
        return Patterns(rows, edges - edges[0], self.observed[first:last])


def patterns(Z: Array) -> Patterns:
    """The incomplete rows of Z (n, D), grouped by what they lack; complete rows are left out."""
    lacking = np.isnan(Z)
    incomplete = np.flatnonzero(lacking.any(axis=1))
    kinds, which = np.unique(lacking[incomplete], axis=0, return_inverse=True)
    which = which.ravel()
    edges = np.concatenate([[0], np.cumsum(np.bincount(which, minlength=len(kinds)))])
    return Patterns(incomplete[np.argsort(which, kind="stable")], edges, ~kinds)
