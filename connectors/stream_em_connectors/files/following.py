"""Files that grow, are rotated, and are joined by new ones: reading like `tail -F`."""

import glob
import logging
import os
import re
import time
from collections.abc import Sequence
from typing import final

from stream_em.errors import SourceChanged, SourceFailed, Unreachable
from stream_em.streams import Json, Positions, Progress
from stream_em_connectors.files.chunks import Chunk, Passed
from stream_em_connectors.files.feeds import Feed, began, found_place, opened_later, stray
from stream_em_connectors.files.paths import globbed
from stream_em_connectors.files.readers import Fate, Opener, Reader

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.2  # between two looks at names and folders
NAP_SECONDS = 0.05
ROTATED = re.compile(r"[.\-_](?P<number>\d+)?(?P<rest>(?<=\d)[\dT.:\-_]*|old)")


@final
class FollowedFiles(Feed):
    """The last file is waited on; rotation is followed, new matches are taken up in turn."""

    def __init__(
        self, opener: Opener, pattern: str, start: Positions | None, latest: bool, settle: float
    ) -> None:
        self._opener, self._pattern, self._settle = opener, pattern, settle
        paths = globbed(pattern)
        self.positions = began(opener, paths, latest) if start is None else start
        at, mark = found_place(opener, paths, self.positions)
        self._path = paths[min(at, len(paths) - 1)]
        self._known = set(paths[:at]) | {self._path}
        if at == len(paths):  # all read to the end: wait at the end of the last one
            mark = self.positions.parts[self._path]
        self._reader = self._opened(mark)
        if mark is None:
            first = Positions({self._path: self._reader.mark()})
            self.positions = self.positions.advanced(first)
        self._seen = {self._reader.inode[0]}  # generations of the file that were read
        self._leaving: float | None = None  # since when there is something to go on with
        self._looked = 0.0
        self._idle = False  # nothing was there when it was last read
        self._behind = 0
        self.exhausted, self.waits = False, True

    def _opened(self, mark: Json) -> Reader:
        """The file of a saved position, which may have another name by now."""
        if mark is None:
            return self._opener.opened(self._path, self._path, None, grows=True)
        first: SourceChanged | None = None
        for path in _likely(self._path, mark):
            try:
                return self._opener.opened(path, self._path, mark, grows=True)
            except SourceChanged as error:
                first = first or error
        raise SourceChanged(
            f"{first}; nor is any rotated file beside it, so the rows behind byte "
            f"{mark.get('offset')} of the old one cannot be found"
        )

    def take(self) -> Sequence[Chunk | Passed]:
        """The next chunk, or, when a file is over, what it leaves behind and the next file's."""
        if self._idle and self._reader.fate() is Fate.SHRUNK:
            self._find_copy()
        chunk = self._reader.next_chunk()
        self._idle = chunk is None
        if chunk is not None:
            return (chunk,)
        if time.monotonic() - self._looked < LOOK_SECONDS and self._leaving is None:
            return ()
        self._looked = time.monotonic()
        successor = self._successor()
        if successor is None:
            self._leaving = None
            return ()
        if self._leaving is None:
            self._leaving = time.monotonic()
        if time.monotonic() - self._leaving < self._settle:
            return ()  # its writer may still have it open: wait, read again
        return self._moved(*successor)

    def _successor(self) -> tuple[str, str] | None:
        """File and name of what comes after the present file, if it is over."""
        if self._reader.fate() is Fate.ROTATED:
            return self._next_generation(), self._path
        return self._next_match()

    def _next_match(self) -> tuple[str, str] | None:
        for path in globbed(self._pattern):
            if path in self._known:
                continue
            if path < self._path:
                raise stray(path, self._path)
            return (path, path) if self._opener.ready(path) else None
        return None

    def _next_generation(self) -> str:
        """The oldest file of this name that is younger than the present one."""
        inode, changed = self._reader.inode
        found = _generations(self._path)
        inodes = [os.stat(path).st_ino for path in found]
        if inode in inodes:
            found = found[inodes.index(inode) + 1 :]
        else:
            found = [path for path in found if os.stat(path).st_mtime_ns >= changed]
        fresh = [path for path in found if os.stat(path).st_ino not in self._seen]
        return fresh[0] if fresh else self._path

    def _find_copy(self) -> None:
        """The file was cut: go on in the copy that was made of it. Raises `SourceFailed`."""
        mark = self._reader.mark()
        for path in _generations(self._path)[:-1]:
            try:
                copy = self._opener.opened(path, self._path, mark, grows=True)
            except (SourceChanged, Unreachable):
                continue
            self._reader.close()
            self._reader = copy
            self._seen = {copy.inode[0]}
            return
        raise SourceFailed(
            f"{self._path} was cut or rewritten after it had been read up to byte "
            f"{mark['offset']}, and no copy of it lies beside it: rows may be lost from there on; "
            "rotate by renaming, or restart with --fresh"
        )

    def _moved(self, path: str, source: str) -> Sequence[Chunk | Passed]:
        torn = self._reader.torn()
        left: list[Chunk | Passed] = [] if torn is None else [torn]
        if source != self._path:
            left.append(Passed(self._path, {**self._reader.mark(), "finished": True}))
        log.info("%s has been read to its end; going on with %s", self._path, path)
        reader = opened_later(self._opener, path, source, grows=True)
        self._behind += self._reader.raw_offset
        self._reader.close()
        self._seen = {*self._seen, reader.inode[0]} if source == self._path else {reader.inode[0]}
        self._reader, self._path, self._leaving = reader, source, None
        self._known.add(source)
        return left

    def wait(self, seconds: float) -> None:
        """A short nap."""
        time.sleep(min(seconds, NAP_SECONDS))

    def progress(self) -> Progress:
        """Bytes read; there is no end."""
        return Progress(self._behind + self._reader.raw_offset, None)

    def close(self) -> None:
        """Close the open file."""
        self.exhausted = True
        self._reader.close()


def _likely(path: str, mark: Json) -> list[str]:
    """Where the file of a position may be: under its inode, its name, or beside it."""
    places = [path, *_generations(path)[:-1]]
    same = [one for one in places if os.stat(one).st_ino == mark.get("inode")]
    return list(dict.fromkeys([*same, *places]))


def _generations(path: str) -> list[str]:
    """Rotated files beside a path from the oldest to the youngest, and the path itself last."""
    rotated = []
    for beside in glob.glob(glob.escape(path) + "[._-]*"):
        found = ROTATED.fullmatch(beside[len(path) :])
        if found is not None and not os.path.isdir(beside):
            number = int(found["number"] or 0) if not found["rest"] else 0
            rank = -number if number < 100_000 else number
            rotated.append((os.stat(beside).st_mtime_ns, rank, beside))
    there = [path] if os.path.exists(path) else []
    return [beside for *_, beside in sorted(rotated)] + there
