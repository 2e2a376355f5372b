"""A visit: the rows of one chunk as the clusters see them now."""

from collections.abc import Iterable
from functools import reduce

import numpy as np

from stream_em.arrays import Array, altered
from stream_em.errors import RowsError
from stream_em.incomplete import expect
from stream_em.models.protocol import Expectation, Model
from stream_em.replaying.bounds import energy
from stream_em.replaying.memos import Memo, merged
from stream_em.scoring import summed, tally_of, with_background
from stream_em.state import Held, State


def visited(model: Model, state: State, columns: Array, pieces: Iterable[Held]) -> Memo:
    """The memo of the rows of one chunk under the clusters of `state`.

    `columns` (K,) are the columns of given responsibilities that belong to the clusters.
    """
    found = reduce(merged, (_of_piece(model, state, columns, piece) for piece in pieces), None)
    assert found is not None
    return found


def _of_piece(model: Model, state: State, columns: Array, held: Held) -> Memo:
    assert state.frame is not None and state.clusters is not None
    given = None if held.given is None else _live(held.given, columns)
    Z = state.frame.inward(held.rows)
    expectation = with_background(model, state, expect(model, state.clusters, Z), Z)
    if given is not None:
        expectation = _owned(expectation, given)
    own = held.weights * (1 - expectation.background)
    memo = Memo(
        tally_of(model, state.clusters, Z, own, expectation, given),
        float(held.weights @ expectation.background),
        0.0,
        float(held.weights.sum()),
    )
    if not model.has_density:
        return memo
    free_energy = summed(expectation, held.weights, given).free_energy
    return altered(memo, entropy=free_energy - energy(model, state, memo))


def _owned(expectation: Expectation, given: Array) -> Expectation:
    """Rows with given responsibilities are the clusters' alone, not the background's."""
    known = ~np.isnan(given).any(axis=1)
    return expectation._replace(background=np.where(known, 0.0, expectation.background))


def _live(given: Array, columns: Array) -> Array:
    live = np.ascontiguousarray(given[:, columns])
    if np.abs(np.nan_to_num(live.sum(axis=1), nan=1.0) - 1).max(initial=0.0) > 1e-6:
        raise RowsError(
            "given labels name a cluster that is not live; there are "
            f"{len(columns)} clusters, so use labels below that or -1 where unknown"
        )
    return live
