"""librdkafka: what is asked of a cluster, by a client for administration."""

import base64
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, final

from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
)
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin import OffsetSpec as _OffsetSpec  # type: ignore[attr-defined]

from stream_em_connectors.kafka.client import ClientSettings, Committed, Topic, TopicPartition
from stream_em_connectors.kafka.complaints import Complaints
from stream_em_connectors.kafka.librdkafka_offsets import GroupOffsets
from stream_em_connectors.kafka.librdkafka_wire import MENDING, heard, options, translated
from stream_em_connectors.kafka.reaching import refused, unreachable

STEP_SECONDS = 0.02  # between two looks at what the client complains of
RETRY_SECONDS = 0.1
SPREAD_SECONDS = 5.0  # until all brokers know of a topic that is new
OffsetSpec: Any = _OffsetSpec  # has no types
NOWHERE = frozenset((KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC))


@final
class Questions:
    """Each waits for the patience of the settings; the client is made when first needed.

    All raise `Unreachable` when nobody answers in time, `SettingsError` for what may not
    be asked.
    """

    def __init__(self, settings: ClientSettings, complaints: Complaints) -> None:
        self._settings, self._complaints = settings, complaints
        self._made: AdminClient | None = None
        self._offsets_of_groups = GroupOffsets(settings, complaints)

    def cluster(self) -> str:
        """The id of the cluster."""
        doing = "asking for the cluster's id"
        found = self._answers(doing, "", lambda admin: {"": admin.describe_cluster()})
        return str(found[""].cluster_id)

    def topics(self, names: Sequence[str]) -> Mapping[str, Topic]:
        """Those of the topics that exist."""
        found = {name: self._topic(name) for name in names}
        return {name: topic for name, topic in found.items() if topic is not None}

    def permitted(self, topic: str) -> frozenset[str] | None:
        """What may be done with a topic; None where nobody says."""
        told = self._description(topic).authorized_operations
        return None if told is None else frozenset(one.name for one in told)

    def beginnings(self, places: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The first offset that is still kept."""
        return self._offsets("asking for first offsets", places, OffsetSpec.earliest())

    def ends(self, places: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The last stable offset."""
        return self._offsets("asking for end offsets", places, OffsetSpec.latest())

    def offsets_at(
        self, places: Sequence[TopicPartition], milliseconds: int
    ) -> Mapping[TopicPartition, int | None]:
        """The first offset of a record as late as that; None beyond the last."""
        spec = OffsetSpec.for_timestamp(milliseconds)
        found = self._offsets("asking for offsets by time", places, spec)
        return {place: offset if offset >= 0 else None for place, offset in found.items()}

    def committed(
        self, group: str, places: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, Committed | None]:
        """What a group committed, pending transactions waited for."""
        return self._offsets_of_groups.committed(group, places)

    def close(self) -> None:
        """Let the clients go."""
        self._made = None
        self._offsets_of_groups.close()

    def _topic(self, name: str) -> Topic | None:
        try:
            answer = self._description(name)
        except _Nowhere:
            return None
        partitions = tuple(sorted(partition.id for partition in answer.partitions))
        return Topic(_topic_id(answer.topic_id), partitions)

    def _description(self, name: str) -> Any:
        wanted = TopicCollection([name])

        def ask(admin: AdminClient) -> Mapping[Any, Any]:
            return admin.describe_topics(wanted, include_authorized_operations=True)

        return self._answers(f"asking for the topic {name}", name, ask)[name]

    def _offsets(
        self, doing: str, places: Sequence[TopicPartition], spec: Any
    ) -> Mapping[TopicPartition, int]:
        if not places:
            return {}
        topics = ", ".join(sorted({place.topic for place in places}))

        def ask(admin: AdminClient) -> Mapping[Any, Any]:
            wanted = {Place(*place): spec for place in places}
            return admin.list_offsets(wanted, isolation_level=IsolationLevel.READ_COMMITTED)

        try:
            found = self._answers(doing, topics, ask, SPREAD_SECONDS)
        except _Nowhere as error:
            raise unreachable(self._settings, doing, str(error)) from error
        return {TopicPartition(at.topic, at.partition): one.offset for at, one in found.items()}

    def _answers(
        self,
        doing: str,
        name: str,
        ask: Callable[[AdminClient], Mapping[Any, Any]],
        spread: float = 0.0,
    ) -> dict[Any, Any]:
        """The results of futures; asked again while time may mend what went wrong.

        Raises `_Nowhere` for a topic that is still not there after `spread` seconds.
        """
        began = time.monotonic()
        deadline = began + self._settings.patience_seconds
        while True:
            answers, error = self._attempt(doing, ask, deadline)
            if error is None:
                return answers
            code, now = error.code(), time.monotonic()
            if code in NOWHERE and now >= began + spread:
                raise _Nowhere(f"the brokers know nothing of {name}")
            if code not in MENDING | NOWHERE:
                raise translated(error, self._settings, doing, name)
            if now > deadline:
                raise unreachable(self._settings, doing, error.str())
            time.sleep(RETRY_SECONDS)

    def _attempt(
        self, doing: str, ask: Callable[[AdminClient], Mapping[Any, Any]], deadline: float
    ) -> tuple[dict[Any, Any], KafkaError | None]:
        admin = self._admin
        futures = ask(admin)
        while not all(future.done() for future in futures.values()):
            admin.poll(STEP_SECONDS)
            if self._complaints.refusal:
                raise refused(self._settings, self._complaints.refusal)
            if time.monotonic() > deadline:
                raise unreachable(self._settings, doing)
        try:
            return {key: future.result() for key, future in futures.items()}, None
        except KafkaException as error:
            return {}, error.args[0]

    @property
    def _admin(self) -> AdminClient:
        if self._made is None:
            listen = partial(heard, self._complaints)
            self._made = AdminClient(options(self._settings, listen))
        return self._made


class _Nowhere(Exception):
    """There is no such topic."""


def _topic_id(uuid: Any) -> str:
    """As Kafka writes it: 22 characters of base64."""
    halves = (uuid.get_most_significant_bits(), uuid.get_least_significant_bits())
    raw = b"".join((half % 2**64).to_bytes(8, "big") for half in halves)
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
