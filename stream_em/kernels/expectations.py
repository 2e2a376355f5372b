"""Loops over rows for the E-step: distances, densities, responsibilities.

No sum crosses the lanes of a panel, so what a row receives depends neither on its
neighbours nor on its place in the batch.
"""

import math

import numpy as np

from stream_em.arrays import Array
from stream_em.kernels.machine import LANES, TILE, kept_whole, load, machine_code
from stream_em.kernels.plain import FLOOR, LOG_2PI

LN_2 = math.log(2.0)


@machine_code()
def _squared_distances(panel: Array, means: Array, k: int, total: Array, width: int) -> None:
    for b in range(width):
        total[b] = 0.0
    for d in range(means.shape[1]):
        centre = means[k, d]
        for b in range(width):
            moved = panel[d, b] - centre
            total[b] += moved * moved


@machine_code()
def nearest(Z: Array, means: Array) -> tuple[Array, Array]:
    """Labels (n,) and squared distances (n,). Strict IEEE sums keep exact ties exact."""
    n, D = Z.shape
    labels, squared = np.zeros(n, np.int64), np.empty(n)
    panel, total = np.empty((D, LANES)), np.empty(LANES)
    for start in range(0, n, LANES):
        width = min(LANES, n - start)
        load(Z, start, panel, width)
        for k in range(len(means)):
            _squared_distances(panel, means, k, total, width)
            for b in range(width):
                if k == 0 or total[b] < squared[start + b]:
                    squared[start + b] = total[b]
                    labels[start + b] = k
    return labels, squared


@machine_code()
def log_density_diagonal(Z: Array, means: Array, precisions: Array, log_dets: Array) -> Array:
    """log N(z; mean_k, diag) as (n, K)."""
    n, D = Z.shape
    out = np.empty((n, len(means)))
    panel, total = np.empty((D, LANES)), np.empty(LANES)
    for start in range(0, n, LANES):
        width = min(LANES, n - start)
        load(Z, start, panel, width)
        for k in range(len(means)):
            total[:] = 0.0
            for d in range(D):
                centre, scale = means[k, d], precisions[k, d]
                for b in range(width):
                    whitened = (panel[d, b] - centre) * scale
                    total[b] += whitened * whitened
            for b in range(width):
                out[start + b, k] = log_dets[k] - 0.5 * (D * LOG_2PI + total[b])
    return out


@machine_code()
def _padded(factors: Array, size: int) -> Array:
    """The factors (K, D, D) with zeros around them, (K, size, size)."""
    K, D, _ = factors.shape
    out = np.zeros((K, size, size))
    for k in range(K):
        for i in range(D):
            for j in range(D):
                out[k, i, j] = factors[k, i, j]
    return out


@machine_code("contract")
def add_squares(
    moved: Array, factors: Array, k: int, j: int, pair: Array, total: Array, width: int
) -> None:
    """Add the squares of columns j and j + 1 of movedᵀ @ factors[k] to total (LANES,)."""
    kept_whole()
    for row in range(width):
        pair[0, row] = pair[1, row] = 0.0
    for i in range(0, j + 2, TILE):  # below the diagonal the factor is zero
        a, e = factors[k, i, j], factors[k, i, j + 1]
        b, f = factors[k, i + 1, j], factors[k, i + 1, j + 1]
        c, g = factors[k, i + 2, j], factors[k, i + 2, j + 1]
        d, h = factors[k, i + 3, j], factors[k, i + 3, j + 1]
        for row in range(width):
            p, q, r, s = moved[i, row], moved[i + 1, row], moved[i + 2, row], moved[i + 3, row]
            pair[0, row] = pair[0, row] + a * p + b * q + c * r + d * s
            pair[1, row] = pair[1, row] + e * p + f * q + g * r + h * s
    for row in range(width):
        total[row] += pair[0, row] * pair[0, row]
        total[row] += pair[1, row] * pair[1, row]


@machine_code("contract")
def log_density_full(Z: Array, means: Array, precisions: Array, log_dets: Array) -> Array:
    """log N(z; mean_k, cov_k) as (n, K), at half the cost of a dense product."""
    n, D = Z.shape
    padded = (D + TILE - 1) // TILE * TILE
    out, factors = np.empty((n, len(means))), _padded(precisions, padded)
    panel, moved = np.empty((D, LANES)), np.zeros((padded, LANES))
    pair, total = np.empty((2, LANES)), np.empty(LANES)
    for start in range(0, n, LANES):
        width = min(LANES, n - start)
        load(Z, start, panel, width)
        for k in range(len(means)):
            total[:] = 0.0
            for d in range(D):
                centre = means[k, d]
                for b in range(width):
                    moved[d, b] = panel[d, b] - centre
            for j in range(0, D, 2):
                add_squares(moved, factors, k, j, pair, total, width)
            for b in range(width):
                out[start + b, k] = log_dets[k] - 0.5 * (D * LOG_2PI + total[b])
    return out


@machine_code()
def log_joint(density: Array, weights: Array) -> Array:
    """log p(z, k) (n, K), never below the floor, which also stands for NaN."""
    out, logs = np.empty(density.shape), logarithms(weights)
    for i in range(len(density)):
        for k in range(len(weights)):
            value = density[i, k] + logs[k]
            out[i, k] = value if value > FLOOR else FLOOR
    return out


@machine_code()
def logarithms(values: Array) -> Array:
    """Natural logarithms (n,), each by the function that single rows call."""
    out = np.empty(len(values))
    for i in range(len(values)):
        out[i] = math.log(values[i])
    return out


@machine_code()
def log_add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    if a == b:
        return a + LN_2
    apart = a - b
    if apart > 0.0:
        return a + math.log1p(math.exp(-apart))
    return b + math.log1p(math.exp(apart))


@machine_code()
def claimed(inside: Array, beyond: Array) -> tuple[Array, Array]:
    """log(exp(inside) + exp(beyond)) and the share of `beyond` in it, both (n,)."""
    whole, share = np.empty(len(inside)), np.empty(len(inside))
    for i in range(len(inside)):
        whole[i] = log_add(inside[i], beyond[i])
        share[i] = math.exp(beyond[i] - whole[i])
    return whole, share


@machine_code()
def posterior(log_joint: Array) -> tuple[Array, Array, Array]:
    """Responsibilities (n, K), log-likelihood (n,) and entropy (n,), maximum subtracted first."""
    n, K = log_joint.shape
    R, log_likelihood, entropy = np.empty((n, K)), np.empty(n), np.empty(n)
    for i in range(n):
        top = log_joint[i, 0]
        for k in range(1, K):
            top = max(top, log_joint[i, k])
        total = 0.0
        for k in range(K):
            R[i, k] = math.exp(log_joint[i, k] - top)
            total += R[i, k]
        log_likelihood[i] = top + math.log(total)
        mixed = 0.0
        for k in range(K):
            R[i, k] /= total
            if R[i, k] != 0.0:  # 0 log 0 = 0; NaN stays NaN
                mixed += R[i, k] * (log_joint[i, k] - log_likelihood[i])
        entropy[i] = -mixed
    return R, log_likelihood, entropy
