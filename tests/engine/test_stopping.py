"""Requests to stop, limits on events, and outputs that reading has to wait for."""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
import pytest

import stream_em as se
from stream_em.engine import run
from stream_em.engine.queues import Bounded
from stream_em.errors import DrainTimeout, SettingsError
from stream_em.memory import MemorySink, MemorySource, Stop
from stream_em.stores import DirectoryStore
from stream_em.streams import Batch, Columns, Json, Positions, Sink, Source, Stream


@dataclass
class Request:
    requested: threading.Event = field(default_factory=threading.Event)


def stopping_after(batches: int) -> tuple[Request, Any]:
    request, seen = Request(), []

    def observe(snapshot: Any) -> None:
        seen.append(snapshot.published.version)
        if snapshot.throughput.batches >= batches:
            request.requested.set()

    return request, observe


@pytest.mark.parametrize("batches", [1, 2, 5, 11])
def test_a_stop_request_ends_at_a_batch_and_a_restart_goes_on(
    store: DirectoryStore,
    tmp_path: Path,
    X: np.ndarray,
    model: se.KMeans,
    newest: Any,
    batches: int,
) -> None:
    whole_store, whole = DirectoryStore(str(tmp_path / "whole")), MemorySink()
    run(MemorySource([X], batch_size=50), model, [whole], whole_store)
    sink = MemorySink()
    request, observe = stopping_after(batches)
    first = run(
        MemorySource([X], batch_size=50), model, [sink], store, stop=request, observe=observe
    )
    assert first.stopped_by == "signal"
    assert (first.events, first.checkpoints) == (50 * batches, 1)
    held = newest(store).state.held_rows
    assert held == (50 * batches if batches <= 2 else 0)  # held rows are saved, not seeded
    assert len(sink.rows) == sink.visible == first.events - held
    second = run(MemorySource([X], batch_size=50), model, [sink], store)
    assert second.resumed_from is not None
    assert second.total_events == 600
    assert sink.rows == whole.rows
    assert newest(store).state == newest(whole_store).state


def test_without_a_store_a_stop_request_writes_what_is_held(
    X: np.ndarray, model: se.KMeans
) -> None:
    sink = MemorySink()
    request, observe = stopping_after(1)
    summary = run(MemorySource([X], batch_size=50), model, [sink], stop=request, observe=observe)
    assert (summary.events, len(sink.rows), sink.visible) == (50, 50, 50)


def test_max_events_stops_at_the_batch_boundary_below(
    store: DirectoryStore, X: np.ndarray, model: se.KMeans
) -> None:
    sink = MemorySink()
    source = MemorySource([X], batch_size=50)
    first = run(source, model, [sink], store, max_events=320)
    assert (first.events, first.stopped_by) == (300, "max_events")
    second = run(source, model, [sink], store, max_events=100)
    assert (second.events, second.total_events) == (100, 400)
    third = run(source, model, [sink], store)
    assert (third.total_events, third.stopped_by, len(sink.rows)) == (600, "end", 600)


def test_max_events_below_a_batch_are_exact_and_said_to_void_identity(
    store: DirectoryStore, caplog: pytest.LogCaptureFixture, X: np.ndarray, model: se.KMeans
) -> None:
    summary = run(MemorySource([X], batch_size=50), model, (), store, max_events=7)
    assert summary.events == 7
    assert "not be bit-identical" in caplog.text
    with pytest.raises(SettingsError, match="max_events came as 0"):
        run(MemorySource([X]), model, max_events=0)


def test_an_input_that_grew_is_continued(
    store: DirectoryStore, X: np.ndarray, model: se.KMeans
) -> None:
    sink = MemorySink()
    source = MemorySource([X[:400], Stop(), X[400:]], batch_size=50)
    assert run(source, model, [sink], store).total_events == 400
    assert run(source, model, [sink], store).total_events == 600
    again = run(source, model, [sink], store)
    assert (again.events, again.checkpoints) == (0, 0)
    assert [row["offset"] for row in sink.rows] == list(range(600))


@final
class Gated(Sink):
    """A memory sink whose writes wait for a gate."""

    kind = "gated"

    def __init__(self, gate: threading.Event, until: threading.Event) -> None:
        self.name, self.exactly_once = "gated", True
        self.inner = MemorySink()
        self.gate, self.until = gate, until
        self.reached: bool | None = None

    def begin(self, incarnation: str, overwrite: bool) -> Json:
        return self.inner.begin(incarnation, overwrite)

    def roll_back(self, extent: Json, number: int, incarnation: str) -> None:
        self.inner.roll_back(extent, number, incarnation)

    def write(self, columns: Columns) -> None:
        if self.reached is None:
            self.reached = self.until.wait(0.5)
        self.gate.wait(30)
        self.inner.write(columns)

    def barrier(self, number: int) -> Json:
        return self.inner.barrier(number)

    def committed(self, number: int) -> None:
        self.inner.committed(number)

    def close(self) -> None:
        self.inner.close()


@final
class Counted(Source):
    """A source that tells when its stream has handed out so many batches."""

    kind = "counted"

    def __init__(self, inner: MemorySource, batches: int) -> None:
        self.inner, self.batch_size, self.batches = inner, inner.batch_size, batches
        self.polled = 0
        self.reached = threading.Event()

    def opened_at(self, positions: Positions | None) -> Stream:
        stream = self.inner.opened_at(positions)
        poll = stream.poll

        def counting(seconds: float) -> Batch | None:
            self.polled += 1
            if self.polled >= self.batches:
                self.reached.set()
            return poll(seconds)

        stream.poll = counting  # type: ignore[method-assign]
        return stream

    def identity(self) -> dict[str, Json]:
        return self.inner.identity()


def test_a_slow_output_holds_reading_back(blobs: Any) -> None:
    model = se.KMeans(n_clusters=2, initial_means=[[0.0, 0.0], [12.0, 12.0]])
    source = Counted(MemorySource([blobs(200)], batch_size=1), batches=60)
    gate = threading.Event()
    gate.set()
    sink = Gated(gate, source.reached)
    run(source, model, [sink])
    assert sink.reached is False  # 16 in each queue and a few in hands, never 60
    assert source.polled == len(sink.inner.rows) == 200


def test_a_drain_that_takes_too_long_says_so(
    store: DirectoryStore,
    X: np.ndarray,
    model: se.KMeans,
    newest: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = threading.Event()
    sink = Gated(gate, gate)
    caplog.set_level("INFO", logger="stream_em.engine.drain")
    request, observe = stopping_after(4)
    source = MemorySource([X], batch_size=50)
    with pytest.raises(DrainTimeout, match=r"longer than 0\.2 s") as caught:
        run(
            source,
            model,
            [sink],
            store,
            stop=request,
            observe=observe,
            shutdown_timeout_seconds=0.2,
        )
    gate.set()
    assert caught.value.exit_code == 5
    assert caplog.messages[0].startswith("stop requested: draining for up to 0.2 s")
    assert request.requested.is_set()
    assert newest(store).number == 0


def test_queue_bounds_apply_between_puts() -> None:
    queue = Bounded[str](items=9, rows=10)
    assert queue.put("large", 1000, seconds=0)
    assert not queue.put("small", 1, seconds=0)
    queue.force("barrier")
    assert (queue.rows, queue.take(0), queue.take(0), queue.take(0)) == (
        1000,
        "large",
        "barrier",
        None,
    )
