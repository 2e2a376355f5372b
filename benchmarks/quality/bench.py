"""Jobs over seeds on both cores, and tables in Markdown."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, NamedTuple

Job = Callable[..., dict[str, float]]


class Table(NamedTuple):
    """A table with a heading, and what to know when reading it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self) -> str:
        """The table as Markdown."""
        lines = [f"### {self.title}", ""]
        lines.append("| " + " | ".join(self.columns) + " |")
        lines.append("|" + "---|" * len(self.columns))
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join([*lines, *(["", self.note] if self.note else []), ""])


class Bench(NamedTuple):
    """Workers, and how much they are to do."""

    workers: ProcessPoolExecutor
    seeds: int
    quick: bool

    def start(self, job: Job, *settings: Any, seeds: int | None = None) -> list[Future]:
        """The job under way for every seed: job(seed, *settings)."""
        count = self.seeds if seeds is None else min(seeds, self.seeds)
        return [self.workers.submit(job, seed, *settings) for seed in range(count)]


def collected(runs: Sequence[Future]) -> dict[str, list[float]]:
    """The figures of each run, by name, in order of seeds."""
    out: dict[str, list[float]] = {}
    for run in runs:
        for name, value in run.result().items():
            out.setdefault(name, []).append(value)
    return out


def verdict(met: bool) -> str:
    """Whether a goal was met."""
    return "yes" if met else "**no**"


def timed(action: Callable[[], Any]) -> float:
    """Seconds of processor time that an action takes: other processes do not count."""
    start = time.process_time()
    action()
    return time.process_time() - start
