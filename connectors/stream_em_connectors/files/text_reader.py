"""One file of text records, read stretch by stretch."""

import os
from collections.abc import Callable
from typing import final

import numpy as np

from stream_em.arrays import Array
from stream_em.errors import SourceChanged
from stream_em.streams import Json, Rejected
from stream_em_connectors.codecs import Decoded, Fields, Flaw
from stream_em_connectors.codecs.cutting import Spans
from stream_em_connectors.files.chunks import Chunk
from stream_em_connectors.files.inputs import TAIL, ByteInput
from stream_em_connectors.files.marks import Marks, Window, tail_differs
from stream_em_connectors.files.readers import Fate, Reader
from stream_em_connectors.files.records import RAW_BYTES, Cut, RecordCutter, Refused
from stream_em_connectors.files.text_format import (
    Begun,
    TextFormat,
    first_byte,
)

BLOCK = 1 << 22  # bytes read at once


@final
class TextReader(Reader):
    """Records of one input of text. With `grows` a last line without an end is left alone."""

    def __init__(
        self,
        source: str,
        data: ByteInput,
        text: TextFormat,
        fields: Fields,
        marks: Marks,
        grows: bool,
        records: int = 0,
    ) -> None:
        self.source = source
        self._input, self._format, self._fields = data, text, fields
        self._marks, self._grows = marks, grows
        self._cutter = RecordCutter(text.cut, text.max_record_bytes)
        self._begun: Begun | None = None
        self._window = Window(0, b"", b"")  # bytes read, but not yet cut into records
        self._records = records  # cut so far
        self._untried = True  # the window has not been looked at
        self._open_end = self._done = False

    def begin(self) -> bool:
        """Read up to where records start. False if the file does not reach that far (yet)."""
        while self._begun is None:
            fresh = self._input.read(BLOCK)
            data, final = self._window.data + fresh, not fresh and not self._grows
            self._window = Window(0, data, b"")
            start = first_byte(data, final)
            if start is not None:
                path = self._input.path
                self._begun = self._format.begin(data, start, final, self._fields, path)
            if self._begun is not None:
                before = data[: self._begun.start][-TAIL:]
                self._window = Window(self._begun.start, data[self._begun.start :], before)
            elif not fresh:
                return False
        return True

    def resume(self, mark: Json) -> None:
        """Go on behind a saved position. Raises `SourceChanged` if it is another file's."""
        place = int(mark["offset"])
        window = self._window
        end = window.base + len(window.data)
        if place > end:
            before = self._input.jump(place, window.tail(end))
            self._window = Window(place, b"", before)
        elif place >= window.base:
            self._window = window.behind(place - window.base)
        if place >= self._window.base:
            problem = tail_differs(mark, self._window.before)
            if problem is not None:
                raise changed(self.source, problem)
        self._open_end = bool(mark.get("open_end"))
        if self._open_end and not self._window.data:
            self._window = self._window.behind(0, self._input.read(BLOCK))
        self._close_line()

    def next_chunk(self) -> Chunk | None:
        """Decode what can be read now, in one stretch of up to 4 MiB."""
        if self._begun is None and not self.begin():
            return None
        if self._untried and self._window.data:
            self._untried = False
            return self._stretch(final=False)
        fresh = self._input.read(BLOCK)
        if fresh:
            self._untried = False
            self._window = self._window.behind(0, fresh)
            return self._stretch(final=False)
        if self._grows or self._done:
            return None
        self._done = True
        return self._stretch(final=True)

    def finish(self) -> Chunk | None:
        """The last line, even without an end: nothing will follow any more."""
        self._grows = False
        return self.next_chunk()

    def torn(self) -> Chunk | None:
        """The last line without an end, as a rejected record."""
        self._done = True
        window = self._window
        if self._begun is None:
            return None
        cut = self._cutter.cut(b"", window.base, True)  # ends a line that is too long
        if window.data:
            end = window.base + len(window.data)
            flaw = Flaw("decode_error", None, "the file was left behind in the middle of a line")
            refused = Refused(window.base, end, flaw, window.data[:RAW_BYTES])
            cut = Cut(cut.spans, [refused], len(window.data), end)
        return self._taken(cut, self._begun.decode)

    def _stretch(self, final: bool) -> Chunk:
        assert self._begun is not None
        self._close_line()
        window = self._window
        cut = self._cutter.cut(window.data, window.base, final)
        return self._taken(cut, self._begun.decode)

    def _taken(self, cut: Cut, decode: Callable[[bytes, Spans], Decoded]) -> Chunk:
        window, spans = self._window, cut.spans
        found = decode(window.data, spans)
        rejected = sorted([*cut.refused, *self._flawed(spans, found)])
        afters = window.base + spans.afters[found.kept]
        records, lost = self._records, [one.after for one in rejected]
        self._records += len(afters) + len(rejected)
        self._window = window.behind(cut.used)
        return Chunk(
            source=self.source,
            rows=found.rows,
            weights=found.weights,
            times=found.times,
            keys=found.keys,
            offsets=window.base + spans.starts[found.kept],
            afters=afters,
            rejected=tuple(self._rejected(one) for one in rejected),
            rejected_afters=lost,
            begin=window.base,
            end=cut.end,
            mark=self._marks.within(window, _merged(afters, lost), records),
        )

    def _flawed(self, spans: Spans, found: Decoded) -> list[Refused]:
        window = self._window
        places = [
            (int(spans.starts[i]), int(spans.ends[i]), int(spans.afters[i]), flaw)
            for i, flaw in found.flaws
        ]
        base, data = window.base, window.data
        return [
            Refused(base + start, base + after, flaw, data[start:end])
            for start, end, after, flaw in places
        ]

    def _rejected(self, one: Refused) -> Rejected:
        return Rejected(self.source, 0, one.begin, *one.flaw, one.raw)

    def _close_line(self) -> None:
        """Pass the end of a line that had none when it was read as a record."""
        data = self._window.data
        if not self._open_end or not data:
            return
        passed = 1 if data[:1] == b"\n" else 2 if data[:2] == b"\r\n" else 0
        if not passed:
            raise changed(
                self.source, "its last line had no end, was read as a record, and then grew"
            )
        self._window = self._window.behind(passed)
        self._open_end = False

    def mark(self) -> Json:
        """The position behind the last whole record."""
        window = Window(self._window.base, b"", self._window.before)
        return self._marks.within(window, np.empty(0), self._records)(window.base)

    @property
    def raw_offset(self) -> int:
        """Bytes read of the file, compressed if it is."""
        return self._input.raw_offset

    @property
    def inode(self) -> tuple[int, int]:
        """Inode and modification time of the open file."""
        found = os.fstat(self._input.fileno)
        return found.st_ino, found.st_mtime_ns

    def fate(self) -> Fate:
        """Compare the open file with the one that has its name now."""
        mine = os.fstat(self._input.fileno)
        try:
            there = os.stat(self.source)
        except FileNotFoundError:
            return Fate.GONE
        if (mine.st_dev, mine.st_ino) != (there.st_dev, there.st_ino):
            return Fate.ROTATED
        if not self._grows:  # compressed: what it holds was read to its end
            return Fate.SAME
        end = self._window.base + len(self._window.data)
        if there.st_size < end:
            return Fate.SHRUNK
        last = self._window.tail(end)
        same = os.pread(self._input.fileno, len(last), end - len(last)) == last
        return Fate.SAME if same else Fate.SHRUNK

    def close(self) -> None:
        """Close the file."""
        self._input.close()


def changed(source: str, problem: str) -> SourceChanged:
    """The error for a file that is not the one a saved position speaks of."""
    return SourceChanged(
        f"{source} is not the file that the saved position speaks of: {problem}; "
        "give the old file back, or start anew with --fresh"
    )


def _merged(afters: Array, lost: list[int]) -> Array:
    return afters if not lost else np.sort(np.concatenate([afters, lost]))
