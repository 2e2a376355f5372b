"""Reading ahead: one thread polls the stream and fills a bounded queue."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from threading import Event, Lock, Thread
from typing import final

from stream_em.engine.queues import Bounded
from stream_em.errors import PartitionsLost, SourceFailed, StreamEmError
from stream_em.streams import Batch, InputStatus, Positions, Progress, Stream

log = logging.getLogger(__name__)

BATCHES, ROWS = 16, 65_536  # read ahead at most this much, whichever comes first
POLL_SECONDS = 0.25


@dataclass(frozen=True)
class Fetched:
    """A batch, how far reading has come with it, and how long fetching took."""

    batch: Batch
    progress: Progress
    seconds: float
    status: InputStatus | None = None  # of the stream, right after the batch


@dataclass(frozen=True)
class Epoch:
    """The stream waits until everything before this is learned and saved."""

    settled: Future[None]


@dataclass(frozen=True)
class Ended:
    """Nothing more will come: the end of a finite source, or an error."""

    error: BaseException | None


@final
class Ingest:
    """The thread that uses the stream: all of its methods are called there, or after its end."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        stream.attend(self._settle)
        self.queue = Bounded[Fetched | Epoch | Ended](BATCHES, ROWS)
        self.last_poll = time.time()  # unix seconds
        self.status = stream.status()  # the newest; immutable, replaced as a whole
        self._stopping = Event()
        self._lock = Lock()
        self._courtesy: Callable[[], None] | None = None
        self._thread = Thread(target=self._work, name="stream-em-ingest", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def commit(self, positions: Positions) -> None:
        """Have the positions of a durable checkpoint committed soon, between two polls."""
        self._soon(partial(self._stream.commit, positions))

    def committed(self, positions: Positions, seconds: float) -> None:
        """Tell the stream, between two polls, that a transaction carried its positions along."""
        self._soon(partial(self._stream.committed, positions, seconds))

    def _soon(self, courtesy: Callable[[], None]) -> None:
        with self._lock:
            self._courtesy = courtesy

    def courtesy(self, positions: Positions) -> object | None:
        """The same for a transaction to carry along. May be asked on any thread."""
        return self._stream.courtesy(positions)

    def stop(self, seconds: float) -> None:
        """End reading within `seconds`, commit what is left to commit, and close the stream."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(seconds)
        if self._thread.is_alive():
            log.warning("the input did not answer within %g s; closing it anyway", seconds)
        else:
            self._commit_courteously()
        self._stream.close()

    def _work(self) -> None:
        try:
            self._read()
            self.queue.force(Ended(None))
        except OSError as error:
            self.queue.force(Ended(_translated(error)))
        except BaseException as error:
            self.queue.force(Ended(error))

    def _read(self) -> None:
        while not (self._stopping.is_set() or self._stream.ended):
            began = time.perf_counter()
            batch = self._stream.poll(POLL_SECONDS)
            self.last_poll, self.status = time.time(), self._stream.status()
            if batch is not None:
                self._hand_over(batch, time.perf_counter() - began)
            self._commit_courteously()

    def _settle(self) -> None:
        """End an epoch, on the polling thread. Raises what kept it from being saved."""
        epoch = Epoch(Future())
        self.queue.force(epoch)
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                epoch.settled.result(POLL_SECONDS)
                return
        raise PartitionsLost(
            "partitions went to another engine while this one was ending; the last checkpoint holds"
        )

    def _hand_over(self, batch: Batch, seconds: float) -> None:
        fetched = Fetched(batch, self._stream.progress(), seconds, self.status)
        while not self._stopping.is_set():
            if self.queue.put(fetched, len(batch.rows), POLL_SECONDS):
                return
            self._commit_courteously()
            self.status = self._stream.status()

    def _commit_courteously(self) -> None:
        with self._lock:
            courtesy, self._courtesy = self._courtesy, None
        if courtesy is None:
            return
        try:
            courtesy()
        except (OSError, StreamEmError) as error:
            log.warning("positions could not be committed outside, the checkpoint holds: %s", error)


def _translated(error: OSError) -> BaseException:
    if isinstance(error, StreamEmError):
        return error
    failed = SourceFailed(
        f"the input could not be read any further ({error}); the last checkpoint holds: "
        "repair the input and start again"
    )
    failed.__cause__ = error
    return failed
