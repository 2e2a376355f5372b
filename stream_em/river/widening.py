"""A state with more features: what becomes of it when a feature appears later.

Rows without the feature count as lacking it at random. While rows are held they get an
empty cell. Later the feature is watched until it has been seen often enough to know its
mean and variance in each cluster; all rows before then enter by what those lead to expect,
as in `incomplete`: mean μ_k and variance σ²_k, uncorrelated with the other features.
"""

from collections.abc import Hashable
from typing import NamedTuple, final

import numpy as np

from stream_em.arrays import Array, altered
from stream_em.models.covariance import Covariance, Diagonal, Full, Tied
from stream_em.models.density import assembled
from stream_em.models.gaussian import GaussianMixture
from stream_em.models.protocol import Clusters, Model
from stream_em.moments import DiagonalScatter, FullScatter, Moments, PooledScatter, Scatter
from stream_em.spread import floored_variance
from stream_em.state import Averaged, Frame, Held, Quarantine, State, Typical, Uniform

WATCHED_ROWS = 200  # values of a feature after which it joins
WATCHED_FEATURES = 1000  # at a time; others wait until some have joined


class Sight(NamedTuple):
    """A new feature as the rows of one cluster had it."""

    slot: int
    value: float


@final
class Watch:
    """New features, with what was seen of them since the clusters were seeded."""

    def __init__(self) -> None:
        self._seen: dict[Hashable, list[Sight]] = {}

    def see(self, name: Hashable, slot: int, value: float) -> None:
        """Note a value of a feature in a row of the cluster in a slot."""
        if name in self._seen or len(self._seen) < WATCHED_FEATURES:
            seen = self._seen.setdefault(name, [])
            if len(seen) < WATCHED_ROWS:
                seen.append(Sight(slot, value))

    def ready(self) -> dict[Hashable, list[Sight]]:
        """The features seen often enough, taken off the watch."""
        ready = {name: seen for name, seen in self._seen.items() if len(seen) >= WATCHED_ROWS}
        for name in ready:
            del self._seen[name]
        return ready


class Newcomer(NamedTuple):
    """What was seen of one feature, in the rows' units."""

    mean: float
    variance: float
    low: float
    high: float
    means: Array  # (K,) in each cluster
    variances: Array  # (K,) in each cluster


def newcomer(seen: list[Sight], slots: Array) -> Newcomer:
    """A feature's mean and variance in the clusters of `slots` (K,), by what was seen of it.

    Each cluster counts one row of the overall mean and variance besides its own, so that
    those in which the feature was not seen have something to go by.
    """
    values = np.array([sight.value for sight in seen])
    mean, variance = float(values.mean()), float(values.var())
    own = np.array([sight.slot for sight in seen]) == slots[:, None]
    counts = own.sum(axis=1)
    means = (own @ values + mean) / (counts + 1)
    squares = (own * np.square(values - means[:, None])).sum(axis=1)
    variances = (squares + variance) / (counts + 1)
    return Newcomer(mean, variance, float(values.min()), float(values.max()), means, variances)


def held_wider(model: Model, state: State, more: int) -> State:
    """A state without clusters of its own, its held rows lacking `more` features.

    Provisional clusters widen too, until they are found anew among twice as many rows: mean
    0, and the variance that the other features have in the middle.
    """
    if state.held is None:
        return state
    empty = np.full((len(state.held), more), np.nan)
    held: Held = altered(state.held, rows=np.hstack([state.held.rows, empty]))
    state = altered(state, held=held)
    if state.frame is None or state.clusters is None:
        return state
    frame = Frame(np.pad(state.frame.origin, (0, more)), np.append(state.frame.unit, np.ones(more)))
    return altered(state, frame=frame, clusters=_clusters_wider(model, state.clusters, more))


def _clusters_wider(model: Model, found: Clusters, more: int) -> Clusters:
    means = np.pad(found.means, ((0, 0), (0, more)))
    if isinstance(model, GaussianMixture):
        covariances = _covariances_wider(model.covariance, found.covariances, more)
        return assembled(model.covariance, found.weights, means, covariances).clusters
    N, scatter = found.weights, DiagonalScatter(np.zeros(means.shape))
    return model.reread(Moments(N, N, N, means, scatter), np.ones(means.shape[1]), found).clusters


def _covariances_wider(covariance: Covariance, values: Array, more: int) -> Array:
    """Covariances with more features, each of the mean variance of those before."""
    if isinstance(covariance, Diagonal):
        typical = values.mean(axis=1, keepdims=True)
        return np.hstack([values, np.repeat(typical, more, axis=1)])
    if not isinstance(covariance, (Full, Tied)):
        return values
    D = values.shape[-1]
    typical = np.diagonal(values, axis1=-2, axis2=-1).mean(axis=-1)
    sides = ((0, 0),) * (values.ndim - 2)
    wide = np.pad(values, (*sides, (0, more), (0, more)))
    places = np.arange(D, D + more)
    wide[..., places, places] = typical[..., None]
    return wide


def wider(model: Model, state: State, new: Newcomer) -> State:
    """A seeded state with one more feature, its clusters read off anew."""
    assert state.frame is not None and state.moments is not None and state.spread is not None
    unit = float(np.sqrt(new.variance)) if model.scaling and new.variance > 0 else 1.0
    frame = Frame(np.append(state.frame.origin, new.mean), np.append(state.frame.unit, unit))
    means, variances = (new.means - new.mean) / unit, new.variances / unit**2
    held = _wider(state.moments, means, variances)
    spread = _wider(state.spread, np.zeros(1), np.array([new.variance / unit**2]))
    inside = float(held.objective @ variances) / max(float(held.objective.sum()), 1.0)
    typical = Typical(state.typical.total + state.typical.weight * inside, state.typical.weight)
    v = floored_variance(spread, frame)
    return altered(
        state,
        features=None,
        frame=frame,
        moments=held,
        spread=spread,
        typical=typical,
        clusters=model.reread(held, v, state.clusters).clusters,
        quarantine=_quarantine(state.quarantine),
        recent=None if state.recent is None else _with_zero(state.recent),
        background=_background(state.background, new, unit),
        averaged=_averaged(state.averaged, means, variances),
    )


def _wider(part: Moments, means: Array, variances: Array) -> Moments:
    """A tally whose rows had one more feature, of these means and variances (K,)."""
    return altered(
        part,
        mean=np.hstack([part.mean, means[:, None]]),
        scatter=_scatter(part.scatter, part.step * variances),
    )


def _scatter(part: Scatter, squares: Array) -> Scatter:
    """A scatter with one more feature, of these sums of squares (K,)."""
    if isinstance(part, DiagonalScatter):
        return DiagonalScatter(np.hstack([part.values, squares[:, None]]))
    if isinstance(part, PooledScatter):
        values = np.pad(part.values, (0, 1))
        values[-1, -1] = squares.sum()
        return PooledScatter(values)
    assert isinstance(part, FullScatter)
    values = np.pad(part.values, ((0, 0), (0, 1), (0, 1)))
    values[:, -1, -1] = squares
    return FullScatter(values)


def _with_zero(rows: Array) -> Array:
    return np.pad(rows, ((0, 0), (0, 1)))


def _quarantine(aside: Quarantine | None) -> Quarantine | None:
    return None if aside is None else altered(aside, rows=_with_zero(aside.rows))


def _background(uniform: Uniform | None, new: Newcomer, unit: float) -> Uniform | None:
    if uniform is None:
        return None
    low, high = (new.low - new.mean) / unit, (new.high - new.mean) / unit
    return altered(uniform, low=np.append(uniform.low, low), high=np.append(uniform.high, high))


def _averaged(part: Averaged | None, means: Array, variances: Array) -> Averaged | None:
    return None if part is None else altered(part, moments=_wider(part.moments, means, variances))
