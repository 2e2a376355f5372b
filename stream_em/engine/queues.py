"""A queue between two threads, bounded in items and in rows."""

import time
from collections import deque
from threading import Condition
from typing import Generic, TypeVar, final

T = TypeVar("T")


@final
class Bounded(Generic[T]):
    """First in, first out. The bounds apply between puts: one large item always fits.

    >>> queue = Bounded[str](items=2, rows=10)
    >>> queue.put("a", 99, seconds=0), queue.put("b", 1, seconds=0), queue.take(seconds=0)
    (True, False, 'a')
    """

    def __init__(self, items: int, rows: int) -> None:
        self._held: deque[tuple[T, int]] = deque()
        self._items, self._row_bound = items, rows
        self._rows = 0
        self._changed = Condition()

    @property
    def rows(self) -> int:
        """Rows waiting."""
        return self._rows

    @property
    def capacity(self) -> int:
        """Rows that may wait before a put has to."""
        return self._row_bound

    def put(self, item: T, rows: int, seconds: float) -> bool:
        """Append, waiting up to `seconds` for room. False when there was none."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while self._held and self._full():
                if not self._changed.wait(deadline - time.monotonic()):
                    return False
            self._append(item, rows)
            return True

    def force(self, item: T) -> None:
        """Append without waiting: for the few small items that must get through."""
        with self._changed:
            self._append(item, 0)

    def take(self, seconds: float) -> T | None:
        """The oldest item, waiting up to `seconds` for one. None when there was none."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not self._held:
                if not self._changed.wait(deadline - time.monotonic()):
                    return None
            item, rows = self._held.popleft()
            self._rows -= rows
            self._changed.notify_all()
            return item

    def _full(self) -> bool:
        return len(self._held) >= self._items or self._rows >= self._row_bound

    def _append(self, item: T, rows: int) -> None:
        self._held.append((item, rows))
        self._rows += rows
        self._changed.notify_all()
