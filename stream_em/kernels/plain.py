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
