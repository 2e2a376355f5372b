"""Rows set aside: a bounded set of copies, united, faded, dropped; and their absorption."""

import numpy as np

from stream_em import moments
from stream_em.arrays import Array
from stream_em.kernels import kernels_in_use
from stream_em.moments import Moments
from stream_em.state import Quarantine


def empty(D: int) -> Quarantine:
    """No rows set aside."""
    none = np.zeros(0)
    return Quarantine(np.zeros((0, D)), none, none, np.zeros(0, dtype=np.int64))


def united(a: Quarantine, b: Quarantine) -> Quarantine:
    """The rows of both, in order."""
    return Quarantine(
        np.concatenate([a.rows, b.rows]),
        np.concatenate([a.weights, b.weights]),
        np.concatenate([a.scores, b.scores]),
        np.concatenate([a.arrivals, b.arrivals]),
    )


def chosen(aside: Quarantine, rows: Array) -> Quarantine:
    """Some of the rows, by index or mask."""
    return Quarantine(
        aside.rows[rows], aside.weights[rows], aside.scores[rows], aside.arrivals[rows]
    )


def faded(aside: Quarantine, retention: float) -> Quarantine:
    """The rows with their weights faded like events."""
    if retention == 1.0:
        return aside
    return Quarantine(aside.rows, aside.weights * retention, aside.scores, aside.arrivals)


def bounded(aside: Quarantine, capacity: int) -> tuple[Quarantine, Quarantine]:
    """The `capacity` rows of largest score, oldest first, and those that made room."""
    if len(aside) <= capacity:
        return aside, chosen(aside, slice(0, 0))  # type: ignore[arg-type]
    order = np.argsort(-aside.scores, kind="stable")
    kept = np.zeros(len(aside), dtype=bool)
    kept[order[:capacity]] = True
    return chosen(aside, kept), chosen(aside, ~kept)


def absorbed(held: Moments, aside: Quarantine, means: Array) -> Moments:
    """The tally with the rows merged into their nearest clusters; means (K, D)."""
    if len(aside) == 0:
        return held
    kernels = kernels_in_use()
    labels, _ = kernels.nearest(aside.rows, means)
    arrived = moments.hard_tally(kernels, aside.rows, aside.weights, labels, means)
    return moments.merge(held, arrived)


def rescored(aside: Quarantine, means: Array) -> Quarantine:
    """The rows with their squared distances to the nearest of means (K, D)."""
    _, distance = kernels_in_use().nearest(aside.rows, means)
    return Quarantine(aside.rows, aside.weights, distance, aside.arrivals)
