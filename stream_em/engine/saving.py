"""What the learning thread does about checkpoints: begin them, and see what became of them."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import final

from stream_em.checkpoints import Checkpoint
from stream_em.engine.authority import Authority
from stream_em.engine.checkpointing import Checkpointer, Outcome
from stream_em.engine.drain import TICK_SECONDS, Drain
from stream_em.engine.outputs import Outputs
from stream_em.engine.recovery import Start
from stream_em.engine.schedule import Agenda, Schedule
from stream_em.errors import CheckpointFailed
from stream_em.metrics.meter import Meter
from stream_em.streams import Json

log = logging.getLogger(__name__)

ATTEMPTS = 3  # failures in a row that end the run

Draft = Callable[[int], Checkpoint]  # number -> the run as it stands between two batches


class Saving(ABC):
    """How a run saves itself. `number` and `extents` are those of what holds by now."""

    number: int
    extents: Mapping[str, Json]
    written: int  # checkpoints of this run, checkpoint 0 not counted
    keeps: bool  # whether anything outlives the run

    @abstractmethod
    def first(self, draft: Draft, anew: bool) -> None:
        """Before the first row is read; `anew` for checkpoint 0."""

    @abstractmethod
    def note(self, rows: int) -> None:
        """A batch with `rows` accepted rows was applied."""

    @abstractmethod
    def turn(self, draft: Draft) -> None:
        """At a batch boundary: begin what is due."""

    @abstractmethod
    def last(self, draft: Draft) -> None:
        """At the end: return when everything is durable and visible."""

    @abstractmethod
    def settle(self) -> None:
        """Wait for an attempt in flight, whatever becomes of it."""

    @abstractmethod
    def close(self, seconds: float) -> None:
        """End the thread, if there is one, waiting up to `seconds`."""


@final
class InStore(Saving):
    """Checkpoints into a store, one in flight at a time."""

    keeps = True

    def __init__(
        self,
        checkpointer: Checkpointer,
        authority: Authority,
        start: Start,
        schedule: Schedule,
        drain: Drain,
        meter: Meter,
    ) -> None:
        self._checkpointer, self._authority = checkpointer, authority
        self._drain, self._meter = drain, meter
        self._agenda = Agenda(schedule, time.monotonic())
        self._failures = 0
        self._succeeded_at = time.monotonic()
        self._attempted = start.number
        self.number, self.extents, self.written = start.number, start.extents, 0

    def first(self, draft: Draft, anew: bool) -> None:
        """Write checkpoint 0, or the one in which a new output appears."""
        self._agenda.note(0)
        if anew:
            while self._agenda.changed:
                self._agenda.began(time.monotonic())
                self._checkpointer.begin_first(draft(0))
                self._landed("checkpoint 0")
                self._wait_for_retry()
            self.written = 0
        else:
            self.last(draft)

    def note(self, rows: int) -> None:
        """Count towards the next checkpoint."""
        self._agenda.note(rows)

    def turn(self, draft: Draft) -> None:
        """Begin a checkpoint if one is due and none is in flight."""
        self._see(self._checkpointer.outcome(0.0))
        if time.monotonic() - self._succeeded_at > self._authority.refresh_seconds:
            self._agenda.note(0)
        if not self._checkpointer.in_flight and self._agenda.due(time.monotonic()):
            self._begin(draft)

    def last(self, draft: Draft) -> None:
        """Write until nothing is left to save, or three attempts failed in a row."""
        self._landed("a checkpoint in flight")
        while self._agenda.changed:
            self._wait_for_retry()
            self._begin(draft)
            self._landed("the last checkpoint")

    def settle(self) -> None:
        """Give the attempt in flight the time that the drain leaves."""
        while self._checkpointer.in_flight:
            outcome = self._checkpointer.outcome(TICK_SECONDS)
            if outcome is not None and outcome.error is None:
                self._succeeded(outcome)
            self._drain.check("a checkpoint in flight")

    def close(self, seconds: float) -> None:
        """End the checkpoint thread."""
        self._checkpointer.close(seconds)

    def _begin(self, draft: Draft) -> None:
        self._attempted += 1  # never the same number twice: its barriers have been put
        self._agenda.began(time.monotonic())
        self._checkpointer.begin(draft(self._attempted))

    def _landed(self, what: str) -> None:
        while self._checkpointer.in_flight:
            self._see(self._checkpointer.outcome(TICK_SECONDS))
            self._drain.check(what)

    def _wait_for_retry(self) -> None:
        while self._failures and not self._agenda.due(time.monotonic()):
            time.sleep(TICK_SECONDS)
            self._drain.check("the next try at a checkpoint")

    def _see(self, outcome: Outcome | None) -> None:
        if outcome is None:
            return
        if outcome.error is None:
            self._succeeded(outcome)
        else:
            self._failed(outcome.error)

    def _succeeded(self, outcome: Outcome) -> None:
        self._failures = 0
        self._succeeded_at = time.monotonic()
        self.written += 1
        self.number, self.extents = outcome.checkpoint.number, outcome.checkpoint.extents
        rows = outcome.checkpoint.state.total_events
        self._meter.phases({"commit": outcome.commit_seconds})
        self._meter.checkpoint_written(outcome.seconds, outcome.size, rows)
        log.debug("checkpoint %s after %d rows, %.3f s", outcome.name, rows, outcome.seconds)

    def _failed(self, error: BaseException) -> None:
        self._meter.checkpoint_failed()
        if not isinstance(error, OSError):
            raise error
        self._failures += 1
        now = time.monotonic()
        self._agenda.failed(now)
        log.error("a checkpoint could not be written (try %d): %s", self._failures, error)
        waited = now - self._succeeded_at
        if self._failures >= ATTEMPTS or waited > self._authority.patience_seconds:
            raise CheckpointFailed(
                f"{self._failures} checkpoints in a row could not be written, for {waited:.0f} s "
                f"({error}); the last one that was still holds: make room where they are kept, "
                "and start again"
            ) from error


@final
class Unsaved(Saving):
    """No store: nothing outlives the run but its outputs, made final at a clean end."""

    keeps = False

    def __init__(self, outputs: Outputs, extents: Mapping[str, Json], drain: Drain) -> None:
        self._outputs, self._drain = outputs, drain
        self.number, self.extents, self.written = 0, extents, 0

    def first(self, draft: Draft, anew: bool) -> None:
        """Nothing to write; what outputs overwrite goes now."""
        self._outputs.committed(0)

    def note(self, rows: int) -> None:
        """Nothing to count."""

    def turn(self, draft: Draft) -> None:
        """Nothing is ever due."""

    def last(self, draft: Draft) -> None:
        """Make all output rows durable, then visible."""
        for name, ticket in self._outputs.barrier(1).items():
            while not ticket.done():
                time.sleep(0.001)
                self._drain.check(f"output {name}")
            ticket.result()
        self._outputs.committed(1)

    def settle(self) -> None:
        """Nothing is in flight."""

    def close(self, seconds: float) -> None:
        """No thread."""
