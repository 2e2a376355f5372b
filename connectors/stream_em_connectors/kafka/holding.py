"""How an engine comes to hold partitions: all of them, assigned by itself."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import NamedTuple, final

from stream_em_connectors.kafka.client import Consumer, TopicPartition
from stream_em_connectors.kafka.places import Ledger

Offsets = Mapping[TopicPartition, int]


class Rebalances(NamedTuple):
    """How often partitions came and went, and the seconds spent in that."""

    times: int
    seconds: float


class Holding(ABC):
    """How partitions come and go. Used by the polling thread."""

    rebalances: Rebalances
    settled: bool  # whether partitions have been held at all yet
    leaves: bool  # whether closing should leave the group

    @abstractmethod
    def begin(self) -> None:
        """Begin to hold partitions, at once or during the next polls."""

    @abstractmethod
    def grow(self, offsets: Offsets) -> None:
        """Partitions are new, or their topic is: read them from these offsets on."""

    @abstractmethod
    def check(self) -> None:
        """Raise what went wrong while partitions came and went: `PartitionsLost` and others."""

    @abstractmethod
    def group(self) -> object:
        """The group as a transaction wants it: a name, or a membership. Asked on any thread."""

    @abstractmethod
    def attend(self, settle: Callable[[], None]) -> None:
        """Hear how to end an epoch."""

    @abstractmethod
    def close(self) -> None:
        """Give up nothing in an orderly way any more: the stream is about to be closed."""


@final
class Assigned(Holding):
    """All partitions, for good. The group, if there is one, is only a name to commit under."""

    leaves = True
    settled = True
    rebalances = Rebalances(0, 0.0)

    def __init__(self, consumer: Consumer, ledger: Ledger, group: str) -> None:
        self._consumer, self._ledger, self._group = consumer, ledger, group

    def begin(self) -> None:
        """Take all partitions that are known."""
        self._ledger.own(self._ledger.at)
        self._ledger.told()  # nothing moved yet: they stand where the stream says it begins
        self._consumer.assign(dict(self._ledger.at))

    def grow(self, offsets: Offsets) -> None:
        """Assign again, with the new ones."""
        others = self._ledger.owned - offsets.keys()
        self._ledger.own(offsets)
        at = {place: self._consumer.position(place) for place in others}
        self._consumer.assign({**at, **offsets})

    def check(self) -> None:
        """Nothing can go wrong here."""

    def group(self) -> object:
        """The name."""
        return self._group

    def attend(self, settle: Callable[[], None]) -> None:
        """Nothing is ever given up."""

    def close(self) -> None:
        """Nothing is ever given up."""
