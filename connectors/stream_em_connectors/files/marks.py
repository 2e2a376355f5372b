"""Saved positions of a file read by bytes: how they are made and how they are checked."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np

from stream_em.arrays import Array
from stream_em.streams import Json
from stream_em_connectors.files.inputs import HEAD, TAIL, ByteInput, head

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def digest(data: bytes) -> str:
    """128 bits that stand for some bytes."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


@dataclass(frozen=True, eq=False)
class Window:
    """Bytes of a file from `base` on, and the few before them."""

    base: int
    data: bytes
    before: bytes  # up to 4 KiB before base

    def tail(self, place: int) -> bytes:
        """The up to 4 KiB before a place in the window or at its end."""
        inside = place - self.base
        if inside >= TAIL:
            return self.data[inside - TAIL : inside]
        return (self.before + self.data[: max(inside, 0)])[-TAIL:]

    def behind(self, used: int, more: bytes = b"") -> "Window":
        """The window without its first bytes, and with more at its end."""
        return Window(self.base + used, self.data[used:] + more, self.tail(self.base + used))

    def open_end(self, place: int) -> bool:
        """Whether the place is the end of the window, and of a line without an end."""
        last = self.tail(place)
        at_end = place == self.base + len(self.data)
        return at_end and last not in (b"", BYTE_ORDER_MARK) and not last.endswith(b"\n")


class Marks(ABC):
    """How places in a file become saved positions."""

    @abstractmethod
    def within(self, window: Window, afters: Array, records: int) -> Callable[[int], Json]:
        """From a place in the window to the position there.

        `afters` are the places behind the window's records in order, `records` is how
        many were read ahead of it.
        """


@final
class FileMarks(Marks):
    """Offset, digests of the file's head and of the bytes before the offset, and the inode."""

    def __init__(self, source: ByteInput) -> None:
        self._source = source
        self._inode = os.fstat(source.fileno).st_ino
        self._head = b""
        self._digest = digest(b"")

    def within(self, window: Window, afters: Array, records: int) -> Callable[[int], Json]:
        """The position as a table."""
        return lambda place: self._at(place, window)

    def _at(self, place: int, window: Window) -> Json:
        if len(self._head) < HEAD:
            self._look()
        mark = {
            "offset": place,
            "head_bytes": len(self._head),
            "head": self._digest,
            "tail": digest(window.tail(place)),
            "inode": self._inode,
        }
        return {**mark, "open_end": True} if window.open_end(place) else mark

    def _look(self) -> None:
        """Take the head in again, for the file may have grown. A closed file does not."""
        try:
            found = head(self._source)
        except (OSError, ValueError):
            return
        if found.startswith(self._head):  # else it was rewritten, and the old head is the true one
            self._head, self._digest = found, digest(found)


@final
class RecordCounts(Marks):
    """Standard input: no position, only how many records were read."""

    def within(self, window: Window, afters: Array, records: int) -> Callable[[int], Json]:
        """The number of records."""
        return lambda place: {
            "records": records + int(np.searchsorted(afters, place, side="right"))
        }


def head_differs(mark: Json, source: ByteInput) -> str | None:
    """What is wrong with the beginning of a file, compared to a saved position."""
    length = int(mark["head_bytes"])
    found = head(source, length) if length else b""
    if len(found) < length:
        return f"it has {len(found)} bytes, but at least {length} were there"
    if digest(found) != mark["head"]:
        return f"its first {length} bytes are others than they were"
    return None


def tail_differs(mark: Json, before: bytes) -> str | None:
    """What is wrong with the bytes before a saved position."""
    offset = int(mark["offset"])
    if len(before) < min(offset, TAIL):
        return f"it ends before byte {offset}, up to which it had been read"
    if digest(before) != mark["tail"]:
        return f"the bytes before byte {offset}, where reading goes on, are others than they were"
    return None
