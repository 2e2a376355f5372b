"""Rows with missing values: their densities, and what they are expected to add to a tally.

Missing at random: a row's observed part o decides its responsibilities, and its missing
part u enters the tally by expectation, exact for every covariance (Little & Rubin 2002,
§11.3):

    x̂_u = μ_u + Σ_uo Σ_oo⁻¹ (x_o - μ_o)         C_u = Σ_uu - Σ_uo Σ_oo⁻¹ Σ_ou
    Σγ, Σγ x̂, Σγ (x̂ - m)(x̂ - m)ᵀ + Σγ C_u

Without C_u the covariances shrink and EM is no longer monotone. Hard k-means is the
limit C_u = 0, x̂_u = μ_u, with squared distances over the observed features times D/|o|.
"""

from typing import NamedTuple

import numpy as np

from stream_em import moments
from stream_em.arrays import Array, altered
from stream_em.kernels import kernels_in_use
from stream_em.kernels.plain import FLOOR
from stream_em.models.protocol import Clusters, Expectation, Model
from stream_em.moments import DiagonalScatter, Moments


class Pattern(NamedTuple):
    """Rows that lack the same features."""

    rows: Array  # (p,) indices
    observed: Array  # (D,) bool


def patterns(Z: Array) -> list[Pattern]:
    """The incomplete rows of Z (n, D), grouped by what they lack; complete rows are left out."""
    lacking = np.isnan(Z)
    incomplete = np.flatnonzero(lacking.any(axis=1))
    if len(incomplete) == 0:
        return []
    kinds, which = np.unique(lacking[incomplete], axis=0, return_inverse=True)
    return [Pattern(incomplete[which.ravel() == i], ~kind) for i, kind in enumerate(kinds)]


class Conditional(NamedTuple):
    """What one cluster expects of the missing features, given the observed ones."""

    gain: Array  # (|u|, |o|) Σ_uo Σ_oo⁻¹
    left: Array  # (|u|, |u|) C_u
    lower: Array  # (|o|, |o|) Cholesky factor of Σ_oo


def conditional(covariance: Array, observed: Array) -> Conditional:
    """The conditional law of the missing features under one covariance (D, D)."""
    o, u = np.flatnonzero(observed), np.flatnonzero(~observed)
    lower = np.linalg.cholesky(covariance[np.ix_(o, o)])
    cross = covariance[np.ix_(u, o)]
    gain = np.linalg.solve(lower.T, np.linalg.solve(lower, cross.T)).T
    left = covariance[np.ix_(u, u)] - gain @ cross.T
    return Conditional(gain, left, lower)


def matrices(clusters: Clusters) -> Array:
    """The covariances (K, D, D) that the factors of the clusters stand for."""
    D = clusters.means.shape[1]
    if clusters.precisions.ndim == 3:
        inverse = np.linalg.inv(clusters.precisions)
        return inverse.swapaxes(-1, -2) @ inverse
    return np.square(1 / clusters.precisions)[:, None, :] * np.eye(D)


def expect(model: Model, clusters: Clusters, Z: Array) -> Expectation:
    """The E-step of rows Z (n, D), some of which may lack features (NaN).

    Complete rows go the ordinary way, so that without missing values nothing differs.
    """
    found = [] if model.missing is None else patterns(Z)
    if not found:
        return model.e_step(clusters, Z)
    filled = np.where(np.isnan(Z), 0.0, Z)
    ordinary = model.e_step(clusters, filled)
    distance = np.array(ordinary.nearest_distance)
    labels = np.array(ordinary.labels)
    log_joint = None if ordinary.log_joint is None else np.array(ordinary.log_joint)
    covariances = matrices(clusters) if model.has_density else None
    for rows, observed in found:
        squared = _distances(Z[rows][:, observed], clusters.means[:, observed], len(observed))
        distance[rows] = squared.min(axis=1)
        labels[rows] = squared.argmin(axis=1)
        if log_joint is not None and covariances is not None:
            log_joint[rows] = _log_joint(model, Z[rows], clusters, covariances, observed)
    if log_joint is None:
        return ordinary._replace(labels=labels, nearest_distance=distance)
    R, log_likelihood, entropy = kernels_in_use().posterior(log_joint)
    return ordinary._replace(
        responsibilities=R,
        labels=log_joint.argmax(axis=1),
        nearest_distance=distance,
        log_joint=log_joint,
        log_likelihood=log_likelihood,
        entropy=entropy,
    )


def _distances(observed_rows: Array, means: Array, D: int) -> Array:
    """Squared distances (p, K) over |o| observed features, times D/|o|; 0 where none is."""
    seen = means.shape[1]
    if seen == 0:
        return np.zeros((len(observed_rows), len(means)))
    moved = observed_rows[:, None, :] - means
    return np.einsum("pko,pko->pk", moved, moved) * (D / seen)


def squared_distance(moved: Array) -> Array:
    """Squared lengths (n,) of rows (n, D) over their observed features, times D/|o|."""
    seen = (~np.isnan(moved)).sum(axis=1)
    return np.nansum(np.square(moved), axis=1) * moved.shape[1] / np.maximum(seen, 1)


def _log_joint(
    model: Model, rows: Array, clusters: Clusters, covariances: Array, observed: Array
) -> Array:
    """log p(z_o, k) (p, K) in nats; log π_k where nothing is observed."""
    out = np.empty((len(rows), len(clusters.means)))
    with np.errstate(divide="ignore"):
        log_weights = np.log(clusters.weights)
    for k, mean in enumerate(clusters.means):
        lower = conditional(covariances[k], observed).lower
        squared = _mahalanobis(lower, rows[:, observed] - mean[observed])
        constant = log_weights[k] - np.log(np.diag(lower)).sum()
        out[:, k] = constant + model.log_profile(squared, int(observed.sum()))
    return np.fmax(out, FLOOR)


def _mahalanobis(lower: Array, moved: Array) -> Array:
    """Squared distances (p,) of moved rows (p, |o|), by the Cholesky factor of Σ_oo."""
    return np.square(np.linalg.solve(lower, moved.T)).sum(axis=0)


def tally_expected(model: Model, clusters: Clusters, Z: Array, weights: Array, R: Array) -> Moments:
    """What rows Z (n, D) under responsibilities R (n, K) are expected to add to the tally."""
    kernels = kernels_in_use()
    found = [] if model.missing is None else patterns(Z)
    if not found:
        relevance = model.relevance(clusters, Z)
        return moments.tally(model.scatter, kernels, Z, weights, R, clusters.means, relevance)
    complete = ~np.isnan(Z).any(axis=1)
    total = moments.tally(
        model.scatter,
        kernels,
        Z[complete],
        weights[complete],
        R[complete],
        clusters.means,
        model.relevance(clusters, Z[complete]),
    )
    covariances = matrices(clusters) if model.has_density else None
    for rows, observed in found:
        parts = [
            _one(model, clusters, k, Z[rows], weights[rows], R[rows, k], observed, covariances)
            for k in range(len(clusters.means))
        ]
        whole = parts[0]
        for part in parts[1:]:
            whole = moments.join(whole, part)
        total = moments.merge(total, whole)
    return total


def _one(
    model: Model,
    clusters: Clusters,
    k: int,
    Z: Array,
    weights: Array,
    share: Array,
    observed: Array,
    covariances: Array | None,
) -> Moments:
    """What rows of one pattern are expected to add to cluster k."""
    mean = clusters.means[k]
    filled = np.where(observed, Z, mean)
    left, relevance = np.zeros((len(mean), len(mean))), None
    if covariances is not None:
        law = conditional(covariances[k], observed)
        squared = _mahalanobis(law.lower, Z[:, observed] - mean[observed])
        relevance = model.relevance_at(squared[:, None], int(observed.sum()))
        u = np.flatnonzero(~observed)
        filled[:, u] = mean[u] + (Z[:, observed] - mean[observed]) @ law.gain.T
        left[np.ix_(u, u)] = law.left
    one = moments.tally(
        model.scatter, kernels_in_use(), filled, weights, share[:, None], mean[None], relevance
    )
    root = np.sqrt(one.step[0]) * _matrix_root(left)
    return altered(one, scatter=one.scatter.widened(root))


def _matrix_root(matrix: Array) -> Array:
    """A (D, D) root with rootᵀ root = matrix, for a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T


def spread_of(model: Model, Z: Array, weights: Array, before: Moments | None) -> Moments:
    """The tally of rows as one cluster; missing cells count like the observed of their feature."""
    if model.missing is None or not (lacking := np.isnan(Z)).any():
        return moments.of_rows(Z, weights)
    D, total = Z.shape[1], float(weights.sum())
    seen = weights @ ~lacking
    safe = np.where(seen > 0, seen, 1.0)
    mean = weights @ np.where(lacking, 0.0, Z) / safe
    variance = weights @ np.square(np.where(lacking, 0.0, Z - mean)) / safe
    if before is not None:
        mean = np.where(seen > 0, mean, before.mean[0])
        variance = np.where(seen > 0, variance, moments.variance(before)[0])
    if total <= 0:
        return moments.zero(DiagonalScatter, 1, D)
    N = np.array([total])
    scatter = DiagonalScatter((variance * total)[None])
    return Moments(N, N, np.array([weights @ weights]), mean[None], scatter)
