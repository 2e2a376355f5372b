"""Runs that go on from a saved state: damage, changed settings, inputs and outputs."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import numpy as np
import pytest

import stream_em as se
from stream_em.engine import Schedule, run
from stream_em.errors import (
    CheckpointDamaged,
    Locked,
    OutputChanged,
    SavedStateError,
    SettingsChanged,
)
from stream_em.memory import MemorySink, MemorySource
from stream_em.stores import DirectoryStore
from stream_em.streams import Json, Positions, Sink, Source, Stream
from stream_em_connectors.files import CsvSource

SEEDING = se.Seeding(rows=120, restarts=2)  # that of `model`


@pytest.fixture
def half_way(X: np.ndarray, model: se.KMeans) -> Callable[..., None]:
    """`half_way(store, sinks, ...)`: a run over the first half of the rows."""

    def ran(store: DirectoryStore, sinks: list[Sink], **options: Any) -> None:
        run(MemorySource([X], batch_size=50), model, sinks, store, max_events=300, **options)

    return ran


def test_two_engines_cannot_share_a_folder(
    store: DirectoryStore, X: np.ndarray, model: se.KMeans
) -> None:
    with store.lock(), pytest.raises(Locked) as caught:
        run(MemorySource([X]), model, [], store)
    assert caught.value.exit_code == 4


def test_a_damaged_newest_checkpoint_is_passed_over(
    store: DirectoryStore,
    caplog: pytest.LogCaptureFixture,
    X: np.ndarray,
    model: se.KMeans,
    every: Schedule,
    newest: Any,
) -> None:
    sink = MemorySink()
    run(MemorySource([X], batch_size=50), model, [sink], store, schedule=every)
    whole, rows = newest(store).state, list(sink.rows)
    path = Path(store.directory) / store.names()[-1]
    path.write_bytes(path.read_bytes()[:-100])
    summary = run(MemorySource([X], batch_size=50), model, [sink], store, schedule=every)
    assert summary.resumed_from is not None
    assert summary.events > 0
    assert path.name in caplog.text
    assert not path.exists()
    assert newest(store).state == whole
    assert sink.rows == rows


def test_nothing_but_damaged_checkpoints_is_an_error(
    store: DirectoryStore, X: np.ndarray, model: se.KMeans, half_way: Any, caplog: Any
) -> None:
    half_way(store, [])
    for name in store.names():
        (Path(store.directory) / name).write_bytes(b"")
    before = store.names()
    with pytest.raises(CheckpointDamaged, match="checkpoints are damaged"):
        run(MemorySource([X]), model, [], store)
    assert caplog.text.count("taking the one before it") == len(before) - 1
    assert caplog.text.count("is damaged") == len(before)
    assert store.names() == before


def test_old_checkpoints_are_pruned(store: DirectoryStore, X: np.ndarray, model: se.KMeans) -> None:
    schedule = Schedule(every_events=50, every_seconds=0, keep=2)
    run(MemorySource([X], batch_size=50), model, [], store, schedule=schedule)
    assert len(store.names()) == 2


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        (se.KMeans(n_clusters=4, seeding=SEEDING), "n_clusters was 3, now 4"),
        (
            se.KMeans(n_clusters=3, forgetting=se.KeepAll(), seeding=SEEDING),
            "forgetting.*now 'keep-all'",
        ),
        (se.SoftKMeans(n_clusters=3, beta=1.0), "kind was 'kmeans', now 'soft-kmeans'"),
    ],
)
def test_another_model_is_refused_with_the_difference(
    store: DirectoryStore, X: np.ndarray, half_way: Any, changed: Any, difference: str
) -> None:
    sink = MemorySink()
    half_way(store, [sink])
    before = list(sink.rows), store.names()
    with pytest.raises(SettingsChanged, match=difference):
        run(MemorySource([X], batch_size=50), changed, [sink], store)
    assert (sink.rows, store.names()) == before


def test_features_may_not_change_nor_their_order(
    store: DirectoryStore, X: np.ndarray, model: se.KMeans, half_way: Any
) -> None:
    half_way(store, [])
    source = MemorySource([X], features=("x1", "x0"), batch_size=50)
    with pytest.raises(SettingsChanged, match=r"were \['x0', 'x1'\], now \['x1', 'x0'\]"):
        run(source, model, [], store)


@pytest.mark.parametrize("accepted", [False, True])
@pytest.mark.parametrize("features", [["b", "a"], ["a", "c"]])
def test_features_that_a_source_names_may_not_change_whatever_is_accepted(
    store: DirectoryStore, tmp_path: Path, model: Any, caplog: Any, features: Any, accepted: bool
) -> None:
    file = tmp_path / "in.csv"
    file.write_text("a,b,c\n" + "1,2,3\n4,5,6\n7,8,9\n" * 20)
    run(CsvSource(str(file), ["a", "b"]), model, [], store)
    with pytest.raises(SettingsChanged, match=r"were \['a', 'b'\].*--fresh") as refused:
        run(CsvSource(str(file), features), model, [], store, accept_source_change=accepted)
    assert "accept-source-change" not in str(refused.value)
    assert "as accepted" not in caplog.text


def test_another_source_needs_to_be_accepted(
    store: DirectoryStore, X: np.ndarray, model: se.KMeans, half_way: Any
) -> None:
    half_way(store, [])
    renamed = MemorySource([X], name="other", batch_size=50)
    with pytest.raises(SettingsChanged, match="name was 'memory', now 'other'"):
        run(renamed, model, [], store)
    summary = run(renamed, model, [], store, accept_source_change=True)
    assert (summary.events, summary.total_events) == (600, 900)


def test_before_anything_is_learned_every_setting_is_free(
    store: DirectoryStore, X: np.ndarray, model: se.KMeans, newest: Any
) -> None:
    run(MemorySource([]), model, [], store)
    other = dataclasses.replace(model, n_clusters=2)
    source = MemorySource([X], name="other", features=("a", "b"))
    assert run(source, other, [], store, seed=9).clusters == 2
    assert newest(store).state.seed == 9


def test_intervals_may_change(
    store: DirectoryStore, X: np.ndarray, model: se.KMeans, every: Schedule, half_way: Any
) -> None:
    half_way(store, [], schedule=Schedule(every_events=50))
    summary = run(MemorySource([X], batch_size=50), model, [], store, schedule=every)
    assert summary.total_events == 600


def test_a_new_output_starts_as_on_a_first_run_and_a_removed_one_is_dropped(
    store: DirectoryStore, X: np.ndarray, model: se.KMeans, newest: Any, half_way: Any
) -> None:
    old, new = MemorySink("old"), MemorySink("new")
    half_way(store, [old])
    later = MemorySource([X], batch_size=50)
    run(later, model, [new], store, max_events=100)
    assert [row["offset"] for row in new.rows] == list(range(300, 400))
    assert set(newest(store).extents) == {"new"}
    assert len(old.rows) == 300
    with pytest.raises(OutputChanged, match="old holds 300 rows of nobody"):
        run(later, model, [old, new], store)


def test_a_second_run_onto_an_output_of_nobody_is_refused(X: np.ndarray, model: se.KMeans) -> None:
    sink = MemorySink()
    run(MemorySource([X]), model, [sink])
    with pytest.raises(OutputChanged):
        run(MemorySource([X]), model, [sink])
    assert run(MemorySource([X]), model, [sink], overwrite=True).events == len(sink.rows) == 600


def test_fresh_starts_anew_and_cuts_the_outputs_unless_they_append(
    store: DirectoryStore, X: np.ndarray, model: se.KMeans, half_way: Any
) -> None:
    cut, append = MemorySink("cut"), MemorySink("append", append=True)
    half_way(store, [cut, append])
    summary = run(MemorySource([X], batch_size=50), model, [cut, append], store, fresh=True)
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
    store: DirectoryStore, caplog: pytest.LogCaptureFixture, X: np.ndarray, model: se.KMeans
) -> None:
    run(Pipe(X[:300]), model, [], store)
    assert "at most once" in caplog.text
    with pytest.raises(SavedStateError, match=r"holds 300 rows.*--continue"):
        run(Pipe(X[300:]), model, [], store)
    summary = run(Pipe(X[300:]), model, [], store, continue_input=True)
    assert summary.total_events == 600
    assert "continuing after 300 rows" in caplog.text
