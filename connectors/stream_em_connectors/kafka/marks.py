"""What a checkpoint knows of topics: JSON values under "topic" and "topic/partition".

A topic's entry holds its id, which is a new one whenever a topic is made again under the
same name; a partition's entry holds the next offset and the id that it speaks of.
"""

from collections.abc import Iterable, Mapping

from stream_em.streams import Json, Positions
from stream_em_connectors.kafka.client import Topic, TopicPartition


def topic_ids(positions: Positions, topics: Iterable[str]) -> dict[str, str]:
    """The id of each of the topics, where the positions know it."""
    known = ((name, positions.parts.get(name)) for name in topics)
    return {name: str(entry["id"]) for name, entry in known if entry is not None}


def offsets_in(
    positions: Positions, places: Iterable[TopicPartition], ids: Mapping[str, str]
) -> dict[TopicPartition, int]:
    """The saved offset of each of the partitions whose topics are still the same.

    >>> saved = positions_at({TopicPartition("t", 0): 7}, {"t": "abc"})
    >>> offsets_in(saved, [TopicPartition("t", 0), TopicPartition("t", 1)], {"t": "abc"})
    {TopicPartition(topic='t', partition=0): 7}
    >>> offsets_in(saved, [TopicPartition("t", 0)], {"t": "another"})
    {}
    """
    found: dict[TopicPartition, int] = {}
    for place in places:
        entry = positions.parts.get(_name(place))
        if entry is not None and entry["id"] == ids[place.topic]:
            found[place] = int(entry["offset"])
    return found


def positions_at(offsets: Mapping[TopicPartition, int], ids: Mapping[str, str]) -> Positions:
    """Offsets and the ids of their topics, as a checkpoint keeps them.

    >>> positions_at({TopicPartition("t", 0): 7}, {"t": "abc"}).parts
    {'t': {'id': 'abc'}, 't/0': {'offset': 7, 'id': 'abc'}}
    """
    parts: dict[str, Json] = {topic: {"id": id} for topic, id in ids.items()}
    for place, offset in offsets.items():
        parts[_name(place)] = {"offset": offset, "id": ids[place.topic]}
    return Positions(parts)


def places_of(topics: Mapping[str, Topic]) -> list[TopicPartition]:
    """All partitions of the topics."""
    return [
        TopicPartition(name, number)
        for name, topic in topics.items()
        for number in topic.partitions
    ]


def _name(place: TopicPartition) -> str:
    return f"{place.topic}/{place.partition}"
