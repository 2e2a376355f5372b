"""The meter: what the learning thread tells as it goes, made into one snapshot per batch."""

import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Any, final

from stream_em.arrays import Array
from stream_em.errors import SettingsError
from stream_em.metrics import histogram, inputs, throughput
from stream_em.metrics.catalogue import DETAILS, STATES
from stream_em.metrics.counting import LogCounter, added, joined
from stream_em.metrics.quality import nothing_scored, scored
from stream_em.metrics.snapshot import About, Checkpoints, Published, Snapshot
from stream_em.metrics.throughput import NEVER
from stream_em.metrics.tracks import followed, no_tracks
from stream_em.models.gaussian import GaussianMixture
from stream_em.models.protocol import Model
from stream_em.state import Found, Info
from stream_em.streams import Batch, InputStatus, Partition

NOTHING: Mapping[str, Any] = MappingProxyType({})


@final
class Meter:
    """Accumulates what happened. One thread, the learning thread, calls all of its methods.

    Other threads read two attributes and nothing else, each in a single look: `snapshot`,
    an immutable value that is replaced as a whole, and `beat_at`. So nothing is ever
    locked. `batch`, `idle`, `state`, `restored` and the checkpoint methods make a new
    snapshot; what the other methods note shows in the next one.

        meter = Meter(model, name="clusters", source="readings*.csv")
        meter.state("restoring");  meter.restored(total_events);  meter.state("running")
        meter.batch(info, batch, found, total_events=n, phases={"e_step": 0.004})
        meter.idle(0.25);  meter.checkpoint_written(0.1, 4096, n);  meter.state("draining")
    """

    def __init__(
        self,
        model: Model,
        *,
        name: str = "stream-em",
        source: str = "input",
        revision: str = "unknown",
        half_life_events: float = 10_000.0,
        cluster_detail: str = "auto",
        checkpoint_interval_seconds: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`name` is the engine's, `source` the label of its input (a path as configured).

        `half_life_events` is that of the exponentially weighted gauges, `cluster_detail`
        one of auto (full up to 64 clusters), full, summary and off, and
        `checkpoint_interval_seconds` None where nothing is saved by the clock.
        """
        if not half_life_events > 0:
            raise SettingsError(
                f"half_life_events is {half_life_events!r}, expected more than 0; default is 10000"
            )
        covariance = model.covariance if isinstance(model, GaussianMixture) else None
        self.about = About(
            name,
            model.kind,
            covariance,
            source,
            _version(),
            revision,
            half_life_events,
            _one_of(cluster_detail, DETAILS, "cluster_detail"),
            checkpoint_interval_seconds,
        )
        self.logs = LogCounter()  # a logging handler; whoever sets up logging attaches it
        self.beat_at = time.monotonic()
        self._clock = clock
        self._state = "starting"
        self._throughput = throughput.nothing_done()
        self._input = inputs.nothing_read()
        self._quality = nothing_scored()
        self._published = Published(0, 0, 0, 0, NEVER, NEVER, no_tracks())
        nothing = histogram.empty(histogram.PHASE_BOUNDS)
        self._checkpoints = Checkpoints(0, 0, nothing, NEVER, NEVER, 0, 0, 0)
        self.snapshot = self._taken()

    def beat(self) -> None:
        """Show that the learning loop goes round; `batch` and `idle` do so, too.

        To be called as well while waiting, for outputs to take rows, say: without a beat
        for the stall limit `/livez` answers 503.
        """
        self.beat_at = time.monotonic()

    def state(self, state: str) -> Snapshot:
        """Enter a state of the life cycle: starting restoring running draining failed."""
        self._state = _one_of(state, STATES, "state")
        return self._publish()

    def batch(
        self,
        info: Info,
        batch: Batch | None,
        found: Found,
        *,
        total_events: int,
        held: int = 0,
        times: Array | None = None,
        phases: Mapping[str, float] = NOTHING,
        unit: Array | None = None,
    ) -> Snapshot:
        """A batch was applied: its step's `info`, itself, and the clusters it left.

        `batch` is None where no input lies behind the step, as at the end of a finite
        stream. `total_events` and `held` are the state's; `times` (n,) the event times of
        the rows of `info.scores`; `phases` seconds by name of a phase; `unit` (D,) the
        model's unit in the rows' units where the model scales. Rejected records of the
        batch are counted here.
        """
        now = self._clock()
        done = self._throughput
        if batch is not None:
            self._input = inputs.read(self._input, batch, self.about.source)
            done = throughput.arrived(done, batch)
        self._throughput = throughput.timed(throughput.applied(done, info, times, now), phases)
        self._quality = scored(self._quality, info, self.about.half_life_events)
        tracks = followed(self._published.tracks, found, info.scores, times, unit, now)
        updated = info.events > 0
        self._published = Published(
            total_events,
            held,
            self._published.features if batch is None else batch.rows.shape[1],
            self._published.updates + updated,
            info.step_size if updated else self._published.step_size,
            now if updated else self._published.updated,
            tracks,
        )
        return self._publish()

    def batch_failed(self) -> Snapshot:
        """A batch could not be applied."""
        failed = self._throughput.failed_batches + 1
        self._throughput = self._throughput._replace(failed_batches=failed)
        return self._publish()

    def idle(self, seconds: float) -> Snapshot:
        """The learning thread waited for input for `seconds`."""
        self.activity(idle=seconds)
        return self._publish()

    def activity(self, busy: float = 0.0, idle: float = 0.0, backpressured: float = 0.0) -> None:
        """Seconds the learning thread worked, waited for input, or waited for outputs."""
        held = self._throughput
        self._throughput = held._replace(
            busy_seconds=held.busy_seconds + busy,
            idle_seconds=held.idle_seconds + idle,
            backpressured_seconds=held.backpressured_seconds + backpressured,
        )

    def phases(self, seconds: Mapping[str, float]) -> None:
        """One duration for each phase that took place; names of `PHASES`."""
        self._throughput = throughput.timed(self._throughput, seconds)

    def queues(self, fills: Mapping[str, tuple[int, int]]) -> None:
        """Events waiting and capacity of internal queues, by name."""
        held = self._throughput
        self._throughput = held._replace(queues=joined(held.queues, fills))

    def rejected(self, reasons: Mapping[str, int]) -> None:
        """Records rejected by anything but the batch itself, by reason."""
        if reasons:
            held = self._throughput
            self._throughput = held._replace(rejected=added(held.rejected, reasons))

    def dead_letters(self, written: int = 0, failed: int = 0) -> None:
        """Records handed to the dead letters, or that could not be."""
        held = self._throughput
        self._throughput = held._replace(
            dead_letters=held.dead_letters + written,
            failed_dead_letters=held.failed_dead_letters + failed,
        )

    def input(
        self,
        *,
        connected: bool,
        last_poll: float | None = None,
        lag_bytes: float | None = None,
        status: InputStatus | None = None,
        applied: Mapping[Partition, float] | None = None,
    ) -> None:
        """How the input is; what is None stays as it was, unknown from the start.

        `last_poll` in unix seconds; `lag_bytes` left to read, of an input with an end.
        `status` is what a server's stream last said of itself, `applied` the newest record
        times it told along with the batch at hand. A connection made or lost shows at
        once, the rest in the next snapshot.
        """
        held = self._input
        noted = held if status is None else inputs.told(held, status, applied)
        self._input = noted._replace(
            connected=connected,
            last_poll=held.last_poll if last_poll is None else last_poll,
            lag_bytes=held.lag_bytes if lag_bytes is None else float(lag_bytes),
        )
        if connected != held.connected:
            self._publish()

    def restored(self, total_events: int, held: int = 0) -> Snapshot:
        """A checkpoint that knows `total_events` rows was restored."""
        count = self._checkpoints.restored + 1
        self._checkpoints = self._checkpoints._replace(restored=count, covered=total_events)
        self._published = self._published._replace(version=total_events, held=held)
        return self._publish()

    def restore_failed(self) -> Snapshot:
        """A checkpoint could not be restored."""
        count = self._checkpoints.failed_restores + 1
        self._checkpoints = self._checkpoints._replace(failed_restores=count)
        return self._publish()

    def checkpoint_written(
        self, seconds: float, size_bytes: int | None, total_events: int
    ) -> Snapshot:
        """A checkpoint that knows `total_events` rows is durable, `seconds` after its barrier."""
        held = self._checkpoints
        self._checkpoints = held._replace(
            written=held.written + 1,
            seconds=histogram.observed_each(held.seconds, {0: seconds}),
            size_bytes=held.size_bytes if size_bytes is None else float(size_bytes),
            last_success=self._clock(),
            covered=total_events,
        )
        self.phases({"checkpoint": seconds})
        return self._publish()

    def checkpoint_failed(self) -> Snapshot:
        """A checkpoint could not be written."""
        self._checkpoints = self._checkpoints._replace(failed=self._checkpoints.failed + 1)
        return self._publish()

    def _publish(self) -> Snapshot:
        self.snapshot = snapshot = self._taken()
        self.beat_at = time.monotonic()
        return snapshot

    def _taken(self) -> Snapshot:
        return Snapshot(
            self._state,
            self._clock(),
            self._throughput,
            self._input,
            self._quality,
            self._published,
            self._checkpoints,
        )


def _one_of(value: str, known: tuple[str, ...], name: str) -> str:
    if value not in known:
        raise SettingsError(f"{name} is {value!r}, expected one of: {', '.join(known)}")
    return value


def _version() -> str:
    try:
        return version("stream-em")
    except PackageNotFoundError:
        return "unknown"
