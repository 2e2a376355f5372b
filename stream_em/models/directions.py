"""Directions: rows of unit length, which embeddings are, and the centres they gather around.

On the unit sphere |x - c|² = 2 - 2 x·c, and the unit vector that minimises Σ w|x - c|² is
Σ/|Σ| with Σ = Σ w x, so that J = 2 Σ_k (N_k - |Σ_k|). All of it is read off the same tally
as elsewhere: Σ_k is N_k times the mean (Dhillon & Modha 2001).
"""

import numpy as np

from stream_em.arrays import Array
from stream_em.errors import SettingsError
from stream_em.forgetting import Refusal
from stream_em.models.merging import upper
from stream_em.models.protocol import Nested


def unit_rows(X: Array) -> Array:
    """Rows (n, D) divided by their lengths; a row of zeros stays one.

    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    largest = np.abs(X).max(axis=1, keepdims=True, initial=0.0)
    scaled = X / np.where(largest > 0, largest, 1.0)
    lengths = np.sqrt(np.einsum("nd,nd->n", scaled, scaled))[:, None]
    return np.ascontiguousarray(scaled / np.where(lengths > 0, lengths, 1.0))


def zero_rows(X: Array) -> tuple[Refusal, ...]:
    """The rows of X (n, D) that have no direction."""
    return tuple(
        Refusal(int(row), "non_finite", "all its features are 0, so it has no direction")
        for row in np.flatnonzero(~X.any(axis=1))
    )


def refuse_zero_means(means: Nested | None) -> None:
    """Raise `SettingsError` for a given mean without a direction."""
    if means is not None and not all(any(mean) for mean in means):
        raise SettingsError("initial_means holds a row of zeros; give rows that have a direction")


def centres(means: Array, held: Array | None) -> Array:
    """Mean directions (K, D) of clusters with these mean rows (K, D).

    Where the rows cancel every direction is as good; then the `held` one stays, or the
    first axis is taken.
    """
    units = unit_rows(means)
    lost = ~units.any(axis=1)
    if lost.any():
        axis = np.zeros(means.shape)
        axis[:, 0] = 1.0
        units[lost] = (axis if held is None else held)[lost]
    return units


def distortion(weights: Array, means: Array) -> float:
    """J = 2 Σ_k (N_k - |Σ_k|) of a tally under its own centres."""
    return float(2.0 * (weights @ (1.0 - np.linalg.norm(means, axis=1))))


def united_lengths(o: Array, means: Array) -> tuple[Array, Array]:
    """|Σ_i| + |Σ_j| - |Σ_i + Σ_j| and |Σ_i + Σ_j|, (K, K), without cancellation."""
    length = o * np.linalg.norm(means, axis=1)
    product = np.outer(length, length)
    units = unit_rows(means)
    apart = product * np.clip(2.0 - 2.0 * (units @ units.T), 0.0, 4.0)
    total = length[:, None] + length
    united = np.sqrt(np.maximum(np.square(total) - apart, 0.0))
    both = total + united
    return apart / np.where(both > 0, both, 1.0), united


def ward(o: Array, means: Array) -> Array:
    """2(|Σ_i| + |Σ_j| - |Σ_i + Σ_j|), the exact growth of J, (K, K); +inf below the diagonal."""
    return upper(2.0 * united_lengths(o, means)[0])
