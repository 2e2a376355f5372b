"""Where a stream's chunks come from; and the plainest feed: files read one after the other."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import accumulate
from typing import final

from stream_em.errors import SettingsError, SourceChanged, SourceFailed, Unreachable
from stream_em.streams import Json, Positions, Progress
from stream_em_connectors.files.chunks import Chunk, Passed
from stream_em_connectors.files.paths import size
from stream_em_connectors.files.readers import Opener, Reader


class Feed(ABC):
    """Chunks of all files of a source, in order."""

    positions: Positions  # where reading starts
    exhausted: bool  # nothing will ever come
    waits: bool  # whether it may have to be waited for

    @abstractmethod
    def take(self) -> Sequence[Chunk | Passed]:
        """What comes next; nothing when nothing is there (yet). Raises `SourceFailed`."""

    @abstractmethod
    def wait(self, seconds: float) -> None:
        """Wait until there may be more, not much longer than `seconds`."""

    @abstractmethod
    def progress(self) -> Progress:
        """Bytes of the files themselves, compressed if they are."""

    @abstractmethod
    def close(self) -> None:
        """Release everything. Idempotent."""


@final
class FiniteFiles(Feed):
    """Files that are read to their present end."""

    def __init__(
        self, opener: Opener, paths: Sequence[str], start: Positions | None, latest: bool
    ) -> None:
        self._opener = opener
        self._paths = list(paths)
        self.positions = began(opener, paths, latest) if start is None else start
        self._at, mark = found_place(opener, paths, self.positions)
        self._reader: Reader | None = None
        if self._at < len(self._paths):
            path = self._paths[self._at]
            self._reader = opener.opened(path, path, mark, grows=False)
            if mark is None:
                first = Positions({path: self._reader.mark()})
                self.positions = self.positions.advanced(first)
        self.exhausted = self._reader is None
        self.waits = False
        self._bounds = [0, *accumulate(size(path) for path in self._paths)]

    def take(self) -> Sequence[Chunk | Passed]:
        """The next chunk; at a file's end the step to the next file."""
        if self._reader is None:
            return ()
        chunk = self._reader.next_chunk()
        if chunk is not None:
            return (chunk,)
        self._at += 1
        if self._at == len(self._paths):
            self.exhausted = True
            return ()
        passed = Passed(self._reader.source, {**self._reader.mark(), "finished": True})
        self._reader.close()
        path = self._paths[self._at]
        self._reader = opened_later(self._opener, path, path, grows=False)
        return (passed,)

    def wait(self, seconds: float) -> None:
        """Never needed."""

    def progress(self) -> Progress:
        """Bytes of all files; those that grow meanwhile count as they were."""
        now = 0 if self._reader is None else self._reader.raw_offset
        total = self._bounds[-1]
        return Progress(min(self._bounds[self._at] + now, total), total)

    def close(self) -> None:
        """Close the open file."""
        self.exhausted = True
        if self._reader is not None:
            self._reader.close()


def began(opener: Opener, paths: Sequence[str], latest: bool) -> Positions:
    """Where a fresh run starts: at the first file's beginning, or at the end of everything."""
    if not latest:
        return Positions()
    marks = {path: {**opener.end(path, True), "finished": True} for path in paths[:-1]}
    return Positions({**marks, paths[-1]: opener.end(paths[-1], False)})


def found_place(opener: Opener, paths: Sequence[str], positions: Positions) -> tuple[int, Json]:
    """Which of the files to go on with, and at which position of it (None: its beginning).

    Raises `SourceChanged` when the files are not those that the positions speak of.
    """
    parts = positions.parts
    if not parts:
        return 0, None
    current = max(parts)
    done = bool(parts[current].get("finished"))
    for path in paths:
        if path < current and path not in parts:
            raise stray(path, current)
        if path in parts and parts[path].get("finished"):
            opener.verify(path, parts[path])
    if done:
        return sum(path <= current for path in paths), None
    if current not in paths:
        raise SourceChanged(
            f"{current}, in which the saved position stands, is no longer among the files of the "
            "source; give it back, or start anew with --fresh"
        )
    return list(paths).index(current), parts[current]


def stray(path: str, current: str) -> SourceChanged:
    """The error for a new file that comes, by its name, before the one being read."""
    return SourceChanged(
        f"{path} is new, but sorts before {current}, which is being read, so it would be skipped; "
        "give new files names that sort last, or start anew with --fresh"
    )


def opened_later(opener: Opener, path: str, source: str, grows: bool) -> Reader:
    """Open a file in the middle of a run. Raises `SourceFailed`."""
    try:
        return opener.opened(path, source, None, grows)
    except (Unreachable, SettingsError) as error:
        raise SourceFailed(
            f"the next file cannot be read: {error}; the rows before it have been handed out"
        ) from error
