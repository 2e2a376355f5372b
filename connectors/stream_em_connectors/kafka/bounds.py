"""What may be wrong with a position: records gone before it was reached, or a topic made again."""

import logging
from collections.abc import Mapping
from typing import final

from stream_em.errors import RecordsGone, SourceChanged
from stream_em_connectors.kafka.client import Consumer, Topic, TopicPartition

log = logging.getLogger(__name__)


@final
class Bounds:
    """Compares positions with what the partitions still hold.

    Below the first offset lies a gap of known size: an error, or counted and skipped.
    Beyond the end nothing was ever read: the partition was truncated or made again.
    """

    def __init__(self, skip_gaps: bool) -> None:
        self._skip = skip_gaps
        self.skipped = 0  # records that were gone before they were read, at most

    def kept(
        self, consumer: Consumer, offsets: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        """Where to go on in each partition. Raises `RecordsGone` or `SourceChanged`."""
        places = list(offsets)
        first, last = consumer.beginnings(places), consumer.ends(places)
        return {
            place: self._inside(place, offset, first[place], last[place])
            for place, offset in offsets.items()
        }

    def _inside(self, place: TopicPartition, offset: int, first: int, last: int) -> int:
        if offset >= first:
            return _not_beyond(place, offset, max(first, last))
        gap = first - offset
        where = f"{place.topic} partition {place.partition}"
        if not self._skip:
            raise RecordsGone(
                f"{where} begins at offset {first}, but reading stands at {offset}: {gap} offsets "
                'are gone unread; give on_gap = "skip" to go on behind the gap, or start anew with '
                "--fresh; a longer retention keeps this from happening"
            )
        log.warning("%s: %d offsets are gone unread, from %d on; skipped", where, gap, offset)
        self.skipped += gap
        return first


def _not_beyond(place: TopicPartition, offset: int, last: int) -> int:
    if offset > last:
        raise SourceChanged(
            f"{place.topic} partition {place.partition} ends at offset {last}, but reading stands "
            f"at {offset}: it was truncated, or its topic made again; this is never skipped: "
            "start anew with --fresh, or restore the topic"
        )
    return offset


@final
class Identity:
    """Compares the ids of topics, and decides what becomes of one that was made again."""

    def __init__(self, begin_again: bool) -> None:
        self._begin_again = begin_again

    def made_again(self, ids: Mapping[str, str], now: Mapping[str, Topic]) -> list[str]:
        """Topics to begin again. Raises `SourceChanged` unless that was asked for."""
        others = [name for name, id in ids.items() if name in now and now[name].id != id]
        if others and not self._begin_again:
            name = others[0]
            raise SourceChanged(
                f"topic {name} was deleted and made again: its id is {now[name].id}, the positions "
                f"speak of {ids[name]}, so they mean other records; give "
                'on_recreated = "beginning" to read the new topic from its beginning, or start '
                "anew with --fresh"
            )
        for name in others:
            log.warning("topic %s was made again: reading it from its beginning", name)
        return others

    def gone(self, names: list[str]) -> None:
        """Topics that were there are there no longer. Raises `SourceChanged`, or waits."""
        if not self._begin_again:
            raise SourceChanged(
                f"topic {names[0]} was deleted while it was read; make it again and start with "
                'on_recreated = "beginning", or start anew with --fresh'
            )
        log.warning("topic %s was deleted: waiting until it is made again", names[0])
