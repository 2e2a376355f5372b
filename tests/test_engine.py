"""The engine: what it does with rows, requests to stop, settings and failures."""

import dataclasses
import json
import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
import pytest

import stream_em as se
from stream_em.checkpoints import Checkpoint
from stream_em.engine import Schedule, conflicts, run
from stream_em.engine.pending import COLUMNS
from stream_em.engine.queues import Bounded
from stream_em.errors import (
    CheckpointDamaged,
    CheckpointFailed,
    DrainTimeout,
    Locked,
    OutputChanged,
    SavedStateError,
    SettingsChanged,
    SettingsError,
    SinkFailed,
    SourceFailed,
    TooManyRejects,
)
from stream_em.memory import MemorySink, MemorySource, Stop
from stream_em.stores import DirectoryStore, Store
from stream_em.streams import Batch, Columns, Json, Positions, Rejected, Sink, Source, Stream

MODEL = se.KMeans(n_clusters=3, seeding=se.Seeding(rows=120, restarts=2))
EVERY = Schedule(every_events=100, every_seconds=0)


def blobs(n: int = 600) -> np.ndarray:
    draw = np.random.default_rng(5)
    return draw.normal(size=(n, 2)) + 12.0 * draw.integers(0, 3, size=(n, 1))


X = blobs()


@dataclass
class Request:
    requested: threading.Event = field(default_factory=threading.Event)


@pytest.fixture(autouse=True)
def all_threads_end() -> Iterator[None]:
    yield
    left = [t for t in threading.enumerate() if t.name.startswith("stream-em")]
    for thread in left:
        thread.join(5)
    assert [t.name for t in left if t.is_alive()] == []


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(str(tmp_path / "checkpoints"))


def newest(store: DirectoryStore) -> Checkpoint:
    return store.load(store.names()[-1])


def bad(offset: int, reason: str = "schema") -> Rejected:
    return Rejected("memory", 0, offset, reason, "x1", "'1,5', expected a number", b'{"x1": "1,5"}')


# --- rows ---------------------------------------------------------------------------


def test_every_row_has_its_output_row_in_order() -> None:
    sink = MemorySink()
    summary = run(MemorySource([X], batch_size=50), MODEL, [sink])
    assert [row["offset"] for row in sink.rows] == list(range(600))
    assert tuple(sink.rows[0]) == COLUMNS
    assert sink.visible == 600
    assert {row["source"] for row in sink.rows} == {"memory"}
    assert {row["log_likelihood"] for row in sink.rows} == {None}
    assert summary.events == summary.total_events == 600
    assert summary.batches == 12
    assert summary.stopped_by == "end"


def test_the_engine_learns_what_a_plain_loop_of_steps_learns(store: DirectoryStore) -> None:
    model = se.GaussianMixture(n_components=3, seeding=se.Seeding(rows=120, restarts=2))
    sink = MemorySink()
    summary = run(MemorySource([X], batch_size=50), model, [sink], store, seed=3)
    state, labels, sums = se.init(model, seed=3), [], np.zeros(4)
    for start in range(0, 600, 50):
        state, info = se.step(model, state, X[start : start + 50])
        labels += info.scores.slots[info.scores.labels].tolist()
        sums += [info.weight, info.objective, info.log_likelihood, info.free_energy]
    ours = newest(store).state
    assert ours == dataclasses.replace(state, features=("x0", "x1"))
    assert [row["cluster"] for row in sink.rows] == labels
    assert summary.objective_per_event == sums[1] / sums[0]
    assert summary.log_likelihood_nats_per_event == sums[2] / sums[0]
    assert summary.free_energy_nats_per_event == sums[3] / sums[0]
    assert summary.clusters == 3


def test_equal_runs_give_equal_rows() -> None:
    first, second = MemorySink(), MemorySink()
    run(MemorySource([X], batch_size=50), MODEL, [first], name="a")
    run(MemorySource([X], batch_size=50), MODEL, [second], name="b")
    assert first.rows == second.rows


def test_times_and_keys_come_out_again_and_absent_times_are_null() -> None:
    table = np.column_stack([X, np.arange(600.0), np.arange(600.0)])
    table[3, 2] = np.nan
    source = MemorySource([table], features=("a", "b", "t", "k"), time="t", key="k")
    sink = MemorySink()
    run(source, MODEL, [sink])
    assert [row["time"] for row in sink.rows[2:5]] == [2.0, None, 4.0]
    assert [row["key"] for row in sink.rows[2:5]] == [2.0, 3.0, 4.0]


def test_fewer_rows_than_seeding_needs_are_written_at_the_end() -> None:
    sink = MemorySink()
    summary = run(MemorySource([X[:30]], batch_size=7), MODEL, [sink])
    assert len(sink.rows) == summary.events == 30
    assert summary.objective_per_event is None


def test_a_source_without_rows_changes_nothing(store: DirectoryStore) -> None:
    sink = MemorySink()
    summary = run(MemorySource([]), MODEL, [sink], store)
    assert (summary.events, summary.clusters, summary.checkpoints) == (0, 0, 0)
    assert [newest(store).number, sink.rows] == [0, []]


@pytest.mark.filterwarnings("error")
def test_warming_up_warns_of_nothing() -> None:
    assert run(MemorySource([]), se.SoftKMeans(n_clusters=3, beta=0.001)).events == 0


def test_the_summary_is_json() -> None:
    summary = run(MemorySource([X]), MODEL)
    assert json.loads(json.dumps(dataclasses.asdict(summary)))["events"] == 600


# --- rejected records -----------------------------------------------------------------


def test_rejected_records_become_dead_letters_and_counts_add_up(store: DirectoryStore) -> None:
    sink, dead = MemorySink(), MemorySink("dead")
    source = MemorySource([X[:100], bad(100), X[100:], bad(601)], batch_size=50)
    summary = run(source, MODEL, [sink], store, dead_letters=dead)
    assert (summary.events, summary.rejected, summary.total_rejected) == (600, 2, 2)
    assert len(sink.rows) + len(dead.rows) == 602
    assert dead.rows[0] == {
        "source": "memory",
        "partition": 0,
        "offset": 100,
        "reason": "schema",
        "field": "x1",
        "detail": "'1,5', expected a number",
        "time": None,
        "raw": '{"x1": "1,5"}',
        "raw_encoding": "utf-8",
        "key": None,
        "key_encoding": None,
        "headers": [],
    }
    assert newest(store).rejected == 2


def test_raw_bytes_that_are_no_text_are_base64() -> None:
    dead = MemorySink("dead")
    run(MemorySource([bad(0)._replace(raw=b"\xff\x00")]), MODEL, dead_letters=dead)
    assert (dead.rows[0]["raw"], dead.rows[0]["raw_encoding"]) == ("/wA=", "base64")


@pytest.mark.parametrize(
    ("values", "reason", "name"),
    [
        ([1e308, 0.0, 1.0], "non_finite", "a"),
        ([np.nan, 0.0, 1.0], "non_finite", "a"),
        ([0.0, -np.inf, 1.0], "non_finite", "b"),
        ([0.0, 0.0, -1.0], "weight", None),
        ([0.0, 0.0, np.nan], "weight", None),
    ],
)
def test_unusable_rows_never_reach_the_model(
    values: list[float], reason: str, name: str | None
) -> None:
    table = np.column_stack([X, np.ones(600)])
    table[300] = values
    source = MemorySource([table], features=("a", "b", "w"), weight="w", batch_size=50)
    sink, dead = MemorySink(), MemorySink("dead")
    summary = run(source, MODEL, [sink], dead_letters=dead)
    assert (summary.events, summary.rejected) == (599, 1)
    assert [row["offset"] for row in sink.rows] == [n for n in range(600) if n != 300]
    (letter,) = dead.rows
    assert (letter["offset"], letter["reason"], letter["field"]) == (300, reason, name)
    assert list(json.loads(letter["raw"])) == ["a", "b", "weight"]


def test_a_row_of_weight_zero_has_an_output_row(store: DirectoryStore) -> None:
    table = np.column_stack([X, np.ones(600)])
    table[[5, 300], 2] = 0.0
    source = MemorySource([table], features=("a", "b", "w"), weight="w", batch_size=50)
    sink = MemorySink()
    summary = run(source, MODEL, [sink], store)
    assert len(sink.rows) == summary.events == 600
    assert newest(store).state.learned == 598


def test_times_from_the_future_are_rejected_and_do_not_fade_the_others() -> None:
    table = np.column_stack([X, np.arange(600.0)])
    table[300, 2] = 1e9
    source = MemorySource([table], features=("a", "b", "t"), time="t", batch_size=50)
    forgetting = se.EventTimeHalfLife(seconds=1000.0)
    model = dataclasses.replace(MODEL, forgetting=forgetting)
    dead = MemorySink("dead")
    summary = run(source, model, dead_letters=dead)
    assert (summary.events, summary.rejected) == (599, 1)
    assert (dead.rows[0]["offset"], dead.rows[0]["reason"]) == (300, "future")


def test_without_dead_letters_one_line_per_reason_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    items = [X[:100], *(bad(n) for n in range(9)), bad(9, "empty")]
    with caplog.at_level(logging.WARNING, "stream_em.engine.rejects"):
        run(MemorySource(items, batch_size=50), MODEL)
    lines = [r.getMessage() for r in caplog.records if r.name == "stream_em.engine.rejects"]
    assert [line.startswith("rejected memory partition 0 offset") for line in lines] == [
        True,
        True,
        False,
    ]
    assert lines[2] == "rejected 8 more records: schema"


def test_too_many_rejects_cut_the_outputs_back_and_write_no_checkpoint(
    store: DirectoryStore,
) -> None:
    items: list[Any] = [X, *(bad(600 + n) for n in range(700))]
    sink, dead = MemorySink(), MemorySink("dead")
    schedule = Schedule(every_events=300, every_seconds=0)
    source = MemorySource(items, batch_size=50)
    with pytest.raises(TooManyRejects, match=r"offset 600: schema.*decimal commas") as caught:
        run(source, MODEL, [sink], store, schedule=schedule, dead_letters=dead)
    assert caught.value.exit_code == 1
    held = newest(store)
    assert held.number > 0
    assert len(sink.rows) == held.state.total_events - held.state.held_rows
    assert len(dead.rows) == held.rejected
    repaired = dataclasses.replace(source, items=[X, blobs(700)])
    summary = run(repaired, MODEL, [sink], store, dead_letters=dead)
    assert summary.total_events + summary.total_rejected == 1300
    assert len(sink.rows) == summary.total_events
    assert len(dead.rows) == summary.total_rejected


def test_a_wrong_codec_can_be_corrected_although_a_checkpoint_exists(
    store: DirectoryStore,
) -> None:
    sink, dead = MemorySink(), MemorySink("dead")
    wrong = MemorySource([bad(n) for n in range(1000)], batch_size=50, weight="decimal")
    wrong = dataclasses.replace(wrong, max_reject_ratio=0.5, features=("x0", "x1", "decimal"))
    with pytest.raises(TooManyRejects):
        run(wrong, MODEL, [sink], store, dead_letters=dead)
    assert (sink.rows, dead.rows) == ([], [])
    summary = run(MemorySource([X]), MODEL, [sink], store, dead_letters=dead)
    assert (summary.total_events, summary.total_rejected, len(sink.rows)) == (600, 0, 600)


# --- stopping -------------------------------------------------------------------------


def stopping_after(batches: int) -> tuple[Request, Any]:
    request, seen = Request(), []

    def observe(snapshot: Any) -> None:
        seen.append(snapshot.published.version)
        if snapshot.throughput.batches >= batches:
            request.requested.set()

    return request, observe


@pytest.mark.parametrize("batches", [1, 2, 5, 11])
def test_a_stop_request_ends_at_a_batch_and_a_restart_goes_on(
    store: DirectoryStore, tmp_path: Path, batches: int
) -> None:
    whole_store, whole = DirectoryStore(str(tmp_path / "whole")), MemorySink()
    run(MemorySource([X], batch_size=50), MODEL, [whole], whole_store)
    sink = MemorySink()
    request, observe = stopping_after(batches)
    first = run(
        MemorySource([X], batch_size=50), MODEL, [sink], store, stop=request, observe=observe
    )
    assert first.stopped_by == "signal"
    assert (first.events, first.checkpoints) == (50 * batches, 1)
    held = newest(store).state.held_rows
    assert held == (50 * batches if batches <= 2 else 0)  # held rows are saved, not seeded
    assert len(sink.rows) == sink.visible == first.events - held
    second = run(MemorySource([X], batch_size=50), MODEL, [sink], store)
    assert second.resumed_from is not None
    assert second.total_events == 600
    assert sink.rows == whole.rows
    assert newest(store).state == newest(whole_store).state


def test_without_a_store_a_stop_request_writes_what_is_held() -> None:
    sink = MemorySink()
    request, observe = stopping_after(1)
    summary = run(MemorySource([X], batch_size=50), MODEL, [sink], stop=request, observe=observe)
    assert (summary.events, len(sink.rows), sink.visible) == (50, 50, 50)


def test_max_events_stops_at_the_batch_boundary_below(store: DirectoryStore) -> None:
    sink = MemorySink()
    source = MemorySource([X], batch_size=50)
    first = run(source, MODEL, [sink], store, max_events=320)
    assert (first.events, first.stopped_by) == (300, "max_events")
    second = run(source, MODEL, [sink], store, max_events=100)
    assert (second.events, second.total_events) == (100, 400)
    third = run(source, MODEL, [sink], store)
    assert (third.total_events, third.stopped_by, len(sink.rows)) == (600, "end", 600)


def test_max_events_below_a_batch_are_exact_and_said_to_void_identity(
    store: DirectoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    summary = run(MemorySource([X], batch_size=50), MODEL, (), store, max_events=7)
    assert summary.events == 7
    assert "not be bit-identical" in caplog.text
    with pytest.raises(SettingsError, match="max_events came as 0"):
        run(MemorySource([X]), MODEL, max_events=0)


def test_an_input_that_grew_is_continued(store: DirectoryStore) -> None:
    sink = MemorySink()
    source = MemorySource([X[:400], Stop(), X[400:]], batch_size=50)
    assert run(source, MODEL, [sink], store).total_events == 400
    assert run(source, MODEL, [sink], store).total_events == 600
    again = run(source, MODEL, [sink], store)
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


def test_a_slow_output_holds_reading_back() -> None:
    model = se.KMeans(n_clusters=2, initial_means=[[0.0, 0.0], [12.0, 12.0]])
    source = Counted(MemorySource([blobs(200)], batch_size=1), batches=60)
    gate = threading.Event()
    gate.set()
    sink = Gated(gate, source.reached)
    run(source, model, [sink])
    assert sink.reached is False  # 16 in each queue and a few in hands, never 60
    assert source.polled == len(sink.inner.rows) == 200


def test_a_drain_that_takes_too_long_says_so(store: DirectoryStore) -> None:
    gate, request = threading.Event(), Request()
    sink = Gated(gate, gate)
    request_after, observe = stopping_after(4)
    source = MemorySource([X], batch_size=50)
    with pytest.raises(DrainTimeout, match=r"longer than 0\.2 s") as caught:
        run(
            source,
            MODEL,
            [sink],
            store,
            stop=request_after,
            observe=observe,
            shutdown_timeout_seconds=0.2,
        )
    gate.set()
    assert caught.value.exit_code == 5
    assert not request.requested.is_set()
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


# --- failures -------------------------------------------------------------------------


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
def test_a_failing_output_stops_the_run(store: DirectoryStore, method: str, role: str) -> None:
    failing = Failing(method, OSError(28, "No space left on device"))
    source = MemorySource([X[:300], bad(300), X[300:]], batch_size=50)
    sinks, dead = ([failing], None) if role == "sink" else ([], failing)
    with pytest.raises(SinkFailed, match=r"failing.*No space left") as caught:
        run(source, MODEL, sinks, store, schedule=EVERY, dead_letters=dead)
    assert caught.value.exit_code == 1
    failing.method = "none"
    summary = run(source, MODEL, sinks, store, dead_letters=dead)
    assert (summary.total_events, summary.total_rejected) == (600, 1)
    assert len(failing.inner.rows) == (600 if role == "sink" else 1)


def test_no_checkpoint_follows_a_failed_output(store: DirectoryStore) -> None:
    failing = Failing("barrier", OSError(5, "Input/output error"), calls=1)
    with pytest.raises(SinkFailed):
        run(MemorySource([X], batch_size=50), MODEL, [failing], store, schedule=EVERY)
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
def test_a_failed_checkpoint_is_tried_again(store: DirectoryStore, full: set[int]) -> None:
    failing, sink = FullStore(store, full), MemorySink()
    run(MemorySource([X], batch_size=50), MODEL, [sink], failing, schedule=EVERY)
    assert newest(store).state.total_events == 600
    assert len(sink.rows) == sink.visible == 600


@pytest.mark.usefixtures("quick_retries")
@pytest.mark.parametrize("first", [1, 2])
def test_three_failed_checkpoints_in_a_row_stop_the_run(store: DirectoryStore, first: int) -> None:
    failing, sink = FullStore(store, {first, first + 1, first + 2}), MemorySink()
    source = MemorySource([X], batch_size=50)
    with pytest.raises(CheckpointFailed, match=r"3 checkpoints in a row.*No space left") as caught:
        run(source, MODEL, [sink], failing, schedule=EVERY)
    assert caught.value.exit_code == 1
    sink_on_retry = sink if first > 1 else MemorySink()
    run(source, MODEL, [sink_on_retry], store)
    assert [row["offset"] for row in sink_on_retry.rows] == list(range(600))


@final
class BrokenSource(Source):
    kind = "broken"

    def __init__(self, error: Exception) -> None:
        self.error = error

    def opened_at(self, positions: Positions | None) -> Stream:
        stream = MemorySource([X], batch_size=50).opened_at(positions)

        def poll(seconds: float) -> Batch | None:
            raise self.error

        stream.poll = poll  # type: ignore[method-assign]
        return stream

    def identity(self) -> dict[str, Json]:
        return {}


def test_a_broken_input_stops_the_run() -> None:
    with pytest.raises(SourceFailed, match="Stale file handle"):
        run(BrokenSource(OSError(116, "Stale file handle")), MODEL)
    with pytest.raises(ZeroDivisionError):
        run(BrokenSource(ZeroDivisionError()), MODEL)


def test_an_observer_that_raises_ends_the_run_cleanly() -> None:
    def observe(snapshot: Any) -> None:
        if snapshot.throughput.batches == 2 and snapshot.state == "running":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(MemorySource([X], batch_size=50), MODEL, [MemorySink()], observe=observe)


# --- saved state and settings -----------------------------------------------------------


def half_way(store: DirectoryStore, sinks: list[Sink], **options: Any) -> None:
    run(MemorySource([X], batch_size=50), MODEL, sinks, store, max_events=300, **options)


def test_two_engines_cannot_share_a_folder(store: DirectoryStore) -> None:
    with store.lock(), pytest.raises(Locked) as caught:
        run(MemorySource([X]), MODEL, [], store)
    assert caught.value.exit_code == 4


def test_a_damaged_newest_checkpoint_is_passed_over(
    store: DirectoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    sink = MemorySink()
    run(MemorySource([X], batch_size=50), MODEL, [sink], store, schedule=EVERY)
    whole, rows = newest(store).state, list(sink.rows)
    path = Path(store.directory) / store.names()[-1]
    path.write_bytes(path.read_bytes()[:-100])
    summary = run(MemorySource([X], batch_size=50), MODEL, [sink], store, schedule=EVERY)
    assert summary.resumed_from is not None
    assert summary.events > 0
    assert path.name in caplog.text
    assert not path.exists()
    assert newest(store).state == whole
    assert sink.rows == rows


def test_nothing_but_damaged_checkpoints_is_an_error(store: DirectoryStore) -> None:
    half_way(store, [])
    for name in store.names():
        (Path(store.directory) / name).write_bytes(b"")
    before = store.names()
    with pytest.raises(CheckpointDamaged, match="checkpoints are damaged"):
        run(MemorySource([X]), MODEL, [], store)
    assert store.names() == before


def test_old_checkpoints_are_pruned(store: DirectoryStore) -> None:
    schedule = Schedule(every_events=50, every_seconds=0, keep=2)
    run(MemorySource([X], batch_size=50), MODEL, [], store, schedule=schedule)
    assert len(store.names()) == 2


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        (dataclasses.replace(MODEL, n_clusters=4), "n_clusters was 3, now 4"),
        (dataclasses.replace(MODEL, forgetting=se.KeepAll()), "forgetting.*now 'keep-all'"),
        (se.SoftKMeans(n_clusters=3, beta=1.0), "kind was 'kmeans', now 'soft-kmeans'"),
    ],
)
def test_another_model_is_refused_with_the_difference(
    store: DirectoryStore, changed: Any, difference: str
) -> None:
    sink = MemorySink()
    half_way(store, [sink])
    before = list(sink.rows), store.names()
    with pytest.raises(SettingsChanged, match=difference):
        run(MemorySource([X], batch_size=50), changed, [sink], store)
    assert (sink.rows, store.names()) == before


def test_features_may_not_change_nor_their_order(store: DirectoryStore) -> None:
    half_way(store, [])
    source = MemorySource([X], features=("x1", "x0"), batch_size=50)
    with pytest.raises(SettingsChanged, match=r"were \['x0', 'x1'\], now \['x1', 'x0'\]"):
        run(source, MODEL, [], store)


def test_another_source_needs_to_be_accepted(store: DirectoryStore) -> None:
    half_way(store, [])
    renamed = MemorySource([X], name="other", batch_size=50)
    with pytest.raises(SettingsChanged, match="name was 'memory', now 'other'"):
        run(renamed, MODEL, [], store)
    summary = run(renamed, MODEL, [], store, accept_source_change=True)
    assert (summary.events, summary.total_events) == (600, 900)


def test_before_anything_is_learned_every_setting_is_free(store: DirectoryStore) -> None:
    run(MemorySource([]), MODEL, [], store)
    other = dataclasses.replace(MODEL, n_clusters=2)
    source = MemorySource([X], name="other", features=("a", "b"))
    assert run(source, other, [], store, seed=9).clusters == 2
    assert newest(store).state.seed == 9


def test_intervals_may_change(store: DirectoryStore) -> None:
    half_way(store, [], schedule=Schedule(every_events=50))
    summary = run(MemorySource([X], batch_size=50), MODEL, [], store, schedule=EVERY)
    assert summary.total_events == 600


def test_a_new_output_starts_as_on_a_first_run_and_a_removed_one_is_dropped(
    store: DirectoryStore,
) -> None:
    old, new = MemorySink("old"), MemorySink("new")
    half_way(store, [old])
    later = MemorySource([X], batch_size=50)
    run(later, MODEL, [new], store, max_events=100)
    assert [row["offset"] for row in new.rows] == list(range(300, 400))
    assert set(newest(store).extents) == {"new"}
    assert len(old.rows) == 300
    with pytest.raises(OutputChanged, match="old holds 300 rows of nobody"):
        run(later, MODEL, [old, new], store)


def test_a_second_run_onto_an_output_of_nobody_is_refused() -> None:
    sink = MemorySink()
    run(MemorySource([X]), MODEL, [sink])
    with pytest.raises(OutputChanged):
        run(MemorySource([X]), MODEL, [sink])
    assert run(MemorySource([X]), MODEL, [sink], overwrite=True).events == len(sink.rows) == 600


def test_fresh_starts_anew_and_cuts_the_outputs_unless_they_append(store: DirectoryStore) -> None:
    cut, append = MemorySink("cut"), MemorySink("append", append=True)
    half_way(store, [cut, append])
    summary = run(MemorySource([X], batch_size=50), MODEL, [cut, append], store, fresh=True)
    assert (summary.resumed_from, summary.total_events) == (None, 600)
    assert (len(cut.rows), len(append.rows)) == (600, 900)


@final
class Pipe(Source):
    """Rows without positions, as from standard input."""

    kind = "pipe"
    seekable = False

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def opened_at(self, positions: Positions | None) -> Stream:
        return MemorySource([self.rows], batch_size=50).opened_at(None)

    def identity(self) -> dict[str, Json]:
        return {}


def test_an_input_without_positions_goes_on_only_when_told(
    store: DirectoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    run(Pipe(X[:300]), MODEL, [], store)
    assert "at most once" in caplog.text
    with pytest.raises(SavedStateError, match=r"holds 300 rows.*--continue"):
        run(Pipe(X[300:]), MODEL, [], store)
    summary = run(Pipe(X[300:]), MODEL, [], store, continue_input=True)
    assert summary.total_events == 600
    assert "continuing after 300 rows" in caplog.text


# --- conflicts ------------------------------------------------------------------------


@dataclass
class At:
    """A port with a path."""

    path: str
    kind: str = "jsonl"

    @property
    def name(self) -> str:
        return self.path


@pytest.mark.parametrize(
    ("pattern", "outputs", "found"),
    [
        ("in/*.csv", ["out.jsonl", "other.jsonl"], 0),
        ("in/*.csv", ["out.jsonl", "./out.jsonl"], 1),
        ("in/*.jsonl", ["in/out.jsonl"], 1),
        ("in/*.jsonl", ["in/deeper/out.jsonl"], 0),
        ("in/**/*.jsonl", ["in/a/b/out.jsonl"], 1),
        ("in/x.csv", ["in/x.csv"], 1),
        ("in/*.parquet", ["in"], 1),
        ("-", ["-"], 0),
    ],
)
def test_outputs_in_conflict_are_named(pattern: str, outputs: list[str], found: int) -> None:
    source: Any = At(pattern)
    sinks: Any = [At(path) for path in outputs]
    assert len(conflicts(source, sinks)) == found
    assert len(conflicts(source, sinks[:-1], sinks[-1])) == found


def test_conflicts_stop_a_run_before_it_begins() -> None:
    with pytest.raises(SettingsError, match="two outputs are the same"):
        run(MemorySource([X]), MODEL, [MemorySink("a"), MemorySink("a")])


# --- metrics --------------------------------------------------------------------------


def test_observers_see_the_life_of_a_run(store: DirectoryStore) -> None:
    seen: list[Any] = []
    run(MemorySource([X], batch_size=50), MODEL, [], store, observe=seen.append)
    states = [snapshot.state for snapshot in seen]
    assert list(dict.fromkeys(states)) == ["restoring", "running", "draining"]
    assert (seen[-1].throughput.events, seen[-1].pending_events) == (600, 0)
    assert [s.published.version for s in seen if s.published.version] == sorted(
        [*range(50, 601, 50), 600, 600]
    )


def test_a_failed_run_is_seen_to_have_failed() -> None:
    seen: list[Any] = []
    with pytest.raises(SourceFailed):
        run(BrokenSource(OSError(5, "Input/output error")), MODEL, observe=seen.append)
    assert seen[-1].state == "failed"


@final
class Slow(Source):
    """Nothing comes for some polls."""

    kind = "slow"

    def opened_at(self, positions: Positions | None) -> Stream:
        stream = MemorySource([X], batch_size=300).opened_at(positions)
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


def test_an_idle_loop_goes_on_turning() -> None:
    seen: list[Any] = []
    summary = run(Slow(), MODEL, observe=seen.append)
    idle = [s for s in seen if s.state == "running" and s.throughput.batches == 0]
    assert len(idle) >= 2  # the start, and at least one turn without a batch
    assert summary.events == 600


def test_schedules_are_checked() -> None:
    with pytest.raises(SettingsError, match="keep came as 1"):
        Schedule(keep=1)
    with pytest.raises(SettingsError, match="every_events came as -1"):
        Schedule(every_events=-1)
