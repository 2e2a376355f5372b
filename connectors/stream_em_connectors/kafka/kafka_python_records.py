"""What kafka-python fetched, as columns: it makes several objects of every record by itself.

That is nearly all the time it takes. Here a whole batch is taken apart at once; what the
client does with positions, transactions and checksums stays as it is.
"""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, NamedTuple, NoReturn, final

import kafka.errors as wrong
import numpy as np
from kafka.consumer.fetcher import Fetcher
from kafka.structs import TopicPartition as Place

from stream_em.arrays import Array
from stream_em_connectors.kafka.client import Chunk, Headers, TopicPartition
from stream_em_connectors.kafka.record_batches import headers_at, pieces, taken_apart

NO_TIME = -1
COLUMNAR = 2  # the format of batches that are taken apart at once; older ones go record by record


class Stretch(NamedTuple):
    """Consecutive records of one batch."""

    offsets: Array  # (n,) int64
    times: Array  # (n,) int64, milliseconds
    values: list[bytes | None]
    keys: list[bytes | None]
    headers: list[Headers] | tuple[bytes, Array]  # or the batch's bytes, and where they lie in it

    def part(self, begin: int, end: int) -> "Stretch":
        """Records `begin` up to `end`."""
        some = slice(begin, end)
        headers = self.headers
        return Stretch(
            self.offsets[some],
            self.times[some],
            self.values[some],
            self.keys[some],
            headers[some] if isinstance(headers, list) else (headers[0], headers[1][some]),
        )

    def headers_of(self, index: int) -> Headers:
        """The headers of one record."""
        if isinstance(self.headers, list):
            return self.headers[index]
        data, places = self.headers
        return headers_at(data, int(places[index]))


@final
class Taken:
    """Stretches on their way through the client, which counts records and passes them on."""

    def __init__(self) -> None:
        self._stretches: list[Stretch] = []
        self._records = 0

    def __len__(self) -> int:
        return self._records

    def __iter__(self) -> Iterator[Stretch]:
        return iter(self._stretches)

    def add(self, stretch: Stretch) -> None:
        """One more."""
        self._stretches.append(stretch)
        self._records += len(stretch.values)


@final
class BatchRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """The records of one partition in one answer, handed out in stretches."""

    _rest: Stretch | None = None  # of a batch that was larger than what was asked for
    _next_inline_exception: Exception | None  # for the next call

    def take(self, n: int | None = None) -> Taken:
        """Up to n records; a fault behind some good ones is raised at the next call."""
        if self._next_inline_exception is not None:
            self._fail(self._next_inline_exception)
        taken = Taken()
        try:
            while n is None or len(taken) < n:
                stretch = self._rest or next(self.record_iterator, None)
                self._rest = None
                if stretch is None:
                    break
                room = len(stretch.values) if n is None else n - len(taken)
                if room < len(stretch.values):
                    self._rest = stretch.part(room, len(stretch.values))
                    stretch = stretch.part(0, room)
                taken.add(stretch)
                self.next_fetch_offset = int(stretch.offsets[-1]) + 1
        except Exception as error:
            if not len(taken):
                self._fail(error)
            self._next_inline_exception = error
        return taken

    def _fail(self, error: Exception) -> NoReturn:
        """What is left of the answer is dropped: the position stays, and is fetched anew."""
        self.drain()
        raise error

    def _maybe_skip_record(self, record: Stretch) -> bool:
        return False  # `_unpack_records` leaves out what lies before the position

    def _unpack_records(self, tp: Place, records: Any, *_: Any) -> Iterator[Stretch]:
        behind: int | None = None  # the offset behind the last batch, compacted records included
        while (batch := records.next_batch()) is not None:
            if self.check_crcs and not batch.validate_crc():
                raise wrong.CorruptRecordError(
                    f"the batch at offset {batch.base_offset} of {tp} does not have its checksum"
                )
            behind = None
            if batch.magic == COLUMNAR:
                behind = batch.next_offset
                self.leader_epoch = batch.leader_epoch
                if self._withheld(batch):
                    self.next_fetch_offset = behind
                    continue
            stretch = _columns(batch) if batch.magic == COLUMNAR else self._one_by_one(batch)
            begin = int(np.searchsorted(stretch.offsets, self.fetch_offset))
            stretch = stretch.part(begin, len(stretch.values)) if begin else stretch
            if stretch.values:
                self.records_read += len(stretch.values)
                self.bytes_read += batch.size_in_bytes
                yield stretch
        if behind is not None:
            self.next_fetch_offset = behind
        self.drain()

    def _withheld(self, batch: Any) -> bool:
        """Whether a batch is a marker, or of a transaction that was aborted."""
        if batch.has_producer_id():  # isolation is always `read_committed`
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if self._contains_abort_marker(batch):
                self.aborted_producer_ids.discard(batch.producer_id)
            elif self._is_batch_aborted(batch):
                return True
        return bool(batch.is_control_batch)

    def _one_by_one(self, batch: Any) -> Stretch:
        found = list(batch)
        if self.check_crcs and not all(record.validate_crc() for record in found):
            raise wrong.CorruptRecordError("a record does not have its checksum")
        return Stretch(
            np.array([record.offset for record in found], np.int64),
            np.array([_time(record) for record in found], np.int64),
            [record.value for record in found],
            [record.key for record in found],
            [tuple(record.headers or ()) for record in found],
        )


def _time(record: Any) -> int:
    """Milliseconds; the oldest format knows no times."""
    return NO_TIME if record.timestamp is None else int(record.timestamp)


def _columns(batch: Any) -> Stretch:
    batch._maybe_uncompress()
    data = bytes(memoryview(batch._buffer)[batch._pos :])
    try:
        found = taken_apart(data, batch.records_count)
    except ValueError as error:
        raise wrong.CorruptRecordError(
            f"the batch at offset {batch.base_offset} is damaged: {error}"
        ) from error
    appended = batch.timestamp_type == batch.LOG_APPEND_TIME
    times = np.full_like(found.times, batch.max_timestamp) if appended else found.times
    return Stretch(
        found.offsets + batch.base_offset,
        times if appended else times + batch.first_timestamp,
        pieces(data, found.values, found.value_ends),
        pieces(data, found.keys, found.key_ends),
        (data, found.headers),
    )


def chunk(place: Place, stretches: list[Stretch]) -> Chunk:
    """Stretches of one partition as one chunk."""
    counts = list(accumulate(len(stretch.values) for stretch in stretches))

    def headers(index: int) -> Headers:
        which = bisect_right(counts, index)
        return stretches[which].headers_of(index - (counts[which - 1] if which else 0))

    offsets = np.concatenate([stretch.offsets for stretch in stretches])
    first, last = int(offsets[0]), int(offsets[-1])
    dense = last - first + 1 == len(offsets)
    return Chunk(
        TopicPartition(*place),
        range(first, last + 1) if dense else offsets.tolist(),
        [value for stretch in stretches for value in stretch.values],
        [key for stretch in stretches for key in stretch.keys],
        np.concatenate([stretch.times for stretch in stretches]).tolist(),
        headers,
    )
