"""How many clusters: the whole curve over K from one state, by its merge path.

The clusters of one pass with a generous K are merged greedily, the cheapest pair first
(Ward for k-means, Runnalls' bound for mixtures), and each K on the way down is scored on
rows that were not learned. Merging costs no pass over the stream; the bound itself is
only the order of the path, never a stopping rule.
"""

import math

import numpy as np

from stream_em import moments
from stream_em.arrays import Array, altered, as_rows, as_weights, record
from stream_em.errors import RowsError
from stream_em.incomplete import expect
from stream_em.models.protocol import Clusters, Model
from stream_em.moments import Moments
from stream_em.restructuring import settled
from stream_em.scoring import summed, with_background
from stream_em.spread import floored_variance
from stream_em.state import State


@record
class KCurve:
    """Scores of every K on the merge path, from all live clusters down to one."""

    k: Array  # (m,) int64, descending
    objective: Array  # (m,) mean squared distance on the window, model's units
    log_likelihood: Array  # (m,) mean nats on the window; NaN for k-means
    bic: Array  # (m,) lower is better; NaN for k-means
    merge_cost: Array  # (m,) what the merge down to this K cost; 0 for the first
    events: float  # n of the BIC: effective events behind the state

    @property
    def best(self) -> int:
        """The K of least BIC; for k-means the elbow, farthest below the chord of log J."""
        if not np.isnan(self.bic).all():
            return int(self.k[int(np.nanargmin(self.bic))])
        return int(self.k[_elbow(self.k, self.objective)])


def k_curve(model: Model, state: State, X: object, *, weights: object = None) -> KCurve:
    """J(K), log-likelihood(K) and BIC(K) of one state, on a window X (n, D) of held-out rows.

    BIC = -2 n·ℓ̂ + P ln n, with ℓ̂ the window's mean log-likelihood and n the effective
    number of events behind the state. Raises `RowsError` without clusters or rows.

    >>> import stream_em as se
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(4000, 2)) + 9 * rng.integers(2, size=(4000, 1))
    >>> model = se.GaussianMixture(n_components=5)
    >>> state, _ = se.step(model, se.init(model), X[:3000])
    >>> se.k_curve(model, state, X[3000:]).best
    2
    """
    state = settled(model, state)
    if state.moments is None or state.frame is None or state.spread is None:
        raise RowsError("the state has no clusters yet; learn rows or call finish() first")
    width = len(state.frame.origin)
    rows = as_rows(X, state.features, width, model.missing is not None).values
    if len(rows) == 0:
        raise RowsError("the window has no rows; give held-out rows to score on")
    Z, w = state.frame.inward(rows), as_weights(weights, len(rows))
    v, held = floored_variance(state.spread, state.frame), state.moments
    events = _events(state)
    points = [_point(model, state, held, v, Z, w, events, 0.0)]
    while len(held.step) > 1:
        costs = model.merge_costs(held, v)
        p, q = (int(i) for i in np.unravel_index(int(costs.argmin()), costs.shape))
        cost = float(costs[p, q])
        held = moments.fold(held, p, q)
        points.append(_point(model, state, held, v, Z, w, events, cost))
    k, objective, log_likelihood, bic, cost_of = (np.array(c) for c in zip(*points, strict=True))
    return KCurve(k, objective, log_likelihood, bic, cost_of, events)


def _events(state: State) -> float:
    """Effective events: Kish's size of all rows, which half-lives shrink."""
    assert state.spread is not None
    return float(moments.effective_size(state.spread)[0])


def _point(
    model: Model,
    state: State,
    held: Moments,
    v: Array,
    Z: Array,
    weights: Array,
    events: float,
    cost: float,
) -> tuple[int, float, float, float, float]:
    """One K: its scores on the window."""
    clusters: Clusters = model.reread(held, v, state.clusters).clusters
    at = altered(state, clusters=clusters, moments=held)
    expectation = with_background(model, at, expect(model, clusters, Z), Z)
    sums = summed(expectation, weights, None)
    mean = sums.log_likelihood / sums.weight
    K = len(held.step)
    bic = math.nan
    if model.has_density:
        parameters = model.n_parameters(Z.shape[1], K) + (state.background is not None)
        bic = -2 * events * mean + parameters * math.log(max(events, 2.0))
    return K, sums.objective / sums.weight, mean, bic, cost


def _elbow(k: Array, objective: Array) -> int:
    """Index of the point farthest below the chord from first to last, in log J."""
    if len(k) < 3:
        return 0
    logs = np.log(np.maximum(objective, 1e-300))
    along = (k - k[-1]) / (k[0] - k[-1])
    chord = logs[-1] + along * (logs[0] - logs[-1])
    return int((logs - chord).argmin())
