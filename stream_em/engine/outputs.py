"""Writing: one thread for each sink, behind a bounded queue."""

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Event, Thread
from typing import final

from stream_em.engine.drain import TICK_SECONDS, Drain
from stream_em.engine.pending import slices
from stream_em.engine.queues import Bounded
from stream_em.errors import SinkFailed, StreamEmError
from stream_em.streams import Columns, Json, Sink

log = logging.getLogger(__name__)

SLICES, ROWS = 16, 65_536  # wait in a queue at most, whichever comes first
IDLE_SECONDS = 60.0

Job = Callable[[Sink], None]
Ticket = Future[Json]  # the extent, once the rows before a barrier are durable


@dataclass(frozen=True)
class _Barrier:
    number: int
    ticket: Ticket
    fate: Event  # set once it is known what became of the checkpoint

    def __call__(self, sink: Sink) -> None:
        self.ticket.set_result(sink.barrier(self.number))


@dataclass(frozen=True)
class _Close:
    """The last job of a writer."""


@final
class Writer:
    """The thread that uses one sink. After a failure it takes jobs in and drops them."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.queue = Bounded[Job | _Close](SLICES, ROWS)
        self.error: BaseException | None = None
        self._abandoned = Event()
        self._fate = Event()  # of the latest barrier
        self._thread = Thread(target=self._work, name=f"stream-em-{sink.name}", daemon=True)
        self._thread.start()

    def offer(self, columns: Columns, rows: int) -> bool:
        """Queue a slice of rows; False if there was no room for a moment."""
        return self.queue.put(lambda sink: sink.write(columns), rows, TICK_SECONDS)

    def barrier(self, number: int) -> Ticket:
        """Queue a barrier; the ticket gets the extent or the failure."""
        ticket: Ticket = Future()
        self._fate = Event()
        self.queue.force(_Barrier(number, ticket, self._fate))
        return ticket

    def release(self) -> None:
        """What became of the checkpoint behind the latest barrier is known: go on."""
        self._fate.set()

    def committed(self, number: int) -> None:
        """Queue the news that checkpoint `number` is durable."""
        self.queue.force(lambda sink: sink.committed(number))

    def abandon(self) -> None:
        """Do nothing of what is still queued."""
        self._abandoned.set()

    def close(self, seconds: float) -> bool:
        """Finish what is queued and close the sink. False if that took longer."""
        self.queue.force(_Close())
        self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """Whether the thread is still at work."""
        return self._thread.is_alive()

    def _work(self) -> None:
        while not isinstance(job := self.queue.take(IDLE_SECONDS), _Close):
            if job is not None:
                self._do(job)
        try:
            self.sink.close()
        except BaseException as error:
            self.error = self.error or _translated(self.sink, error)

    def _do(self, job: Job) -> None:
        try:
            if self.error is None and not self._abandoned.is_set():
                job(self.sink)
                if isinstance(job, _Barrier) and self.sink.cluster is not None:
                    self._wait(job.fate)
        except BaseException as error:
            self.error = _translated(self.sink, error)
        if isinstance(job, _Barrier) and not job.ticket.done():
            job.ticket.set_exception(self.error or SinkFailed(f"{self.sink.name} was abandoned"))

    def _wait(self, fate: Event) -> None:
        """Later rows must not slip into the transaction of the rows before the barrier."""
        while not fate.wait(TICK_SECONDS) and not self._abandoned.is_set():
            pass


def _translated(sink: Sink, error: BaseException) -> BaseException:
    if isinstance(error, StreamEmError) or not isinstance(error, OSError):
        return error
    failed = SinkFailed(
        f"output {sink.name} could not be written ({error}); the last checkpoint holds: "
        "make room or repair it, and start again"
    )
    failed.__cause__ = error
    return failed


@dataclass(frozen=True)
class Outlets:
    """The sinks of a run, by what they take."""

    rows: tuple[Sink, ...]
    dead_letters: Sink | None  # rejected records
    changes: Sink | None  # what became of clusters

    @property
    def all(self) -> tuple[Sink, ...]:
        """Every one of them, those of output rows first."""
        beside = (self.dead_letters, self.changes)
        return (*self.rows, *(sink for sink in beside if sink is not None))


@final
class Outputs:
    """All sinks of a run, fed in slices of `slice_rows`."""

    def __init__(self, outlets: Outlets, slice_rows: int, drain: Drain) -> None:
        self._sinks = [Writer(sink) for sink in outlets.rows]
        self._dead = None if outlets.dead_letters is None else Writer(outlets.dead_letters)
        self._changes = None if outlets.changes is None else Writer(outlets.changes)
        beside = (self._dead, self._changes)
        self._all = [*self._sinks, *(writer for writer in beside if writer is not None)]
        self._slice_rows, self._drain = slice_rows, drain
        self.blocked_seconds = 0.0  # spent waiting for room, ever
        self._halted = Event()

    @property
    def wanted(self) -> bool:
        """Whether anybody reads output rows."""
        return bool(self._sinks)

    @property
    def has_dead_letters(self) -> bool:
        """Whether rejected records are written anywhere."""
        return self._dead is not None

    def fill(self) -> tuple[int, int]:
        """Rows waiting in the fullest queue, and its capacity."""
        queues = [writer.queue for writer in self._all]
        return max((queue.rows for queue in queues), default=0), ROWS

    def write(self, columns: Columns) -> None:
        """Give output rows to every sink, waiting for room where there is none."""
        for piece in slices(columns, self._slice_rows):
            for writer in self._sinks:
                self._put(writer, piece)

    def write_dead(self, columns: Columns) -> None:
        """Give dead letters to their sink."""
        self._write_beside(self._dead, columns)

    def write_changes(self, columns: Columns) -> None:
        """Give changes of clusters to their sink, if there is one."""
        self._write_beside(self._changes, columns)

    def _write_beside(self, writer: Writer | None, columns: Columns) -> None:
        if writer is not None:
            for piece in slices(columns, self._slice_rows):
                self._put(writer, piece)

    def _put(self, writer: Writer, columns: Columns) -> None:
        rows = len(next(iter(columns.values())))
        began = time.perf_counter()
        while not (writer.offer(columns, rows) or self._halted.is_set()):
            self.check()
            self._drain.check(f"output {writer.sink.name}")
        self.blocked_seconds += time.perf_counter() - began

    def barrier(self, number: int) -> Mapping[str, Ticket]:
        """A barrier in every queue: sink name -> ticket for its extent."""
        return {writer.sink.name: writer.barrier(number) for writer in self._all}

    def committed(self, number: int) -> None:
        """Tell every sink that checkpoint `number` is durable."""
        for writer in self._all:
            writer.committed(number)

    def release(self) -> None:
        """Let outputs go on that wait behind their barriers."""
        for writer in self._all:
            writer.release()

    def halt(self) -> None:
        """A checkpoint failed for good, as the loop is about to hear: wait for room no more.

        Outputs stay behind its barrier, so what waits for room would do so for ever.
        """
        self._halted.set()

    def check(self) -> None:
        """Raise what went wrong in a writer."""
        for writer in self._all:
            if writer.error is not None:
                raise writer.error

    def close(self) -> None:
        """Finish all queues and close the sinks; the drain's deadline holds here, too."""
        for writer in self._all:
            while not writer.close(TICK_SECONDS):
                self._drain.check(f"output {writer.sink.name} to close")
        self.check()

    def abandon(self, seconds: float) -> tuple[Sink, ...]:
        """Drop what is queued and close within `seconds`; returns the sinks that did."""
        for writer in self._all:
            writer.abandon()
        deadline = time.monotonic() + seconds
        closed = [w for w in self._all if w.close(max(0.0, deadline - time.monotonic()))]
        for writer in self._all:
            if writer.alive:
                log.warning("output %s did not answer within %g s", writer.sink.name, seconds)
        return tuple(writer.sink for writer in closed)
