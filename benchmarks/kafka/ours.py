"""This library from topic to model, and on to another topic.

Run by `throughput.py` and `steady.py`, each measurement in a process of its own.
"""

import json
import sys
import tempfile
import threading
import time
from typing import Any, NamedTuple

import numpy as np
from setting import CLUSTERS, FEATURES, Clock, order

import stream_em as se
from stream_em.engine.schedule import Schedule
from stream_em.metrics.meter import Meter
from stream_em.metrics.snapshot import Snapshot
from stream_em.stores import DirectoryStore
from stream_em.streams import Columns, Sink
from stream_em_connectors.kafka import KafkaSink, KafkaSource

TELL_SECONDS = 1.0
MODELS = {
    "KMeans(10)": se.KMeans(CLUSTERS),
    "GaussianMixture(10, Full())": se.GaussianMixture(CLUSTERS, se.Full()),
}


def main() -> None:
    """Do what the order says."""
    told = order()
    {"learn": learn, "learn write": learn_write, "steady": steady}[told.job](told)


def source(told: Any, **settings: Any) -> KafkaSource:
    """The topic of the records."""
    return KafkaSource(
        told.bootstrap,
        [told.topic],
        FEATURES,
        client=told.client,
        batch_size=told.batch_size,
        **settings,
    )


class Start:
    """Starts a clock when a run is about to fetch: all is compiled then."""

    clock: Clock | None = None

    def __call__(self, snapshot: Snapshot) -> None:
        if self.clock is None and snapshot.state == "running":
            self.clock = Clock()


def learn(told: Any) -> None:
    """No output and no checkpoints."""
    start = Start()
    found = se.run(source(told, until_end=True), MODELS[told.model], observe=start)
    assert start.clock is not None
    start.clock.report(found.events, found.seconds)


def learn_write(told: Any) -> None:
    """Each row's assignment to a topic, exactly once."""
    start = Start()
    sink = KafkaSink(told.bootstrap, told.output, client=told.client)
    with tempfile.TemporaryDirectory() as folder:
        found = se.run(
            source(told, until_end=True),
            MODELS[told.model],
            [sink],
            DirectoryStore(folder),
            schedule=Schedule(every_events=told.transaction),
            name=told.output,
            observe=start,
        )
    assert start.clock is not None
    start.clock.report(found.events, found.seconds)


def steady(told: Any) -> None:
    """Whatever comes, until standard input ends; tells each second how far it is."""
    stop, sink = Stop(threading.Event()), Delays()
    threading.Thread(target=_until_closed, args=(stop,), daemon=True).start()
    meter = Meter(MODELS[told.model])
    threading.Thread(target=_tell, args=(meter,), daemon=True).start()
    stamped = source(told, time="@timestamp" if told.delays else None)
    sinks = [sink] if told.delays else []
    found = se.run(stamped, MODELS[told.model], sinks, stop=stop, meter=meter)
    print(json.dumps({"events": found.events, "delays": sink.quantiles()}), flush=True)


class Stop(NamedTuple):
    """Asks a run to end."""

    requested: threading.Event


def _until_closed(stop: Stop) -> None:
    sys.stdin.read()
    stop.requested.set()


def _tell(meter: Meter) -> None:
    while True:
        time.sleep(TELL_SECONDS)
        if meter.snapshot.state == "running":
            print(json.dumps({"events": meter.snapshot.published.version}), flush=True)


class Delays(Sink):
    """Takes the time of each row that comes."""

    kind = name = "delays"
    exactly_once = False

    def __init__(self) -> None:
        self._found: list[np.ndarray] = []

    def begin(self, incarnation: str, overwrite: bool) -> None:
        """Nothing to check."""

    def roll_back(self, extent: Any, number: int, incarnation: str) -> None:
        """Nothing is kept."""

    def write(self, columns: Columns) -> None:
        """Now, less the rows' times."""
        self._found.append(time.time() - np.asarray(columns["time"], float))

    def barrier(self, number: int) -> None:
        """Nothing to flush."""

    def committed(self, number: int) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing to release."""

    def quantiles(self) -> dict[str, float]:
        """Seconds; the first tenth of the rows is left out: some were held for seeding."""
        if not self._found:
            return {}
        delays = np.concatenate(self._found)
        delays = delays[len(delays) // 10 :]
        return {f"p{q:g}": float(np.percentile(delays, q)) for q in (50, 90, 99, 99.9, 100)}


if __name__ == "__main__":
    main()
