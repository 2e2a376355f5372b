"""Records as they came from the client to runs of rows: everything at once for a chunk."""

from collections.abc import Callable, Sequence
from typing import final

import numpy as np

from stream_em.arrays import Array
from stream_em.streams import Base64, Json, Rejected
from stream_em_connectors.codecs import Decoded, Fields, Flaw
from stream_em_connectors.kafka.client import Chunk
from stream_em_connectors.kafka.pending import Run

Decode = Callable[[Sequence[bytes]], Decoded]
UNREADABLE = ("decode_error", "schema")
EMPTY = Flaw("empty", None, "an empty value came, expected a record")
TOMBSTONE = Flaw("empty", None, "a tombstone (null value) came, expected a record")


@final
class Intake:
    """Decodes chunks. `stamped` takes the records' own timestamps as event times.

    Every record comes out once: as a row or as a rejected record, whose time is its own
    timestamp, as what it says itself may not be readable.
    """

    def __init__(
        self, decode: Decode, fields: Fields, max_record_bytes: int, stamped: bool
    ) -> None:
        self._decode, self._fields, self._stamped = decode, fields, stamped
        self._largest = max_record_bytes
        self.undecodable = 0  # records so far
        self.nothing = self._timed(decode(()), np.empty(0, np.int64))  # a run of no rows

    def run(self, chunk: Chunk) -> Run:
        """The rows of a chunk of at least one record, and its rejected records."""
        values = chunk.values
        if all(values):
            lengths = np.fromiter(map(len, values), np.int64, len(values))  # type: ignore[arg-type]
            flaws = {} if lengths.max() <= self._largest else self._too_large(lengths)
        else:
            lengths = np.array([0 if value is None else len(value) for value in values])
            flaws = {**_empty(values), **self._too_large(lengths)}
        kept, found = self._decoded(values, flaws)
        whole = len(kept) == len(values)
        stamps = np.array(chunk.times, np.int64)
        offsets = _offsets(chunk.offsets)
        end = int(offsets[-1]) + 1
        if not whole:
            stamps, offsets = stamps[kept], offsets[kept]
        found = self._timed(found, stamps)
        return Run(
            place=chunk.place,
            rows=found.rows,
            weights=found.weights,
            times=found.times,
            keys=found.keys if self._fields.key is not None else _keys(chunk, kept, whole),
            offsets=offsets,
            stamps=stamps,
            rejected=tuple(self._rejected(chunk, i, flaws[i]) for i in sorted(flaws)),
            end=end,
            read_bytes=int(lengths.sum()),
        )

    def _decoded(
        self, values: Sequence[bytes | None], flaws: dict[int, Flaw]
    ) -> tuple[Array, Decoded]:
        """Indices of the accepted among all records, and their rows; more flaws are added."""
        if not flaws:
            found = self._decode(values)  # type: ignore[arg-type]
            flaws.update(found.flaws)
            kept = found.kept
        else:
            places = [place for place in range(len(values)) if place not in flaws]
            found = self._decode([values[place] or b"" for place in places])
            flaws.update((places[place], flaw) for place, flaw in found.flaws)
            kept = np.array(places, np.int64)[found.kept]
        self.undecodable += sum(flaw.reason in UNREADABLE for _, flaw in found.flaws)
        return kept, found

    def _too_large(self, lengths: Array) -> dict[int, Flaw]:
        detail = "a record of {} bytes came, max_record_bytes is {}"
        return {
            place: Flaw("too_large", None, detail.format(lengths[place], self._largest))
            for place in np.flatnonzero(lengths > self._largest).tolist()
        }

    def _timed(self, found: Decoded, stamps: Array) -> Decoded:
        if not self._stamped:
            return found
        times = np.where(stamps >= 0, stamps / 1000, np.nan)
        return Decoded(found.rows, found.weights, times, found.keys, found.kept, found.flaws)

    def _rejected(self, chunk: Chunk, place: int, flaw: Flaw) -> Rejected:
        stamp = chunk.times[place]
        return Rejected(
            source=chunk.place.topic,
            partition=chunk.place.partition,
            offset=int(chunk.offsets[place]),
            reason=flaw.reason,
            field=flaw.field,
            detail=flaw.detail,
            raw=chunk.values[place] or b"",
            time=stamp / 1000 if stamp >= 0 else None,
            key=chunk.keys[place],
            headers=chunk.headers(place),
        )


def _empty(values: Sequence[bytes | None]) -> dict[int, Flaw]:
    return {
        place: TOMBSTONE if value is None else EMPTY
        for place, value in enumerate(values)
        if not value
    }


def _offsets(offsets: Sequence[int]) -> Array:
    """(n,) int64; at once where they have no gaps."""
    if isinstance(offsets, range):
        return np.arange(offsets.start, offsets.stop, offsets.step, dtype=np.int64)
    return np.array(offsets, np.int64)


def _keys(chunk: Chunk, kept: Array, whole: bool) -> tuple[Json, ...] | None:
    """The records' own keys as text; `Base64` of those that are no UTF-8."""
    keys = list(chunk.keys)
    if keys.count(None) == len(keys):
        return None
    chosen = keys if whole else [keys[place] for place in kept.tolist()]
    try:
        return tuple([None if key is None else key.decode() for key in chosen])
    except UnicodeDecodeError:
        return tuple([_text(key) for key in chosen])


def _text(key: bytes | None) -> str | None:
    if key is None:
        return None
    try:
        return key.decode()
    except UnicodeDecodeError:
        return Base64.of(key)
