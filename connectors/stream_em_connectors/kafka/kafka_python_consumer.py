"""kafka-python as a `Consumer`."""

import base64
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar, final

import kafka.errors as wrong
from kafka import KafkaConsumer
from kafka.admin import ACLOperation
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.protocol.metadata import MetadataRequest
from kafka.structs import MemberState, OffsetAndMetadata
from kafka.structs import TopicPartition as Place

from stream_em.errors import SettingsError, SourceFailed
from stream_em_connectors.kafka.client import (
    Chunk,
    ClientSettings,
    Committed,
    Consumer,
    ConsumerSettings,
    OutOfRange,
    Rebalance,
    Topic,
    TopicPartition,
)
from stream_em_connectors.kafka.complaints import Complaints
from stream_em_connectors.kafka.kafka_python_group import GroupPolling
from stream_em_connectors.kafka.kafka_python_records import BatchRecords, chunk
from stream_em_connectors.kafka.kafka_python_wire import (
    REFUSALS,
    TRANSIENT,
    ask,
    connected,
    options,
    told,
    translated,
)
from stream_em_connectors.kafka.memberships import Membership
from stream_em_connectors.kafka.record_batches import taken_apart
from stream_em_connectors.kafka.rivals import fenced_out

T = TypeVar("T")

FETCH_BYTES = 4 * 1024 * 1024  # of one partition in one answer
BREATH_SECONDS = 0.1  # after an error that time mends
LEAVE_SECONDS = 1.0  # to tell the group of leaving


@final
class KafkaPythonConsumer(Consumer):
    """Connects when first asked anything; in a group a thread of its own drives the client."""

    def __init__(self, settings: ClientSettings, reading: ConsumerSettings) -> None:
        self._settings, self._reading = settings, reading
        self._complaints = Complaints(settings.bootstrap_servers)
        self._made: Any = None
        self._group: GroupPolling | None = None
        self._closed = False

    def cluster(self) -> str:
        answer = self._metadata([], "asking for the cluster's id")
        return str(answer.cluster_id)

    def topics(self, names: Sequence[str]) -> Mapping[str, Topic]:
        doing = f"asking for the topics {', '.join(names)}"
        answer = self._metadata(names, doing) if names else None
        found = {}
        for topic in answer.topics if answer else ():
            error = wrong.for_code(topic.error_code)
            if error is wrong.NoError:
                partitions = tuple(sorted(one.partition_index for one in topic.partitions))
                found[topic.name] = Topic(_topic_id(topic.topic_id), partitions)
            elif error is not wrong.UnknownTopicOrPartitionError:
                raise translated(error({topic.name}), self._settings, doing)
        return found

    def permitted(self, topic: str) -> frozenset[str] | None:
        answer = self._metadata([topic], f"asking for the rights on topic {topic}")
        told = answer.topics[0].authorized_operations
        return frozenset(ACLOperation(one).name for one in told) if told else None

    def beginnings(self, places: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        found = self._asked("asking for first offsets", self._inner.beginning_offsets, places)
        return {place: found[place] for place in places}

    def ends(self, places: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        found = self._asked("asking for end offsets", self._inner.end_offsets, places)
        return {place: found[place] for place in places}

    def offsets_at(
        self, places: Sequence[TopicPartition], milliseconds: int
    ) -> Mapping[TopicPartition, int | None]:
        def wanted(theirs: list[Place], timeout_ms: float) -> Any:
            times = dict.fromkeys(theirs, milliseconds)
            return self._inner.offsets_for_times(times, timeout_ms=timeout_ms)

        found = self._asked("asking for offsets by time", wanted, places)
        return {place: at and at.offset for place in places for at in (found.get(place),)}

    def committed(
        self, places: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, Committed | None]:
        doing = f"asking for the offsets of group {self._reading.group_id}"
        fetch = self._inner._coordinator.fetch_committed_offsets
        found = self._asked(doing, fetch, places)
        return {
            place: Committed(one.offset, (one.metadata or "").partition("\0")[0]) if one else None
            for place in places
            for one in (found.get(place),)
        }

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        theirs = {Place(*place): offset for place, offset in positions.items()}
        self._inner.assign(list(theirs))
        for place, offset in theirs.items():
            self._inner.seek(place, offset)

    def subscribe(self, topics: Sequence[str], rebalance: Rebalance) -> None:
        self._group = GroupPolling(self._inner, rebalance)
        self._inner.subscribe(list(topics), listener=self._group.listener)

    def seek(self, place: TopicPartition, offset: int) -> None:
        self._inner.seek(Place(*place), offset)

    def position(self, place: TopicPartition) -> int:
        state = self._inner._subscription.assignment.get(Place(*place))
        if state is not None and state.position is not None:
            return int(state.position.offset)
        if self._group is not None and place in self._group.before:
            return self._group.before[place]
        raise KeyError(place)

    def poll(self, seconds: float, max_records: int) -> list[Chunk]:
        poll = self._inner.poll if self._group is None else self._group.poll
        start = time.monotonic()
        try:
            found = poll(timeout_ms=seconds * 1000, max_records=max_records)
        except wrong.OffsetOutOfRangeError as error:
            place, offset = next(iter(error.args[0].items()))
            raise OutOfRange(TopicPartition(*place), offset) from error
        except wrong.LogTruncationError as error:
            (place, *_) = (TopicPartition(*one) for one in error.divergent_offsets)
            raise OutOfRange(place, self.position(place)) from error
        except (*TRANSIENT, *REFUSALS) as error:
            kind = "auth" if isinstance(error, REFUSALS) else "transport"
            self._complaints.add(kind, told(error))
            left = seconds - (time.monotonic() - start)
            time.sleep(max(min(left, BREATH_SECONDS), 0.0))
            return []
        except wrong.FencedInstanceIdError as error:
            raise fenced_out(self._reading) from error
        except wrong.KafkaError as error:
            raise translated(error, self._settings, "reading") from error
        if self._group is not None and self._group.fenced_out:
            raise fenced_out(self._reading)
        return [chunk(place, stretches) for place, stretches in found.items()]

    def pause(self, places: Sequence[TopicPartition]) -> None:
        self._inner.pause(*(Place(*place) for place in places))

    def resume(self, places: Sequence[TopicPartition]) -> None:
        self._inner.resume(*(Place(*place) for place in places))

    def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        doing = f"committing offsets of group {self._reading.group_id}"
        wanted = {Place(*at): OffsetAndMetadata(to, "", -1) for at, to in positions.items()}
        try:
            self._inner.commit(wanted, timeout_ms=self._settings.patience_seconds * 1000)
        except TRANSIENT as error:
            raise SourceFailed(f"Kafka failed when {doing}: {error!r}") from error
        except wrong.KafkaError as error:
            raise translated(error, self._settings, doing) from error

    def membership(self) -> Membership:
        held = self._inner.group_metadata()
        return Membership(held.group_id, held.generation_id, held.member_id, held.group_instance_id)

    @property
    def steady(self) -> bool:
        return self._group is None or self._inner.group_metadata().state is MemberState.STABLE

    @property
    def connected(self) -> bool:
        return self._made is not None and connected(self._made)

    @property
    def errors(self) -> Mapping[str, int]:
        return self._complaints.counts

    def close(self, leave: bool = True) -> None:
        self._closed = True
        if self._group is not None:
            self._group.close()
        inner, self._made = self._made, None
        if inner is None:
            return
        with suppress(wrong.KafkaError):
            if leave and self._group is not None:
                inner._coordinator.close(autocommit=False, timeout_ms=LEAVE_SECONDS * 1000)
        inner._closed = True  # its own close would ask the group to be left in any case
        inner._client.close()

    @property
    def _inner(self) -> Any:
        if self._closed:
            raise SourceFailed("the consumer is closed; open the source again")
        if self._made is None:
            taken_apart(b"", 0)  # compiled before the first fetch
            self._made = KafkaConsumer(**self._options())
            self._made._fetcher.PartitionRecords = BatchRecords
        return self._made

    def _options(self) -> dict[str, Any]:
        reading = self._reading
        session = min(reading.session_seconds, reading.max_poll_seconds) * 1000
        return {
            **options(self._settings, self._complaints),
            "group_id": reading.group_id,
            "group_instance_id": reading.instance_id,
            "isolation_level": "read_committed",
            "auto_offset_reset": "none",
            "enable_auto_commit": False,
            "allow_auto_create_topics": False,
            "partition_assignment_strategy": (CooperativeStickyAssignor,),
            "max_poll_interval_ms": int(reading.max_poll_seconds * 1000),
            "session_timeout_ms": int(session),
            "heartbeat_interval_ms": int(min(3000, session / 6)),
            "max_partition_fetch_bytes": FETCH_BYTES,
        }

    def _metadata(self, names: Sequence[str], doing: str) -> Any:
        topics = [MetadataRequest.MetadataRequestTopic(name=name) for name in names]

        def request() -> Any:
            return MetadataRequest(
                topics=topics,
                allow_auto_topic_creation=False,
                include_cluster_authorized_operations=False,
                include_topic_authorized_operations=True,
            )

        return ask(self._inner._manager, request, self._settings, doing)

    def _asked(
        self, doing: str, method: Callable[..., T], places: Sequence[TopicPartition]
    ) -> T | dict[Any, Any]:
        if not places:
            return {}
        try:
            return method(
                [Place(*place) for place in places],
                timeout_ms=self._settings.patience_seconds * 1000,
            )
        except (wrong.KafkaError, OSError) as error:
            raise translated(error, self._settings, doing) from error


def _topic_id(uuid: Any) -> str:
    """As Kafka writes it: 22 characters of base64."""
    if uuid is None:
        raise SettingsError("the brokers know no topic ids; Kafka 2.8 or later is needed")
    return base64.urlsafe_b64encode(uuid.bytes).decode().rstrip("=")
