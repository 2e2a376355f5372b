"""What an observer sees of a run, and what becomes of a run whose observer raises."""

import threading
from typing import Any, final

import numpy as np
import pytest

import stream_em as se
from stream_em.engine import run
from stream_em.memory import MemorySink, MemorySource
from stream_em.metrics.catalogue import PHASES
from stream_em.stores import DirectoryStore
from stream_em.streams import Batch, Json, Positions, Source, Stream


def test_observers_see_the_life_of_a_run(
    store: DirectoryStore, X: np.ndarray, model: se.KMeans
) -> None:
    seen: list[Any] = []
    run(MemorySource([X], batch_size=50), model, [], store, observe=seen.append)
    states = [snapshot.state for snapshot in seen]
    assert list(dict.fromkeys(states)) == ["restoring", "running", "draining"]
    assert (seen[-1].throughput.events, seen[-1].pending_events) == (600, 0)
    assert [s.published.version for s in seen if s.published.version] == sorted(
        [*range(50, 601, 50), 600, 600]
    )


def test_each_phase_that_took_place_is_counted(
    store: DirectoryStore, X: np.ndarray, model: se.KMeans
) -> None:
    seen: list[Any] = []
    summary = run(MemorySource([X], batch_size=50), model, [], store, observe=seen.append)
    held = seen[-1].throughput.phase_seconds
    counts = dict(zip(PHASES, held.counts.sum(axis=1).tolist(), strict=True))
    saved, batches = summary.checkpoints + 1, summary.batches  # and checkpoint 0
    assert (counts["commit"], counts["checkpoint"]) == (saved, saved)
    assert {counts[one] for one in ("fetch", "validate", "e_step", "m_step", "publish")} == {
        batches
    }
    assert held.sums[PHASES.index("commit")] > 0


def test_an_observer_that_raises_ends_the_run_cleanly(X: np.ndarray, model: se.KMeans) -> None:
    def observe(snapshot: Any) -> None:
        if snapshot.throughput.batches == 2 and snapshot.state == "running":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(MemorySource([X], batch_size=50), model, [MemorySink()], observe=observe)


@final
class Slow(Source):
    """Nothing comes for some polls."""

    kind = "slow"

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def opened_at(self, positions: Positions | None) -> Stream:
        stream = MemorySource([self.rows], batch_size=300).opened_at(positions)
        poll, quiet = stream.poll, [None, None]
        waiting = threading.Event()

        def slowly(seconds: float) -> Batch | None:
            if quiet:
                waiting.wait(seconds)
                return quiet.pop()
            return poll(seconds)

        stream.poll = slowly  # type: ignore[method-assign]
        return stream

    def identity(self) -> dict[str, Json]:
        return {}


def test_an_idle_loop_goes_on_turning(X: np.ndarray, model: se.KMeans) -> None:
    seen: list[Any] = []
    summary = run(Slow(X), model, observe=seen.append)
    idle = [s for s in seen if s.state == "running" and s.throughput.batches == 0]
    assert len(idle) >= 2  # the start, and at least one turn without a batch
    assert summary.events == 600
