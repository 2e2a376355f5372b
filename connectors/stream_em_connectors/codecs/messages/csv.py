"""Messages of delimited text, one CSV record each, with or without an end of line."""

from collections.abc import Iterator, Sequence
from typing import final

import numpy as np

from stream_em_connectors.codecs.csv_cells import Dialect
from stream_em_connectors.codecs.csv_codec import SEVERAL, CsvCodec
from stream_em_connectors.codecs.cutting import Spans, records
from stream_em_connectors.codecs.table import Decoded, Fields, Flaw

UNCLOSED = Flaw("decode_error", None, "a quote opens and is not closed within the message")


@final
class CsvMessages:
    """Decodes messages that are one record each, all with the given columns.

    >>> codec = CsvMessages(Fields(("a", "b")), Dialect(), ("a", "b"))
    >>> found = codec.decode([b"1,2", b'3,"4"\\n', b'5,"6', b"7,8\\n9,10"])
    >>> found.rows, [flaw.reason for _, flaw in found.flaws]
    (array([[1., 2.],
           [3., 4.]]), ['decode_error', 'schema'])
    """

    def __init__(self, fields: Fields, dialect: Dialect, columns: Sequence[str]) -> None:
        self._codec = CsvCodec(fields, dialect, columns)
        self._delimiter, self._quote = dialect.delimiter, dialect.quote

    def decode(self, records: Sequence[bytes]) -> Decoded:
        """Rows of the records that are good, flaws of the others."""
        block = b"\n".join([*records, b""])
        if self._plain(block, len(records)):
            return self._codec.decode(block, _spans(records))
        return self._decode_carefully([_unended(record) for record in records])

    def _plain(self, block: bytes, n: int) -> bool:
        """Whether no message can reach into the next one: neither line ends nor quotes inside."""
        quoted = bool(self._quote) and self._quote.encode() in block
        return not quoted and b"\r" not in block and block.count(b"\n") == n

    def _decode_carefully(self, messages: list[bytes]) -> Decoded:
        """The same where a message may be no record, or several: those are set apart first."""
        flaws = dict(self._misshapen(messages))
        kept = [place for place in range(len(messages)) if place not in flaws]
        good = [messages[place] for place in kept]
        found = self._codec.decode(b"\n".join([*good, b""]), _spans(good))
        if not flaws:
            return found
        places = np.array(kept, dtype=np.int64)
        flaws.update((kept[place], flaw) for place, flaw in found.flaws)
        return Decoded(
            rows=found.rows,
            weights=found.weights,
            times=found.times,
            keys=found.keys,
            kept=places[found.kept],
            flaws=tuple(sorted(flaws.items())),
        )

    def _misshapen(self, messages: list[bytes]) -> Iterator[tuple[int, Flaw]]:
        block = b"\n".join([*messages, b""])
        cut = records(block, 0, self._delimiter, self._quote)
        if np.array_equal(cut.afters, _spans(messages).afters):
            return
        for place, message in enumerate(messages):
            alone = records(message + b"\n", 0, self._delimiter, self._quote)
            if len(alone) > 1:
                yield place, SEVERAL
            elif not len(alone) or alone.afters[0] != len(message) + 1:
                yield place, UNCLOSED


def _spans(messages: Sequence[bytes]) -> Spans:
    """Where the messages lie once they are joined by newlines, with one behind the last."""
    lengths = np.fromiter(map(len, messages), np.int64, len(messages))
    afters = np.cumsum(lengths + 1)
    return Spans(afters - lengths - 1, afters - 1, afters)


def _unended(message: bytes) -> bytes:
    """The message without one end of line."""
    return message.removesuffix(b"\n").removesuffix(b"\r")
