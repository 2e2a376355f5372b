"""Rows out as JSON lines, cut back after a crash to where the checkpoint saw the file end."""

import hashlib
import os
import stat
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from os import PathLike, fspath
from typing import ClassVar, final

from stream_em.errors import OutputChanged, SinkFailed, Unreachable
from stream_em.streams import Columns, Json, Probe, Sink
from stream_em_connectors.codecs.json_rows import json_lines
from stream_em_connectors.delivery import promised
from stream_em_connectors.files.outputs import failed, file_probe, lock, reaching, sync_folder

CHUNK = 1 << 20  # bytes of rows gathered before they are written
TAIL = 4096  # bytes before the end whose digest identifies an output


class _Framing(ABC):
    """How rows become bytes of the file, and where those bytes may be cut."""

    @abstractmethod
    def feed(self, rows: bytes) -> bytes:
        """Bytes to append for whole rows."""

    @abstractmethod
    def end(self) -> bytes:
        """Bytes that make the file readable up to here."""

    @abstractmethod
    def joint(self, handle: int, end: int) -> bytes:
        """Bytes that keep the first row apart from what a stranger left in the file."""

    @abstractmethod
    def whole(self, written: bytes) -> int:
        """How many of the bytes appended since the last cut may stay after a failure."""

    @abstractmethod
    def readable(self, handle: int, start: int, end: int) -> int:
        """The last place in `start`..`end` of a file where it ends in whole rows."""


@final
class _Plain(_Framing):
    def feed(self, rows: bytes) -> bytes:
        return rows

    def end(self) -> bytes:
        return b""

    def joint(self, handle: int, end: int) -> bytes:
        return b"\n" if end and os.pread(handle, 1, end - 1) != b"\n" else b""

    def whole(self, written: bytes) -> int:
        return written.rfind(b"\n") + 1

    def readable(self, handle: int, start: int, end: int) -> int:
        while end > start:
            size = min(CHUNK, end - start)
            if whole := self.whole(os.pread(handle, size, end - size)):
                return end - size + whole
            end -= size
        return start


@final
class _Gzip(_Framing):
    """A member from barrier to barrier: a file of whole members can be read and cut."""

    def __init__(self) -> None:
        self._member = zlib.compressobj(1, zlib.DEFLATED, 31)
        self._begun = False

    def feed(self, rows: bytes) -> bytes:
        self._begun = True
        return self._member.compress(rows)

    def end(self) -> bytes:
        if not self._begun:
            return b""
        last = self._member.flush()
        self._member, self._begun = zlib.compressobj(1, zlib.DEFLATED, 31), False
        return last

    def joint(self, handle: int, end: int) -> bytes:
        return b""

    def whole(self, written: bytes) -> int:
        return 0

    def readable(self, handle: int, start: int, end: int) -> int:
        place, member = start, zlib.decompressobj(31)
        with suppress(zlib.error):
            while place < end:
                piece = os.pread(handle, min(CHUNK, end - place), place)
                member.decompress(piece)
                place += len(piece) - len(member.unused_data)
                if member.eof:
                    start, member = place, zlib.decompressobj(31)
        return start


@final
class JsonLinesSink(Sink):
    """One JSON object per row and line; compressed when `path` ends in `.gz`.

    Exactly once: a checkpoint records the file's length and a digest of the 4 KiB
    before it, and a resumed run cuts the file back to there. With `append` a file that
    already holds rows is taken further instead of refused.
    """

    kind: ClassVar[str] = "jsonl"

    def __init__(
        self, path: str | PathLike[str], append: bool = False, delivery: str = "exactly-once"
    ) -> None:
        self.name = self.path = fspath(path)
        self.append = append
        self.exactly_once = promised(delivery)
        self._handle: int | None = None
        self._broken = False  # a write or fsync failed: nothing is made durable any more
        self._length = self._whole = 0  # bytes in the file, and of those in whole rows
        self._overwrites = False  # what the file held before goes with the first checkpoint
        self._forget(0)

    def probes(self) -> Iterator[Probe]:
        """The file, or where it is to be."""
        yield file_probe(self.path)

    def begin(self, incarnation: str, overwrite: bool) -> Json:
        """Create the file, or take an empty one; with `append` or `overwrite` one with rows."""
        with reaching(self.path):
            handle = self._opened()
            size = os.fstat(handle).st_size
            self._overwrites = bool(size) and not self.append
            if self._overwrites and not overwrite:
                self.close()
                raise OutputChanged(
                    f"output {self.path} already holds {size} bytes, expected none; use "
                    "another path, append = true, or --overwrite to replace what it holds"
                )
            self._forget(0 if self._overwrites else size)
            self._append(self._framing.joint(handle, self._length))
            os.fsync(handle)
            sync_folder(os.path.dirname(self.path) or ".")
            return self._extent(handle)

    def roll_back(self, extent: Json, number: int, incarnation: str) -> None:
        """Cut the file to the recorded length, if it is still the file that was recorded."""
        with reaching(self.path):
            handle = self._recognised(extent, number)
            self._cut(handle, extent["length"])

    def keep(self, extent: Json, number: int, incarnation: str) -> Json:
        """Keep the rows after the recorded length, too; only a torn last one goes."""
        with reaching(self.path):
            handle = self._recognised(extent, number)
            size = os.fstat(handle).st_size
            self._cut(handle, self._framing.readable(handle, extent["length"], size))
            return self._extent(handle)

    def write(self, columns: Columns) -> None:
        """Gather rows, and write them in chunks of about a megabyte."""
        rows = json_lines(columns)
        self._waiting.append(rows)
        self._gathered += len(rows)
        if self._gathered >= CHUNK:
            self._flush()

    def barrier(self, number: int) -> Json:
        """Write what is gathered, end the gzip member, fsync; the extent is length and digest."""
        self._flush()
        handle = self._append(self._framing.end())
        self._whole = self._length
        try:
            os.fsync(handle)
            return self._extent(handle)
        except OSError as error:
            self._broken = True
            raise failed(self.path, error) from error

    def committed(self, number: int) -> None:
        """Empty a file that is overwritten; else nothing waits: lines are visible at once."""
        if self._overwrites and self._handle is not None:
            self._overwrites = False
            try:
                os.ftruncate(self._handle, self._length)
                os.fsync(self._handle)
            except OSError as error:
                self._broken = True
                raise failed(self.path, error) from error

    def close(self) -> None:
        """Drop what is gathered and release the file with its lock."""
        if self._handle is not None:
            os.close(self._handle)
        self._handle = None
        self._forget(0)

    def _forget(self, length: int) -> None:
        """Start anew at the end of a file of that length."""
        self._framing: _Framing = _Gzip() if self.path.endswith(".gz") else _Plain()
        self._waiting: list[bytes] = []
        self._gathered = 0
        self._length = self._whole = length

    def _opened(self) -> int:
        if self._handle is None:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666)
            self._handle = handle
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                self.close()
                raise Unreachable(
                    f"output {self.path} is no regular file and cannot be cut back; give "
                    "another path, or write to standard output with kind = 'stdout'"
                )
            try:
                lock(handle, self.path)
            except BaseException:
                self.close()
                raise
        return self._handle

    def _recognised(self, extent: Json, number: int) -> int:
        """The file opened, known to be the one recorded in checkpoint `number`."""
        handle = self._opened()
        if what := _difference(handle, extent):
            self.close()
            raise OutputChanged(
                f"output {self.path} {what} in checkpoint {number}; "
                "put the file back as it was, or start anew with --fresh"
            )
        return handle

    def _cut(self, handle: int, length: int) -> None:
        self._overwrites = False
        os.ftruncate(handle, length)
        if not self._broken:
            os.fsync(handle)
        self._forget(length)

    def _extent(self, handle: int) -> Json:
        return {"length": self._length, "digest": _digest(handle, self._length)}

    def _flush(self) -> None:
        rows, self._waiting, self._gathered = b"".join(self._waiting), [], 0
        if rows:
            self._append(self._framing.feed(rows))

    def _append(self, data: bytes) -> int:
        """Write all of `data` at the end; when that fails, cut to the last whole row."""
        if self._handle is None or self._broken:
            raise SinkFailed(f"output {self.path} failed before or is closed; start the run again")
        done = 0
        try:
            while done < len(data):
                done += os.pwrite(self._handle, memoryview(data)[done:], self._length + done)
        except OSError as error:
            self._broken = True
            with suppress(OSError):
                os.ftruncate(self._handle, self._whole + self._framing.whole(data[:done]))
            raise failed(self.path, error) from error
        self._length += done
        self._whole += self._framing.whole(data)
        return self._handle


def _difference(handle: int, extent: Json) -> str | None:
    """How a file differs from the one that an extent speaks of."""
    if not isinstance(extent, dict) or not {"length", "digest"} <= set(extent):
        return f"is a file of JSON lines, another kind of output is recorded ({extent})"
    size, length = os.fstat(handle).st_size, extent["length"]
    if size < length:
        return f"has {size} bytes, {length} are recorded"
    if _digest(handle, length) != extent["digest"]:
        return f"differs before byte {length} from what is recorded"
    return None


def _digest(handle: int, length: int) -> str:
    """Of the 4 KiB before `length`, in hexadecimal digits."""
    start = max(0, length - TAIL)
    return hashlib.sha256(os.pread(handle, length - start, start)).hexdigest()
