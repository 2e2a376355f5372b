"""The kernels of `plain` as machine code: same names, same values to rounding.

Serial on purpose: reading and writing run beside it, without the GIL. Each kernel is
compiled when first called and kept on disk; `warm_up` prepares all of them at once.
Any array is taken, read-only or not; shapes are trusted, they were checked at the gate.
"""

import numpy as np

from stream_em.arrays import Array
from stream_em.kernels import expectations, factors, plain, tallies
from stream_em.kernels.machine import ready

WIDE = 256  # features; above, the dense products of BLAS are quicker than half of them in loops


def nearest(Z: Array, means: Array) -> tuple[Array, Array]:
    """Nearest mean of each row: labels (n,) int64 and squared distances (n,).

    >>> nearest(np.array([[0.0], [9.0]]), np.array([[1.0], [7.0]]))
    (array([0, 1]), array([1., 4.]))
    """
    return expectations.nearest(ready(Z), ready(means))


def log_density_full(Z: Array, means: Array, precisions: Array, log_dets: Array) -> Array:
    """log N(z; mean_k, cov_k) as (n, K), from upper triangular factors (K, D, D)."""
    if Z.shape[1] > WIDE:
        return plain.log_density_full(Z, means, precisions, log_dets)
    return expectations.log_density_full(ready(Z), ready(means), ready(precisions), ready(log_dets))


def log_density_diagonal(Z: Array, means: Array, precisions: Array, log_dets: Array) -> Array:
    """log N(z; mean_k, diag) as (n, K), from inverse standard deviations (K, D)."""
    return expectations.log_density_diagonal(
        ready(Z), ready(means), ready(precisions), ready(log_dets)
    )


def log_joint(density: Array, weights: Array) -> Array:
    """log p(z, k) (n, K) in nats, never below a floor, of log densities and weights (K,)."""
    return expectations.log_joint(ready(density), ready(weights))


def claimed(inside: Array, beyond: Array) -> tuple[Array, Array]:
    """log(exp(inside) + exp(beyond)) and the share of `beyond` in it, both (n,)."""
    return expectations.claimed(ready(inside), ready(beyond))


def logarithms(values: Array) -> Array:
    """Natural logarithms of a vector (n,)."""
    return expectations.logarithms(ready(values))


def posterior(log_joint: Array) -> tuple[Array, Array, Array]:
    """Responsibilities (n, K), log-likelihood (n,) and entropy (n,) in nats of log p(z, k)."""
    return expectations.posterior(ready(log_joint))


def hard_tally(
    Z: Array, weights: Array, labels: Array, centres: Array
) -> tuple[Array, Array, Array, Array]:
    """Tally rows into the cluster of their label: N (K,), Σw² (K,), mean (K, D), scatter (K, D)."""
    return tallies.hard_tally(ready(Z), ready(weights), ready(labels, np.int64), ready(centres))


def soft_tally_diagonal(
    Z: Array, weights: Array, R: Array, centres: Array
) -> tuple[Array, Array, Array, Array]:
    """Weighted N (K,), Σw²γ (K,), mean (K, D) and per-feature scatter (K, D)."""
    return tallies.soft_tally_diagonal(ready(Z), ready(weights), ready(R), ready(centres))


def soft_tally_full(
    Z: Array, weights: Array, R: Array, centres: Array
) -> tuple[Array, Array, Array, Array]:
    """Weighted N (K,), Σw²γ (K,), mean (K, D) and scatter matrices (K, D, D)."""
    if Z.shape[1] > WIDE:
        return plain.soft_tally_full(Z, weights, R, centres)
    return tallies.soft_tally_full(ready(Z), ready(weights), ready(R), ready(centres))


def soft_tally_pooled(
    Z: Array, weights: Array, R: Array, centres: Array
) -> tuple[Array, Array, Array, Array]:
    """Weighted N (K,), Σw²γ (K,), mean (K, D) and one scatter matrix (D, D) of all clusters."""
    N, squares, means, scatter = soft_tally_full(Z, weights, R, centres)
    return N, squares, means, scatter.sum(axis=0)


def matrix_factors(covariances: Array) -> tuple[Array, Array, Array]:
    """Upper triangular P (K, D, D) with inv(cov_k) = P_k P_kᵀ, log det P (K,), tries (K,) int64."""
    K, D = covariances.shape[:2]
    if D > WIDE:
        return plain.matrix_factors(covariances)
    out, log_dets, tries = factors.matrix_factors(ready(covariances).reshape(K, D * D), D)
    return out.reshape(K, D, D), log_dets, tries


def variance_factors(variances: Array) -> tuple[Array, Array, Array]:
    """1/√variance (K, D), its log determinants (K,), and which rows were floored, (K,) int64."""
    return factors.variance_factors(ready(variances))


def ward(weights: Array, means: Array) -> Array:
    """Ward's cost of all pairs (K, K), +inf on and below the diagonal."""
    return tallies.ward(ready(weights), ready(means))


def warm_up() -> None:
    """Compile every kernel, or load it from the cache, before the first row arrives."""
    Z, weights, precisions = np.zeros((1, 1)), np.ones(1), np.ones((1, 1, 1))
    labels, _ = nearest(Z, Z)
    hard_tally(Z, weights, labels, Z)
    log_density_full(Z, Z, precisions, weights)
    R, _, _ = posterior(log_density_diagonal(Z, Z, precisions[0], weights))
    soft_tally_diagonal(Z, weights, R, Z)
    soft_tally_full(Z, weights, R, Z)
    ward(weights, Z)
    log_joint(Z, weights)
    claimed(weights, weights)
    logarithms(weights)
    matrix_factors(precisions)
    variance_factors(Z)
