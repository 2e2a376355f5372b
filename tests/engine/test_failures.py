"""Failures of outputs, stores and inputs: what ends a run, and what is tried again."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, final

import numpy as np
import pytest

import stream_em as se
from stream_em.checkpoints import Checkpoint
from stream_em.engine import Schedule, run
from stream_em.errors import CheckpointFailed, RecordsGone, SinkFailed, SourceChanged, SourceFailed
from stream_em.memory import MemorySink, MemorySource
from stream_em.stores import DirectoryStore, Store
from stream_em.streams import Batch, Columns, Json, Positions, Sink, Source, Stream


@final
class Failing(Sink):
    """A memory sink that raises in one method."""

    kind = "failing"

    def __init__(self, method: str, error: BaseException, calls: int = 0) -> None:
        self.name, self.exactly_once = "failing", True
        self.inner, self.method, self.error, self.calls = MemorySink(), method, error, calls

    def begin(self, incarnation: str, overwrite: bool) -> Json:
        self._reach("begin")
        return self.inner.begin(incarnation, overwrite)

    def roll_back(self, extent: Json, number: int, incarnation: str) -> None:
        self.inner.roll_back(extent, number, incarnation)

    def write(self, columns: Columns) -> None:
        self._reach("write")
        self.inner.write(columns)

    def barrier(self, number: int) -> Json:
        self._reach("barrier")
        return self.inner.barrier(number)

    def committed(self, number: int) -> None:
        self._reach("committed")
        self.inner.committed(number)

    def close(self) -> None:
        self._reach("close")
        self.inner.close()

    def _reach(self, method: str) -> None:
        if method == self.method:
            self.calls -= 1
            if self.calls < 0:
                raise self.error


@pytest.mark.parametrize("method", ["write", "barrier", "committed", "close"])
@pytest.mark.parametrize("role", ["sink", "dead letters"])
def test_a_failing_output_stops_the_run(
    store: DirectoryStore,
    X: np.ndarray,
    model: se.KMeans,
    every: Schedule,
    bad: Any,
    method: str,
    role: str,
) -> None:
    failing = Failing(method, OSError(28, "No space left on device"))
    source = MemorySource([X[:300], bad(300), X[300:]], batch_size=50)
    sinks, dead = ([failing], None) if role == "sink" else ([], failing)
    with pytest.raises(SinkFailed, match=r"failing.*No space left") as caught:
        run(source, model, sinks, store, schedule=every, dead_letters=dead)
    assert caught.value.exit_code == 1
    failing.method = "none"
    summary = run(source, model, sinks, store, dead_letters=dead)
    assert (summary.total_events, summary.total_rejected) == (600, 1)
    assert len(failing.inner.rows) == (600 if role == "sink" else 1)


def test_no_checkpoint_follows_a_failed_output(
    store: DirectoryStore, X: np.ndarray, model: se.KMeans, every: Schedule, newest: Any
) -> None:
    failing = Failing("barrier", OSError(5, "Input/output error"), calls=1)
    with pytest.raises(SinkFailed):
        run(MemorySource([X], batch_size=50), model, [failing], store, schedule=every)
    assert newest(store).number == 1


@final
class FullStore(Store):
    """A store that is full for some saves."""

    kind = "full"

    def __init__(self, inner: DirectoryStore, full: set[int]) -> None:
        self.inner, self.full, self.saves = inner, full, 0

    def lock(self) -> AbstractContextManager[None]:
        return self.inner.lock()

    def save(self, checkpoint: Checkpoint) -> str:
        self.saves += 1
        if self.saves in self.full:
            raise OSError(28, "No space left on device")
        return self.inner.save(checkpoint)

    def names(self) -> tuple[str, ...]:
        return self.inner.names()

    def digest(self, name: str) -> str:
        return self.inner.digest(name)

    def size(self, name: str) -> int:
        return self.inner.size(name)

    def load(self, name: str) -> Checkpoint:
        return self.inner.load(name)

    def delete(self, names: Iterable[str]) -> None:
        self.inner.delete(names)

    def clean(self) -> None:
        self.inner.clean()


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_em.engine.schedule.RETRY_SECONDS", 0.01)


@pytest.mark.usefixtures("quick_retries")
@pytest.mark.parametrize("full", [{2}, {2, 3}, {3, 5}, {1}, {1, 2}])
def test_a_failed_checkpoint_is_tried_again(
    store: DirectoryStore,
    X: np.ndarray,
    model: se.KMeans,
    every: Schedule,
    newest: Any,
    full: set[int],
) -> None:
    failing, sink = FullStore(store, full), MemorySink()
    run(MemorySource([X], batch_size=50), model, [sink], failing, schedule=every)
    assert newest(store).state.total_events == 600
    assert len(sink.rows) == sink.visible == 600


@pytest.mark.usefixtures("quick_retries")
@pytest.mark.parametrize("first", [1, 2])
def test_three_failed_checkpoints_in_a_row_stop_the_run(
    store: DirectoryStore, X: np.ndarray, model: se.KMeans, every: Schedule, first: int
) -> None:
    failing, sink = FullStore(store, {first, first + 1, first + 2}), MemorySink()
    source = MemorySource([X], batch_size=50)
    with pytest.raises(CheckpointFailed, match=r"3 checkpoints in a row.*No space left") as caught:
        run(source, model, [sink], failing, schedule=every)
    assert caught.value.exit_code == 1
    sink_on_retry = sink if first > 1 else MemorySink()
    run(source, model, [sink_on_retry], store)
    assert [row["offset"] for row in sink_on_retry.rows] == list(range(600))


@final
class BrokenSource(Source):
    kind = "broken"

    def __init__(self, error: Exception, rows: np.ndarray, good: int = 0) -> None:
        self.error, self.rows, self.good = error, rows, good  # so many batches before it breaks

    def opened_at(self, positions: Positions | None) -> Stream:
        stream = MemorySource([self.rows], batch_size=50).opened_at(positions)
        whole, left = stream.poll, iter(range(self.good))

        def poll(seconds: float) -> Batch | None:
            if next(left, None) is None:
                raise self.error
            return whole(seconds)

        stream.poll = poll  # type: ignore[method-assign]
        return stream

    def identity(self) -> dict[str, Json]:
        return {}


def test_a_broken_input_stops_the_run(X: np.ndarray, model: se.KMeans) -> None:
    with pytest.raises(SourceFailed, match="Stale file handle"):
        run(BrokenSource(OSError(116, "Stale file handle"), X), model)
    with pytest.raises(ZeroDivisionError):
        run(BrokenSource(ZeroDivisionError(), X), model)


@pytest.mark.parametrize(
    ("error", "kept"),
    [(SourceChanged("another file"), 150), (RecordsGone("a gap"), 150), (SourceFailed("away"), 0)],
)
def test_what_was_read_before_an_input_changed_is_saved(
    store: DirectoryStore, X: np.ndarray, model: se.KMeans, error: Exception, kept: int, newest: Any
) -> None:
    """It may never come again; a reader that only stands still reads it again."""
    sink = MemorySink()
    with pytest.raises(type(error)):
        run(BrokenSource(error, X, good=3), model, [sink], store)
    assert newest(store).state.total_events == kept
    summary = run(BrokenSource(ZeroDivisionError(), X, good=12), model, [sink], store)
    assert summary.total_events == 600
    assert [row["offset"] for row in sink.rows] == list(range(600))


def test_why_an_input_broke_off_is_told_though_nothing_can_be_saved(
    store: DirectoryStore, X: np.ndarray, model: se.KMeans
) -> None:
    failing = FullStore(store, set(range(2, 20)))
    with pytest.raises(SourceChanged, match="another file"):
        run(BrokenSource(SourceChanged("another file"), X, good=3), model, [MemorySink()], failing)


def test_a_failed_run_is_seen_to_have_failed(X: np.ndarray, model: se.KMeans) -> None:
    seen: list[Any] = []
    with pytest.raises(SourceFailed):
        run(BrokenSource(OSError(5, "Input/output error"), X), model, observe=seen.append)
    assert seen[-1].state == "failed"
