"""The client `kafka-python`: pure Python, always installed."""

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
class KafkaPython(Client):
    """The package kafka-python with its accelerator crc32c, without which it crawls."""

    name = "kafka-python"

    def consumer(self, settings: ClientSettings, reading: ConsumerSettings) -> Consumer:
        self._check()
        from stream_em_connectors.kafka.kafka_python_consumer import KafkaPythonConsumer

        return KafkaPythonConsumer(settings, reading)

    def producer(self, settings: ClientSettings, writing: ProducerSettings) -> Producer:
        self._check()
        from stream_em_connectors.kafka.kafka_python_producer import KafkaPythonProducer

        return KafkaPythonProducer(settings, writing)

    def _check(self) -> None:
        needed("kafka", "kafka-python", self.name)
        needed("crc32c", "crc32c", self.name)
