"""A look round every few seconds: topics made again, new partitions, ends, passed markers."""

import time
from collections.abc import Mapping, Sequence
from typing import final

from stream_em.errors import Unreachable
from stream_em_connectors.kafka.bounds import Bounds, Identity
from stream_em_connectors.kafka.client import Consumer, OutOfRange, Topic, TopicPartition
from stream_em_connectors.kafka.holding import Holding
from stream_em_connectors.kafka.marks import places_of
from stream_em_connectors.kafka.pending import Pending
from stream_em_connectors.kafka.places import Ledger

LOOK_SECONDS = 2.0
RETRY_SECONDS = 10.0  # after nobody answered
ABSENCES = 3  # looks in a row that must miss a topic before it counts as deleted


@final
class Watch:
    """Asks the cluster what has changed. All of it happens within polls."""

    def __init__(
        self,
        consumer: Consumer,
        topics: Sequence[str],
        ledger: Ledger,
        holding: Holding,
        pending: Pending,
        bounds: Bounds,
        identity: Identity,
        grows: bool,
    ) -> None:
        self._consumer, self._topics, self._ledger = consumer, topics, ledger
        self._holding, self._pending = holding, pending
        self._bounds, self._identity, self._grows = bounds, identity, grows
        self._next = time.monotonic() + LOOK_SECONDS
        self._absences = 0

    @property
    def due(self) -> bool:
        """Whether it is time for a look."""
        return time.monotonic() >= self._next

    def look(self) -> None:
        """Compare topics with what is known. Raises `SourceChanged`."""
        self._next = time.monotonic() + LOOK_SECONDS
        if not self._consumer.connected:
            return
        try:
            there = self._compare()
            self._ledger.ends = self._consumer.ends(sorted(self._ledger.owned & there))
        except Unreachable:
            self._next = time.monotonic() + RETRY_SECONDS

    def astray(self, error: OutOfRange) -> None:
        """Find out why a position is not there, and go on where that is allowed.

        Records that the client had at hand when it raised are read again.
        """
        self._compare()
        read, consumer = self._ledger.read, self._consumer
        if error.place in self._ledger.owned:
            read.update(self._bounds.kept(consumer, {error.place: read[error.place]}))
        for place in self._ledger.owned:
            if place == error.place or consumer.position(place) != read[place]:
                consumer.seek(place, read[place])

    def _compare(self) -> frozenset[TopicPartition]:
        """All partitions that there are."""
        now = self._consumer.topics(self._topics)
        absent = [name for name in self._topics if name not in now]
        self._absences = self._absences + 1 if absent else 0
        if self._absences == ABSENCES:
            self._identity.gone(absent)
        for name in self._identity.made_again(self._ledger.ids, now):
            self._begin_again(name, now[name])
        if self._grows:
            new = [place for place in places_of(now) if place not in self._ledger.at]
            if new:
                self._holding.grow(self._consumer.beginnings(new))
        return frozenset(places_of(now))

    def _begin_again(self, name: str, topic: Topic) -> None:
        self._pending.drop(self._ledger.forget(name, topic.id))
        places = places_of({name: topic})
        offsets: Mapping[TopicPartition, int] = self._consumer.beginnings(places)
        self._holding.grow(offsets)
