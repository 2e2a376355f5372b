"""What all rows as one cluster say of each feature: how much it varies, and what is rounding."""

import numpy as np

from stream_em import moments
from stream_em.arrays import Array
from stream_em.kernels.plain import REACH
from stream_em.moments import Moments
from stream_em.state import Frame

DIGITS = 8 * np.finfo(np.float64).eps  # a variance below (8ε|x|)² is rounding, not spread
MIDDLES = 3.0  # the same before there is a deviation, in widths of the middle 95 %


def grain(spread: Moments, frame: Frame) -> Array:
    """Deviation (D,) below which a feature is constant to rounding, in the model's units."""
    return np.asarray(DIGITS * (np.abs(frame.origin / frame.unit) + np.abs(spread.mean[0])))


def floored_variance(spread: Moments, frame: Frame) -> Array:
    """Per-feature variance (D,) of all rows, never zero.

    Features that vary keep their own, however unlike their units are. One that is constant
    to rounding has 1e-12 of the largest; where all are, there is no scale to go by, and it is 1.
    """
    v = moments.variance(spread)[0]
    v = np.where(v > np.square(grain(spread, frame)), v, 0.0)
    top = float(v.max(initial=0.0))
    return np.where(v > 0.0, v, 1e-12 * top) if top > 0 else np.ones(len(v))


def reach(spread: Moments, frame: Frame) -> tuple[Array, Array]:
    """From where to where (D,) values count in full: ten deviations about the mean.

    A feature that was constant so far, and one of which nothing is known, reaches everywhere.
    """
    v, mean = moments.variance(spread)[0], spread.mean[0]
    far = np.where(v > np.square(grain(spread, frame)), REACH * np.sqrt(v), np.inf)
    return mean - far, mean + far


def reach_of_rows(Z: Array, weights: Array) -> tuple[Array, Array]:
    """The same of first rows (n, D): three widths of their middle 95 % about the median.

    A feature that is equal in so many of them reaches everywhere.
    """
    counted = Z[weights > 0]
    low, high = np.full(Z.shape[1], -np.inf), np.full(Z.shape[1], np.inf)
    known = np.flatnonzero(~np.isnan(counted).all(axis=0))
    if len(counted) and len(known):
        first, middle, last = np.nanquantile(counted[:, known], (0.025, 0.5, 0.975), axis=0)
        far = np.where(last > first, MIDDLES * (last - first), np.inf)
        low[known], high[known] = middle - far, middle + far
    return low, high


def moderated(Z: Array, within: tuple[Array, Array]) -> Array:
    """Rows (n, D) with values beyond a reach drawn back to it: one glitch is no spread."""
    return np.asarray(np.minimum(np.maximum(Z, within[0]), within[1]))
