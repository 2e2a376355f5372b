"""librdkafka in a group: its callbacks run within `consume`, so on the polling thread."""

from typing import Any, final

from confluent_kafka import TopicPartition as Place

from stream_em_connectors.kafka.client import Rebalance, TopicPartition


@final
class GroupCallbacks:
    """What the group gave and took, and what a callback raised, for `poll` to raise."""

    def __init__(self, rebalance: Rebalance, starts: dict[TopicPartition, int]) -> None:
        self._rebalance = rebalance
        self._starts = starts  # where reading starts, of every partition that is ours
        self._failure: BaseException | None = None
        self.silent = False

    def assigned(self, inner: Any, places: list[Place]) -> None:
        """Positions take effect before anything is fetched."""
        if self.silent:
            return
        ours = _ours(places)
        try:
            starts = self._rebalance.assigned(ours) if ours else {}
            inner.incremental_assign([Place(*place, starts[place]) for place in sorted(ours)])
            self._starts.update(starts)
        except BaseException as error:
            self._failure = self._failure or error

    def revoked(self, inner: Any, places: list[Place]) -> None:
        """They are ours until this is over."""
        self._give_up(inner, places, self._rebalance.revoked)

    def lost(self, inner: Any, places: list[Place]) -> None:
        """They are somebody else's already."""
        self._give_up(inner, places, self._rebalance.lost)

    def raise_failure(self) -> None:
        """Raise what a callback raised, once."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _give_up(self, inner: Any, places: list[Place], tell: Any) -> None:
        if self.silent:
            return
        ours = _ours(places)
        try:
            if ours:
                tell(ours)
        except BaseException as error:
            self._failure = self._failure or error
        inner.incremental_unassign(places)
        for place in ours:
            self._starts.pop(place, None)


def _ours(places: list[Place]) -> frozenset[TopicPartition]:
    return frozenset(TopicPartition(place.topic, place.partition) for place in places)
