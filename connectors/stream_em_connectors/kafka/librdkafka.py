"""The client `librdkafka`: the package confluent-kafka, an extra that writes far faster."""

from typing import final

from stream_em_connectors.kafka.client import (
    Client,
    ClientSettings,
    Consumer,
    ConsumerSettings,
    Producer,
    ProducerSettings,
)
from stream_em_connectors.kafka.packages import needed


@final
class Librdkafka(Client):
    """The C library behind the package confluent-kafka."""

    name = "librdkafka"

    def consumer(self, settings: ClientSettings, reading: ConsumerSettings) -> Consumer:
        self._check()
        from stream_em_connectors.kafka.librdkafka_consumer import LibrdkafkaConsumer

        return LibrdkafkaConsumer(settings, reading)

    def producer(self, settings: ClientSettings, writing: ProducerSettings) -> Producer:
        self._check()
        from stream_em_connectors.kafka.librdkafka_producer import LibrdkafkaProducer

        return LibrdkafkaProducer(settings, writing)

    def _check(self) -> None:
        needed("confluent_kafka", "stream-em[librdkafka]", self.name)
