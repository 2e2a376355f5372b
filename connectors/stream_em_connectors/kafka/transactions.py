"""Kafka's transactions: outputs, a marker and the input's positions, visible all at once.

The marker is a committed offset: group `<transactional id>.marker`, offset n for checkpoint
n, its metadata the checkpoint's name and digest. It is committed for partition 0 of every
topic that the run writes exactly once, so that one of them may be dropped, or named in
another order, without the others losing it.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import final

from stream_em.errors import (
    OutputChanged,
    PartitionsLost,
    RunFailed,
    SettingsError,
    SinkFailed,
    StreamEmError,
    Undecided,
)
from stream_em.streams import Marker, Transactions
from stream_em_connectors.kafka.client import (
    Committed,
    Headers,
    Producer,
    TopicPartition,
)
from stream_em_connectors.kafka.courtesy import Courtesy
from stream_em_connectors.kafka.link import Link

log = logging.getLogger(__name__)

INTERVALS = 3  # between two checkpoints, that a transaction outlives at least
USUAL_SECONDS, LONGEST_SECONDS = 300.0, 900.0  # brokers allow 15 minutes unless told otherwise
ABORT_SECONDS = 10.0  # a transaction that is left open is aborted later anyway

Send = Callable[[str, bytes | None, bytes | None, Headers], None]


def timeout_between(every_seconds: float, asked: float | None) -> float:
    """Seconds after which the broker aborts an open transaction.

    `asked` is what the configuration says, None for at least 5 minutes. Raises
    `SettingsError` when three intervals do not fit.

    >>> timeout_between(30.0, None), timeout_between(200.0, None), timeout_between(30.0, 90.0)
    (300.0, 600.0, 90.0)
    """
    needed = INTERVALS * every_seconds
    timeout = max(USUAL_SECONDS, needed) if asked is None else asked
    if needed > LONGEST_SECONDS:
        raise SettingsError(
            f"checkpoints are {every_seconds:g} s apart and a transaction has to outlive "
            f"{INTERVALS} of these intervals, but lasts at most {LONGEST_SECONDS:g} s; take "
            f"every_seconds = {LONGEST_SECONDS / INTERVALS:g} or less"
        )
    if not needed <= timeout <= LONGEST_SECONDS:
        raise SettingsError(
            f"transaction_timeout_seconds is {timeout:g}, expected {needed:g} ({INTERVALS} times "
            f"every_seconds = {every_seconds:g}) to {LONGEST_SECONDS:g}"
        )
    return timeout


@final
class KafkaTransactions(Transactions):
    """The transactions of one producer. `name` is its transactional id.

    >>> from stream_em_connectors.kafka.sink import KafkaSink
    >>> KafkaSink("localhost:9092", "assignments").transactions("readings", 30.0).identity
    "Kafka transactions of 'readings'"
    """

    def __init__(self, link: Link, name: str, timeout_seconds: float) -> None:
        self.identity = f"Kafka transactions of {name!r}"
        self.timeout_seconds = timeout_seconds
        self._link, self._name, self._group = link, name, f"{name}.marker"
        self._seconds = min(link.seconds, timeout_seconds)
        self._topics: list[str] = []
        self._room = 0  # bytes of the largest record
        self._producer: Producer | None = None
        self._over: StreamEmError | None = None  # why the producer must not be touched again
        self._cluster = ""
        self._lock = threading.Lock()  # all but sending is for one thread at a time

    def enlist(self, topic: str, room: int) -> None:
        """A topic is written, too, in records of up to `room` bytes. Before `open`."""
        self._topics.append(topic)
        self._room = max(self._room, room)

    def open(self) -> Marker | None:
        """Fence rivals, abort what they left open, and only then read the marker."""
        self._producer = self._link.transactional(self._name, self.timeout_seconds, self._room)
        try:
            for topic in self._topics:
                self._link.check(self._producer, topic)
            self._producer.init_transactions(self._link.seconds)
            marker = self._read()
            self._producer.begin()
            return marker
        except BaseException:
            self.close()
            raise

    def sender(self) -> Send:
        """What sends a record within the open transaction. Raises `SinkFailed` after its end."""
        return self._living().send

    def flush(self) -> None:
        """Wait until all records are acknowledged. Raises `SinkFailed` when they are not."""
        with self._lock, self._deciding():
            self._living().flush(self._seconds)

    def commit(self, marker: Marker, courtesy: object | None) -> bool:
        """Commit outputs, marker and positions, and begin the next transaction."""
        with self._lock, self._deciding():
            producer = self._living()
            ours = Committed(marker.number, f"{marker.name} {marker.digest}")
            places = {TopicPartition(topic, 0): ours for topic in self._topics}
            producer.send_offsets(self._group, places, self._seconds)
            along = self._add(producer, courtesy)
            producer.commit(self._seconds)
            producer.begin()
            return along

    def abort(self) -> None:
        """Abort, and begin anew; what cannot be aborted now is when the next run begins."""
        if not self._lock.acquire(timeout=ABORT_SECONDS):
            log.warning("the transaction of %r stays open: its records do not arrive", self._name)
            return
        try:
            if self._producer is not None and self._over is None:
                self._abort(self._producer)
        finally:
            self._lock.release()

    def _abort(self, producer: Producer) -> None:
        try:
            producer.abort(min(self._seconds, ABORT_SECONDS))
            producer.begin()
        except StreamEmError as error:
            self._over = error
            log.warning("a transaction of %r could not be aborted: %s", self._name, error)

    def close(self) -> None:
        """Release the producer, whatever it is doing; an open transaction stays open."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close()

    def _living(self) -> Producer:
        if self._over is not None:
            raise SinkFailed(
                f"the transactions of {self._name!r} ended before ({self._over}); start the run "
                "again, and it goes on from what was committed"
            ) from self._over
        if self._producer is None:
            raise SinkFailed(f"the transactions of {self._name!r} are not open; start the run anew")
        return self._producer

    @contextmanager
    def _deciding(self) -> Iterator[None]:
        """Once nobody knows how a transaction ends, nothing may be done in it any more."""
        try:
            yield
        except Undecided as error:
            self._over = error
            raise

    def _add(self, producer: Producer, courtesy: object | None) -> bool:
        """Add the input's positions, if its group lives in this cluster."""
        if not isinstance(courtesy, Courtesy) or courtesy.cluster != self._cluster:
            return False
        try:
            producer.send_offsets(courtesy.group, courtesy.offsets, self._seconds)
        except Undecided:
            raise
        except RunFailed as error:
            raise PartitionsLost(
                f"the input's positions could not be committed along with the outputs ({error}); "
                "has the group divided its partitions anew?"
            ) from error
        return True

    def _read(self) -> Marker | None:
        """The latest marker; several differ only where a topic was not written for a while."""
        consumer = self._link.consumer(self._group)
        try:
            self._cluster = consumer.cluster()
            found = consumer.committed([TopicPartition(topic, 0) for topic in self._topics])
        finally:
            consumer.close()
        markers = [self._marker(one) for one in found.values() if one is not None]
        return max(markers, key=lambda marker: marker.number, default=None)

    def _marker(self, committed: Committed) -> Marker:
        name, _, digest = committed.metadata.rpartition(" ")
        if not name:
            raise OutputChanged(
                f"group {self._group} holds {committed.metadata!r} at offset {committed.offset}, "
                "expected the name and digest of a checkpoint: somebody else committed there; "
                "give the engine another name, or delete the group to start anew with --fresh"
            )
        return Marker(committed.offset, name, digest)
