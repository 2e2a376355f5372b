"""Bytes of one file from front to back, decompressed by name.

What can be read before a damage is handed out first; the next read raises.
"""

import os
import zlib
from abc import ABC, abstractmethod
from typing import Any, NoReturn, final

import pyarrow as pa

from stream_em.errors import SourceFailed, Unreachable

COMPRESSED_BLOCK = 1 << 18  # compressed bytes read at once
ZSTD_BLOCK = 1 << 16  # decompressed bytes asked for at once
HEAD = TAIL = 4096  # bytes that identify a file and a position


class ByteInput(ABC):
    """The decompressed bytes of a file."""

    path: str
    offset: int  # of the next byte, decompressed

    @abstractmethod
    def read(self, most: int) -> bytes:
        """Up to `most` bytes, none at the (present) end. Raises `SourceFailed` where damaged."""

    @abstractmethod
    def jump(self, offset: int, last: bytes = b"") -> bytes:
        """Go forward to `offset`; the up to 4 KiB before it, or fewer if the file ends earlier.

        `last` are the bytes that were read last.
        """

    @property
    @abstractmethod
    def fileno(self) -> int:
        """The descriptor of the file itself."""

    @property
    @abstractmethod
    def raw_offset(self) -> int:
        """How much of the file itself has been read, bytes."""

    @abstractmethod
    def close(self) -> None:
        """Release the file. Idempotent."""


def opened(path: str) -> ByteInput:
    """The input for a path. Raises `Unreachable` when it cannot be opened or read."""
    try:
        file = open(path, "rb", buffering=0)  # noqa: SIM115 - the input closes it
        os.pread(file.fileno(), 1, 0)
    except OSError as error:
        raise Unreachable(f"{path} cannot be read ({error.strerror or error})") from error
    if path.endswith(".gz"):
        return GzipInput(path, file)
    if path.endswith(".zst"):
        return ZstdInput(path, file)
    return PlainInput(path, file)


def head(source: ByteInput, length: int = HEAD) -> bytes:
    """The first bytes of the file itself, compressed if it is."""
    return os.pread(source.fileno, length, 0)


def _failed(path: str, offset: int, why: object) -> NoReturn:
    raise SourceFailed(
        f"{path} cannot be read beyond byte {offset} of its content: {why}; "
        "rows up to there have been handed out, repair or replace the file"
    )


def _skipped(source: ByteInput, offset: int, last: bytes) -> bytes:
    """Read up to `offset` and keep only the last bytes."""
    while source.offset < offset:
        data = source.read(min(1 << 20, offset - source.offset))
        if not data:
            break
        last = (last + data)[-TAIL:]
    return last


@final
class PlainInput(ByteInput):
    """An uncompressed file; it may grow."""

    def __init__(self, path: str, file: Any) -> None:
        self.path, self.offset = path, 0
        self._file = file

    def read(self, most: int) -> bytes:
        """Up to `most` bytes from the present position."""
        try:
            data: bytes = self._file.read(most)
        except OSError as error:
            _failed(self.path, self.offset, error)
        self.offset += len(data)
        return data

    def jump(self, offset: int, last: bytes = b"") -> bytes:
        """Seek."""
        self.offset = max(0, offset - TAIL)
        self._file.seek(self.offset)
        return self.read(offset - self.offset)

    @property
    def fileno(self) -> int:
        """The file's descriptor."""
        return int(self._file.fileno())

    @property
    def raw_offset(self) -> int:
        """The same as the offset."""
        return self.offset

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@final
class GzipInput(ByteInput):
    """A gzip file of one or more members, each checked by its own checksum."""

    def __init__(self, path: str, file: Any) -> None:
        self.path, self.offset = path, 0
        self._file = file
        self._member: Any = None  # a decompressor, None between members
        self._waiting = b""  # compressed bytes not yet given to it
        self._why: object = None  # what is damaged

    def read(self, most: int) -> bytes:
        """Up to `most` decompressed bytes."""
        parts: list[bytes] = []
        missing = most
        while missing and self._why is None:
            data = self._some(missing)
            if data is None:
                break
            parts.append(data)
            missing -= len(data)
        found = b"".join(parts)
        self.offset += len(found)
        if not found and self._why is not None:
            _failed(self.path, self.offset, self._why)
        return found

    def _some(self, most: int) -> bytes | None:
        """Some bytes, maybe none yet; None at the end of the file or before a damage."""
        if not self._waiting and not self._refill():
            self._why = None if self._member is None else "the gzip file is cut off"
            return None
        if self._member is None:
            self._waiting = self._waiting.lstrip(b"\0")  # padding between members
            if not self._waiting:
                return b""
            self._member = zlib.decompressobj(31)
        try:
            data: bytes = self._member.decompress(self._waiting, most)
        except zlib.error as error:
            self._why = f"the gzip file is damaged ({error})"
            return None
        if self._member.eof:
            self._waiting, self._member = self._member.unused_data, None
        else:
            self._waiting = self._member.unconsumed_tail
        return data

    def _refill(self) -> bool:
        try:
            self._waiting = self._file.read(COMPRESSED_BLOCK)
        except OSError as error:
            self._why = error
        return bool(self._waiting)

    def jump(self, offset: int, last: bytes = b"") -> bytes:
        """Decompress up to there."""
        return _skipped(self, offset, last)

    @property
    def fileno(self) -> int:
        """The compressed file's descriptor."""
        return int(self._file.fileno())

    @property
    def raw_offset(self) -> int:
        """Compressed bytes read."""
        return 0 if self._file.closed else int(self._file.tell()) - len(self._waiting)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@final
class ZstdInput(ByteInput):
    """A Zstandard file, through pyarrow."""

    def __init__(self, path: str, file: Any) -> None:
        self.path, self.offset = path, 0
        self._file = file
        self._stream = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")
        self._why: object = None

    def read(self, most: int) -> bytes:
        """Up to `most` decompressed bytes."""
        parts: list[bytes] = []
        missing = most
        while missing and self._why is None:
            try:
                data = self._stream.read(min(missing, ZSTD_BLOCK))
            except (OSError, pa.ArrowInvalid) as error:
                self._why = error
                break
            if not data:
                break
            parts.append(data)
            missing -= len(data)
        found = b"".join(parts)
        self.offset += len(found)
        if not found and self._why is not None:
            _failed(self.path, self.offset, self._why)
        return found

    def jump(self, offset: int, last: bytes = b"") -> bytes:
        """Decompress up to there."""
        return _skipped(self, offset, last)

    @property
    def fileno(self) -> int:
        """The compressed file's descriptor."""
        return int(self._file.fileno())

    @property
    def raw_offset(self) -> int:
        """Compressed bytes read."""
        return 0 if self._file.closed else int(self._file.tell())

    def close(self) -> None:
        """Close the file."""
        if not self._stream.closed:
            self._stream.close()
        self._file.close()
