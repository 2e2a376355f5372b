"""The E-step of incomplete rows, and what they are expected to add to a tally."""

from collections.abc import Iterator

import numpy as np

from stream_em import moments
from stream_em.arrays import Array, altered
from stream_em.incomplete.conditional import Conditional, conditional
from stream_em.incomplete.patterns import Patterns, patterns
from stream_em.kernels import kernels_in_use
from stream_em.kernels.plain import FLOOR
from stream_em.models.protocol import Clusters, Expectation, Model
from stream_em.moments import Moments

CELLS = 1_000_000  # numbers of an array, at most: kinds and rows are taken in turns


def expect(model: Model, clusters: Clusters, Z: Array) -> Expectation:
    """The E-step of rows Z (n, D), some of which may lack features (NaN).

    Complete rows go the ordinary way, so that without missing values nothing differs.
    """
    if model.missing is None or not np.isnan(Z).any():
        return model.e_step(clusters, Z)
    found = _patterns(clusters, Z)
    ordinary = model.e_step(clusters, np.where(np.isnan(Z), 0.0, Z))
    distance = np.array(ordinary.nearest_distance)
    labels = np.array(ordinary.labels)
    for here, observed in found.each:
        rows = found.rows[here]
        squared = _distances(Z[rows][:, observed], clusters.means[:, observed], len(observed))
        distance[rows] = squared.min(axis=1)
        labels[rows] = squared.argmin(axis=1)
    if ordinary.log_joint is None:
        return ordinary._replace(labels=labels, nearest_distance=distance)
    log_joint = np.array(ordinary.log_joint)
    for some, law in _laws(clusters, found):
        log_joint[some.rows] = _log_joint(model, clusters, Z, some, law)
    R, log_likelihood, entropy = kernels_in_use().posterior(log_joint)
    return ordinary._replace(
        responsibilities=R,
        labels=log_joint.argmax(axis=1),
        nearest_distance=distance,
        log_joint=log_joint,
        log_likelihood=log_likelihood,
        entropy=entropy,
    )


def _patterns(clusters: Clusters, Z: Array) -> Patterns:
    """The incomplete rows, by as many at a time of each kind as take little room."""
    return patterns(Z, _rows_at_once(clusters))


def _rows_at_once(clusters: Clusters) -> int:
    """How many rows may lie beside the means of all clusters."""
    return max(1, CELLS // clusters.means.size)


def _laws(clusters: Clusters, found: Patterns) -> Iterator[tuple[Patterns, Conditional]]:
    """The conditional laws of all kinds, so many at a time that they take little room."""
    K, D = clusters.means.shape
    for some in found.turns(max(1, CELLS // (K * D * D)), _rows_at_once(clusters)):
        yield some, conditional(clusters, some.observed)


def _moved(clusters: Clusters, Z: Array, rows: Array, observed: Array) -> Array:
    """x - μ (K, D, p) of rows of one kind, 0 where nothing is observed."""
    differences = Z[rows].T[None] - clusters.means[:, :, None]
    return np.where(observed[:, None], differences, 0.0)


def _squared(clusters: Clusters, Z: Array, some: Patterns, law: Conditional) -> Array:
    """Squared Mahalanobis distances (p, K) of the rows over what they have."""
    out = np.empty((len(some.rows), len(clusters.means)))
    for i, (here, observed) in enumerate(some.each):
        moved = _moved(clusters, Z, some.rows[here], observed)
        out[here] = np.square(law.whitening[i] @ moved).sum(axis=1).T
    return out


def _distances(observed_rows: Array, means: Array, D: int) -> Array:
    """Squared distances (p, K) over |o| observed features, times D/|o|; 0 where none is."""
    seen = means.shape[1]
    if seen == 0:
        return np.zeros((len(observed_rows), len(means)))
    moved = observed_rows[:, None, :] - means
    return np.einsum("pko,pko->pk", moved, moved) * (D / seen)


def _log_joint(
    model: Model, clusters: Clusters, Z: Array, some: Patterns, law: Conditional
) -> Array:
    """log p(z_o, k) (p, K) in nats; log π_k where nothing is observed."""
    out = _squared(clusters, Z, some, law)
    for i, (here, observed) in enumerate(some.each):
        out[here] = model.log_profile(out[here], int(observed.sum())) - law.log_root[i]
    with np.errstate(divide="ignore"):
        return np.fmax(out + np.log(clusters.weights), FLOOR)


def tally_expected(model: Model, clusters: Clusters, Z: Array, weights: Array, R: Array) -> Moments:
    """What rows Z (n, D) under responsibilities R (n, K) are expected to add to the tally."""
    kernels = kernels_in_use()
    if model.missing is None or not np.isnan(Z).any():
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
    found = _patterns(clusters, Z)
    if model.has_density:
        for some, law in _laws(clusters, found):
            total = moments.merge(total, _expected(model, clusters, Z, weights, R, some, law))
        return total
    for some in found.turns(len(found.rows), _rows_at_once(clusters)):
        total = moments.merge(total, _filled_in(model, clusters, Z, weights, R, some.rows))
    return total


def _filled_in(
    model: Model, clusters: Clusters, Z: Array, weights: Array, R: Array, rows: Array
) -> Moments:
    """The limit of no spread: what a row lacks is where each cluster has its mean."""
    filled = np.where(np.isnan(Z[rows]), clusters.means[:, None], Z[rows])
    return _each_its_own(model, clusters, filled, weights[rows], R[rows], None)


def _expected(
    model: Model,
    clusters: Clusters,
    Z: Array,
    weights: Array,
    R: Array,
    some: Patterns,
    law: Conditional,
) -> Moments:
    """What rows of some kinds are expected to add."""
    rows = some.rows
    filled = np.empty((len(clusters.means), len(rows), Z.shape[1]))
    relevance: Array | None = None
    squared = _squared(clusters, Z, some, law)
    weight = np.empty(law.log_root.shape)  # (P, K) of the rows of each kind
    for i, (here, observed) in enumerate(some.each):
        moved = _moved(clusters, Z, rows[here], observed)
        expected = clusters.means[:, :, None] + law.gain[i] @ moved
        values = np.where(observed[:, None], Z[rows[here]].T, expected)
        filled[:, here] = values.swapaxes(1, 2)
        weight[i] = weights[rows[here]] @ R[rows[here]]
        counted = model.relevance_at(squared[here], int(observed.sum()))
        if counted is not None:
            relevance = np.empty(squared.shape) if relevance is None else relevance
            relevance[here] = counted
    added = _each_its_own(model, clusters, filled, weights[rows], R[rows], relevance)
    left = _semidefinite(np.einsum("pk,pkde->kde", weight, law.left))
    return altered(added, scatter=added.scatter.widened(left))


def _each_its_own(
    model: Model,
    clusters: Clusters,
    filled: Array,
    weights: Array,
    R: Array,
    relevance: Array | None,
) -> Moments:
    """The tally of rows that look to each cluster as in `filled` (K, p, D)."""
    kernels = kernels_in_use()
    parts = [
        moments.tally(
            model.scatter,
            kernels,
            filled[k],
            weights,
            R[:, k : k + 1],
            clusters.means[k : k + 1],
            None if relevance is None else relevance[:, k : k + 1],
        )
        for k in range(len(filled))
    ]
    whole = parts[0]
    for part in parts[1:]:
        whole = moments.join(whole, part)
    return whole


def _semidefinite(matrices: Array) -> Array:
    """The nearest matrices (K, D, D) without negative eigenvalues, which rounding may leave."""
    values, vectors = np.linalg.eigh(matrices)
    return (vectors * np.maximum(values, 0.0)[:, None, :]) @ vectors.swapaxes(1, 2)
