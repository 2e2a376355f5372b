"""How a sink reaches its cluster: which client, with which settings, and how long it waits."""

from dataclasses import dataclass, fields
from typing import final

from stream_em.errors import Unreachable
from stream_em.streams import Json
from stream_em_connectors.kafka.client import (
    Client,
    ClientSettings,
    Consumer,
    ConsumerSettings,
    Producer,
    ProducerSettings,
)
from stream_em_connectors.kafka.security import secured


@final
@dataclass(frozen=True)
class Link:
    """All that is known before anything is connected."""

    client: Client
    settings: ClientSettings
    compression: str | None
    linger_ms: float
    seconds: float  # to wait for an answer

    @property
    def cluster(self) -> Json:
        """What links that can share a producer have in common; tells no secret."""
        security = secured(self.settings.security)
        known = {one.name: getattr(security, one.name) for one in fields(security) if one.repr}
        servers = sorted(self.settings.bootstrap_servers.lower().split(","))
        return {"bootstrap_servers": servers, "client": self.client.name, "security": known}

    def producer(self, room: int) -> Producer:
        """A producer of its own, for records of up to `room` bytes."""
        writing = ProducerSettings(None, 0.0, self.linger_ms, room, self.compression)
        return self.client.producer(self.settings, writing)

    def transactional(self, name: str, timeout_seconds: float, room: int) -> Producer:
        """A producer with the transactional id `name`."""
        writing = ProducerSettings(name, timeout_seconds, self.linger_ms, room, self.compression)
        return self.client.producer(self.settings, writing)

    def consumer(self, group: str) -> Consumer:
        """A consumer that asks in the name of a group and never joins it."""
        return self.client.consumer(self.settings, ConsumerSettings(group, None))

    def missing(self, topic: str) -> str:
        """What to do about a topic that is not there."""
        servers = self.settings.bootstrap_servers
        return (
            f"topic {topic} does not exist at {servers}; create it: kafka-topics.sh "
            f"--bootstrap-server {servers} --create --topic {topic} --partitions 3"
        )

    def check(self, producer: Producer, topic: str) -> None:
        """Raises `Unreachable` when a topic does not exist, or nobody can be asked."""
        if producer.partitions(topic) is None:
            raise Unreachable(self.missing(topic))
