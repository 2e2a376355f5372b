"""The clients alone, as their manuals show them: reading, writing in transactions, both.

Run by `throughput.py`, each measurement in a process of its own. Reading decodes with this
library's decoder; writing sends the bytes that this library would write for the same rows.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata
from kafka import TopicPartition as Place
from setting import CLUSTERS, FEATURES, Clock, order, rows

import stream_em as se
from stream_em.engine.pending import output_columns
from stream_em.streams import Origins
from stream_em_connectors.codecs import Fields
from stream_em_connectors.codecs.json_codec import JsonCodec
from stream_em_connectors.codecs.json_rows import json_rows

READ = 10_000  # records of a poll, at most
WAIT = 1.0  # seconds that a consumer may fetch ahead, as it does while the engine compiles

Values = Iterator[Sequence[bytes]]


def main() -> None:
    """Do what the order says."""
    told = order()
    jobs = {"read": read, "read plain": read_plain, "write": write, "read write": read_write}
    jobs[told.job](told)


def read(told: Any) -> None:
    """All records to arrays of rows."""
    decode = JsonCodec(Fields(FEATURES)).decode
    consume(told, lambda values: len(decode(values).rows))


def read_plain(told: Any) -> None:
    """All records to bytes."""
    consume(told, len)


def consume(told: Any, use: Callable[[Sequence[bytes]], int]) -> None:
    """Read to the end of the topic."""
    polls = CONSUMERS[told.client](told)
    next(polls)
    time.sleep(WAIT)
    seen, clock = 0, Clock()
    while seen < told.records:
        seen += use(next(polls))
    clock.report(seen)


def kafka_python(told: Any) -> Values:
    """Nothing once assigned, then the values of each poll."""
    consumer = KafkaConsumer(
        bootstrap_servers=told.bootstrap,
        isolation_level="read_committed",
        enable_auto_commit=False,
        group_id=None,
    )
    places = [Place(told.topic, 0), Place(told.topic, 1)]
    consumer.assign(places)
    consumer.seek_to_beginning(*places)
    yield []
    while True:
        for chunk in consumer.poll(1000, max_records=READ).values():
            yield [record.value for record in chunk]


def librdkafka(told: Any) -> Values:
    """The same through the C library."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(
        {
            "bootstrap.servers": told.bootstrap,
            "group.id": "bare",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    consumer.assign([TopicPartition(told.topic, place, 0) for place in (0, 1)])
    yield []
    while True:
        yield [message.value() for message in consumer.consume(READ, 1.0)]


CONSUMERS = {"kafka-python": kafka_python, "librdkafka": librdkafka}


def write(told: Any) -> None:
    """Rows that are there already, so many to a transaction."""
    values = output(told.records)
    writer = WRITERS[told.client](told)
    clock = Clock()
    for start in range(0, len(values), told.transaction):
        writer(values[start : start + told.transaction], None)
    clock.report(len(values))


def read_write(told: Any) -> None:
    """Read a record, write a row; positions are committed within the transactions."""
    values, polls = output(told.records), CONSUMERS[told.client](told)
    writer = WRITERS[told.client](told)
    next(polls)
    time.sleep(WAIT)
    read_so_far = written = 0
    clock = Clock()
    while written < told.records:
        read_so_far += len(next(polls))
        while read_so_far - written >= min(told.transaction, told.records - written) > 0:
            stop = written + told.transaction
            writer(values[written:stop], read_so_far)
            written = min(stop, told.records)
    clock.report(written)


def output(count: int) -> list[bytes]:
    """The rows that a run over the same records would write, with scores of its model."""
    X, model = rows(count), se.KMeans(CLUSTERS)
    state, _ = se.step(model, se.init(model, seed=0), X[:20_000])
    values = []
    for start in range(0, count, 1_000):
        part = X[start : start + 1_000]
        places = np.arange(start, start + len(part))
        zeros = np.zeros(len(part), dtype="int32")
        origins = Origins(("readings-12345678",), zeros, zeros, places, None, None)
        values += json_rows(output_columns(origins, se.score(model, state, part)))
    return values


Writer = Callable[[Sequence[bytes], int | None], None]


def kafka_python_writer(told: Any) -> Writer:
    """Writes one transaction."""
    producer = KafkaProducer(
        bootstrap_servers=told.bootstrap, transactional_id=told.output, linger_ms=5
    )
    producer.init_transactions()

    def transaction(values: Sequence[bytes], position: int | None) -> None:
        producer.begin_transaction()
        for value in values:
            producer.send(told.output, value)
        if position is not None:
            offsets = {Place(told.topic, 0): OffsetAndMetadata(position, "", -1)}
            producer.send_offsets_to_transaction(offsets, "bare")
        producer.commit_transaction()

    return transaction


def librdkafka_writer(told: Any) -> Writer:
    """Writes one transaction through the C library."""
    from confluent_kafka import Consumer, Producer, TopicPartition

    settings = {"bootstrap.servers": told.bootstrap}
    producer = Producer({**settings, "transactional.id": told.output, "linger.ms": 5})
    producer.init_transactions(30)
    group = Consumer({**settings, "group.id": "bare"})

    def transaction(values: Sequence[bytes], position: int | None) -> None:
        producer.begin_transaction()
        for value in values:
            while True:
                try:
                    producer.produce(told.output, value)
                    break
                except BufferError:  # more rows than it holds
                    producer.poll(0.01)
        if position is not None:
            offsets = [TopicPartition(told.topic, 0, position)]
            producer.send_offsets_to_transaction(offsets, group.consumer_group_metadata(), 30)
        producer.commit_transaction(30)

    return transaction


WRITERS = {"kafka-python": kafka_python_writer, "librdkafka": librdkafka_writer}

if __name__ == "__main__":
    main()
