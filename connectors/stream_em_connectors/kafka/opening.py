"""From settings and saved positions to an opened stream."""

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from stream_em.errors import Unreachable
from stream_em.streams import Positions
from stream_em_connectors.kafka.bounds import Bounds, Identity
from stream_em_connectors.kafka.client import Consumer, Topic, TopicPartition
from stream_em_connectors.kafka.group import Shared
from stream_em_connectors.kafka.holding import Assigned, Holding
from stream_em_connectors.kafka.intake import Intake
from stream_em_connectors.kafka.marks import offsets_in, places_of, topic_ids
from stream_em_connectors.kafka.pending import Pending
from stream_em_connectors.kafka.places import Ledger
from stream_em_connectors.kafka.starts import Earliest, Start
from stream_em_connectors.kafka.stream import Cutting, KafkaStream, Parts
from stream_em_connectors.kafka.watch import Watch

log = logging.getLogger(__name__)


class Reading(NamedTuple):
    """What is read, and how; the settings of a source in the words of its parts."""

    servers: str
    topics: Sequence[str]
    features: tuple[str, ...]
    group: str | None
    shared: bool
    start: Start
    skip_gaps: bool
    begin_again: bool
    until_end: bool
    cutting: Cutting


def opened(
    reading: Reading, consumer: Consumer, intake: Intake, positions: Positions | None
) -> KafkaStream:
    """A stream that goes on after `positions`, or begins where it is to start.

    Every partition's position is resolved here, once, those of empty partitions too.
    Raises `Unreachable`, `SourceChanged` for topics made again or cut short, and
    `SavedStateError` for gaps.
    """
    bounds, identity = Bounds(reading.skip_gaps), Identity(reading.begin_again)
    topics = existing(consumer, reading.topics, reading.servers)
    ids = {name: topic.id for name, topic in topics.items()}
    if positions is not None:
        identity.made_again(topic_ids(positions, reading.topics), topics)
    ledger = Ledger(ids, bounds.kept(consumer, _starts(reading, consumer, topics, positions)))
    places = sorted(ledger.at)
    ledger.ends = consumer.ends(places)
    if reading.until_end:
        ledger.stops = dict(ledger.ends)
    if reading.group is not None:
        found = consumer.committed(places)
        ledger.committed = {p: one.offset for p, one in found.items() if one is not None}
    pending = Pending()
    holding = _holding(reading, consumer, ledger, pending, bounds, identity)
    watch = Watch(
        consumer, reading.topics, ledger, holding, pending, bounds, identity, not reading.until_end
    )
    parts = Parts(consumer, intake, pending, ledger, holding, watch, bounds)
    cluster = consumer.cluster() if reading.group is not None else None
    return KafkaStream(parts, reading.features, reading.cutting, cluster)


def existing(consumer: Consumer, names: Sequence[str], servers: str) -> Mapping[str, Topic]:
    """The topics. Raises `Unreachable` when one does not exist."""
    found = consumer.topics(names)
    for name in names:
        if name not in found or not found[name].partitions:
            raise Unreachable(missing(name, servers))
    return found


def missing(topic: str, servers: str) -> str:
    """What to do about a topic that is not there."""
    return f"topic {topic} does not exist at {servers}; create it, or correct `topics`"


def _starts(
    reading: Reading,
    consumer: Consumer,
    topics: Mapping[str, Topic],
    positions: Positions | None,
) -> dict[TopicPartition, int]:
    """A partition that the positions do not speak of is new: it is read from its beginning."""
    places = places_of(topics)
    if positions is None:
        return dict(reading.start.offsets(consumer, places))
    if reading.start != Earliest():
        log.info("`start` is ignored: reading goes on where the checkpoint stands")
    at = offsets_in(positions, places, {name: topic.id for name, topic in topics.items()})
    new = [place for place in places if place not in at]
    return {**at, **consumer.beginnings(new)} if new else at


def _holding(
    reading: Reading,
    consumer: Consumer,
    ledger: Ledger,
    pending: Pending,
    bounds: Bounds,
    identity: Identity,
) -> Holding:
    if reading.shared:
        return Shared(consumer, ledger, pending, bounds, identity, reading.topics)
    return Assigned(consumer, ledger, reading.group or "")
