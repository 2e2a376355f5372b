"""Merging: two tallies of one state, or two states, become one.

Tallies made under the same clusters merge in any order. Two states were made under
different clusters: their 2K clusters are put side by side and reduced to K by the
cheapest structural merges, so that N is conserved and every fate of a cluster is told.
"""

from typing import Any, overload

from stream_em import background, moments
from stream_em.arrays import altered
from stream_em.errors import RowsError
from stream_em.models.protocol import Model
from stream_em.quarantine import united
from stream_em.scoring import appended, joined, latest_rows
from stream_em.state import State, Tally
from stream_em.unions import at_latest, later, merged_states


@overload
def merge(model: Model, a: State, b: State) -> State: ...
@overload
def merge(model: Model, a: Tally, b: Tally) -> Tally: ...
def merge(model: Model, a: Any, b: Any) -> Any:
    """The union of two tallies of one state, or of two states of one model.

    States are reduced to K clusters by the cheapest merges; the heavier part's uid
    survives, b's uids are shifted past a's, and the changes appear in the next `info`.
    Raises `RowsError` for other features and for tallies made under other clusters.

    >>> import stream_em as se
    >>> model = se.KMeans(n_clusters=1, initial_means=[[0.0]], forgetting=se.KeepAll())
    >>> a, _ = se.step(model, se.init(model), [[1.0], [3.0]])
    >>> b, _ = se.step(model, se.init(model), [[5.0]])
    >>> se.clusters(model, se.merge(model, a, b)).means
    array([[3.]])
    """
    if isinstance(a, Tally) and isinstance(b, Tally):
        return _merged_tallies(model, a, b)
    if isinstance(a, State) and isinstance(b, State):
        return merged_states(model, a, b)
    raise RowsError(
        f"merge takes two states or two tallies, got {type(a).__name__} and {type(b).__name__}"
    )


def _merged_tallies(model: Model, a: Tally, b: Tally) -> Tally:
    if a.features is not None and b.features is not None and a.features != b.features:
        raise RowsError(f"tallies of other features: {a.features} and {b.features}")
    if a.clusters != b.clusters or a.frame != b.frame:
        raise RowsError("tallies made under different clusters are never merged; tally again")
    if a.moments is None or b.moments is None or a.spread is None or b.spread is None:
        both, spread = None, None
    else:
        left, right = at_latest(model, a.time, a.moments, b.time, b.moments)
        both = moments.merge(left, right)
        spread = moments.merge(*at_latest(model, a.time, a.spread, b.time, b.spread))
    return altered(
        a,
        held=appended(a.held, b.held),
        moments=both,
        spread=spread,
        weight=a.weight + b.weight,
        total=a.total + b.total,
        learned=a.learned + b.learned,
        time=later(a.time, b.time),
        sums=a.sums.plus(b.sums),
        clipped=a.clipped + b.clipped,
        far=None if a.far is None or b.far is None else united(a.far, b.far),
        uniform=background.united(a.uniform, b.uniform),
        recent=latest_rows(a.recent, b.recent),
        scores=joined(a.scores, b.scores),
        features=a.features or b.features,
        ignored_columns=a.ignored_columns + b.ignored_columns,
    )
