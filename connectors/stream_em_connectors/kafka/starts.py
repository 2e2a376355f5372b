"""Where a fresh run starts in partitions that no checkpoint speaks of."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, final

from stream_em.errors import SettingsError
from stream_em_connectors.kafka.client import Consumer, TopicPartition

log = logging.getLogger(__name__)

Offsets = Mapping[TopicPartition, int]


class Start(ABC):
    """A choice of where to start."""

    @abstractmethod
    def offsets(self, consumer: Consumer, places: Sequence[TopicPartition]) -> Offsets:
        """Where to start in each partition, the empty ones too."""


@final
@dataclass(frozen=True)
class Earliest(Start):
    """At the first record that is still kept."""

    def offsets(self, consumer: Consumer, places: Sequence[TopicPartition]) -> Offsets:
        """The beginnings."""
        return consumer.beginnings(places)


@final
@dataclass(frozen=True)
class Latest(Start):
    """Behind the last readable record."""

    def offsets(self, consumer: Consumer, places: Sequence[TopicPartition]) -> Offsets:
        """The last stable offsets."""
        return consumer.ends(places)


@final
@dataclass(frozen=True)
class AtCommitted(Start):
    """Where the group stands; at the beginning of partitions it never committed."""

    def offsets(self, consumer: Consumer, places: Sequence[TopicPartition]) -> Offsets:
        """Committed offsets, else beginnings."""
        found = consumer.committed(places)
        known = {place: one.offset for place, one in found.items() if one is not None}
        unknown = [place for place in places if place not in known]
        if unknown:
            log.info("nothing was committed for %d partitions: beginning there", len(unknown))
            known.update(consumer.beginnings(unknown))
        return known


@final
@dataclass(frozen=True)
class Since(Start):
    """At the first record with a timestamp of at least `milliseconds`."""

    milliseconds: int

    def offsets(self, consumer: Consumer, places: Sequence[TopicPartition]) -> Offsets:
        """The first such offsets; the ends where all records are older."""
        found = consumer.offsets_at(places, self.milliseconds)
        known = {place: offset for place, offset in found.items() if offset is not None}
        beyond = [place for place in places if place not in known]
        return {**known, **consumer.ends(beyond)} if beyond else known


def start_of(said: Any) -> Start:
    """The start that a setting says. Raises `SettingsError`.

    >>> start_of("latest"), start_of("1970-01-01T00:00:01Z")
    (Latest(), Since(milliseconds=1000))
    """
    words = {"earliest": Earliest(), "latest": Latest(), "committed": AtCommitted()}
    if isinstance(said, str) and said in words:
        return words[said]
    try:
        moment = said if isinstance(said, datetime) else datetime.fromisoformat(said)
    except (TypeError, ValueError):
        raise SettingsError(
            f"start is {said!r}, expected earliest, latest, committed, or an ISO 8601 time such "
            "as 2026-01-31T12:00:00Z"
        ) from None
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return Since(round(aware.timestamp() * 1000))
