"""What clusters expect of missing features, given the observed ones.

With o the observed and u the missing features of a kind of rows (Little & Rubin 2002, §11.3):

    x̂_u = μ_u + Σ_uo Σ_oo⁻¹ (x_o - μ_o)         C_u = Σ_uu - Σ_uo Σ_oo⁻¹ Σ_ou

Everything is laid out over all D features, so that kinds and clusters go through the linear
algebra together: of Σ all but the block of o is replaced by the unit matrix.
"""

from typing import NamedTuple

import numpy as np

from stream_em.arrays import Array
from stream_em.models.protocol import Clusters


class Conditional(NamedTuple):
    """The laws of P kinds of rows under K clusters."""

    whitening: Array  # (P, K, D, D) inverse Cholesky factor of Σ_oo in the block of o
    log_root: Array  # (P, K) log det Σ_oo / 2
    gain: Array  # (P, K, D, D) Σ_uo Σ_oo⁻¹ in the block (u, o), 0 elsewhere
    left: Array  # (P, K, D, D) C_u in the block of u, 0 elsewhere


def conditional(clusters: Clusters, observed: Array) -> Conditional:
    """The laws under the clusters' covariances for kinds of rows that have `observed` (P, D).

    >>> precisions = np.linalg.inv(np.linalg.cholesky([[1.0, 0.5], [0.5, 2.0]])).T
    >>> unused = np.zeros(0)
    >>> clusters = Clusters(np.ones(1), np.zeros((1, 2)), unused, precisions[None], unused)
    >>> law = conditional(clusters, np.array([[True, False]]))
    >>> law.gain[0, 0, 1, 0].round(9), law.left[0, 0, 1, 1].round(9)     # ρσ₂/σ₁ and σ₂² - ρ²σ₂²
    (np.float64(0.5), np.float64(1.75))
    """
    if clusters.precisions.ndim == 2:
        return _independent(clusters.precisions, observed)
    covariances, D = _matrices(clusters.precisions), observed.shape[1]
    kept = (observed[:, :, None] & observed[:, None, :])[:, None]
    lower = np.linalg.cholesky(np.where(kept, covariances, np.eye(D)))
    whitening = np.linalg.inv(lower)
    seen, unseen = observed[:, None, :, None], ~observed[:, None, None, :]
    half = np.linalg.solve(lower, np.where(seen & unseen, covariances, 0.0))  # L⁻¹ Σ_ou
    gain = np.linalg.solve(lower.swapaxes(-1, -2), half).swapaxes(-1, -2)
    lost = ~observed[:, None, :, None] & unseen
    left = np.where(lost, covariances - half.swapaxes(-1, -2) @ half, 0.0)
    log_root = np.log(np.diagonal(lower, axis1=-2, axis2=-1)).sum(axis=-1)
    return Conditional(whitening, log_root, gain, left)


def _independent(precisions: Array, observed: Array) -> Conditional:
    """The same where features tell nothing of each other; precisions (K, D) are 1/σ."""
    unit = np.eye(precisions.shape[1])
    whitening = (precisions[:, None, :] * unit)[None].repeat(len(observed), axis=0)
    variance = np.where(observed[:, None, :], 0.0, 1 / np.square(precisions))
    log_root = -(observed[:, None, :] * np.log(precisions)).sum(axis=-1)
    return Conditional(
        whitening, log_root, np.zeros_like(whitening), variance[:, :, None, :] * unit
    )


def _matrices(precisions: Array) -> Array:
    """The covariances (K, D, D) of factors P with Σ⁻¹ = P Pᵀ."""
    inverse = np.linalg.inv(precisions)
    return inverse.swapaxes(-1, -2) @ inverse
