"""Records on their way: how many bytes, and whether any was refused."""

import threading
import time
from collections.abc import Callable
from typing import final

from stream_em.errors import SinkFailed, StreamEmError

ROOM_BYTES = 32 * 1024 * 1024


@final
class Deliveries:
    """Bounds what is under way, and remembers the first failure.

    >>> deliveries = Deliveries(patience_seconds=1.0)
    >>> deliveries.room(3); deliveries.settled(3); deliveries.wait(1.0)
    """

    def __init__(self, patience_seconds: float, room_bytes: int = ROOM_BYTES) -> None:
        self._patience, self._limit = patience_seconds, room_bytes
        self._changed = threading.Condition()
        self._records = self._bytes = self._waiting = 0
        self.failure: StreamEmError | None = None  # the first since `forget`

    def room(self, size: int) -> None:
        """Wait until a record of that size fits, and take its room. Raises the failure."""
        with self._changed:
            if self.failure is not None or self._bytes + size > self._limit:
                self._wait_for_room(size)
            self._records += 1
            self._bytes += size

    def settled(self, size: int) -> None:
        """A record has been acknowledged, or refused."""
        with self._changed:
            self._records -= 1
            self._bytes -= size
            if self._waiting:
                self._changed.notify_all()

    def failed(self, failure: StreamEmError) -> None:
        """A record was refused; the first reason counts."""
        with self._changed:
            self.failure = self.failure or failure
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait for every record sent so far. Raises the failure, or `SinkFailed` in the end."""
        deadline = time.monotonic() + seconds
        with self._changed:
            self._wait(lambda: not self._records, deadline - time.monotonic())
            if self.failure is not None:
                raise self.failure
            if self._records:
                raise SinkFailed(
                    f"Kafka did not acknowledge {self._records} records within {seconds:g} s; "
                    "check the brokers"
                )

    def forget(self) -> None:
        """A new transaction begins with a clean slate."""
        with self._changed:
            self.failure = None

    def _wait_for_room(self, size: int) -> None:
        fits = self._wait(
            lambda: not self._bytes or self._bytes + size <= self._limit, self._patience
        )
        if self.failure is not None:
            raise self.failure
        if not fits:
            raise SinkFailed(
                f"Kafka took none of {self._records} records for {self._patience:g} s; "
                "check the brokers"
            )

    def _wait(self, over: Callable[[], bool], seconds: float) -> bool:
        """Whether it is over or has failed within `seconds`; nobody is notified but who waits."""
        self._waiting += 1
        try:
            return self._changed.wait_for(lambda: self.failure is not None or over(), seconds)
        finally:
            self._waiting -= 1
