"""SIGTERM and SIGINT: the first asks the run to drain, the second ends it at once."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType


@dataclass(frozen=True)
class Stop:
    """The wish to stop, shared by signal handlers and the engine."""

    requested: threading.Event = field(default_factory=threading.Event)


@contextmanager
def handled(stop: Stop) -> Iterator[None]:
    """Let signals set `stop.requested` for the length of the block.

    Only the main thread may do so; elsewhere the block runs without handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.requested.is_set():
            _leave(number)
        stop.requested.set()  # no log line here: the stream may be half way through one

    before = {n: signal.signal(n, on_signal) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_signals() -> None:
    """Let no signal disturb the end of a process that has nothing left to do."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _leave(number: int) -> None:
    """Exit now: checkpoints are atomic, so the last one holds."""
    if sys.stderr.isatty():
        os.write(2, b"\x1b[?25hstopped by a second signal; the last checkpoint holds\n")
    os._exit(128 + number)
