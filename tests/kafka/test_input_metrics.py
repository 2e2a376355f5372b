"""What /metrics says of an input in Kafka, scraped from a run on a real broker."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

import stream_em as se
from stream_em.engine import Schedule
from stream_em.errors import StreamEmError
from stream_em.metrics.meter import Meter
from stream_em.server import serve
from stream_em.stores import DirectoryStore
from stream_em_connectors.kafka import KafkaSource

pytestmark = pytest.mark.timeout(180)
MODEL = se.KMeans(n_clusters=2, initial_means=[[0.0, 0.0], [9.0, 9.0]])
RARELY = Schedule(every_seconds=3600, every_events=0)
OFTEN = Schedule(every_seconds=0.2, every_events=0)


def records(n: int) -> list[bytes]:
    X = np.random.default_rng(3).normal(size=(n, 2))
    return [json.dumps({"x": x, "y": y}).encode() for x, y in X.tolist()]


class Engine:
    """A run in a thread, and what its web server answers."""

    def __init__(self, url: str) -> None:
        self.requested = threading.Event()  # to stop
        self.error: BaseException | None = None
        self._address = urlsplit(url)

    def ask(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(
            str(self._address.hostname), self._address.port, timeout=10
        )
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def samples(self, name: str) -> dict[tuple[str, ...], float]:
        """Values of a family by those of its labels, in the order of the labels' names."""
        return {
            tuple(value for _, value in sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.ask("/metrics")[1])
            for sample in family.samples
            if sample.name == f"stream_em_{name}"
        }

    def total(self, name: str) -> float:
        return sum(self.samples(name).values())

    def _told(self) -> str:
        """What is said of the input, for a failing test."""
        words = ("stream_em_input", "stream_em_offset", "stream_em_events", "stream_em_state")
        lines = self.ask("/metrics")[1].splitlines()
        return "\n".join(line for line in lines if line.startswith(words) and "_bucket" not in line)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, for a minute."""
        deadline = time.monotonic() + 60
        while not condition():
            assert self.error is None, self.error
            assert time.monotonic() < deadline, self._told()
            time.sleep(0.05)


@contextmanager
def running(
    source: KafkaSource, store: DirectoryStore, schedule: Schedule, instance: str | None = None
) -> Iterator[Engine]:
    """An engine, stopped in the end; an error of the run is for the test to look at."""
    meter = Meter(MODEL, source="readings")
    server = serve(meter, "127.0.0.1:0")
    engine = Engine(server.url)

    def work() -> None:
        try:
            facts: dict[str, Any] = {"name": "readings", "instance_id": instance}
            se.run(source, MODEL, [], store, schedule=schedule, meter=meter, stop=engine, **facts)
        except StreamEmError as error:
            engine.error = error

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield engine
    finally:
        engine.requested.set()
        thread.join(60)
        server.close()
    assert not thread.is_alive()


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(str(tmp_path / "saved"))


@pytest.fixture(params=["kafka-python", "librdkafka"])
def client(request: pytest.FixtureRequest) -> str:
    if request.param == "librdkafka":
        pytest.importorskip("confluent_kafka")
    return str(request.param)


def test_lag_goes_to_nothing_and_commits_follow_checkpoints(
    broker: Any, topic: Any, produce: Any, client: str, store: DirectoryStore
) -> None:
    name = topic(2)
    group = f"g-{name}"
    since = int(time.time() * 1000) - 60_000  # old records would soon be deleted
    produce(name, records(3000), partition=0, times=range(since, since + 3000))
    produce(name, records(500), partition=1)
    source = KafkaSource(broker.bootstrap, [name], ["x", "y"], group_id=group, client=client)
    with running(source, store, OFTEN) as engine:
        engine.until(lambda: engine.total("events_total") == 3500)
        engine.until(
            lambda: engine.samples("input_lag_records") == {("0", name): 0, ("1", name): 0}
        )
        engine.until(lambda: engine.total("input_uncommitted_records") == 0)
        engine.until(lambda: engine.samples("offset_commits_total")["success", "readings"] >= 1)
        assert engine.samples("input_records_total") == {(name,): 3500}
        assert engine.total("input_assigned_partitions") == 2
        assert engine.total("input_connected") == 1
        sent = sum(map(len, records(3000) + records(500)))
        assert engine.total("input_bytes_total") == pytest.approx(sent, abs=100)  # shared out
        assert engine.samples("input_errors_total")["deserialize", "readings"] == 0
        assert engine.total("offset_commit_duration_seconds_count") == sum(
            engine.samples("offset_commits_total").values()
        )
        newest = engine.samples("input_last_event_timestamp_seconds")
        assert newest["0", name] == pytest.approx((since + 2999) / 1000)
        assert engine.ask("/readyz")[0] == 200
    assert engine.error is None


def test_what_a_crash_would_read_again_is_uncommitted(
    broker: Any, topic: Any, produce: Any, client: str, store: DirectoryStore
) -> None:
    name = topic()
    produce(name, records(100))
    source = KafkaSource(broker.bootstrap, [name], ["x", "y"], group_id=f"g-{name}", client=client)
    with running(source, store, RARELY) as engine:
        engine.until(lambda: engine.total("events_total") == 100)
    assert engine.error is None  # its end saved and committed
    with running(source, store, RARELY) as engine:
        produce(name, [*records(40), b"no json"])
        engine.until(lambda: engine.total("events_total") == 40)
        engine.until(lambda: engine.samples("input_uncommitted_records") == {("0", name): 41})
        engine.until(lambda: engine.samples("input_lag_records") == {("0", name): 0})
        assert engine.samples("input_errors_total")["deserialize", "readings"] == 1
    assert engine.error is None


def test_a_broker_that_is_gone_is_not_ready_and_comes_back(
    own_broker: Any, new_topic: Any, produce: Any, client: str, store: DirectoryStore
) -> None:
    name = new_topic(own_broker.bootstrap)
    produce(name, records(50), bootstrap=own_broker.bootstrap)
    source = KafkaSource(own_broker.bootstrap, [name], ["x", "y"], client=client)
    with running(source, store, RARELY) as engine:
        engine.until(lambda: engine.ask("/readyz")[0] == 200)
        own_broker.kill()
        try:
            engine.until(lambda: engine.total("input_connected") == 0)
            status, body = engine.ask("/readyz")
            assert (status, json.loads(body)["failing"]) == (503, ["input connected"])
            assert engine.ask("/livez")[0] == 200
            engine.until(lambda: engine.samples("input_errors_total")["transport", "readings"] > 0)
        finally:
            own_broker.start()
        engine.until(lambda: engine.ask("/readyz")[0] == 200)
        produce(name, records(5), bootstrap=own_broker.bootstrap)
        engine.until(lambda: engine.total("events_total") == 55)
    assert engine.error is None


def test_partitions_of_a_shared_group_lose_their_series(
    broker: Any, topic: Any, produce: Any, client: str, tmp_path: Path
) -> None:
    name = topic(2)
    for partition in (0, 1):
        produce(name, records(20), partition=partition)
    shared = KafkaSource(
        broker.bootstrap, [name], ["x", "y"], group_id=f"g-{name}", sharing="group", client=client
    )
    first, second = (DirectoryStore(str(tmp_path / one)) for one in ("one", "two"))
    with running(shared, first, OFTEN, "one") as one:
        one.until(lambda: len(one.samples("input_lag_records")) == 2)
        with running(shared, second, OFTEN, "two") as two:
            one.until(lambda: len(one.samples("input_lag_records")) == 1)
            two.until(lambda: len(two.samples("input_lag_records")) == 1)
            mine, theirs = (set(e.samples("input_lag_records")) for e in (one, two))
            assert mine | theirs == {("0", name), ("1", name)}
            assert set(one.samples("input_uncommitted_records")) <= mine
            assert set(one.samples("input_last_event_timestamp_seconds")) <= mine
            assert two.total("input_rebalances_total") >= 1
            assert two.total("input_rebalance_duration_seconds_count") >= 1
    assert (one.error, two.error) == (None, None)
