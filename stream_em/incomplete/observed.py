"""What can be said of incomplete rows without any cluster's covariance."""

import numpy as np

from stream_em import moments
from stream_em.arrays import Array
from stream_em.models.protocol import Model
from stream_em.moments import DiagonalScatter, Moments


def squared_distance(moved: Array) -> Array:
    """Squared lengths (n,) of rows (n, D) over their observed features, times D/|o|."""
    seen = (~np.isnan(moved)).sum(axis=1)
    return np.nansum(np.square(moved), axis=1) * moved.shape[1] / np.maximum(seen, 1)


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
