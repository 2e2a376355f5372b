"""The reference kernels in NumPy: the definition of right, not of fast.

All arrays are float64 and in the model's coordinates. Letters as in
`stream_em.arrays`: Z (n, D) rows, means (K, D), R (n, K) responsibilities,
weights (n,) of the rows. Distances are computed from differences, never from
|x|² - 2x·c + |c|², which loses the digits of clusters far from the origin.
"""

import math

import numpy as np

from stream_em.arrays import Array

LOG_2PI = math.log(2.0 * math.pi)
FLOOR = -1e300  # nats; keeps a row that is infinitely far from everything from becoming NaN
MOST_SHARE = 1 - 1e-9  # of a background, so that no component is ever impossible
JITTER, JITTER_TRIES = 1e-10, 6  # added to a matrix that has no factor, relative to its trace
REACH = 10.0  # deviations from the mean of all rows up to which a value counts in full
IDLE = 1e-4  # of its even share of the events, below which a cluster is free to move
STILL_RATIO = 1e-12  # variance of a constant feature in the largest of all
LEAST_RATIO = 1e-24  # a variance below this share of the largest of its cluster is no variance
LEAST_VARIANCE = 1e-10  # the floor where even the largest variance of a cluster is not positive
RECENTRE = 1e3  # recompute a scatter whose centring would cancel more than three digits


def nearest(Z: Array, means: Array) -> tuple[Array, Array]:
    """Nearest mean of each row: labels (n,) int64 and squared distances (n,).

    The lowest index wins a tie.

    >>> nearest(np.array([[0.0], [9.0]]), np.array([[1.0], [7.0]]))
    (array([0, 1]), array([1., 4.]))
    """
    distances = np.empty((len(Z), len(means)))
    for k, mean in enumerate(means):
        distances[:, k] = np.square(Z - mean).sum(axis=1)
    labels = distances.argmin(axis=1)
    return labels, distances[np.arange(len(Z)), labels]


def log_density_full(Z: Array, means: Array, precisions: Array, log_dets: Array) -> Array:
    """log N(z; mean_k, cov_k) as (n, K), from precision Cholesky factors (K, D, D).

    `precisions` P_k are upper triangular with inv(cov_k) = P_k P_kᵀ; `log_dets` (K,)
    hold log det P_k. Bishop, Pattern Recognition and Machine Learning, (2.43).
    """
    n, D = Z.shape
    out = np.empty((n, len(means)))
    for k, mean in enumerate(means):
        whitened = (Z - mean) @ precisions[k]
        out[:, k] = log_dets[k] - 0.5 * (D * LOG_2PI + np.square(whitened).sum(axis=1))
    return out


def log_density_diagonal(Z: Array, means: Array, precisions: Array, log_dets: Array) -> Array:
    """log N(z; mean_k, diag) as (n, K), from inverse standard deviations (K, D)."""
    n, D = Z.shape
    out = np.empty((n, len(means)))
    for k, mean in enumerate(means):
        whitened = (Z - mean) * precisions[k]
        out[:, k] = log_dets[k] - 0.5 * (D * LOG_2PI + np.square(whitened).sum(axis=1))
    return out


def log_joint(density: Array, weights: Array) -> Array:
    """log p(z, k) (n, K) in nats, never below a floor, of log densities and weights (K,)."""
    with np.errstate(divide="ignore"):
        return np.fmax(density + np.log(weights), FLOOR)


def claimed(inside: Array, beyond: Array) -> tuple[Array, Array]:
    """log(exp(inside) + exp(beyond)) and the share of `beyond` in it, both (n,)."""
    whole = np.logaddexp(inside, beyond)
    return whole, np.exp(beyond - whole)


def logarithms(values: Array) -> Array:
    """Natural logarithms of a vector (n,)."""
    return np.log(values)


def posterior(log_joint: Array) -> tuple[Array, Array, Array]:
    """Responsibilities (n, K), log-likelihood (n,) and entropy (n,) in nats of log p(z, k).

    The log-sum-exp of each row is taken after its maximum is subtracted.
    """
    top = log_joint.max(axis=1)
    shifted = np.exp(log_joint - top[:, None])
    total = shifted.sum(axis=1)
    log_likelihood = top + np.log(total)
    R = shifted / total[:, None]
    log_R = np.where(R > 0, log_joint - log_likelihood[:, None], 0.0)
    return R, log_likelihood, -(R * log_R).sum(axis=1)


def hard_tally(
    Z: Array, weights: Array, labels: Array, centres: Array
) -> tuple[Array, Array, Array, Array]:
    """Tally rows into the cluster of their label: N (K,), Σw² (K,), mean (K, D), scatter (K, D).

    Sums run over differences to `centres` (K, D), the means the rows were assigned
    under; a cluster without rows has N = 0 and its centre as mean.
    """
    R = (labels[:, None] == np.arange(len(centres))).astype(np.float64)
    return soft_tally_diagonal(Z, weights, R, centres)


def soft_tally_diagonal(
    Z: Array, weights: Array, R: Array, centres: Array
) -> tuple[Array, Array, Array, Array]:
    """Weighted N (K,), Σw²γ (K,), mean (K, D) and per-feature scatter (K, D).

    S = Σ wγ (z - centre)² - N δ², with δ = mean - centre; recomputed around the new
    mean where the subtraction would cancel (N δ² > 1000 S).
    """
    G = R * weights[:, None]
    N, squares = G.sum(axis=0), np.square(weights) @ R
    means, scatter = np.array(centres), np.zeros(centres.shape)
    for k in np.flatnonzero(N > 0):
        moved = Z - centres[k]
        delta = G[:, k] @ moved / N[k]
        means[k] = centres[k] + delta
        about = N[k] * np.square(delta)
        scatter[k] = G[:, k] @ np.square(moved) - about
        if about.sum() > RECENTRE * scatter[k].sum():
            scatter[k] = G[:, k] @ np.square(Z - means[k])
    return N, squares, means, np.maximum(scatter, 0.0)


def soft_tally_full(
    Z: Array, weights: Array, R: Array, centres: Array
) -> tuple[Array, Array, Array, Array]:
    """Weighted N (K,), Σw²γ (K,), mean (K, D) and scatter matrices (K, D, D)."""
    G = R * weights[:, None]
    N, squares = G.sum(axis=0), np.square(weights) @ R
    K, D = centres.shape
    means, scatter = np.array(centres), np.zeros((K, D, D))
    for k in np.flatnonzero(N > 0):
        root = np.sqrt(G[:, k])[:, None]
        moved = Z - centres[k]
        delta = G[:, k] @ moved / N[k]
        means[k] = centres[k] + delta
        scaled = root * moved
        scatter[k] = scaled.T @ scaled - N[k] * np.outer(delta, delta)
        if N[k] * (delta @ delta) > RECENTRE * np.trace(scatter[k]):
            scaled = root * (Z - means[k])
            scatter[k] = scaled.T @ scaled
    return N, squares, means, scatter


def soft_tally_pooled(
    Z: Array, weights: Array, R: Array, centres: Array
) -> tuple[Array, Array, Array, Array]:
    """Weighted N (K,), Σw²γ (K,), mean (K, D) and one scatter matrix (D, D) of all clusters."""
    N, squares, means, scatter = soft_tally_full(Z, weights, R, centres)
    return N, squares, means, scatter.sum(axis=0)


def ward(weights: Array, means: Array) -> Array:
    """Ward's cost w_i w_j/(w_i + w_j)·|μ_i - μ_j|² of all pairs (K, K), from weights (K,).

    +inf on and below the diagonal; 0 for two clusters without weight.

    >>> ward(np.array([1.0, 3.0]), np.array([[0.0], [2.0]]))
    array([[inf,  3.],
           [inf, inf]])
    """
    total = weights[:, None] + weights
    shared = weights[:, None] * weights / np.where(total > 0, total, 1.0)
    between = np.square(means[:, None, :] - means).sum(axis=2)
    return np.where(np.triu(np.ones(total.shape, dtype=bool), 1), shared * between, np.inf)


def matrix_factors(covariances: Array) -> tuple[Array, Array, Array]:
    """Upper triangular P (K, D, D) with inv(cov_k) = P_k P_kᵀ, log det P (K,), tries (K,) int64.

    A matrix that has no Cholesky factor gets a growing jitter, at most so many times.
    """
    lower, tries = np.empty(covariances.shape), np.zeros(len(covariances), dtype=np.int64)
    try:
        lower = np.linalg.cholesky(covariances)
    except np.linalg.LinAlgError:
        for k, matrix in enumerate(covariances):
            lower[k], tries[k] = _jittered_cholesky(matrix)
    diagonal = np.diagonal(lower, axis1=-2, axis2=-1)
    identity = np.eye(covariances.shape[-1])
    inverse = np.tril(np.linalg.solve(lower, np.broadcast_to(identity, lower.shape)))
    precisions = np.ascontiguousarray(inverse.swapaxes(-1, -2))
    return precisions, -np.log(diagonal).sum(axis=-1), tries


def _jittered_cholesky(matrix: Array) -> tuple[Array, int]:
    size = np.trace(matrix) / len(matrix)
    jitter = JITTER * (size if size > 0 else 1.0)
    for tries in range(JITTER_TRIES + 1):
        try:
            added = 0.0 if tries == 0 else jitter * 10.0 ** (tries - 1)
            return np.linalg.cholesky(matrix + added * np.eye(len(matrix))), tries
        except np.linalg.LinAlgError:
            continue
    deviations = np.sqrt(np.maximum(np.diag(matrix), jitter))
    return np.diag(deviations), JITTER_TRIES + 1


def variance_factors(variances: Array) -> tuple[Array, Array, Array]:
    """1/√variance (K, D), its log determinants (K,), and which rows were floored, (K,) int64.

    A variance that is not positive, beside the largest of its cluster, is raised to a floor.
    """
    floor = LEAST_RATIO * variances.max(axis=1, keepdims=True)
    floor = np.where(floor > 0, floor, LEAST_VARIANCE)
    low = variances < floor
    deviations = np.sqrt(np.where(low, floor, variances))
    floored: Array = np.asarray(low.any(axis=1), dtype=np.int64)
    return 1.0 / deviations, -np.log(deviations).sum(axis=1), floored
