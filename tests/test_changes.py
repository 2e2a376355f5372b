"""Changes of clusters, told: in the sink of changes exactly once, and in the log."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import stream_em as se
from stream_em.config import examine, load, merged
from stream_em.engine import Schedule, conflicts, run
from stream_em.engine.changes import LINES, log_changes
from stream_em.errors import SettingsError
from stream_em.memory import Crash, Crashed, MemorySink, MemorySource
from stream_em.state import Change
from stream_em.stores import DirectoryStore
from stream_em_connectors.files.jsonl_sink import JsonLinesSink
from stream_em_connectors.files.parquet_sink import ParquetSink

MODEL = se.KMeans(n_clusters=3, seeding=se.Seeding(rows=60, restarts=1))
EVERY = Schedule(every_events=100, every_seconds=0)
COLUMNS = ["row", "change", "cluster", "old_uid", "new_uid", "reason", "position"]
BATCH, ROWS = 50, 2_000


def moved() -> np.ndarray:
    """Three blobs; then one of them is no more, and another one comes up far away."""
    draw = np.random.default_rng(3)
    centres = np.array([[0.0, 0.0], [0.0, 12.0], [12.0, 0.0], [60.0, 60.0]])
    which = draw.integers(0, 3, size=ROWS)
    which[ROWS // 2 :] += 1
    return centres[which] + draw.normal(size=(ROWS, 2))


X = moved()


def learned() -> list[Change]:
    """What a plain loop of steps tells."""
    state, told = se.init(MODEL), []
    for start in range(0, ROWS, BATCH):
        state, info = se.step(MODEL, state, X[start : start + BATCH])
        told += info.changes
    return told


def as_row(change: Change) -> dict[str, Any]:
    kind, slot, old, new, row, reason, position = change
    return dict(zip(COLUMNS, (row, kind, slot, old, new, reason, list(position)), strict=True))


def crashing(places: list[int]) -> MemorySource:
    items: list[Any] = []
    for start, end in zip([0, *places], [*places, ROWS], strict=True):
        items += [X[start:end], Crash()]
    return MemorySource(items[:-1], BATCH)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- the sink of changes ----------------------------------------------------------------


def test_the_rows_are_what_the_steps_tell_and_every_kind_of_story_is_in_them() -> None:
    sink, assigned = MemorySink("changes"), MemorySink()
    run(MemorySource([X], BATCH), MODEL, [assigned], changes=sink)
    told = learned()
    assert sink.rows == [as_row(change) for change in told]
    assert list(sink.rows[0]) == COLUMNS
    assert {"provisional", "seeding"} < {row["reason"] for row in sink.rows}
    assert "relocation" in {row["change"] for row in sink.rows}
    assert sink.visible == len(sink.rows)
    assert {row["cluster_uid"] for row in assigned.rows} <= {row["new_uid"] for row in sink.rows}


def test_changes_that_come_with_the_end_of_the_input_are_written_too() -> None:
    sink = MemorySink("changes")
    run(MemorySource([X[:40]], BATCH), MODEL, changes=sink)
    assert [row["change"] for row in sink.rows if row["reason"] == "seeding"].count("birth") == 3


@pytest.mark.parametrize("places", [[30], [110], [1_030, 1_290], list(range(75, ROWS, 150))])
def test_changes_come_exactly_once_whatever_crashes(tmp_path: Path, places: list[int]) -> None:
    source, store = crashing(places), DirectoryStore(str(tmp_path / "checkpoints"))
    path, parts = tmp_path / "changes.jsonl", tmp_path / "parts"
    for _ in places:
        with pytest.raises(Crashed):
            run(source, MODEL, store=store, schedule=EVERY, changes=JsonLinesSink(path))
    run(source, MODEL, store=store, schedule=EVERY, changes=JsonLinesSink(path))
    assert lines(path) == [as_row(change) for change in learned()]
    assert not parts.exists()
    newest = store.load(store.names()[-1])
    assert set(newest.extents) == {str(path)}


def test_a_sink_of_changes_may_join_later_and_leave_again(tmp_path: Path) -> None:
    store, path = DirectoryStore(str(tmp_path / "checkpoints")), tmp_path / "changes.jsonl"
    first, second, third = (MemorySource([X[:n]], BATCH) for n in (500, 1_500, ROWS))
    run(first, MODEL, store=store)
    run(second, MODEL, store=store, changes=JsonLinesSink(path))
    assert lines(path) == [as_row(one) for one in learned() if 500 < one.row <= 1_500]
    assert run(third, MODEL, store=store).total_events == ROWS


def test_parquet_keeps_the_types_although_the_first_changes_have_no_old_uid(
    tmp_path: Path,
) -> None:
    run(MemorySource([X], BATCH), MODEL, changes=ParquetSink(tmp_path / "parts"))
    table = pq.read_table(tmp_path / "parts")
    assert table.to_pylist() == [as_row(change) for change in learned()]
    types = {field.name: str(field.type) for field in table.schema}
    assert (types["old_uid"], types["new_uid"], types["row"]) == ("int64",) * 3
    assert types["position"].startswith("list<")


# --- its settings -----------------------------------------------------------------------


def test_no_two_outputs_are_the_same() -> None:
    source, sink = MemorySource([X]), MemorySink("one")
    assert conflicts(source, [], None, sink) == ()
    assert len(conflicts(source, [MemorySink("one")], None, sink)) == 1
    assert len(conflicts(source, [], MemorySink("one"), sink)) == 1
    with pytest.raises(SettingsError, match="two outputs are the same"):
        run(source, MODEL, [MemorySink("one")], changes=sink)


CONFIG = """\
[source]
kind = "csv"
path = "in.csv"
[model]
kind = "kmeans"
n_clusters = 3
[[sinks]]
kind = "jsonl"
path = "out.jsonl"
"""


def test_the_table_changes_is_any_sink(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(CONFIG)
    assert load(path).changes is None
    path.write_text(CONFIG + '[changes]\nkind = "parquet"\npath = "changes"\n')
    chosen = load(path).changes
    assert chosen is not None
    assert (chosen.kind, chosen.name) == ("parquet", "changes")
    path.write_text(CONFIG + '[changes]\nkind = "jsonl"\npath = "out.jsonl"\n')
    assert [f for f in examine(merged(path)).findings if "are the same" in f.message]


# --- the log ----------------------------------------------------------------------------


def births(n: int, reason: str = "far rows") -> list[Change]:
    return [Change("birth", i, None, i, 100, reason, (0.0, 1.5)) for i in range(n)]


def test_each_change_is_a_line_and_provisional_ones_are_for_debugging(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "stream_em.engine.changes")
    told = learned()
    run(MemorySource([X], 10), MODEL)
    at = {level: [r for r in caplog.records if r.levelno == level] for level in (10, 20)}
    temporary = {c.new_uid for c in told if (c.kind, c.reason) == ("birth", "provisional")}
    lasting = [change for change in told if not {change.old_uid, change.new_uid} & temporary]
    assert [vars(r)["row"] for r in at[logging.INFO]] == [change.row for change in lasting]
    assert len(at[logging.DEBUG]) == len(told) - len(lasting) > 0
    moved = next(record for record in at[logging.INFO] if "relocation" in record.getMessage())
    words = vars(moved)["words"]
    assert f"uid {vars(moved)['old_uid']} -> {vars(moved)['new_uid']}" in words
    assert f"at row {vars(moved)['row']:,}" in words


def test_a_batch_has_so_many_lines_and_then_a_count(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "stream_em.engine.changes")
    log_changes(births(LINES + 7) + births(30, "provisional"))
    assert len(caplog.records) == LINES + 1
    assert "7 more" in caplog.records[-1].getMessage()


# --- outliers ---------------------------------------------------------------------------


def test_rows_that_no_component_explains_are_outliers() -> None:
    model = se.GaussianMixture(n_components=2, seeding=se.Seeding(rows=200, restarts=1))
    draw = np.random.default_rng(1)
    rows = draw.normal(size=(2_000, 2)) + 10.0 * draw.integers(0, 2, size=(2_000, 1))
    rows[::40] = draw.uniform(-200, 200, size=(50, 2))
    state, _ = se.step(model, se.init(model), rows)
    scores = se.score(model, state, [[0.0, 0.0], [10.0, 10.0], [-150.0, 120.0]])
    assert scores.outlier.tolist() == [False, False, True]
    hard = se.KMeans(n_clusters=1, initial_means=[[0.0]])
    assert not se.score(hard, se.init(hard), [[0.0], [1e6]]).outlier.any()
