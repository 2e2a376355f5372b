"""What comes out for the rows that go in, and what is learned from them."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

import stream_em as se
from stream_em.engine import run
from stream_em.engine.pending import COLUMNS
from stream_em.memory import MemorySink, MemorySource
from stream_em.stores import DirectoryStore


def test_every_row_has_its_output_row_in_order(X: np.ndarray, model: se.KMeans) -> None:
    sink = MemorySink()
    summary = run(MemorySource([X], batch_size=50), model, [sink])
    assert [row["offset"] for row in sink.rows] == list(range(600))
    assert tuple(sink.rows[0]) == COLUMNS
    assert sink.visible == 600
    assert {row["source"] for row in sink.rows} == {"memory"}
    assert {row["log_likelihood"] for row in sink.rows} == {None}
    assert summary.events == summary.total_events == 600
    assert summary.batches == 12
    assert summary.stopped_by == "end"


def test_the_engine_learns_what_a_plain_loop_of_steps_learns(
    store: DirectoryStore, X: np.ndarray, newest: Any
) -> None:
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


def test_equal_runs_give_equal_rows(X: np.ndarray, model: se.KMeans) -> None:
    first, second = MemorySink(), MemorySink()
    run(MemorySource([X], batch_size=50), model, [first], name="a")
    run(MemorySource([X], batch_size=50), model, [second], name="b")
    assert first.rows == second.rows


def test_times_and_keys_come_out_again_and_absent_times_are_null(
    X: np.ndarray, model: se.KMeans
) -> None:
    table = np.column_stack([X, np.arange(600.0), np.arange(600.0)])
    table[3, 2] = np.nan
    source = MemorySource([table], features=("a", "b", "t", "k"), time="t", key="k")
    sink = MemorySink()
    run(source, model, [sink])
    assert [row["time"] for row in sink.rows[2:5]] == [2.0, None, 4.0]
    assert [row["key"] for row in sink.rows[2:5]] == [2.0, 3.0, 4.0]


def test_fewer_rows_than_seeding_needs_are_written_at_the_end(
    X: np.ndarray, model: se.KMeans
) -> None:
    sink = MemorySink()
    summary = run(MemorySource([X[:30]], batch_size=7), model, [sink])
    assert len(sink.rows) == summary.events == 30
    assert summary.objective_per_event is None


def test_a_source_without_rows_changes_nothing(
    store: DirectoryStore, model: se.KMeans, newest: Any
) -> None:
    sink = MemorySink()
    summary = run(MemorySource([]), model, [sink], store)
    assert (summary.events, summary.clusters, summary.checkpoints) == (0, 0, 0)
    assert [newest(store).number, sink.rows] == [0, []]


@pytest.mark.filterwarnings("error")
def test_warming_up_warns_of_nothing() -> None:
    assert run(MemorySource([]), se.SoftKMeans(n_clusters=3, beta=0.001)).events == 0


def test_the_summary_is_json(X: np.ndarray, model: se.KMeans) -> None:
    summary = run(MemorySource([X]), model)
    assert json.loads(json.dumps(dataclasses.asdict(summary)))["events"] == 600


@pytest.mark.parametrize("loud", [0, 1, 200])
def test_rows_without_weight_may_come_first(
    store: DirectoryStore, X: np.ndarray, model: se.KMeans, loud: int
) -> None:
    """There are features then, but no clusters yet."""
    weights = np.repeat([0.0, 1.0], [400, loud])
    table = np.column_stack([X[: 400 + loud], weights])
    sink = MemorySink()
    source = MemorySource([table], features=("a", "b", "w"), weight="w", batch_size=50)
    summary = run(source, model, [sink], store)
    assert summary.total_events == 400 + loud
    assert [row["offset"] for row in sink.rows] == list(range(400 + loud))
