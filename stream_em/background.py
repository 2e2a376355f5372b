"""The background: a uniform component over the range of the rows, for what no cluster explains."""

import math

import numpy as np

from stream_em.arrays import Array
from stream_em.kernels import kernels_in_use
from stream_em.kernels.plain import MOST_SHARE
from stream_em.models.protocol import Expectation
from stream_em.models.settings import Background
from stream_em.moments import Retentions
from stream_em.state import Uniform


def background_share(settings: Background, uniform: Uniform, others: float) -> float:
    """w0, the share of the mixture of a background beside components of weight `others`."""
    total = uniform.step + others
    share = uniform.step / total if total > 0 else 0.0
    return min(max(share, settings.least_share), MOST_SHARE)


def ranged(Z: Array, mass: float) -> Uniform:
    """A background of some mass over the ranges of rows Z (n, D)."""
    low = Z.min(axis=0, initial=np.inf)
    high = Z.max(axis=0, initial=-np.inf)
    if np.isnan(low).any():
        low = np.fmin.reduce(Z, axis=0, initial=np.inf)
        high = np.fmax.reduce(Z, axis=0, initial=-np.inf)
    return Uniform(mass, mass, low, high)


def log_ranges(background: Uniform, spread: Array, grain: Array) -> Array:
    """log widths (D,) in nats of the box the background is uniform over.

    `spread` (D,) is the variance of all rows. A feature that has never moved by more than
    rounding, its `grain` (D,), has no range of its own and takes the widest deviation, so
    that a box without volume claims no row.
    """
    widths = background.high - background.low
    widest = float(np.sqrt(spread.max(initial=0.0)))
    still = widths <= 2 * grain
    widths = np.where(still, widest if widest > 0 else 1.0, widths)
    return kernels_in_use().logarithms(np.maximum(widths, 1e-3 * np.sqrt(spread)))


def log_volumes(background: Uniform, spread: Array, grain: Array, Z: Array) -> Array:
    """log volume (n,) in nats of that box in the features that each row has."""
    widths = log_ranges(background, spread, grain)
    lacking = np.isnan(Z)
    if not lacking.any():
        return np.full(len(Z), widths.sum())
    return ~lacking @ widths


def mixed(expectation: Expectation, share: float, volumes: Array) -> Expectation:
    """The expectation of (1 - w0)·Σ π_k N_k + w0/V, with w0 = `share` and log V (n,) in nats.

    Responsibilities stay given not background.
    """
    assert expectation.log_joint is not None
    inside = expectation.log_likelihood + math.log1p(-share)
    beyond = math.log(share) - volumes
    log_likelihood, r0 = kernels_in_use().claimed(inside, beyond)
    rest = np.exp(inside - log_likelihood)
    mixing = -r0 * (beyond - log_likelihood) - rest * (inside - log_likelihood)
    return expectation._replace(
        log_joint=expectation.log_joint + math.log1p(-share),
        log_likelihood=log_likelihood,
        entropy=rest * expectation.entropy + mixing,
        background=r0,
        log_background=beyond,
    )


def outside(expectation: Expectation, given: Array | None) -> Array:
    """r_0 (n,); rows whose assignment was given belong to the clusters alone."""
    if given is None:
        return expectation.background
    return np.where(np.isnan(given).any(axis=1), expectation.background, 0.0)


def united(a: Uniform | None, b: Uniform | None) -> Uniform | None:
    """The background's tally over both, and the range of both."""
    if a is None or b is None:
        return a or b
    return Uniform(
        a.step + b.step,
        a.objective + b.objective,
        np.minimum(a.low, b.low),
        np.maximum(a.high, b.high),
    )


def faded(held: Uniform | None, kept: Retentions) -> Uniform | None:
    """The background with its tally faded; its ranges only grow."""
    if held is None:
        return None
    return Uniform(kept.step * held.step, kept.objective * held.objective, held.low, held.high)
