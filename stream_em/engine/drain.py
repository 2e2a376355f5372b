"""The wish to stop, and how long fulfilling it may take."""

import logging
import time
from collections.abc import Callable
from threading import Event
from typing import Protocol, final

from stream_em.errors import DrainTimeout

log = logging.getLogger(__name__)

TICK_SECONDS = 0.1  # how long the learning thread waits before it looks around


class StopRequest(Protocol):
    """Anything with an event that signal handlers set."""

    @property
    def requested(self) -> Event:
        """Set once the run should finish its batch, save and return."""


@final
class Drain:
    """Turns a stop request into a deadline; every wait of the learning thread asks it."""

    def __init__(self, stop: StopRequest | None, seconds: float, beat: Callable[[], None]) -> None:
        """`beat` shows that the learning thread lives, and is called at every wait."""
        self._requested = Event() if stop is None else stop.requested
        self._seconds, self._beat = seconds, beat
        self._deadline: float | None = None  # monotonic

    @property
    def requested(self) -> bool:
        """Whether the run was asked to stop; the first to ask starts the clock."""
        if self._deadline is None and self._requested.is_set():
            self._deadline = time.monotonic() + self._seconds
            log.info(
                "stop requested: draining for up to %g s; whatever ends it, the last checkpoint "
                "holds",
                self._seconds,
            )
        return self._deadline is not None

    def check(self, waiting_for: str) -> None:
        """Raises `DrainTimeout` once a requested stop has taken too long."""
        self._beat()
        if self.requested and self._deadline is not None and time.monotonic() > self._deadline:
            raise DrainTimeout(
                f"the drain took longer than {self._seconds:g} s, waiting for {waiting_for}; "
                "the last checkpoint holds and a restart goes on from it; if outputs are slow, "
                "give a longer shutdown_timeout_seconds"
            )
