"""The loop: batches in, clusters learned, rows out, checkpoints beside.

Reading, learning, writing and saving overlap: each has its thread, bounded queues
join them, and a slow output slows all the others instead of filling the memory.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn, final

from stream_em.checkpoints import Checkpoint, versions
from stream_em.engine.changes import change_columns, log_changes
from stream_em.engine.drain import Drain
from stream_em.engine.gate import admitted
from stream_em.engine.ingest import Ended, Epoch, Fetched, Ingest
from stream_em.engine.outputs import Outputs
from stream_em.engine.pending import joined, output_columns, paired
from stream_em.engine.recovery import Setup, Start
from stream_em.engine.rejects import RejectLog, Tribunal, dead_letters
from stream_em.engine.saving import Saving
from stream_em.engine.settings import remembered
from stream_em.engine.summary import Summary, Totals
from stream_em.errors import CheckpointFailed, RecordsGone, RunFailed, SourceChanged
from stream_em.learning import finish, learn, tally
from stream_em.metrics.meter import Meter
from stream_em.metrics.snapshot import Snapshot
from stream_em.reading import clusters
from stream_em.state import Info
from stream_em.streams import Batch, Origins

log = logging.getLogger(__name__)

WAIT_SECONDS = 0.25  # for a batch, before the loop turns anyway

Observe = Callable[[Snapshot], None]


@dataclass(frozen=True)
class Parts:
    """The threads and helpers that the loop drives."""

    ingest: Ingest
    outputs: Outputs
    saving: Saving
    drain: Drain
    meter: Meter
    observe: Observe


@final
class _Watch:
    """Seconds by phase, lap after lap."""

    def __init__(self, laps: dict[str, float]) -> None:
        self.laps = laps
        self._began = self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """The phase that ends here took since the last lap."""
        now = time.perf_counter()
        self.laps[phase], self._last = now - self._last, now

    @property
    def total(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._began


@final
class Loop:
    """What the learning thread holds while it goes round."""

    def __init__(self, setup: Setup, start: Start, parts: Parts, max_events: int | None) -> None:
        self._setup, self._start, self._parts = setup, start, parts
        self._max_events = max_events
        self._state, self._positions = start.state, start.positions
        self._pending: Origins | None = start.pending  # rows whose scores are still to come
        self._rejected = start.rejected  # since the model began
        self._features = tuple(start.stream.features)
        self._remembered = remembered(
            setup.source, self._features, setup.sinks, setup.authority.identity
        )
        self._versions = versions()
        self._tribunal = Tribunal.over(setup.source)
        self._reject_log = RejectLog()
        self._totals = Totals()
        self._seconds = 0.0
        self._left: float | None = None  # bytes of the input left to read, None without an end

    def run(self) -> Summary:
        """Go round until the end of the input, a stop request or `max_events`."""
        parts = self._parts
        if self._start.unsaved:
            parts.saving.first(self._draft, anew=self._start.resumed_from is None)
        parts.observe(parts.meter.state("running"))
        began = time.perf_counter()
        parts.ingest.start()
        stopped_by = self._rounds(began)
        parts.observe(parts.meter.state("draining"))
        ending = time.perf_counter()
        if stopped_by == "end" or not parts.saving.keeps:
            self._finish()
        parts.saving.last(self._draft)
        parts.observe(parts.meter.snapshot)
        self._seconds += time.perf_counter() - ending
        self._reject_log.close()
        return self._summary(stopped_by)

    def _rounds(self, began: float) -> str:
        while not self._parts.drain.requested:
            fetched = self._next()
            if isinstance(fetched, Ended):
                if fetched.error is not None:
                    self._broken_off(fetched.error)
                return "end"
            if isinstance(fetched, Epoch):
                self._settle(fetched)
            elif fetched is not None:
                if not self._fits(fetched.batch):
                    return "max_events"
                self._learn(fetched)
                self._seconds = time.perf_counter() - began
            self._parts.outputs.check()
            if self._totals.events == self._max_events:
                return "max_events"
            self._parts.saving.turn(self._draft)
        return "signal"

    def _broken_off(self, error: BaseException) -> NoReturn:
        """End the run; what was read before the input changed holds, and may not come again."""
        if isinstance(error, SourceChanged | RecordsGone) and self._parts.saving.keeps:
            try:
                self._parts.saving.last(self._draft)
            except CheckpointFailed as failed:
                log.error("what was read before could not be saved: %s", failed)
            except Exception as failed:
                raise failed from error
        raise error

    def _settle(self, epoch: Epoch) -> None:
        """Save everything so far; the stream waits for it."""
        try:
            self._parts.saving.last(self._draft)
        except BaseException as error:
            epoch.settled.set_exception(error)
            raise
        epoch.settled.set_result(None)

    def _next(self) -> Fetched | Epoch | Ended | None:
        """The next batch; None after a while without one."""
        parts, began = self._parts, time.perf_counter()
        fetched = parts.ingest.queue.take(WAIT_SECONDS)
        waited = time.perf_counter() - began
        if fetched is None:
            self._note_input(None)
            self._parts.observe(parts.meter.idle(waited))
        else:
            parts.meter.activity(idle=waited)
        return fetched

    def _fits(self, batch: Batch) -> bool:
        """Whether a batch stays within `max_events`."""
        return self._max_events is None or (
            self._totals.events + len(batch.rows) <= self._max_events
        )

    def _learn(self, fetched: Fetched) -> None:
        """One batch: admit, tally, learn, write, count."""
        parts, blocked = self._parts, self._parts.outputs.blocked_seconds
        watch = _Watch({"fetch": fetched.seconds})
        batch = admitted(self._setup.model, self._state, fetched.batch, self._features)
        self._tribunal.judge(len(batch.rows), batch.rejected)
        watch.lap("validate")
        info = self._learned(batch, watch)
        scored = self._emit(joined(self._pending, batch.origins), info)
        self._bury(batch)
        self._tell(info)
        watch.lap("publish")
        self._positions = self._positions.advanced(batch.next_positions)
        self._totals.note(len(batch.rows), len(batch.rejected), info)
        parts.saving.note(len(batch.rows))
        self._note_input(fetched)
        blocked = parts.outputs.blocked_seconds - blocked
        parts.meter.activity(busy=watch.total - blocked, backpressured=blocked)
        self._count(info, batch, scored, watch.laps)

    def _learned(self, batch: Batch, watch: _Watch) -> Info:
        """One step, in its two halves."""
        model, times = self._setup.model, batch.origins.times
        try:
            part = tally(model, self._state, batch.rows, weights=batch.weights, times=times)
            watch.lap("e_step")
            self._state, info = learn(model, self._state, part)
            watch.lap("m_step")
        except BaseException:
            self._parts.meter.batch_failed()
            raise
        return info

    def _emit(self, waiting: Origins, info: Info) -> Origins | None:
        """Pair scores with the rows that wait for them, in order; returns the paired rows."""
        scored = len(info.scores.labels)
        if not scored:
            self._pending = waiting if len(waiting.offset) else None
            return None
        expected = self._state.total_events - len(waiting.offset)
        if info.first != expected or scored > len(waiting.offset):
            raise RunFailed(
                f"scores came for rows {info.first} to {info.first + scored}, but the rows that "
                f"wait are {expected} to {self._state.total_events}; the last checkpoint holds, "
                "and this is a fault of stream-em: please report it"
            )
        ready, self._pending = paired(waiting, scored)
        if self._parts.outputs.wanted:
            self._parts.outputs.write(output_columns(ready, info.scores))
        return ready

    def _bury(self, batch: Batch) -> None:
        """Rejected records to the dead letters, or to the log."""
        if not batch.rejected:
            return
        self._rejected += len(batch.rejected)
        if self._parts.outputs.has_dead_letters:
            self._parts.outputs.write_dead(dead_letters(batch.rejected))
            self._parts.meter.dead_letters(written=len(batch.rejected))
        else:
            self._reject_log.note(batch.rejected)

    def _tell(self, info: Info) -> None:
        """What became of clusters, to the log and to the sink of changes."""
        if info.changes:
            log_changes(info.changes)
            self._parts.outputs.write_changes(change_columns(info.changes))

    def _finish(self) -> None:
        """The end of everything: rows still held seed the clusters and are written."""
        before = self._state
        self._state, info = finish(self._setup.model, before)
        if self._state == before:
            return
        scored = None if self._pending is None else self._emit(self._pending, info)
        self._tell(info)
        self._parts.saving.note(0)
        self._count(info, None, scored, {})

    def _draft(self, number: int) -> Checkpoint:
        """The run as it stands; every part of it is immutable."""
        return Checkpoint(
            number=number,
            incarnation=self._setup.incarnation,
            model=self._setup.model,
            state=self._state,
            positions=self._positions,
            pending=self._pending,
            extents=self._start.extents,  # of checkpoint 0; later ones get the barriers'
            settings=self._remembered,
            rejected=self._rejected,
            versions=self._versions,
        )

    def _note_input(self, fetched: Fetched | None) -> None:
        """Tell the meter how reading and the queues are."""
        meter, ingest, outputs = self._parts.meter, self._parts.ingest, self._parts.outputs
        if fetched is not None and fetched.progress.total_bytes is not None:
            self._left = fetched.progress.total_bytes - fetched.progress.read_bytes
        status, heard = ingest.status, None if fetched is None else fetched.status
        meter.input(
            connected=status is None or status.connected,
            last_poll=ingest.last_poll,
            lag_bytes=self._left,
            status=status,
            applied=None if heard is None else heard.newest,
        )
        meter.queues(
            {"ingest": (ingest.queue.rows, ingest.queue.capacity), "output": outputs.fill()}
        )

    def _count(
        self, info: Info, batch: Batch | None, scored: Origins | None, phases: Mapping[str, float]
    ) -> None:
        """A new snapshot, shown to who observes."""
        model, state = self._setup.model, self._state
        snapshot = self._parts.meter.batch(
            info,
            batch,
            clusters(model, state),
            total_events=state.total_events,
            held=state.held_rows,
            times=None if scored is None else scored.times,
            phases=phases,
            unit=None if model.scaling is None or state.frame is None else state.frame.unit,
        )
        self._parts.observe(snapshot)

    def _summary(self, stopped_by: str) -> Summary:
        totals = self._totals
        return Summary(
            events=totals.events,
            total_events=self._state.total_events,
            rejected=totals.rejected,
            total_rejected=self._rejected,
            batches=totals.batches,
            seconds=self._seconds,
            objective_per_event=totals.per_event(totals.objective),
            log_likelihood_nats_per_event=totals.per_event(totals.log_likelihood),
            free_energy_nats_per_event=totals.per_event(totals.free_energy),
            clusters=len(clusters(self._setup.model, self._state).slots),
            checkpoints=self._parts.saving.written,
            resumed_from=self._start.resumed_from,
            stopped_by=stopped_by,
        )
