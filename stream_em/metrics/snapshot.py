"""What is known at one moment: immutable parts, put together after every batch.

Whoever holds a `Snapshot` may read it from any thread and for as long as they like:
nothing in it changes, and all of it belongs to the same batch.
"""

from typing import NamedTuple

from stream_em.metrics.histogram import Histogram
from stream_em.metrics.inputs import Input
from stream_em.metrics.quality import Quality
from stream_em.metrics.throughput import Throughput
from stream_em.metrics.tracks import Tracks
from stream_em.models.covariance import Covariance


class About(NamedTuple):
    """What stays the same for the life of the process."""

    name: str  # of the engine
    algorithm: str  # kind of the model
    covariance: Covariance | None  # None where the model has none
    source: str  # the label of the input
    version: str
    revision: str
    half_life_events: float  # of the exponentially weighted gauges
    cluster_detail: str  # auto, full, summary, off
    checkpoint_interval_seconds: float | None


class Published(NamedTuple):
    """The model as last published."""

    version: int  # input rows accepted since the model began
    held: int  # of those, rows that wait for seeding
    features: int
    updates: int  # steps that learned, since the process began
    step_size: float  # NaN before the first
    updated: float  # unix seconds
    tracks: Tracks


class Checkpoints(NamedTuple):
    """What has been saved."""

    written: int
    failed: int
    seconds: Histogram
    size_bytes: float  # of the last, NaN before one
    last_success: float  # unix seconds
    covered: int  # input rows that the last durable checkpoint knows
    restored: int
    failed_restores: int


class Snapshot(NamedTuple):
    """Everything the exporter, the progress display and the dashboard show."""

    state: str  # one of catalogue.STATES
    taken: float  # unix seconds
    throughput: Throughput
    input: Input
    quality: Quality
    published: Published
    checkpoints: Checkpoints

    @property
    def pending_events(self) -> int:
        """Rows accepted since the last durable checkpoint."""
        return self.published.version - self.checkpoints.covered

    @property
    def cluster_count(self) -> int:
        """K, the clusters that live."""
        return len(self.published.tracks.slots)
