"""librdkafka in a group: its callbacks run within `consume`, so on the polling thread."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, final

from confluent_kafka import TopicPartition as Place

from stream_em_connectors.kafka.client import Rebalance, TopicPartition


@final
class GroupCallbacks:
    """What the group gave and took, and what a callback raised, for `poll` to raise."""

    def __init__(
        self,
        rebalance: Rebalance,
        starts: dict[TopicPartition, int],
        max_poll_seconds: float,
        joined: Callable[[], None],
    ) -> None:
        self._rebalance = rebalance
        self._joined = joined  # called before each callback: there is a new generation
        self._max_poll_seconds = max_poll_seconds
        self._polled = time.monotonic()
        self._late = False
        self._starts = starts  # where reading starts, of every partition that is ours
        self._failure: BaseException | None = None
        self.silent = False
        self.calling = False  # while a callback runs

    @contextmanager
    def polling(self) -> Iterator[None]:
        """Around every poll: one that comes too late finds the group without us.

        What was to be revoked by then is still told as if it were ours.
        """
        self._late = time.monotonic() - self._polled > self._max_poll_seconds
        try:
            yield
        finally:
            self._polled = time.monotonic()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def assigned(self, inner: Any, places: list[Place]) -> None:
        """Positions take effect before anything is fetched."""
        if self.silent:
            return
        ours, self.calling = _ours(places), True
        try:
            self._joined()
            starts = self._rebalance.assigned(ours) if ours else {}
            inner.incremental_assign([Place(*place, starts[place]) for place in sorted(ours)])
            self._starts.update(starts)
        except BaseException as error:
            self._failure = self._failure or error
        finally:
            self.calling = False

    def revoked(self, inner: Any, places: list[Place]) -> None:
        """They are ours until this is over, unless it comes so late that we were put out."""
        tell = self._rebalance.lost if self._late else self._rebalance.revoked
        self._give_up(inner, places, tell)

    def lost(self, inner: Any, places: list[Place]) -> None:
        """They are somebody else's already."""
        self._give_up(inner, places, self._rebalance.lost)

    def _give_up(self, inner: Any, places: list[Place], tell: Any) -> None:
        if self.silent:
            return
        ours, self.calling = _ours(places), True
        try:
            self._joined()
            if ours:
                tell(ours)
        except BaseException as error:
            self._failure = self._failure or error
        finally:
            self.calling = False
        inner.incremental_unassign(places)
        for place in ours:
            self._starts.pop(place, None)


def _ours(places: list[Place]) -> frozenset[TopicPartition]:
    return frozenset(TopicPartition(place.topic, place.partition) for place in places)
