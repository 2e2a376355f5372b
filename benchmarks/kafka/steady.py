"""Lag at 80 % of what a client manages, and the delay from record to model at a modest rate.

    python benchmarks/kafka/steady.py [--minutes 5] [--client librdkafka] [--rate RECORDS/S]

First the rate: a topic that is full already, read to its end into the model. Then producer,
broker and engine run side by side at 80 % of it, and once a second the records that the
brokers have beyond those learned are counted: the lag. Last, at 20,000 records/s, each row's
delay from its record's timestamp to its assignment in a sink.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from confluent_kafka import Consumer, TopicPartition
from setting import filled, made, records, served

HERE = Path(__file__).parent
SHARE = 0.8
MODEST = 20_000  # records/s
GOAL_SECONDS = 0.25  # p99 of the delay
SETTLE = 0.1  # of the time that is left out at the start: seeding, filling of caches
FLAT_SECONDS = 1.0  # of records: the mean lag of every fifth of the time stays below
SENT = 0.97  # of the records that were to be sent, or the producer could not keep up
BOUNDED = {"retention.bytes": str(1 << 30), "segment.bytes": str(1 << 27)}  # of each partition


class Lags(NamedTuple):
    """The lag second by second, in records, and what came of the run."""

    seconds: np.ndarray
    lags: np.ndarray
    events: int
    sent: int
    delays: dict[str, float]  # seconds by quantile


def main() -> None:
    """Measure the rate, the lag and the delay; print what was found in Markdown."""
    options = _options()
    with served(options.bootstrap) as bootstrap:
        rate = options.rate or SHARE * _most(bootstrap, options)
        print(
            f"{options.client}, {options.model}: {rate:,.0f} records/s for {options.minutes:g} min"
        )
        seconds = 60 * options.minutes
        print(lag_table(_run(bootstrap, options, rate, seconds, False), rate, seconds), flush=True)
        print(delay_table(_run(bootstrap, options, MODEST, min(60.0, seconds), True)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--client", choices=("kafka-python", "librdkafka"), default="librdkafka")
    parser.add_argument("--model", default="KMeans(10)")
    parser.add_argument("--rate", type=float, help="records/s, instead of 80 %% of the most")
    parser.add_argument("--records", type=int, default=600_000, help="to find the most with")
    parser.add_argument("--batch-size", type=int, default=1_000)
    parser.add_argument("--bootstrap", help="a broker that runs already")
    return parser.parse_args()


def _most(bootstrap: str, options: argparse.Namespace) -> float:
    """Records per second from a full topic; the better of two runs."""
    topic = filled(bootstrap, "full", records(options.records))
    told = _told(bootstrap, topic, options, job="learn")
    rates = []
    for _ in range(2):
        with _process("ours.py", told) as worker:
            said = json.loads(_lines(worker)[-1])
        rates.append(said["events"] / said["seconds"])
    return max(rates)


def _told(bootstrap: str, topic: str, options: argparse.Namespace, **more: Any) -> dict[str, Any]:
    named = {"client": options.client, "model": options.model, "batch_size": options.batch_size}
    return {"bootstrap": bootstrap, "topic": topic, **named, **more}


def _run(
    bootstrap: str, options: argparse.Namespace, rate: float, seconds: float, delays: bool
) -> Lags:
    """Engine first, then the producer beside it."""
    topic = made(bootstrap, "steady", 2, BOUNDED)
    engine = _told(bootstrap, topic, options, job="steady", delays=delays)
    pace = {"bootstrap": bootstrap, "topic": topic, "rate": rate, "seconds": seconds}
    with _process("ours.py", engine) as worker:
        assert worker.stdin is not None and worker.stdout is not None
        worker.stdout.readline()  # it runs
        with _process("pace.py", pace) as producer:
            at, lags = _watched(worker, producer, bootstrap, topic)
            sent = json.loads(_lines(producer)[-1])["events"]
        worker.stdin.close()  # asks it to end
        said = json.loads(_lines(worker)[-1])
    return Lags(at, lags, said["events"], sent, said["delays"])


def _watched(
    worker: subprocess.Popen[str], producer: subprocess.Popen[str], bootstrap: str, topic: str
) -> tuple[np.ndarray, np.ndarray]:
    """Seconds and lags, for as long as the producer runs."""
    ends = Consumer({"bootstrap.servers": bootstrap, "group.id": "watch"})
    places = [TopicPartition(topic, place) for place in (0, 1)]
    assert worker.stdout is not None
    found: list[tuple[float, int]] = []
    began = time.perf_counter()
    while producer.poll() is None:
        line = worker.stdout.readline()
        if not line:
            break
        end = sum(ends.get_watermark_offsets(place)[1] for place in places)
        if end:
            found.append((time.perf_counter() - began, end - json.loads(line)["events"]))
    ends.close()
    seconds, lags = np.array(found).T
    return seconds, lags


@contextmanager
def _process(script: str, told: dict[str, Any]) -> Iterator[subprocess.Popen[str]]:
    """A measuring process, which has ended in good order when this ends."""
    command = [sys.executable, str(HERE / script), json.dumps(told)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise
        if process.wait(60):
            sys.exit(f"{script} ended with exit code {process.returncode}")


def _lines(process: subprocess.Popen[str]) -> list[str]:
    """The rest of what it says."""
    out: IO[str] | None = process.stdout
    assert out is not None
    return out.read().splitlines()


def lag_table(found: Lags, rate: float, seconds: float) -> str:
    """The lag by fifths of the time, and whether it stayed flat."""
    late = found.seconds > SETTLE * found.seconds[-1]
    fifths = np.array_split(found.lags[late], 5)
    means = np.array([part.mean() for part in fifths])
    slope = np.polyfit(found.seconds[late], found.lags[late], 1)[0]
    flat = means.max() <= FLAT_SECONDS * rate
    shown = " | ".join(f"{mean:,.0f}" for mean in means)
    lines = [
        "| lag, records: | 1st fifth | 2nd | 3rd | 4th | last | most | slope, records/s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        f"| mean | {shown} | {found.lags[late].max():,.0f} | {slope:+,.0f} |",
        "",
        f"{found.sent:,} records sent, {found.events:,} learned; load {os.getloadavg()[0]:.1f}.",
        f"- the lag stays flat, below {FLAT_SECONDS * rate:,.0f} records ({FLAT_SECONDS:g} s) in "
        f"every fifth: {'met' if flat else '**missed**'}",
        *_shortfall(found.sent / (rate * seconds)),
        "",
    ]
    return "\n".join(lines)


def _shortfall(sent: float) -> list[str]:
    if sent >= SENT:
        return []
    return [f"- the producer sent {sent:.0%} of the records only: the machine was too busy"]


def delay_table(found: Lags) -> str:
    """Quantiles of the delay from a record's timestamp to its row in a sink."""
    names = list(found.delays)
    lines = [
        f"| delay at {MODEST:,} records/s: | " + " | ".join(names) + " |",
        "|---|" + "---:|" * len(names),
        "| ms | " + " | ".join(f"{1000 * found.delays[name]:.0f}" for name in names) + " |",
        "",
    ]
    verdict = "met" if found.delays["p99"] <= GOAL_SECONDS else "**missed**"
    lines.append(f"- p99 of the delay at most {1000 * GOAL_SECONDS:.0f} ms: {verdict}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
