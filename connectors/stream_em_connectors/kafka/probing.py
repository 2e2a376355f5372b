"""`check --online`: what a run would need of the brokers, tried without joining anything."""

import time
from collections.abc import Iterator, Mapping, Sequence

from stream_em.errors import SettingsError, SourceFailed
from stream_em.streams import Probe
from stream_em_connectors.kafka.client import Chunk, Consumer, OutOfRange, TopicPartition
from stream_em_connectors.kafka.intake import Intake
from stream_em_connectors.kafka.opening import missing

BACK = 100  # so many offsets before the end: the latest may be markers, or taken back
SECONDS = 10.0  # for a record to come


def probes(
    consumer: Consumer, topics: Sequence[str], servers: str, intake: Intake
) -> Iterator[Probe]:
    """The broker, each topic, and one record decoded. Raises `Unreachable`."""
    try:
        yield Probe(f"broker {servers}", None, f"cluster {consumer.cluster()}")
        for name in topics:
            yield from _topic(consumer, name, servers, intake)
    finally:
        consumer.close()


def _topic(consumer: Consumer, name: str, servers: str, intake: Intake) -> Iterator[Probe]:
    what = f"topic {name}"
    try:
        found = consumer.topics([name]).get(name)
        if found is None or not found.partitions:
            yield Probe(what, missing(name, servers))
            return
        places = [TopicPartition(name, number) for number in found.partitions]
        first, last = consumer.beginnings(places), consumer.ends(places)
        chunk = _record(consumer, first, last)
    except (SettingsError, SourceFailed, OutOfRange) as error:
        yield Probe(what, str(error))
        return
    offsets = sum(max(0, last[place] - first[place]) for place in places)
    yield Probe(what, None, f"{len(places)} partitions, {offsets} offsets")
    yield _decoded(f"a record of {name}", chunk, intake)


def _record(
    consumer: Consumer,
    first: Mapping[TopicPartition, int],
    last: Mapping[TopicPartition, int],
) -> Chunk | None:
    """Some of the latest records; None where there is none."""
    at = {p: max(first[p], end - BACK) for p, end in last.items() if end > first[p]}
    if not at:
        return None
    consumer.assign(at)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        found = [chunk for chunk in consumer.poll(0.25, BACK) if len(chunk.values)]
        if found:
            return found[0]
        if all(consumer.position(place) >= last[place] for place in at):
            break
    return None


def _decoded(what: str, chunk: Chunk | None, intake: Intake) -> Probe:
    if chunk is None:
        return Probe(what, None, "no record yet")
    run = intake.run(chunk)
    where = f"{chunk.place.topic} partition {chunk.place.partition}"
    if len(run.offsets):
        return Probe(what, None, f"{where} offset {run.offsets[0]} is a row")
    one = run.rejected[0]
    field = f" in field {one.field!r}" if one.field else ""
    return Probe(
        what,
        f"{where} offset {one.offset} is no row: {one.reason}{field}: {one.detail}; "
        "correct codec, features and the other fields",
    )
