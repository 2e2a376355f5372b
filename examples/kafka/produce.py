"""Replay real events from River's wheel into a topic, at any rate and for as long as wanted.

Each record is a JSON object of the features, with the `time` it was sent at (Unix seconds)
and the `device` it claims to come from, which is also the record's key::

    python examples/kafka/produce.py --create readings assignments rejected --rate 1000

River is installed with stream-em; the clients are used here as any program would use them.
"""

import argparse
import itertools
import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

STREAMS = {
    "shuttle": "Shuttle",
    "bananas": "Bananas",
    "phishing": "Phishing",
    "segments": "ImageSegments",
    "trump-approval": "TrumpApproval",
}
PARTITIONS = 3
TURN_SECONDS = 0.05  # records are sent in bursts of so many seconds' worth


class Sender(ABC):
    """Sends records, and makes topics."""

    @abstractmethod
    def send(self, topic: str, key: bytes, value: bytes) -> None:
        """Queue a record, waiting for room."""

    @abstractmethod
    def create(self, topics: Sequence[str]) -> None:
        """Make the topics that are not there yet."""

    @abstractmethod
    def finish(self) -> None:
        """Wait until everything is acknowledged."""


class KafkaPython(Sender):
    """The package kafka-python."""

    def __init__(self, servers: str) -> None:
        from kafka import KafkaProducer

        self._servers = servers
        self._producer = KafkaProducer(bootstrap_servers=servers, linger_ms=5)

    def send(self, topic: str, key: bytes, value: bytes) -> None:
        self._producer.send(topic, value, key)

    def create(self, topics: Sequence[str]) -> None:
        from kafka.admin import KafkaAdminClient, NewTopic
        from kafka.errors import TopicAlreadyExistsError

        admin = KafkaAdminClient(bootstrap_servers=self._servers)
        for topic in topics:
            try:
                admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
            except TopicAlreadyExistsError:
                continue
        admin.close()

    def finish(self) -> None:
        self._producer.flush()
        self._producer.close()


class Librdkafka(Sender):
    """The package confluent-kafka."""

    def __init__(self, servers: str) -> None:
        from confluent_kafka import Producer

        self._servers = servers
        self._producer = Producer({"bootstrap.servers": servers, "linger.ms": 5})

    def send(self, topic: str, key: bytes, value: bytes) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key)
            except BufferError:
                self._producer.poll(TURN_SECONDS)
            else:
                self._producer.poll(0)
                return

    def create(self, topics: Sequence[str]) -> None:
        from confluent_kafka import KafkaError, KafkaException
        from confluent_kafka.admin import AdminClient, NewTopic

        admin = AdminClient({"bootstrap.servers": self._servers})
        wanted = [NewTopic(topic, PARTITIONS, 1) for topic in topics]
        for future in admin.create_topics(wanted).values():
            try:
                future.result(30)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise

    def finish(self) -> None:
        self._producer.flush()


def events(stream: str, repeat: bool) -> Iterator[Mapping[str, Any]]:
    """The features of each event, in the order of the stream; for ever with `repeat`."""
    from river import datasets

    for _ in itertools.count():
        for features, _ in getattr(datasets, STREAMS[stream])():
            yield features
        if not repeat:
            return


def records(
    found: Iterator[Mapping[str, Any]], stream: str, devices: int
) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of each record."""
    for number, features in enumerate(found):
        device = f"{stream}-{number % devices}"
        value = {"time": round(time.time(), 6), "device": device, **features}
        yield device.encode(), json.dumps(value).encode()


def replay(sender: Sender, topic: str, found: Iterator[tuple[bytes, bytes]], rate: float) -> int:
    """Send everything at `rate` records a second, 0 for as fast as can be; returns how many."""
    began, sent = time.monotonic(), 0
    while True:
        due = 10_000 if not rate else int((time.monotonic() - began + TURN_SECONDS) * rate) - sent
        burst = list(itertools.islice(found, max(due, 0)))
        for key, value in burst:
            sender.send(topic, key, value)
        sent += len(burst)
        if due > len(burst):
            return sent
        if rate:
            time.sleep(TURN_SECONDS)


def chosen() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="Replay real events into a Kafka topic.")
    parser.add_argument("--bootstrap-servers", default="127.0.0.1:9092", metavar="HOST:PORT")
    parser.add_argument("--topic", default="readings")
    parser.add_argument("--stream", choices=STREAMS, default="shuttle")
    parser.add_argument("--rate", type=float, default=1000.0, help="records a second; 0: no limit")
    parser.add_argument("--records", type=int, help="stop after so many")
    parser.add_argument("--repeat", action="store_true", help="begin again at the stream's end")
    parser.add_argument("--devices", type=int, default=16, help="different keys")
    parser.add_argument("--client", choices=["kafka-python", "librdkafka"], default="kafka-python")
    parser.add_argument(
        "--create",
        nargs="+",
        default=[],
        metavar="TOPIC",
        help=f"topics to make first, where missing, with {PARTITIONS} partitions",
    )
    return parser.parse_args()


def main() -> None:
    """Replay, and say how it went."""
    told = chosen()
    make = KafkaPython if told.client == "kafka-python" else Librdkafka
    sender = make(told.bootstrap_servers)
    if told.create:
        sender.create(told.create)
    found = itertools.islice(events(told.stream, told.repeat), told.records)
    began = time.monotonic()
    try:
        sent = replay(sender, told.topic, records(found, told.stream, told.devices), told.rate)
        sender.finish()
    except KeyboardInterrupt:
        sender.finish()
        sys.exit(130)
    seconds = time.monotonic() - began
    sys.stdout.write(f"{sent:,} records to {told.topic} in {seconds:.1f} s\n")


if __name__ == "__main__":
    main()
