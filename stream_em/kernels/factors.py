"""Cholesky factors of the inverses of covariances, by loops whose inner sums run along rows.

Each element is reached by plain operations in one order, so that a factor does not depend
on how many others are made with it.
"""

import math

import numpy as np

from stream_em.arrays import Array
from stream_em.kernels.machine import machine_code
from stream_em.kernels.plain import JITTER, JITTER_TRIES, LEAST_RATIO, LEAST_VARIANCE


@machine_code()
def _root(matrices: Array, k: int, n: int, added: float, work: Array) -> bool:
    """Fill work (D, D) with upper triangular U, UᵀU = matrix k + added·I; whether there is one."""
    for i in range(n):
        for j in range(i, n):
            work[i, j] = matrices[k, i * n + j]
        work[i, i] += added
    for k in range(n):
        if not work[k, k] > 0.0:
            return False
        pivot = math.sqrt(work[k, k])
        work[k, k] = pivot
        for j in range(k + 1, n):
            work[k, j] /= pivot
        for i in range(k + 1, n):
            factor = work[k, i]
            for j in range(i, n):
                work[i, j] -= factor * work[k, j]
    return True


@machine_code()
def _invert(work: Array, n: int, out: Array, k: int, padded: int) -> float:
    """Put U⁻¹ in row k of out (G, padded²); its log determinant."""
    log_det = 0.0
    for i in range(n - 1, -1, -1):
        row = i * padded
        for j in range(n):
            out[k, row + j] = 1.0 if i == j else 0.0
        for m in range(i + 1, n):
            factor, other = work[i, m], m * padded
            for j in range(m, n):
                out[k, row + j] -= factor * out[k, other + j]
        for j in range(i, n):
            out[k, row + j] /= work[i, i]
        log_det -= math.log(work[i, i])
    return log_det


@machine_code()
def factor_matrix(
    matrices: Array, k: int, n: int, out: Array, padded: int, work: Array
) -> tuple[float, int]:
    """The factor P, PPᵀ = inverse, of row k of matrices (G, D²), into row k of out (G, padded²).

    Answers log det P, and how often a growing jitter had to be added. `work` is (D, D).
    """
    size = 0.0
    for i in range(n):
        size += matrices[k, i * n + i] / n
    jitter = JITTER * (size if size > 0.0 else 1.0)
    added = 0.0
    for tries in range(JITTER_TRIES + 1):
        if _root(matrices, k, n, added, work):
            return _invert(work, n, out, k, padded), tries
        added = jitter if tries == 0 else 10.0 * added
    for i in range(n):
        for j in range(n):
            work[i, j] = 0.0
        work[i, i] = math.sqrt(max(matrices[k, i * n + i], jitter))
    return _invert(work, n, out, k, padded), JITTER_TRIES + 1


@machine_code()
def matrix_factors(matrices: Array, n: int) -> tuple[Array, Array, Array]:
    """P (K, D²), log det P (K,) and tries (K,) of all rows of matrices (K, D²)."""
    K = len(matrices)
    out, work = np.empty((K, n * n)), np.empty((n, n))
    log_dets, tries = np.empty(K), np.empty(K, np.int64)
    for k in range(K):
        log_dets[k], tries[k] = factor_matrix(matrices, k, n, out, n, work)
    return out, log_dets, tries


@machine_code()
def factor_variances(variances: Array, row: int, out: Array, k: int) -> tuple[float, int]:
    """1/√variance of a row into row k of out (K, D); log determinant, and whether it was floored.

    A variance that is too small for the largest of its row is raised to a floor.
    """
    n, largest, low, log_det = variances.shape[1], variances[row, 0], 0, 0.0
    for d in range(n):
        largest = max(largest, variances[row, d])
    floor = LEAST_RATIO * largest
    if not floor > 0.0:
        floor = LEAST_VARIANCE
    for d in range(n):
        variance = variances[row, d]
        if variance < floor:
            variance, low = floor, 1
        deviation = math.sqrt(variance)
        out[k, d] = 1.0 / deviation
        log_det -= math.log(deviation)
    return log_det, low


@machine_code()
def variance_factors(variances: Array) -> tuple[Array, Array, Array]:
    """1/√variance (K, D), log determinants (K,) and which rows were floored (K,), 0 or 1."""
    K = len(variances)
    out, log_dets, low = np.empty(variances.shape), np.empty(K), np.empty(K, np.int64)
    for k in range(K):
        log_dets[k], low[k] = factor_variances(variances, k, out, k)
    return out, log_dets, low
