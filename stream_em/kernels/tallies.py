"""Loops over rows for the tallies: weights, means and scatters of each cluster.

Every sum runs over differences to the centres. A scatter whose centring would cancel
more than three digits is summed a second time, about the new mean.
"""

import math

import numpy as np

from stream_em.arrays import Array
from stream_em.kernels.machine import LANES, TILE, load, machine_code
from stream_em.kernels.plain import RECENTRE

PANEL = 2048  # float64 numbers of a panel of scaled rows: half of a small first cache


@machine_code()
def _clip(values: Array) -> None:
    """Raise what rounding made negative to zero, (K, D)."""
    for k in range(values.shape[0]):
        for d in range(values.shape[1]):
            values[k, d] = max(values[k, d], 0.0)


@machine_code("contract")
def _add(
    Z: Array, i: int, centres: Array, k: int, weight: float, first: Array, second: Array
) -> None:
    """Add weight (z_i - centre_k) to first[k], and its square to second[k]."""
    for d in range(Z.shape[1]):
        moved = Z[i, d] - centres[k, d]
        first[k, d] += weight * moved
        second[k, d] += weight * moved * moved


@machine_code()
def _centred(N: Array, first: Array, scatter: Array, means: Array) -> Array:
    """Turn sums about the centres into means and scatters, in place; mark what cancelled.

    `means` hold the centres, `scatter` the squares about them. Marked scatters (K,)
    are set to zero, to be summed again.
    """
    again = np.zeros(len(N), np.bool_)
    for k in range(len(N)):
        if not N[k] > 0.0:
            scatter[k] = 0.0
            continue
        removed, kept = 0.0, 0.0
        for d in range(means.shape[1]):
            delta = first[k, d] / N[k]
            about = N[k] * (delta * delta)
            means[k, d] += delta
            scatter[k, d] -= about
            removed += about
            kept += scatter[k, d]
        if removed > RECENTRE * kept:
            again[k] = True
            scatter[k] = 0.0
    return again


@machine_code()
def hard_tally(
    Z: Array, weights: Array, labels: Array, centres: Array
) -> tuple[Array, Array, Array, Array]:
    """N (K,), Σw² (K,), mean (K, D) and scatter (K, D); labels outside 0..K-1 count nowhere."""
    K = len(centres)
    N, squares, means = np.zeros(K), np.zeros(K), centres.copy()
    first, scatter = np.zeros(centres.shape), np.zeros(centres.shape)
    for i in range(len(Z)):
        k, weight = labels[i], weights[i]
        if 0 <= k < K and weight != 0.0:
            N[k] += weight
            squares[k] += weight * weight
            _add(Z, i, means, k, weight, first, scatter)
    again = _centred(N, first, scatter, means)
    if again.any():
        for i in range(len(Z)):
            k = labels[i]
            if 0 <= k < K and again[k]:
                _add(Z, i, means, k, weights[i], first, scatter)
    _clip(scatter)
    return N, squares, means, scatter


@machine_code()
def _add_weights(weights: Array, R: Array, N: Array, squares: Array) -> Array:
    """Add Σwγ to N and Σw²γ to squares; which clusters (K,) have any weight."""
    for i in range(len(R)):
        weight = weights[i]
        for k in range(len(N)):
            N[k] += R[i, k] * weight
            squares[k] += weight * weight * R[i, k]
    wanted = np.zeros(len(N), np.bool_)
    for k in range(len(N)):
        wanted[k] = N[k] > 0.0
    return wanted


@machine_code("contract", "reassoc")
def _add_moments(
    panel: Array, centres: Array, k: int, gamma: Array, width: int, first: Array, second: Array
) -> None:
    """Add Σγ (z - centre_k) and Σγ (z - centre_k)² of a panel (D, lanes) to first[k], second[k]."""
    for d in range(centres.shape[1]):
        centre = centres[k, d]
        total = square = 0.0
        for b in range(width):
            moved = panel[d, b] - centre
            scaled = gamma[b] * moved
            total += scaled
            square += scaled * moved
        first[k, d] += total
        second[k, d] += square


@machine_code()
def _add_diagonal_sums(
    Z: Array, weights: Array, R: Array, centres: Array, wanted: Array, first: Array, second: Array
) -> None:
    """Add Σγ (z - c) and Σγ (z - c)² to first and second (K, D) for the wanted clusters."""
    K, D = centres.shape
    panel, gamma = np.empty((D, LANES)), np.empty(LANES)
    for start in range(0, len(Z), LANES):
        width = min(LANES, len(Z) - start)
        load(Z, start, panel, width)
        for k in range(K):
            if wanted[k]:
                for b in range(width):
                    gamma[b] = R[start + b, k] * weights[start + b]
                _add_moments(panel, centres, k, gamma, width, first, second)


@machine_code()
def soft_tally_diagonal(
    Z: Array, weights: Array, R: Array, centres: Array
) -> tuple[Array, Array, Array, Array]:
    """N (K,), Σw²γ (K,), mean (K, D) and per-feature scatter (K, D)."""
    K = len(centres)
    N, squares, means = np.zeros(K), np.zeros(K), centres.copy()
    first, scatter = np.zeros(centres.shape), np.zeros(centres.shape)
    wanted = _add_weights(weights, R, N, squares)
    _add_diagonal_sums(Z, weights, R, means, wanted, first, scatter)
    again = _centred(N, first, scatter, means)
    if again.any():
        _add_diagonal_sums(Z, weights, R, means, again, first, scatter)
    _clip(scatter)
    return N, squares, means, scatter


@machine_code()
def _erase(S: Array, k: int) -> None:
    for i in range(S.shape[1]):
        for j in range(S.shape[2]):
            S[k, i, j] = 0.0


@machine_code("contract", "reassoc")
def _add_products(scaled: Array, width: int, S: Array, k: int) -> None:
    """Add the products of all pairs of features of scaled (D4, lanes) to S[k], upper tiles only."""
    for i in range(0, len(scaled), 2):
        for j in range(i // TILE * TILE, len(scaled), TILE):
            a = b = c = d = e = f = g = h = 0.0
            for row in range(width):
                x, y = scaled[i, row], scaled[i + 1, row]
                p, q = scaled[j, row], scaled[j + 1, row]
                r, s = scaled[j + 2, row], scaled[j + 3, row]
                a += x * p
                b += x * q
                c += x * r
                d += x * s
                e += y * p
                f += y * q
                g += y * r
                h += y * s
            S[k, i, j] += a
            S[k, i, j + 1] += b
            S[k, i, j + 2] += c
            S[k, i, j + 3] += d
            S[k, i + 1, j] += e
            S[k, i + 1, j + 1] += f
            S[k, i + 1, j + 2] += g
            S[k, i + 1, j + 3] += h


@machine_code("contract", "reassoc")
def _scale(
    panel: Array, centres: Array, k: int, root: Array, width: int, scaled: Array, first: Array
) -> None:
    """Fill scaled (D4, lanes) with √γ (z - centre_k) and add Σγ (z - centre_k) to first[k]."""
    for d in range(centres.shape[1]):
        centre, total = centres[k, d], 0.0
        for b in range(width):
            moved = root[b] * (panel[d, b] - centre)
            scaled[d, b] = moved
            total += root[b] * moved
        first[k, d] += total


@machine_code()
def _add_full_sums(
    Z: Array, weights: Array, R: Array, centres: Array, wanted: Array, first: Array, S: Array
) -> None:
    """Add Σγ (z - c) to first (K, D) and Σγ (z - c)(z - c)ᵀ, upper tiles, to S (K, D4, D4)."""
    padded = S.shape[1]
    lanes = max(LANES, min(256, PANEL // padded))
    panel, scaled = np.empty((centres.shape[1], lanes)), np.zeros((padded, lanes))
    root = np.empty(lanes)
    for start in range(0, len(Z), lanes):
        width = min(lanes, len(Z) - start)
        load(Z, start, panel, width)
        for k in range(len(centres)):
            if wanted[k]:
                for b in range(width):
                    root[b] = math.sqrt(R[start + b, k] * weights[start + b])
                _scale(panel, centres, k, root, width, scaled, first)
                _add_products(scaled, width, S, k)


@machine_code()
def _centred_full(N: Array, first: Array, S: Array, means: Array) -> Array:
    """As `_centred`, for the upper triangles of matrices S (K, D4, D4)."""
    again = np.zeros(len(N), np.bool_)
    for k in range(len(N)):
        if not N[k] > 0.0:
            continue
        removed, kept = 0.0, 0.0
        for i in range(means.shape[1]):
            delta = first[k, i] / N[k]
            means[k, i] += delta
            for j in range(i, means.shape[1]):
                S[k, i, j] -= N[k] * (delta * (first[k, j] / N[k]))
            removed += N[k] * (delta * delta)
            kept += S[k, i, i]
        if removed > RECENTRE * kept:
            again[k] = True
            _erase(S, k)
    return again


@machine_code()
def soft_tally_full(
    Z: Array, weights: Array, R: Array, centres: Array
) -> tuple[Array, Array, Array, Array]:
    """N (K,), Σw²γ (K,), mean (K, D) and scatter matrices (K, D, D)."""
    K, D = centres.shape
    padded = (D + TILE - 1) // TILE * TILE
    N, squares, means = np.zeros(K), np.zeros(K), centres.copy()
    first, S, scatter = np.zeros((K, D)), np.zeros((K, padded, padded)), np.empty((K, D, D))
    wanted = _add_weights(weights, R, N, squares)
    _add_full_sums(Z, weights, R, means, wanted, first, S)
    again = _centred_full(N, first, S, means)
    if again.any():
        _add_full_sums(Z, weights, R, means, again, first, S)
    for k in range(K):
        for i in range(D):
            for j in range(D):
                scatter[k, i, j] = S[k, min(i, j), max(i, j)]
    return N, squares, means, scatter


@machine_code()
def ward(weights: Array, means: Array) -> Array:
    """Ward's cost of all pairs (K, K), +inf on and below the diagonal."""
    K, D = means.shape
    out = np.full((K, K), np.inf)
    for i in range(K):
        for j in range(i + 1, K):
            between = 0.0
            for d in range(D):
                moved = means[i, d] - means[j, d]
                between += moved * moved
            total = weights[i] + weights[j]
            out[i, j] = weights[i] * weights[j] / total * between if total > 0 else 0.0
    return out
