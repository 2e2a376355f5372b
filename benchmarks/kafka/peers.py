"""What one would build without this library: a stream processor, and River's k-means in it.

Run by `throughput.py` with an interpreter that has `bytewax quixstreams orjson river`. The
clock runs from the first record that arrives to the last that is learned.
"""

import json
import sys
import time
import uuid
from argparse import Namespace
from collections.abc import Callable

CLUSTERS = 10

Learn = Callable[[dict], object]


class Clock:
    """Hands records to `learn`, counts them, and knows when the first came and the last went."""

    def __init__(self, learn: Learn) -> None:
        self.learn, self.seen = learn, 0
        self.began = self.ended = self.worked = 0.0

    def __call__(self, value: dict) -> None:
        if not self.seen:
            self.began, self.worked = time.perf_counter(), time.process_time()
        self.learn(value)
        self.seen += 1
        self.ended = time.perf_counter()


def main() -> None:
    """Do what the order says, and report."""
    told = Namespace(**json.loads(sys.argv[1]))
    clock = Clock(LEARNERS[told.learner]())
    {"bytewax": bytewax, "quixstreams": quix}[told.job](told, clock)
    if clock.seen != told.records:
        sys.exit(f"{told.job} handed over {clock.seen} of {told.records} records")
    seconds, worked = clock.ended - clock.began, time.process_time() - clock.worked
    print(json.dumps({"events": clock.seen, "seconds": seconds, "worked": worked}))


def river() -> Learn:
    """River's k-means."""
    from river import cluster

    return cluster.KMeans(n_clusters=CLUSTERS, seed=0).learn_one


def nothing() -> Learn:
    """No model at all."""
    return len


LEARNERS = {"river": river, "none": nothing}


def bytewax(told: Namespace, clock: Clock) -> None:
    """A dataflow with the Kafka source that comes with it, and orjson."""
    import bytewax.operators as op
    from bytewax.connectors.kafka import KafkaSource
    from bytewax.dataflow import Dataflow
    from bytewax.testing import TestingSink, run_main
    from orjson import loads

    flow = Dataflow("bench")
    source = KafkaSource([told.bootstrap], [told.topic], tail=False)
    values = op.map("decode", op.input("read", flow, source), lambda one: loads(one.value))
    op.output(
        "out",
        op.filter("drop", op.inspect("learn", values, _inspector(clock)), _no),
        TestingSink([]),
    )
    run_main(flow)


def _inspector(clock: Clock) -> Callable[[str, dict], None]:
    return lambda step, value: clock(value)


def _no(value: dict) -> bool:
    return False


def quix(told: Namespace, clock: Clock) -> None:
    """A streaming data frame with its JSON deserialiser."""
    from quixstreams import Application

    app = Application(
        broker_address=told.bootstrap,
        consumer_group=uuid.uuid4().hex,
        auto_offset_reset="earliest",
        loglevel="ERROR",
    )
    frame = app.dataframe(app.topic(told.topic, value_deserializer="json"))
    frame.update(clock)
    app.run(count=told.records, timeout=10, collect=False)


if __name__ == "__main__":
    main()
