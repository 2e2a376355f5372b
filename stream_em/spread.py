"""What all rows as one cluster say of each feature: how much it varies, and what is rounding."""

import numpy as np

from stream_em import moments
from stream_em.arrays import Array
from stream_em.kernels.plain import REACH, STILL_RATIO
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
    return np.where(v > 0.0, v, STILL_RATIO * top) if top > 0 else np.ones(len(v))


def reach(spread: Moments, frame: Frame) -> tuple[Array, Array]:
    """From where to where (D,) values count in full: ten deviations about the mean.

    A feature that was constant so far, and one of which nothing is known, reaches everywhere.
    """
    v, mean = moments.variance(spread)[0], spread.mean[0]
    far = np.where(v > np.square(grain(spread, frame)), REACH * np.sqrt(v), np.inf)
    return mean - far, mean + far


def reach_of_rows(Z: Array, weights: Array) -> tuple[Array, Array]:
    """The same of first rows (n, D): three widths of their middle 95 % about the median.

    A weight of two is a row twice. A feature that is equal in so many rows reaches everywhere.
    """
    low, high = np.full(Z.shape[1], -np.inf), np.full(Z.shape[1], np.inf)
    for d in range(Z.shape[1]):
        counted = (weights > 0) & ~np.isnan(Z[:, d])
        if counted.any():
            first, middle, last = _quantiles(Z[counted, d], weights[counted])
            if last > first:
                far = MIDDLES * (last - first)
                low[d], high[d] = middle - far, middle + far
    return low, high


def _quantiles(values: Array, weights: Array) -> list[float]:
    """The least values (n,) up to which 2.5, 50 and 97.5 % of the weight lie."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order])
    places = np.searchsorted(below, np.array((0.025, 0.5, 0.975)) * below[-1])
    found: list[float] = values[order][np.minimum(places, len(values) - 1)].tolist()
    return found


def moderated(Z: Array, within: tuple[Array, Array]) -> Array:
    """Rows (n, D) with values beyond a reach drawn back to it: one glitch is no spread."""
    return np.asarray(np.minimum(np.maximum(Z, within[0]), within[1]))
