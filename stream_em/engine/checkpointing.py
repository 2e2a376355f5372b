"""Checkpoints off the hot path: one thread writes what the learning thread hands it.

First the truth, then the courtesy: outputs durable, then the checkpoint, then what
waited for it: pending parts become visible, positions are committed, old files go.
"""

import logging
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Thread
from typing import final

from stream_em.checkpoints import Checkpoint
from stream_em.engine.authority import Authority
from stream_em.engine.ingest import Ingest
from stream_em.engine.outputs import Outputs, Ticket
from stream_em.engine.queues import Bounded
from stream_em.stores import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of an attempt to write a checkpoint."""

    checkpoint: Checkpoint
    name: str | None  # None when it failed
    seconds: float  # from the barrier until it was durable
    commit_seconds: float  # from then on until it was true, and what waited for it was let go
    size: int | None  # bytes; None when it failed
    error: BaseException | None


@dataclass(frozen=True)
class _Attempt:
    draft: Checkpoint
    tickets: Mapping[str, Ticket] | None  # None: the draft has its extents already
    began: float


@dataclass(frozen=True)
class _Close:
    """The last job."""


@final
class Checkpointer:
    """The checkpoint thread. At most one attempt is in flight."""

    def __init__(
        self, store: Store, outputs: Outputs, ingest: Ingest, authority: Authority, keep: int
    ) -> None:
        self._store, self._outputs, self._ingest = store, outputs, ingest
        self._authority = authority
        keep = max(keep, 2)
        self._kept = deque(store.names()[-keep:], keep)  # names that were true, newest last
        self._replaced: tuple[str, ...] = ()  # names of what was there before a run began anew
        self._jobs = Bounded[_Attempt | _Close](2, 1)
        self._outcomes = Bounded[Outcome](2, 1)
        self.in_flight = False
        self._thread = Thread(target=self._work, name="stream-em-checkpoint", daemon=True)
        self._thread.start()

    def begin(self, draft: Checkpoint) -> None:
        """Put the barriers and have `draft` written behind them, with their extents."""
        self.in_flight = True
        tickets = self._outputs.barrier(draft.number)
        self._jobs.force(_Attempt(draft, tickets, time.perf_counter()))

    def begin_first(self, draft: Checkpoint) -> None:
        """Have checkpoint 0 written, which has the extents of outputs just begun."""
        self.in_flight = True
        self._jobs.force(_Attempt(draft, None, time.perf_counter()))

    def outcome(self, seconds: float) -> Outcome | None:
        """What became of the attempt in flight, if that is known within `seconds`."""
        outcome = self._outcomes.take(seconds)
        if outcome is not None:
            self.in_flight = False
        return outcome

    def close(self, seconds: float) -> None:
        """End the thread once the attempt in flight is over, waiting up to `seconds`."""
        self._jobs.force(_Close())
        self._thread.join(seconds)
        if self._thread.is_alive():
            log.warning("a checkpoint was still being written after %g s", seconds)

    def _work(self) -> None:
        while not isinstance(job := self._jobs.take(60.0), _Close):
            if job is not None:
                self._outcomes.force(self._attempted(job))

    def _attempted(self, attempt: _Attempt) -> Outcome:
        checkpoint, tickets = attempt.draft, attempt.tickets
        try:
            if tickets is not None:
                extents = {name: ticket.result() for name, ticket in tickets.items()}
                checkpoint = replace(checkpoint, extents=extents)
            name = self._store.save(checkpoint)
            durable = time.perf_counter()
            size = self._store.size(name)
            self._make_true(checkpoint, name)
            if tickets is None:
                self._replace_all(name)
            self._outputs.committed(checkpoint.number)
            visible = time.perf_counter()
            if tickets is not None:
                self._prune(name)
        except BaseException as error:
            if isinstance(error, OSError):  # it is tried again; others end the run
                self._outputs.release()
            else:
                self._outputs.halt()
            return Outcome(checkpoint, None, time.perf_counter() - attempt.began, 0.0, None, error)
        self._outputs.release()
        return Outcome(checkpoint, name, durable - attempt.began, visible - durable, size, None)

    def _make_true(self, checkpoint: Checkpoint, name: str) -> None:
        """What waited for the checkpoint becomes visible; then the courtesy."""
        courtesy, began = self._ingest.courtesy(checkpoint.positions), time.perf_counter()
        if self._authority.commit(self._store, checkpoint.number, name, courtesy):
            self._ingest.committed(checkpoint.positions, time.perf_counter() - began)
        else:
            self._ingest.commit(checkpoint.positions)

    def _replace_all(self, name: str) -> None:
        """Delete all others; where the newest is true, `name` is not before they are gone.

        Outputs still hold what they held, so a run that dies on the way goes on as before.
        """
        self._kept.clear()
        self._kept.append(name)
        self._replaced = tuple(one for one in self._store.names() if one != name)
        try:
            self._store.delete(self._replaced)
        except OSError as error:
            if self._authority.identity is None:
                with suppress(OSError):
                    self._store.delete([name])
                raise
            _warn_of_old(error)

    def _prune(self, name: str) -> None:
        """Delete what is older than the latest true ones, or try it again next time."""
        self._kept.append(name)
        try:
            names = self._store.names()
            older = names[: names.index(self._kept[0])]
            if superfluous := [one for one in names if one in older or one in self._replaced]:
                self._store.delete(superfluous)
        except OSError as error:
            _warn_of_old(error)


def _warn_of_old(error: OSError) -> None:
    log.warning("old checkpoints could not be deleted, trying again later: %s", error)
