"""Tracks: what each living cluster has been through since this process met it.

Rows run in the order of slots, as `clusters` reports them. A cluster that dies takes its
track along; one that is born, or moved to other rows, has a new uid and starts anew.
"""

from typing import NamedTuple

import numpy as np

from stream_em.arrays import Array
from stream_em.state import Found, Scores


class Tracks(NamedTuple):
    """The living clusters and their history; a plain value, made anew by every batch."""

    uids: Array  # (K,) int64
    slots: Array  # (K,) int64
    weights: Array  # (K,) sum 1
    means: Array  # (K, D) in the rows' units
    covariances: Array  # scikit-learn's shape for the model's covariance
    counts: Array  # (K,) decayed events N_k
    unit: Array | None  # (D,) the model's unit in the rows' units; None stands for ones
    events: Array  # (K,) int64, hard assignments
    path: Array  # (K,) length travelled by the mean, model's units
    references: Array  # (K, D) the means as first met, rows' units
    created: Array  # (K,) unix seconds
    last_event: Array  # (K,) newest event time assigned here, NaN without one

    @property
    def reference_distances(self) -> Array:
        """Distance of each mean from where it was first met, (K,), model's units."""
        return _lengths(self.means - self.references, self.unit)


def no_tracks() -> Tracks:
    """The tracks before there are clusters."""
    none, ids, at = np.zeros(0), np.zeros(0, dtype=np.int64), np.zeros((0, 0))
    return Tracks(ids, ids, none, at, none, none, None, ids, none, at, none, none)


def followed(
    tracks: Tracks,
    found: Found,
    scores: Scores,
    times: Array | None,
    unit: Array | None,
    now: float,
) -> Tracks:
    """The tracks after a batch that left the clusters as `found`, at `now` in unix seconds.

    `scores` are those of the batch's rows before the update, `times` (n,) their event
    times. Rows of a cluster that is no longer alive count nowhere.
    """
    known = tracks.uids is found.uids or np.array_equal(tracks.uids, found.uids)
    if not known or tracks.means.shape != found.means.shape:  # still none, but features by now
        tracks = _realigned(tracks, found, now)
    events, last_event = _assigned(tracks, scores, times)
    path = tracks.path + _lengths(found.means - tracks.means, unit)
    for fresh in (events, last_event, path, tracks.references, tracks.created):
        fresh.flags.writeable = False
    return Tracks(
        found.uids,
        found.slots,
        found.weights,
        found.means,
        found.covariances,
        found.counts,
        unit,
        events,
        path,
        tracks.references,
        tracks.created,
        last_event,
    )


def _lengths(moves: Array, unit: Array | None) -> Array:
    moved = moves if unit is None else moves / unit
    lengths: Array = np.sqrt(np.einsum("kd,kd->k", moved, moved))
    return lengths


def _realigned(tracks: Tracks, found: Found, now: float) -> Tracks:
    """The histories in the rows of `found`; newcomers begin where they stand."""
    rows = _rows_of(found.uids, tracks.uids)
    K, known = len(rows), rows >= 0

    def kept(newcomers: Array, histories: Array) -> Array:
        if known.any():
            newcomers[known] = histories[rows[known]]
        return newcomers

    return tracks._replace(
        uids=found.uids,
        means=kept(found.means.copy(), tracks.means),
        references=kept(found.means.copy(), tracks.references),
        events=kept(np.zeros(K, dtype=np.int64), tracks.events),
        path=kept(np.zeros(K), tracks.path),
        created=kept(np.full(K, now), tracks.created),
        last_event=kept(np.full(K, np.nan), tracks.last_event),
    )


def _assigned(tracks: Tracks, scores: Scores, times: Array | None) -> tuple[Array, Array]:
    """`events` and `last_event` of the tracks after the rows of `scores`."""
    if not len(scores.labels):
        return tracks.events, tracks.last_event
    K = len(scores.uids)
    counts = np.bincount(scores.labels, minlength=K)
    latest = None if times is None else _latest(scores.labels, times, K)
    if tracks.uids is not scores.uids and not np.array_equal(tracks.uids, scores.uids):
        rows = _rows_of(tracks.uids, scores.uids)
        counts = np.where(rows >= 0, counts[rows], 0)
        latest = None if latest is None else np.where(rows >= 0, latest[rows], np.nan)
    newest = tracks.last_event if latest is None else np.fmax(tracks.last_event, latest)
    return tracks.events + counts, newest


def _latest(labels: Array, times: Array, K: int) -> Array:
    """The newest time of each label's rows, (K,), NaN for a label without any."""
    latest = np.full(K, np.nan)
    np.fmax.at(latest, labels, times)
    return latest


def _rows_of(wanted: Array, uids: Array) -> Array:
    """Where each wanted uid stands among `uids`, -1 where it does not."""
    places = {uid: row for row, uid in enumerate(uids.tolist())}
    return np.array([places.get(uid, -1) for uid in wanted.tolist()], dtype=np.int64)
