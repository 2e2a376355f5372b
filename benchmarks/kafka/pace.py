"""Sends records at a steady rate, two partitions in turn. Run by `steady.py`."""

import time
from itertools import cycle, islice
from typing import Any

from confluent_kafka import Producer
from setting import Clock, messages, order, records

DISTINCT = 50_000  # records, sent again and again
TICK = 0.01  # seconds between two bursts


def main() -> None:
    """So many records a second for so many seconds."""
    told = order()
    producer = Producer({"bootstrap.servers": told.bootstrap, "linger.ms": 5})
    source = cycle(messages(records(DISTINCT)))
    sent, clock, began = 0, Clock(), time.perf_counter()
    while (now := time.perf_counter() - began) < told.seconds:
        burst = list(islice(source, round(told.rate * now) - sent))
        send(producer, told.topic, burst)
        sent += len(burst)
        producer.poll(0)
        time.sleep(max(0.0, TICK - (time.perf_counter() - began - now)))
    producer.flush(30)
    clock.report(sent)


def send(producer: Any, topic: str, burst: list[dict[str, Any]]) -> None:
    """Queue them in order, waiting for room."""
    while burst:
        took = producer.produce_batch(topic, burst)
        burst = burst[took:]
        if burst:
            producer.poll(0.005)


if __name__ == "__main__":
    main()
