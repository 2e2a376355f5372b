"""What all measurements share: the broker, the records, the topics, and the clock's company."""

import argparse
import importlib.util
import itertools
import json
import os
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

CLUSTERS = 10
FEATURES = tuple(f"x{number}" for number in range(8))
UNBOUNDED: dict[str, str] = {}  # settings of a topic
STRETCH = 100  # consecutive records of one partition
BROKER = Path(__file__).parents[2] / "examples" / "kafka" / "broker.py"


def rows(count: int) -> np.ndarray:
    """(count, 8) from as many Gaussian clusters as the models seek."""
    draw = np.random.default_rng(0)
    centres = draw.normal(scale=10.0, size=(CLUSTERS, len(FEATURES)))
    return centres[draw.integers(CLUSTERS, size=count)] + draw.normal(size=(count, len(FEATURES)))


def records(count: int) -> list[bytes]:
    """The same rows as flat JSON objects, all digits: about 196 bytes each."""
    encode = msgspec.json.Encoder().encode
    return [encode(dict(zip(FEATURES, row, strict=True))) for row in rows(count).tolist()]


def served(bootstrap: str | None) -> AbstractContextManager[str]:
    """The address of a broker: the one named, or one started here and stopped at the end."""
    return _named(bootstrap) if bootstrap else _started()


@contextmanager
def _named(bootstrap: str) -> Iterator[str]:
    yield bootstrap


@contextmanager
def _started() -> Iterator[str]:
    broker = _broker_module()
    if reason := broker.available():
        sys.exit(reason)
    with broker.Broker() as running:
        yield running.bootstrap


def _broker_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("stream_em_example_broker", BROKER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def made(bootstrap: str, name: str, partitions: int, settings: dict[str, str] = UNBOUNDED) -> str:
    """A new topic; returns its name, which nothing had before."""
    topic = f"{name}-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 4})
    for future in admin.create_topics([NewTopic(topic, partitions, 1, config=settings)]).values():
        future.result()
    return topic


def filled(bootstrap: str, name: str, values: Sequence[bytes]) -> str:
    """A new topic of two partitions that holds these records."""
    topic = made(bootstrap, name, 2)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "log_level": 4})
    for message in messages(values):
        while True:
            try:
                producer.produce(topic, **message)
                break
            except BufferError:
                producer.poll(0.1)
    if left := producer.flush(60):
        sys.exit(f"{left} records of topic {topic} were not acknowledged within 60 s")
    return topic


def messages(values: Sequence[bytes]) -> list[dict[str, Any]]:
    """The records with their partitions, which take turns."""
    places = itertools.cycle([0] * STRETCH + [1] * STRETCH)
    return [{"value": value, "partition": place} for value, place in zip(values, places)]  # noqa: B905


def order() -> argparse.Namespace:
    """What a measuring process was told to do."""
    return argparse.Namespace(**json.loads(sys.argv[1]))


class Clock:
    """Seconds that pass, and seconds that all threads of this process work."""

    def __init__(self) -> None:
        self._began, self._worked = time.perf_counter(), time.process_time()

    def report(self, events: int, seconds: float | None = None) -> None:
        """Say at the end what came of it; `seconds` where somebody else took the time."""
        passed = time.perf_counter() - self._began if seconds is None else seconds
        worked = time.process_time() - self._worked
        print(json.dumps({"events": events, "seconds": passed, "worked": worked}), flush=True)


def busy_seconds() -> float:
    """Processor seconds that this machine has worked since it started; NaN where unknown."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    except OSError:
        return float("nan")
    user, nice, system, _, _, irq, softirq = map(int, fields[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
