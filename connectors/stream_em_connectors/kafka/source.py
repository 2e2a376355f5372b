"""Topics of Kafka as a source."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, final

from stream_em.errors import SettingsError
from stream_em.streams import Json, Positions, Probe, Source, Stream
from stream_em_connectors.codecs import Fields
from stream_em_connectors.files.settings import at_least, names, one_of
from stream_em_connectors.kafka.client import Consumer, ConsumerSettings
from stream_em_connectors.kafka.codecs import Codec, codec_of
from stream_em_connectors.kafka.intake import Intake
from stream_em_connectors.kafka.opening import Reading, opened
from stream_em_connectors.kafka.probing import probes
from stream_em_connectors.kafka.settings import client_of, client_settings, seconds, topic
from stream_em_connectors.kafka.starts import AtCommitted, start_of
from stream_em_connectors.kafka.stream import Cutting

TIMESTAMP = "@timestamp"  # as `time`: the record's own timestamp


@final
@dataclass(frozen=True)
class KafkaSource(Source):
    """Rows of the records of topics: one engine reads all partitions, or a group shares them.

    Records are read as `read_committed`. Positions live in the checkpoint; `group_id`
    only tells dashboards how far reading is, and nothing is committed without it. With
    `sharing = "group"` the partitions of the topics are shared with other engines in the
    group, and each learns a model of its own partitions.

    A record's own key is its row's key, as text (base64 where it is no UTF-8), unless `key`
    names a field. `time = "@timestamp"` takes the record's own timestamp.

    >>> KafkaSource("localhost:9092", ["readings"], features=["temperature"]).codec
    Json()
    """

    kind: ClassVar[str] = "kafka"
    bootstrap_servers: str
    topics: tuple[str, ...] | list[str]
    features: tuple[str, ...] | list[str]
    group_id: str | None = None
    codec: Codec | str | dict = "json"  # type: ignore[type-arg]
    weight: str | None = None
    time: str | None = None  # seconds, or ISO 8601, UTC where no offset is said; or @timestamp
    key: str | None = None
    missing: str = "reject"  # or "learn": NaN in the row
    max_reject_ratio: float = 0.5
    start: str | datetime = "earliest"  # or latest, committed, an ISO 8601 time; of a fresh run
    batch_size: int = 1000  # rows, at most
    max_wait_ms: int = 100  # a smaller batch is handed out after this
    client: str = "kafka-python"  # or librdkafka, an extra
    sharing: str = "none"  # or "group"
    session_timeout_seconds: float = 45.0  # a member silent for longer loses its partitions
    on_gap: str = "error"  # or "skip": go on where records were deleted before they were read
    on_recreated: str = "error"  # or "beginning": read a topic that was made again anew
    until_end: bool = False  # stop at the ends as they are at the start
    security: Any = field(default=None, repr=False)  # a table: protocol, mechanism, ...
    max_record_bytes: int = 1_048_576  # a larger value is rejected
    _name: str = field(default="stream-em", init=False, repr=False, compare=False)
    _instance: str | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._settle("topics", tuple(map(topic, names("topics", self.topics, "topic", "") or ())))
        self._settle("features", names("features", self.features, "feature", ""))
        self._settle("codec", codec_of(self.codec))
        if not self.topics or not self.features:
            raise SettingsError("topics and features are needed; name at least one of each")
        at_least("batch_size", self.batch_size, 1)
        at_least("max_wait_ms", self.max_wait_ms, 0)
        at_least("max_record_bytes", self.max_record_bytes, 1)
        one_of("missing", self.missing, ("reject", "learn"))
        one_of("sharing", self.sharing, ("none", "group"))
        one_of("on_gap", self.on_gap, ("error", "skip"))
        one_of("on_recreated", self.on_recreated, ("error", "beginning"))
        seconds("session_timeout_seconds", self.session_timeout_seconds)
        self._check_fields()
        self._check_group()
        client_of(self.client)
        client_settings(self.bootstrap_servers, self.security, self._name)
        self._intake()

    def _settle(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _check_fields(self) -> None:
        if "" in self.features:
            raise SettingsError("features name an empty text; name every feature")
        for setting in ("weight", "time", "key"):
            name = getattr(self, setting)
            if name is not None and (not isinstance(name, str) or not name):
                raise SettingsError(f"{setting} is {name!r}, expected the name of a field")
        if not 0 <= self.max_reject_ratio <= 1:
            raise SettingsError(
                f"max_reject_ratio is {self.max_reject_ratio!r}, expected a share from 0 to 1"
            )

    def _check_group(self) -> None:
        group, start = self.group_id, start_of(self.start)
        if group is not None and (not isinstance(group, str) or not group):
            raise SettingsError(f"group_id is {group!r}, expected a name, or leave it out")
        if group is None and self.sharing == "group":
            raise SettingsError('sharing = "group" needs a group_id that all engines share')
        if group is None and isinstance(start, AtCommitted):
            raise SettingsError(
                'start = "committed" needs the group_id whose committed offsets are meant'
            )

    def named(self, name: str, instance_id: str | None) -> "KafkaSource":
        """The source with the engine's name for the brokers' logs, and its place in a group."""
        if self.sharing == "group" and not instance_id:
            raise SettingsError(
                'sharing = "group" needs `[engine] instance_id`, another one for each engine: it '
                "keeps an engine's partitions over a restart"
            )
        other = copy.copy(self)
        other._settle("_name", name if instance_id is None else f"{name}.{instance_id}")
        other._settle("_instance", instance_id if self.sharing == "group" else None)
        return other

    def opened_at(self, positions: Positions | None) -> Stream:
        """Connect. Raises `Unreachable`, `SettingsError`, `SourceChanged` or `SavedStateError`."""
        if self.sharing == "group" and self._instance is None:
            raise SettingsError('sharing = "group" needs an instance_id: name the source first')
        intake = self._intake()
        consumer = self._consumer(self._group, self._instance)
        try:
            return opened(self._reading(), consumer, intake, positions)
        except BaseException:
            consumer.close()
            raise

    def identity(self) -> dict[str, Json]:
        """Topics, codec and fields. Servers may move: topics are known by their ids."""
        assert isinstance(self.codec, Codec)
        return {
            "topics": list(self.topics),
            "codec": self.codec.identity(),
            "features": list(self.features),
            "weight": self.weight,
            "time": self.time,
            "key": self.key,
            "missing": self.missing,
            "max_record_bytes": self.max_record_bytes,
        }

    def probes(self) -> Iterator[Probe]:
        """The broker, each topic, a record; the group is named as a run does, and never joined."""
        consumer = self._consumer(self._group, None)
        yield from probes(consumer, self.topics, self.bootstrap_servers, self._intake())

    @property
    def _group(self) -> str:
        """What a consumer says its group is, for brokers that ask for rights on it."""
        return self.group_id or f"{self._name}.unused"

    def _consumer(self, group: str, instance: str | None) -> Consumer:
        settings = client_settings(self.bootstrap_servers, self.security, self._name)
        reading = ConsumerSettings(group, instance, session_seconds=self.session_timeout_seconds)
        return client_of(self.client).consumer(settings, reading)

    def _intake(self) -> Intake:
        stamped, codec = self.time == TIMESTAMP, codec_of(self.codec)
        time = None if stamped else self.time
        learns = self.missing == "learn"
        fields = Fields(tuple(self.features), self.weight, time, self.key, learns)
        return Intake(codec.decoder(fields), fields, self.max_record_bytes, stamped)

    def _reading(self) -> Reading:
        return Reading(
            servers=self.bootstrap_servers,
            topics=self.topics,
            features=tuple(self.features),
            group=self.group_id,
            shared=self.sharing == "group",
            start=start_of(self.start),
            skip_gaps=self.on_gap == "skip",
            begin_again=self.on_recreated == "beginning",
            until_end=self.until_end,
            cutting=Cutting(self.batch_size, self.max_wait_ms / 1000),
        )
