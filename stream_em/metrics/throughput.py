"""Events, batches and rejected records, and where the time went."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from stream_em.arrays import Array
from stream_em.metrics.catalogue import PHASES, QUEUES
from stream_em.metrics.counting import added, zeros
from stream_em.metrics.histogram import (
    DELAY_BOUNDS,
    PHASE_BOUNDS,
    SIZE_BOUNDS,
    Histogram,
    empty,
    observed,
    observed_each,
)
from stream_em.state import Info
from stream_em.streams import REASONS, Batch

NEVER = float("nan")  # a time of what has not happened, a quantity that is not there


class Throughput(NamedTuple):
    """Events, batches and where the time went, since the process began."""

    events: int  # learned from
    batches: int  # applied
    failed_batches: int
    batch_events: Histogram
    phase_seconds: Histogram  # one row for each of PHASES
    delay_seconds: Histogram  # event time to model update
    busy_seconds: float
    idle_seconds: float
    backpressured_seconds: float
    queues: Mapping[str, tuple[int, int]]  # name -> events waiting, capacity
    rejected: Mapping[str, int]  # reason -> records
    dead_letters: int  # records handed to the dead letters
    failed_dead_letters: int


def nothing_done() -> Throughput:
    """The throughput before any batch."""
    sizes, phases, delays = (
        empty(SIZE_BOUNDS),
        empty(PHASE_BOUNDS, len(PHASES)),
        empty(DELAY_BOUNDS),
    )
    queues, reasons = zeros(QUEUES, (0, 0)), zeros(REASONS, 0)
    return Throughput(0, 0, 0, sizes, phases, delays, 0.0, 0.0, 0.0, queues, reasons, 0, 0)


def arrived(held: Throughput, batch: Batch) -> Throughput:
    """The throughput after one more batch came in: its size and its rejected records."""
    rejected = held.rejected
    if batch.rejected:
        rejected = added(rejected, Counter(refused.reason for refused in batch.rejected))
    return held._replace(
        batches=held.batches + 1,
        batch_events=observed_each(held.batch_events, {0: len(batch.rows)}),
        rejected=rejected,
    )


def applied(held: Throughput, info: Info, times: Array | None, now: float) -> Throughput:
    """The throughput after a step; `times` (n,) are the event times of its final rows."""
    delays = held.delay_seconds
    if times is not None and len(times):
        delays = observed(delays, np.maximum(now - times, 0.0))
    return held._replace(events=held.events + info.events, delay_seconds=delays)


def timed(held: Throughput, seconds: Mapping[str, float]) -> Throughput:
    """The throughput after some phases took place once each."""
    if not seconds:
        return held
    each = {PHASES.index(phase): value for phase, value in seconds.items()}
    return held._replace(phase_seconds=observed_each(held.phase_seconds, each))
