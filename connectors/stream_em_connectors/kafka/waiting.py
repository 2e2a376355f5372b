"""Calls that may hang, given a deadline."""

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, call: Callable[..., T], *arguments: object) -> T:
    """What a call returns or raises; `TimeoutError` when it takes longer.

    The call is then left behind on a thread that does not keep the process alive.

    >>> within(10.0, sum, [1, 2])
    3
    """
    outcome: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            outcome.put((call(*arguments), None))
        except BaseException as error:
            outcome.put((None, error))

    Thread(target=run, name="stream-em-kafka-call", daemon=True).start()
    try:
        result, error = outcome.get(timeout=max(seconds, 0.0))
    except Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value]
