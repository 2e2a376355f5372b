"""Microseconds per `learn_one` of stream-em's River learners, beside River's own.

    python benchmarks/learners/speed.py [--rounds 5] [--events 5000]

Every learner of one round learns the same events, dicts of floats made beforehand, after
a warm-up that seeds it. Rounds are interleaved, and of all rounds the quickest counts.
"""

import argparse
import gc
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from river import cluster

from stream_em.river import GaussianMixture, KMeans, SoftKMeans

SHAPES = ((2, 5), (8, 10), (32, 16))  # (D, K)
WARM_ROWS = 2_500
SEEDING_ROWS = 2_000
PEER = "River KMeans"
LEARNERS: dict[str, Callable[[int], Any]] = {
    PEER: lambda K: cluster.KMeans(n_clusters=K, halflife=0.1, seed=1),
    "River CluStream": lambda K: cluster.CluStream(n_macro_clusters=K, seed=1),
    "KMeans": lambda K: KMeans(K, seeding_rows=SEEDING_ROWS, seed=1),
    "SoftKMeans": lambda K: SoftKMeans(K, seeding_rows=SEEDING_ROWS, seed=1),
    "GaussianMixture, diag": lambda K: GaussianMixture(
        K, "diag", seeding_rows=SEEDING_ROWS, seed=1
    ),
    "GaussianMixture, full": lambda K: GaussianMixture(K, seeding_rows=SEEDING_ROWS, seed=1),
}
Events = list[dict[str, float]]


def main() -> None:
    """Measure, and print one table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=5_000)
    options = parser.parse_args()
    times = {
        shape: measured(*shape, events=options.events, rounds=options.rounds) for shape in SHAPES
    }
    print(f"µs per learn_one, best of {options.rounds} x {options.events:,} events")
    print(f"(times {PEER}'s)\n")
    print(table(times))


def measured(D: int, K: int, events: int, rounds: int) -> dict[str, float]:
    """Microseconds per event by learner, each best of several rounds."""
    stream = generated(D, K, WARM_ROWS + rounds * events)
    learners = {name: made(K) for name, made in LEARNERS.items()}
    for learner in learners.values():
        timed(learner, stream[:WARM_ROWS])
    best = dict.fromkeys(learners, np.inf)
    for number in range(rounds):
        part = stream[WARM_ROWS + number * events :][:events]
        for name, learner in learners.items():
            some = part[: events // 10] if name == "River CluStream" else part
            best[name] = min(best[name], timed(learner, some))
    return best


def generated(D: int, K: int, n: int) -> Events:
    """n events around K centres that lie 4 standard deviations apart, in D features."""
    draw = np.random.default_rng(0)
    centres = 4 * draw.normal(size=(K, D))
    rows = centres[draw.integers(K, size=n)] + draw.normal(size=(n, D))
    names = [f"x{number}" for number in range(D)]
    return [dict(zip(names, row, strict=True)) for row in rows.tolist()]


def timed(learner: Any, events: Events) -> float:
    """Microseconds per event."""
    learn = learner.learn_one
    gc.collect()
    start = time.perf_counter()
    for x in events:
        learn(x)
    return (time.perf_counter() - start) / len(events) * 1e6


def table(times: dict[tuple[int, int], dict[str, float]]) -> str:
    """Rows are learners, columns shapes; each cell the time and its ratio to the peer's."""
    lines = ["| learner | " + " | ".join(f"D={D}, K={K}" for D, K in times) + " |"]
    lines.append("|---|" + "---:|" * len(times))
    for name in LEARNERS:
        cells = [f"{at[name]:.1f} ({at[name] / at[PEER]:.2f})" for at in times.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
