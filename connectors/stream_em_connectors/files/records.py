"""Cutting bytes into records of bounded length, whatever comes."""

from collections.abc import Callable
from typing import NamedTuple, final

import numpy as np

from stream_em_connectors.codecs import Flaw
from stream_em_connectors.codecs.cutting import Spans

RAW_BYTES = 1 << 16  # of an endless line, so much is kept for the dead letter


class Refused(NamedTuple):
    """A line that is not even given to the codec."""

    begin: int  # place in the file, bytes
    after: int
    flaw: Flaw
    raw: bytes


class Cut(NamedTuple):
    """What was found in a stretch of bytes."""

    spans: Spans  # records, relative to the stretch
    refused: list[Refused]
    used: int  # bytes of the stretch that need not come again
    end: int  # place in the file behind the last record


class _Long(NamedTuple):
    """A line longer than allowed, of which the end has not been seen."""

    begin: int
    length: int
    raw: bytes
    last: bytes  # its last byte so far


@final
class RecordCutter:
    """Cuts stretches that follow each other; the same bytes give the same records however
    they are stretched. Only a line's beginning is kept of one longer than `limit` bytes.
    """

    def __init__(self, cut: Callable[[bytes, int], Spans], limit: int) -> None:
        self._cut, self._limit = cut, limit
        self._long: _Long | None = None

    def cut(self, data: bytes, base: int, final: bool) -> Cut:
        """Records of `data`, which lies at `base` in the file; `final`: nothing will follow."""
        refused: list[Refused] = []
        parts: list[Spans] = []
        at = 0 if self._long is None else self._skip(data, base, final, refused)
        while self._long is None and at < len(data):
            spans = self._cut(data, at)
            over = np.flatnonzero(spans.ends - spans.starts > self._limit)
            if len(over):
                parts.append(spans.part(0, int(over[0])))
                at = self._refuse(data, int(spans.starts[over[0]]), base, refused)
                continue
            parts.append(spans)
            at = int(spans.afters[-1]) if len(spans) else at
            further = self._rest(data, at, base, final, parts, refused)
            if further == at:
                break
            at = further
        end = base + at if self._long is None else self._long.begin
        return Cut(_together(parts), refused, at, end)

    def _rest(
        self, data: bytes, at: int, base: int, final: bool, parts: list[Spans], out: list[Refused]
    ) -> int:
        """Deal with what is left behind the last whole record; how far that went."""
        left = len(data) - at
        if final and left:
            last = self._cut(data[at:] + b"\n", 0)
            if not len(last):
                return self._refuse(data, at, base, out)
            length = int(last.ends[0])
            if length > self._limit:
                return self._refuse(data, at, base, out)
            parts.append(Spans(last.starts + at, last.ends + at, last.afters + at - 1))
            return len(data)
        if left <= self._limit + 1:  # one more may be a carriage return before the newline
            return at
        if data.find(b"\n", at) >= 0:
            return self._refuse(data, at, base, out)
        self._long = _Long(base + at, left, data[at : at + RAW_BYTES], data[-1:])
        return len(data)

    def _refuse(self, data: bytes, at: int, base: int, out: list[Refused]) -> int:
        """Refuse one line: too long, or opening a quote that is not closed in time."""
        newline = data.find(b"\n", at)
        end, after = (len(data), len(data)) if newline < 0 else (newline, newline + 1)
        line = data[at:end].removesuffix(b"\r")
        if len(line) > self._limit:
            flaw = self._too_long(len(line))
        else:
            detail = f"a quote opens here and is not closed within {self._limit} bytes"
            flaw = Flaw("decode_error", None, detail)
        out.append(Refused(base + at, base + after, flaw, line[:RAW_BYTES]))
        return after

    def _skip(self, data: bytes, base: int, final: bool, out: list[Refused]) -> int:
        """Go on to the end of a line that is too long."""
        assert self._long is not None
        newline = data.find(b"\n")
        end, after = (len(data), len(data)) if newline < 0 else (newline, newline + 1)
        length = self._long.length + end
        raw = self._long.raw + data[: min(end, max(0, RAW_BYTES - len(self._long.raw)))]
        if newline < 0 and not final:
            last = data[-1:] or self._long.last
            self._long = self._long._replace(length=length, raw=raw, last=last)
            return after
        if (data[:end] or self._long.last).endswith(b"\r"):
            length -= 1
            raw = raw[:length]
        out.append(Refused(self._long.begin, base + after, self._too_long(length), raw))
        self._long = None
        return after

    def _too_long(self, length: int) -> Flaw:
        detail = f"a record of {length} bytes came, max_record_bytes is {self._limit}"
        return Flaw("too_large", None, detail)


def _together(parts: list[Spans]) -> Spans:
    if len(parts) == 1:
        return parts[0]
    nothing = np.empty(0, dtype=np.int64)
    return Spans(
        np.concatenate([nothing, *(part.starts for part in parts)]),
        np.concatenate([nothing, *(part.ends for part in parts)]),
        np.concatenate([nothing, *(part.afters for part in parts)]),
    )
