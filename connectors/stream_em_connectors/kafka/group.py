"""How engines share a topic's partitions: one consumer group, each with a model of its own."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import final

from stream_em.errors import PartitionsLost, StreamEmError
from stream_em_connectors.kafka.bounds import Bounds, Identity
from stream_em_connectors.kafka.client import Consumer, Rebalance, TopicPartition
from stream_em_connectors.kafka.holding import Holding, Rebalances
from stream_em_connectors.kafka.pending import Pending
from stream_em_connectors.kafka.places import Ledger

log = logging.getLogger(__name__)

STEADY_SECONDS, TURN_SECONDS = 10.0, 0.05

Places = frozenset[TopicPartition]


@final
class Shared(Holding):
    """What the group gives. Before a partition goes, everything handed out is settled.

    What goes wrong in a callback is kept and raised by `check`, once the client has
    returned from its poll.
    """

    leaves = False  # members are static: a restart within the session keeps the partitions

    def __init__(
        self,
        consumer: Consumer,
        ledger: Ledger,
        pending: Pending,
        bounds: Bounds,
        identity: Identity,
        topics: Sequence[str],
    ) -> None:
        self._consumer, self._ledger, self._pending = consumer, ledger, pending
        self._bounds, self._identity, self._topics = bounds, identity, topics
        self._settle: Callable[[], None] | None = None
        self._failure: StreamEmError | None = None
        self._parting = False  # while partitions go: the membership before is still valid
        self._closed = False
        self._held: Places = frozenset()  # also while their topic is being made again
        self.rebalances = Rebalances(0, 0.0)
        self.settled = False

    def begin(self) -> None:
        """Join the group."""
        rebalance = Rebalance(self._assigned, self._revoked, self._lost)
        self._consumer.subscribe(self._topics, rebalance)

    def grow(self, offsets: Mapping[TopicPartition, int]) -> None:
        """The group hands new partitions out by itself; those held go on from these offsets."""
        mine = {place: at for place, at in offsets.items() if place in self._held}
        self._ledger.know(offsets)
        self._ledger.own(mine)
        for place, offset in mine.items():
            self._consumer.seek(place, offset)

    def check(self) -> None:
        """Raise what a callback could not."""
        if self._failure is not None:
            raise self._failure

    def group(self) -> object:
        """The membership; while partitions go, as it was before.

        Waits a while for a group that divides its partitions anew: what it says meanwhile
        may be out of date, and then the transaction fails that carries it.
        """
        patience = time.monotonic() + STEADY_SECONDS
        while not (self._parting or self._consumer.steady) and time.monotonic() < patience:
            time.sleep(TURN_SECONDS)
        return self._consumer.membership()

    def attend(self, settle: Callable[[], None]) -> None:
        """Hear how to end an epoch."""
        self._settle = settle

    def close(self) -> None:
        """What is revoked from now on was settled by the engine's own end."""
        self._closed = True

    def _assigned(self, places: Places) -> Mapping[TopicPartition, int]:
        began = time.perf_counter()
        self._held |= places
        try:
            at: Mapping[TopicPartition, int] = self._starts(places) if places else {}
            self._ledger.own(at)
        except StreamEmError as error:
            self._failure = error
            at = {place: self._ledger.at.get(place, 0) for place in places}
        self.settled = True
        self._spent(began, 1)
        return at

    def _starts(self, places: Places) -> Mapping[TopicPartition, int]:
        """The later of the checkpoint's position and the committed one."""
        asked, consumer, ledger = sorted(places), self._consumer, self._ledger
        now = consumer.topics(self._topics)
        for name in self._identity.made_again(ledger.ids, now):
            self._pending.drop(ledger.forget(name, now[name].id))
        at = {place: ledger.at[place] for place in asked if place in ledger.at}
        new = [place for place in asked if place not in at]
        at.update(consumer.beginnings(new) if new else {})
        ends = consumer.ends(asked)
        for place, one in consumer.committed(asked).items():
            if one is not None and one.offset <= ends[place]:
                at[place] = max(at[place], one.offset)
                ledger.committed[place] = one.offset
        return self._bounds.kept(consumer, at)

    def _revoked(self, places: Places) -> None:
        began = time.perf_counter()
        self._held -= places
        if places and not self._closed:
            self._pending.drop(places)
            self._release(places)
            self._ledger.disown(places)
        self._spent(began, 0)

    def _release(self, places: Places) -> None:
        """End the epoch, then leave the positions to the next owner."""
        if self._settle is None:
            return
        mine = {place: self._ledger.at[place] for place in places & self._ledger.owned}
        self._parting = True
        try:
            self._settle()
            self._consumer.commit(mine)
            self._ledger.committed.update(mine)
        except Exception as error:
            self._failure = PartitionsLost(
                f"partitions {_named(places)} were asked back, and what was read of them could "
                f"not be saved ({error}); the last checkpoint holds, and reading resumes there"
            )
            self._failure.__cause__ = error
        finally:
            self._parting = False

    def _lost(self, places: Places) -> None:
        self._held -= places
        self._pending.drop(places)
        self._ledger.disown(places)
        self._failure = PartitionsLost(
            f"partitions {_named(places)} went to another engine before what was read of them "
            "could be saved; the last checkpoint holds, and reading resumes there"
        )
        log.warning("%s", self._failure)

    def _spent(self, began: float, times: int) -> None:
        before, seconds = self.rebalances
        self.rebalances = Rebalances(before + times, seconds + time.perf_counter() - began)


def _named(places: Places) -> str:
    return ", ".join(f"{topic}/{partition}" for topic, partition in sorted(places))
