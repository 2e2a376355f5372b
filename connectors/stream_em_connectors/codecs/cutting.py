"""Where records begin and end in a block of bytes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from stream_em.arrays import Array

NEWLINE, RETURN = 10, 13


@dataclass(frozen=True, slots=True)
class Spans:
    """Records of a block: `data[start:end]` is one, the next begins at `after`."""

    starts: Array  # (n,) int64
    ends: Array  # (n,) int64, without the line's end
    afters: Array  # (n,) int64, behind the line's end

    def __len__(self) -> int:
        return len(self.starts)

    def part(self, first: int, last: int) -> "Spans":
        """The records from `first` up to, not including, `last`."""
        return Spans(self.starts[first:last], self.ends[first:last], self.afters[first:last])

    def of(self, data: bytes) -> list[bytes]:
        """The records themselves."""
        pairs = zip(self.starts.tolist(), self.ends.tolist(), strict=True)
        return [data[start:end] for start, end in pairs]


@dataclass(frozen=True, slots=True)
class Block:
    """Records that lie one behind the other, and which ones of a larger run they are."""

    data: bytes
    spans: Spans
    places: Array  # (n,) indices in the run, ascending

    def __len__(self) -> int:
        return len(self.places)

    @property
    def dense(self) -> bool:
        """Whether no record of the run is left out between the first and the last."""
        return bool((self.spans.starts[1:] == self.spans.afters[:-1]).all())

    def chosen(self, among: Array) -> "Block":
        """Some of the records, moved together; `among` are indices in this block."""
        starts, ends = self.spans.starts[among], self.spans.ends[among]
        records = Spans(starts, ends, ends).of(self.data)
        afters = np.cumsum(ends - starts + 1)
        moved = Spans(afters - (ends - starts + 1), afters - 1, afters)
        return Block(b"\n".join([*records, b""]), moved, self.places[among])

    def pieces(self, parts: int) -> Iterator["Block"]:
        """Cut into so many pieces of about equal size."""
        bounds = [len(self) * part // parts for part in range(parts + 1)]
        for first, last in pairwise(bounds):
            if first < last:
                yield Block(self.data, self.spans.part(first, last), self.places[first:last])


def lines(data: bytes, begin: int = 0) -> Spans:
    """Every complete line from `begin` on.

    >>> lines(b"ab\\r\\n\\nrest").of(b"ab\\r\\n\\nrest")
    [b'ab', b'']
    """
    return _spans(data, begin, _marks(data, NEWLINE, begin))


def records(data: bytes, begin: int, delimiter: str, quote: str) -> Spans:
    """Every complete CSV record from `begin` on; a newline inside quotes does not end one.

    A quote counts only where a field begins, as the parser sees it. Where all quotes
    stand as they should, counting them is enough; otherwise fields are walked through.
    """
    ends = _marks(data, NEWLINE, begin)
    if not quote or data.find(quote.encode(), begin) < 0:
        return _spans(data, begin, ends)
    quotes = _marks(data, ord(quote), begin)
    if _regular(data, begin, quotes, delimiter, quote):
        ends = ends[np.searchsorted(quotes, ends) % 2 == 0]
    else:
        ends = _walked(data, begin, delimiter, quote)
    return _spans(data, begin, ends)


def _marks(data: bytes, byte: int, begin: int) -> Array:
    view = np.frombuffer(data, dtype=np.uint8)[begin:]
    return np.flatnonzero(view == byte) + begin


def _spans(data: bytes, begin: int, newlines: Array) -> Spans:
    afters = newlines + 1
    starts = np.concatenate([[begin], afters[:-1]]) if len(afters) else afters
    view = np.frombuffer(data, dtype=np.uint8)
    before = np.maximum(newlines - 1, 0)
    returns = (newlines > starts) & (view[before] == RETURN) if len(newlines) else newlines
    return Spans(starts.astype(np.int64), newlines - returns, afters)


def _regular(data: bytes, begin: int, quotes: Array, delimiter: str, quote: str) -> bool:
    """Whether each odd quote opens a field and each even one closes or doubles."""
    view = np.frombuffer(data, dtype=np.uint8)
    opening, closing = quotes[0::2], quotes[1::2]
    before = view[np.maximum(opening - 1, 0)]
    opens = np.isin(before, [ord(delimiter), NEWLINE, ord(quote)]) | (opening == begin)
    after = view[np.minimum(closing + 1, len(view) - 1)]
    closes = np.isin(after, [ord(delimiter), NEWLINE, RETURN, ord(quote)])
    return bool(opens.all() and (closes | (closing == len(view) - 1)).all())


def _walked(data: bytes, begin: int, delimiter: str, quote: str) -> Array:
    mark, sign = re.escape(delimiter.encode()), re.escape(quote.encode())
    field = re.compile(
        rb"(?:%b(?:[^%b]++|%b%b)*+%b[^%b\n]*+|(?!%b)[^%b\n]*+)(%b|\n)"
        % (sign, sign, sign, sign, sign, mark, sign, mark, mark)
    )
    ends: list[int] = []
    while (found := field.match(data, begin)) is not None:
        begin = found.end()
        if data[begin - 1] == NEWLINE:
            ends.append(begin - 1)
    return np.array(ends, dtype=np.int64)
