"""Where reading stands: of every partition how much has been handed out, and which are ours."""

from collections.abc import Iterable, Mapping
from typing import final

from stream_em.streams import Partition, Positions
from stream_em_connectors.kafka.client import TopicPartition
from stream_em_connectors.kafka.marks import positions_at

Offsets = Mapping[TopicPartition, int]


@final
class Ledger:
    """Offsets of all known partitions. Only those that are owned are ever told of.

    `at` is the offset behind the last record handed out, or where reading starts.
    """

    def __init__(self, ids: Mapping[str, str], at: Offsets) -> None:
        self.ids = dict(ids)  # topic -> its id
        self.at = dict(at)
        self.read = dict(at)  # the offset behind the last record taken from the client
        self.owned: frozenset[TopicPartition] = frozenset()
        self.ends: Offsets = {}  # as last seen
        self.stops: dict[TopicPartition, int] | None = None  # where a finite reading ends
        self.committed: dict[TopicPartition, int] = {}  # for the group, as last known
        self._moved: set[TopicPartition] = set()  # since the last batch

    @property
    def moved(self) -> bool:
        """Whether anything moved since the last batch was told of it."""
        return bool(self._moved)

    def know(self, at: Offsets) -> None:
        """Partitions that are there, whoever reads them."""
        self.at.update(at)
        self.read.update(at)

    def own(self, at: Offsets) -> None:
        """Take partitions over, and read them from here on."""
        self.know(at)
        self.owned |= at.keys()
        self._moved |= at.keys()

    def disown(self, places: Iterable[TopicPartition]) -> None:
        """Let partitions go. What was handed out of them stays known."""
        self.owned -= frozenset(places)
        self._moved &= self.owned

    def move(self, place: TopicPartition, offset: int) -> None:
        """All before this offset has been handed out."""
        if offset > self.at[place]:
            self.at[place] = offset
            self.read[place] = max(offset, self.read[place])
            self._moved.add(place)

    def forget(self, topic: str, id: str) -> list[TopicPartition]:
        """The topic was made again: whatever is known of its partitions is void."""
        gone = [place for place in self.at if place.topic == topic]
        self.disown(gone)
        for place in gone:
            del self.at[place], self.read[place]
            self.committed.pop(place, None)
            if self.stops is not None:
                self.stops.pop(place, None)
        self.ids[topic] = id
        return gone

    def told(self) -> Positions:
        """Positions of what moved since this was last asked."""
        places, self._moved = self._moved, set()
        ids = {place.topic: self.ids[place.topic] for place in places}
        return positions_at({place: self.at[place] for place in places}, ids)

    def lag(self) -> Mapping[Partition, int]:
        """Offsets between what was handed out and the end."""
        at = self.at
        return {place: max(0, self.ends.get(place, 0) - at[place]) for place in self.owned}

    def uncommitted(self) -> Mapping[Partition, int]:
        """Offsets between what was committed and what was handed out."""
        at, committed = self.at, self.committed
        return {place: max(0, at[place] - committed.get(place, at[place])) for place in self.owned}
