"""Records per second from a topic to a model, beside the bare clients and beside peers.

    python benchmarks/kafka/throughput.py [--rounds 3] [--records 600000] [--peers PYTHON]

JSON records of 8 numbers lie in a topic of two partitions before anything is measured. Each
measurement is a process of its own that ends before the next begins; rounds are interleaved
and the best of each counts. The broker runs on the same machine, and its load is part of
what is measured. Peers run under the interpreter given, which needs
`pip install bytewax quixstreams orjson river`; without one, they are left out.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from setting import busy_seconds, filled, made, records, served

HERE = Path(__file__).parent
CLIENTS = ("kafka-python", "librdkafka")
MODELS = ("KMeans(10)", "GaussianMixture(10, Full())")
PEERS = {"bytewax": "bytewax 0.21", "quixstreams": "Quix Streams 3.28"}
LISTEN_SECONDS = 0.3  # to what else the machine does, before each measurement
PATIENCE_SECONDS = 600
GOAL = 0.85  # of the bare client
TIMES = {"kafka-python": 4, "librdkafka": 10}  # bytewax with River


class Job(NamedTuple):
    """One measurement: a script, the interpreter for it, and what it is told."""

    name: str
    script: str
    told: dict[str, Any]
    writes: bool = False
    interpreter: str = sys.executable


class Figures(NamedTuple):
    """What was found by name of a job, and the share of all cores that others used meanwhile."""

    rates: dict[str, list[float]]  # records/s
    costs: dict[str, list[float]]  # processor seconds of the measuring process for a record
    others: list[float]

    def best(self, name: str) -> float:
        """Records per second; NaN where nothing was measured."""
        return max(self.rates.get(name, ()), default=float("nan"))

    def cost(self, name: str) -> str:
        """Processor time of a record, microseconds, the least that was seen."""
        return f"{1e6 * min(self.costs[name]):.1f}"


def main() -> None:
    """Fill the topics, measure, print two tables and the goals in Markdown."""
    options = _options()
    values = records(options.records)
    size = sum(map(len, values)) / len(values)
    with served(options.bootstrap) as bootstrap:
        whole = filled(bootstrap, "readings", values)
        part = filled(bootstrap, "part", values[: options.part])
        topics = {"bootstrap": bootstrap, "whole": whole, "part": part}
        figures = measured(jobs(options), topics, options)
    print(f"\n{len(values):,} records of {size:.0f} bytes, best of {options.rounds}\n")
    print(reading_table(figures))
    print(writing_table(figures, options.transaction))
    print(goals(figures))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--records", type=int, default=600_000)
    parser.add_argument("--part", type=int, default=100_000, help="records for what is slow")
    parser.add_argument("--transaction", type=int, default=10_000, help="rows of a transaction")
    parser.add_argument("--batch-size", type=int, default=1_000)
    parser.add_argument("--bootstrap", help="a broker that runs already")
    parser.add_argument("--peers", default=sys.executable, help="their interpreter")
    parser.add_argument("--only", default="", help="measure what has this in its name")
    return parser.parse_args()


def jobs(options: argparse.Namespace) -> list[Job]:
    """All measurements of one round."""
    found = [*_reading(), *_writing()]
    for peer, name in PEERS.items():
        reason = _missing(options.peers, peer)
        if reason:
            print(f"{name} is left out: {reason}", file=sys.stderr)
            continue
        for learner, label in (("none", "no model"), ("river", "River KMeans(10)")):
            told = {"job": peer, "learner": learner, "topic": "part"}
            found.append(Job(f"{name}, {label}", "peers.py", told, False, options.peers))
    return [job for job in found if options.only in job.name]


def _reading() -> list[Job]:
    found = []
    for client in CLIENTS:
        told = {"client": client, "topic": "whole"}
        found.append(Job(f"{client}, bytes", "bare.py", {**told, "job": "read plain"}))
        found.append(Job(f"{client}, decoded", "bare.py", {**told, "job": "read"}))
        for model in MODELS:
            ours = {**told, "job": "learn", "model": model}
            found.append(Job(f"{client}, {model}", "ours.py", ours))
    return found


def _writing() -> list[Job]:
    found = []
    for client, topic in zip(CLIENTS, ("part", "whole"), strict=True):
        told = {"client": client, "topic": topic, "model": MODELS[0]}
        for name, script, job in (
            ("producer", "bare.py", "write"),
            ("consumer and producer", "bare.py", "read write"),
            (f"{MODELS[0]} and sink", "ours.py", "learn write"),
        ):
            found.append(Job(f"{client}, {name}", script, {**told, "job": job}, writes=True))
    return found


def _missing(interpreter: str, peer: str) -> str | None:
    """Why a peer cannot be measured."""
    command = [interpreter, "-c", f"import {peer}, river, orjson"]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    return tried.stderr.strip().rsplit("\n", 1)[-1] if tried.returncode else None


def measured(work: Sequence[Job], topics: dict[str, str], options: argparse.Namespace) -> Figures:
    """Every job once in each round."""
    figures = Figures({}, {}, [])
    for _ in range(options.rounds):
        for job in work:
            figures.others.append(others())
            said = _measured(job, topics, options)
            rate = said["events"] / said["seconds"]
            figures.rates.setdefault(job.name, []).append(rate)
            figures.costs.setdefault(job.name, []).append(said["worked"] / said["events"])
            busy = f"{figures.others[-1]:.0%} busy before"
            print(f"{job.name}: {rate:,.0f} records/s ({busy})", file=sys.stderr, flush=True)
    return figures


def _measured(job: Job, topics: dict[str, str], options: argparse.Namespace) -> dict[str, float]:
    told = {
        **job.told,
        "bootstrap": topics["bootstrap"],
        "topic": topics[job.told["topic"]],
        "records": options.records if job.told["topic"] == "whole" else options.part,
        "transaction": options.transaction,
        "batch_size": options.batch_size,
        "output": made(topics["bootstrap"], "rows", 3) if job.writes else None,
    }
    ran = subprocess.run(
        [job.interpreter, str(HERE / job.script), json.dumps(told)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    if ran.returncode:
        sys.exit(f"{job.name} failed:\n{ran.stdout[-2000:]}\n{ran.stderr[-4000:]}")
    said: dict[str, float] = json.loads(ran.stdout.rstrip().rsplit("\n", 1)[-1])
    if said["events"] != told["records"]:
        sys.exit(f"{job.name} handled {said['events']} of {told['records']} records")
    return said


def others() -> float:
    """The share of all cores that is in use while nothing is measured."""
    before, began = busy_seconds(), time.perf_counter()
    time.sleep(LISTEN_SECONDS)
    return (busy_seconds() - before) / (time.perf_counter() - began) / (os.cpu_count() or 1)


def reading_table(figures: Figures) -> str:
    """From topic to model, without outputs and checkpoints."""
    peer = figures.best(f"{PEERS['bytewax']}, River KMeans(10)")
    lines = [
        "| from the topic to | records/s | of the client with the decoder | bytewax + River = 1 "
        "| CPU µs a record |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in figures.rates:
        client = name.split(", ")[0]
        bare = figures.best(f"{client}, decoded")
        rate = figures.best(name)
        if not name.endswith(("sink", "producer")):
            share = f"{rate / bare:.2f}" if client in CLIENTS else ""
            cells = [name, f"{rate:,.0f}", share, f"{rate / peer:.1f}", figures.cost(name)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def writing_table(figures: Figures, transaction: int) -> str:
    """One row out for each record, exactly once."""
    lines = [
        f"| in transactions of {transaction:,} rows | rows/s | of the bare producer "
        "| CPU µs a row |",
        "|---|---:|---:|---:|",
    ]
    for name in figures.rates:
        if name.endswith(("sink", "producer")):
            rate, bare = figures.best(name), figures.best(f"{name.split(', ')[0]}, producer")
            cells = [name, f"{rate:,.0f}", f"{rate / bare:.2f}", figures.cost(name)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def goals(figures: Figures) -> str:
    """Which goals were met, and how busy the machine was with other things."""
    peer = figures.best(f"{PEERS['bytewax']}, River KMeans(10)")
    lines = []
    for client in CLIENTS:
        rate = figures.best(f"{client}, {MODELS[0]}")
        bare, sent = figures.best(f"{client}, decoded"), figures.best(f"{client}, producer")
        sink = figures.best(f"{client}, {MODELS[0]} and sink")
        lines.append(_goal(f"{client}: of the bare client", rate / bare, GOAL))
        lines.append(_goal(f"{client}: times bytewax + River", rate / peer, TIMES[client]))
        lines.append(_goal(f"{client}: with the sink, of the bare producer", sink / sent, GOAL))
    mean = sum(figures.others) / len(figures.others)
    note = f"Between measurements others used {mean:.0%} of all cores, at most "
    kept = [line for line in lines if line is not None]
    return "\n".join([*kept, "", f"{note}{max(figures.others):.0%}."])


def _goal(what: str, found: float, wanted: float) -> str | None:
    if found != found:
        return None  # left out
    verdict = "met" if found >= wanted else "**missed**"
    return f"- {what}: {found:.2f}, wanted {wanted:g} or more: {verdict}"


if __name__ == "__main__":
    main()
