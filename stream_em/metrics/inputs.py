"""How far reading has come, and what is known of the input's connection and partitions.

The label `source` is the input as configured. Where a server knows of partitions,
records and whatever is told by partition bear the name of their topic instead.
"""

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from stream_em.arrays import Array
from stream_em.metrics.catalogue import INPUT_ERRORS
from stream_em.metrics.counting import added, joined, zeros
from stream_em.metrics.histogram import PHASE_BOUNDS, Histogram, empty, observed
from stream_em.metrics.throughput import NEVER
from stream_em.streams import Batch, InputStatus, Origins, Partition

UNREADABLE = ("decode_error", "schema")  # reasons: no row could be made of the bytes
NOTHING: Mapping[Partition, float] = MappingProxyType({})
UNKNOWN = InputStatus(False, {}, {}, {}, 0, 0, 0.0, {}, 0, 0, 0.0)  # before anything was told


class Spells(NamedTuple):
    """Things that take a while each: how long they took, and what was last told of them."""

    seconds: Histogram
    told: tuple[int, float] = (0, 0.0)  # how many there were, seconds in all

    def since(self, count: int, seconds: float) -> "Spells":
        """With those that ended since the last look; several at once share their time evenly.

        Smaller numbers than before are those of an input that was opened anew.
        """
        before = self.told if count >= self.told[0] else (0, 0.0)
        fresh = count - before[0]
        if not fresh:
            return self._replace(told=before)
        each = max(seconds - before[1], 0.0) / fresh
        return Spells(observed(self.seconds, np.full(fresh, each)), (count, seconds))


class Input(NamedTuple):
    """How far reading has come since the process began, and how the input is now."""

    records: Mapping[str, int]  # label -> records
    bytes: int
    lag_bytes: float  # left to read, NaN without an end
    event_times: Mapping[Partition, float]  # newest event time applied, unix seconds
    last_poll: float  # unix seconds
    connected: bool
    status: InputStatus | None  # as last told; None where no server is behind the input
    record_times: Mapping[Partition, float]  # the same of the server's own times
    rebalances: int
    rebalance_spells: Spells
    errors: Mapping[str, int]  # of INPUT_ERRORS
    commits: int
    failed_commits: int
    commit_spells: Spells

    @property
    def newest(self) -> Mapping[Partition, float]:
        """Newest time applied by partition, the rows' own before the server's, unix seconds.

        A partition without a lag is not assigned any more, and is left out.
        """
        both = {**self.record_times, **self.event_times}
        if self.status is None:
            return both
        return {place: time for place, time in both.items() if place in self.status.lag}


def nothing_read() -> Input:
    """The input before it is opened."""
    spells, errors = Spells(empty(PHASE_BOUNDS)), zeros(INPUT_ERRORS, 0)
    no_records: Mapping[str, int] = MappingProxyType({})
    return Input(
        records=no_records,
        bytes=0,
        lag_bytes=NEVER,
        event_times=NOTHING,
        last_poll=NEVER,
        connected=False,
        status=None,
        record_times=NOTHING,
        rebalances=0,
        rebalance_spells=spells,
        errors=errors,
        commits=0,
        failed_commits=0,
        commit_spells=spells,
    )


def read(held: Input, batch: Batch, label: str) -> Input:
    """The input after one more batch; `label` stands for the input as configured."""
    whole = label if held.status is None else None
    event_times = held.event_times
    if batch.origins.times is not None and len(batch.rows):
        event_times = _later(event_times, _newest(batch.origins, batch.origins.times, whole))
    unread = sum(refused.reason in UNREADABLE for refused in batch.rejected)
    return held._replace(
        records=added(held.records, _records(batch, whole)),
        bytes=held.bytes + batch.read_bytes,
        event_times=event_times,
        errors=added(held.errors, {"deserialize": unread}) if unread else held.errors,
    )


def told(held: Input, status: InputStatus, applied: Mapping[Partition, float] | None) -> Input:
    """The input after its server was heard; `applied` are record times of what is learned now.

    Counts are those since the input was opened; they go on where it is opened again.
    """
    before = UNKNOWN if held.status is None else held.status
    errors = {
        error: _grown(before.errors.get(error, 0), status.errors.get(error, 0))
        for error in INPUT_ERRORS
        if error != "deserialize"  # counted with the batches: what reading ahead met is no news
    }
    return held._replace(
        status=status,
        record_times=_later(held.record_times, applied or NOTHING),
        rebalances=held.rebalances + _grown(before.rebalances, status.rebalances),
        rebalance_spells=held.rebalance_spells.since(status.rebalances, status.rebalance_seconds),
        errors=added(held.errors, errors) if any(errors.values()) else held.errors,
        commits=held.commits + _grown(before.commits, status.commits),
        failed_commits=held.failed_commits + _grown(before.failed_commits, status.failed_commits),
        commit_spells=held.commit_spells.since(
            status.commits + status.failed_commits, status.commit_seconds
        ),
    )


def _grown(before: int, now: int) -> int:
    """What was added to a count that may have begun anew."""
    return now - before if now >= before else now


def _records(batch: Batch, whole: str | None) -> Mapping[str, int]:
    """Records of a batch by label, the rejected ones too."""
    if whole is not None:
        return {whole: len(batch.rows) + len(batch.rejected)}
    sources = batch.origins.sources
    counts = np.bincount(batch.origins.source, minlength=len(sources)).tolist()
    found = Counter(dict(zip(sources, counts, strict=True)))
    found.update(refused.source for refused in batch.rejected)
    return found


def _newest(origins: Origins, times: Array, whole: str | None) -> Mapping[Partition, float]:
    """The newest of the times (n,) by partition, NaN for one without any."""
    names, codes = origins.sources, origins.partition.astype(np.int64)
    if whole is None:
        codes |= origins.source.astype(np.int64) << 32
    else:
        names = (whole,)
    if (codes == codes[0]).all():
        found, tops = codes[:1], np.fmax.reduce(times, keepdims=True)
    else:
        found, places = np.unique(codes, return_inverse=True)
        tops = np.full(len(found), np.nan)
        np.fmax.at(tops, places, times)
    return {
        (names[code >> 32], code & 0xFFFF_FFFF): top
        for code, top in zip(found.tolist(), tops.tolist(), strict=True)
    }


def _later(
    held: Mapping[Partition, float], more: Mapping[Partition, float]
) -> Mapping[Partition, float]:
    """The later of both times by partition; NaN is no time."""
    known = {p: t for p, t in more.items() if t == t and not held.get(p, t) > t}
    return joined(held, known) if known else held
