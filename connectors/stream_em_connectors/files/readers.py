"""The ports inside this folder: one file being read, and how files are opened."""

from abc import ABC, abstractmethod
from enum import Enum

from stream_em.streams import Json
from stream_em_connectors.codecs import Fields
from stream_em_connectors.files.chunks import Chunk


class Fate(Enum):
    """What became of the name under which a file was opened."""

    SAME = "it still names this file"
    GONE = "it names no file"
    ROTATED = "it names another file"
    SHRUNK = "it names this file, which lost or changed bytes that had been read"


class Reader(ABC):
    """One opened file, read from front to back."""

    source: str  # the path as matched, under which its rows and positions are known

    @abstractmethod
    def next_chunk(self) -> Chunk | None:
        """The next records, maybe none; None at the (present) end. Raises `SourceFailed`."""

    @abstractmethod
    def torn(self) -> Chunk | None:
        """What is left when the file is given up: a last line without an end, as rejected."""

    @abstractmethod
    def mark(self) -> Json:
        """The saved position behind the last record."""

    @property
    @abstractmethod
    def raw_offset(self) -> int:
        """How many bytes of the file have been read."""

    @property
    @abstractmethod
    def inode(self) -> tuple[int, int]:
        """Inode and modification time in nanoseconds of the file that is open."""

    @abstractmethod
    def fate(self) -> Fate:
        """What became of the file's name."""

    @abstractmethod
    def close(self) -> None:
        """Release the file. Idempotent."""


class Opener(ABC):
    """Opens the files of one source, all with the same fields."""

    fields: Fields

    @abstractmethod
    def opened(self, path: str, source: str, mark: Json, grows: bool) -> Reader:
        """Open the file `path`, known as `source`, behind a saved position or at its beginning.

        Raises `Unreachable` when it cannot be opened or is none of its format,
        `SettingsError` when a field is not in it, `SourceChanged` when it is not the file
        that the position speaks of.
        """

    @abstractmethod
    def ready(self, path: str) -> bool:
        """Whether a new file is complete enough to be opened."""

    @abstractmethod
    def end(self, path: str, over: bool) -> Json:
        """The saved position at a file's end; if it is not `over`, behind its last whole record."""

    @abstractmethod
    def verify(self, path: str, mark: Json) -> None:
        """Check a file that was read to its end. Raises `SourceChanged`."""
