"""What a replay raises: the penalised free energy of all rows, read off their tally alone.

F(q, θ) = Q + H with Q = Σ_k [N_k ln((1-w0) π_k) + E_k] + N_0 ln(w0/V), where
E_k = N_k (ln|P_k| - (D/2) ln 2π) - ½ tr P_kᵀ (S_k + N_k δ_k δ_kᵀ) P_k, δ_k the mean of the
tally less that of the cluster, P_k P_kᵀ the inverse covariance, and w0, V the share and
volume of the background. H does not depend on θ and stays with the memos. The prior adds
n0 Σ_k [ln|P_k| - ½ tr(Λ P_k P_kᵀ)] + a0 Σ ln π_k. Hard k-means has -J instead.

Student's t is a Gaussian whose rows have a relevance: S_k and the weight of δ_k δ_kᵀ are
sums of those. A von Mises-Fisher law is a Gaussian with another constant for ln|P_k|.
"""

import math
from functools import singledispatch

import numpy as np

from stream_em import moments
from stream_em.arrays import Array
from stream_em.background import background_share, log_ranges
from stream_em.models.protocol import Clusters, Model
from stream_em.moments import DiagonalScatter, FullScatter, Moments, PooledScatter, Scatter
from stream_em.replaying.memos import Memo
from stream_em.spread import grain
from stream_em.state import State

LOG_2PI = math.log(2 * math.pi)
LEAST = 1e-300  # stands for a weight of 0 inside a logarithm


def bound(model: Model, state: State, spread: Array, memo: Memo) -> float:
    """F of the memo's rows under the clusters of `state`, plus the penalty; -J for k-means.

    `spread` (D,) is the variance v that the prior speaks of.
    """
    if not model.has_density:
        return -objective(state, memo)
    assert state.clusters is not None
    prior = penalty(model, state.clusters, memo.moments, spread)
    return float(energy(model, state, memo) + memo.entropy + prior)


def energy(model: Model, state: State, memo: Memo) -> float:
    """Q of the memo's rows under the clusters and the background of `state`."""
    assert state.clusters is not None
    return _inside(state.clusters, memo.moments) + _of_background(model, state, memo)


def objective(state: State, memo: Memo) -> float:
    """Σ wγ |z - μ|² of the memo's rows to the means of `state`; J for k-means."""
    assert state.clusters is not None
    about = _about(state.clusters, memo.moments)
    flat = isinstance(about, DiagonalScatter)
    return float((about.values if flat else np.trace(about.values, axis1=-2, axis2=-1)).sum())


def _about(clusters: Clusters, held: Moments) -> Scatter:
    """Σ wγ (z - μ)(z - μ)ᵀ about the clusters' means instead of the tally's."""
    nothing = moments.zero(type(held.scatter), *held.mean.shape).scatter
    return held.scatter.plus(nothing, moments.pull(held), held.mean - clusters.means)


def _inside(clusters: Clusters, held: Moments) -> float:
    D = held.mean.shape[1]
    N, log_weights = held.step, np.log(np.maximum(clusters.weights, LEAST))
    heights = float(N @ (log_weights + clusters.log_dets - 0.5 * D * LOG_2PI))
    return heights - 0.5 * whitened(_about(clusters, held), clusters.precisions)


@singledispatch
def whitened(scatter: Scatter, precisions: Array) -> float:
    """Σ_k tr P_kᵀ S_k P_k; here for scatters of one number per feature."""
    return float((np.square(precisions) * scatter.values).sum())


@whitened.register
def _(scatter: FullScatter, precisions: Array) -> float:
    return float(((scatter.values @ precisions) * precisions).sum())


@whitened.register
def _(scatter: PooledScatter, precisions: Array) -> float:
    return float(((scatter.values @ precisions[0]) * precisions[0]).sum())


def _of_background(model: Model, state: State, memo: Memo) -> float:
    uniform, held, spread = state.background, state.moments, state.spread
    if uniform is None or model.background is None or held is None or spread is None:
        return 0.0
    assert state.frame is not None
    share = background_share(model.background, uniform, float(held.step.sum()))
    variance = moments.variance(spread)[0]
    volume = float(log_ranges(uniform, variance, grain(spread, state.frame)).sum())
    inside = float(memo.moments.step.sum()) * math.log1p(-share)
    return inside + memo.background * (math.log(share) - volume)


def penalty(model: Model, clusters: Clusters, held: Moments, spread: Array) -> float:
    """The logarithm of the prior, up to a constant; 0 without one."""
    if model.prior is None:
        return 0.0
    least = model.prior.scale * model.size ** (-2 / len(spread)) * spread
    if model.directional:
        least = least * min(1.0, 2.0 / float(least.sum()))  # no pseudo-row at more than 90°
    once = 1 if isinstance(held.scatter, PooledScatter) else len(clusters.means)
    squares = np.square(clusters.precisions[:once])
    precision = squares if squares.ndim == 2 else squares.sum(axis=-1)
    covariances = clusters.log_dets[:once].sum() - 0.5 * (precision @ least).sum()
    weights = np.log(np.maximum(clusters.weights, LEAST)).sum()
    return float(model.prior.rows * covariances + model.prior.weight * weights)
