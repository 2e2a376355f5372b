"""Rejected records: dead letters, counts, log lines, and when there are too many."""

import dataclasses
import json
import logging
from typing import Any

import numpy as np
import pytest

import stream_em as se
from stream_em.engine import Schedule, run
from stream_em.errors import TooManyRejects
from stream_em.memory import MemorySink, MemorySource
from stream_em.stores import DirectoryStore


def test_rejected_records_become_dead_letters_and_counts_add_up(
    store: DirectoryStore, X: np.ndarray, model: se.KMeans, newest: Any, bad: Any
) -> None:
    sink, dead = MemorySink(), MemorySink("dead")
    source = MemorySource([X[:100], bad(100), X[100:], bad(601)], batch_size=50)
    summary = run(source, model, [sink], store, dead_letters=dead)
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


def test_raw_bytes_that_are_no_text_are_base64(model: se.KMeans, bad: Any) -> None:
    dead = MemorySink("dead")
    run(MemorySource([bad(0)._replace(raw=b"\xff\x00")]), model, dead_letters=dead)
    assert (dead.rows[0]["raw"], dead.rows[0]["raw_encoding"]) == ("/wA=", "base64")


@pytest.mark.parametrize(
    ("values", "reason", "name"),
    [
        ([1e308, 0.0, 1.0], "non_finite", "a"),
        ([np.nan, 0.0, 1.0], "non_finite", "a"),
        ([0.0, -np.inf, 1.0], "non_finite", "b"),
        ([0.0, 0.0, -1.0], "weight", None),
        ([0.0, 0.0, np.nan], "weight", None),
        ([0.0, 0.0, 1e308], "weight", None),
    ],
)
def test_unusable_rows_never_reach_the_model(
    X: np.ndarray, model: se.KMeans, values: list[float], reason: str, name: str | None
) -> None:
    table = np.column_stack([X, np.ones(600)])
    table[300] = values
    source = MemorySource([table], features=("a", "b", "w"), weight="w", batch_size=50)
    sink, dead = MemorySink(), MemorySink("dead")
    summary = run(source, model, [sink], dead_letters=dead)
    assert (summary.events, summary.rejected) == (599, 1)
    assert [row["offset"] for row in sink.rows] == [n for n in range(600) if n != 300]
    (letter,) = dead.rows
    assert (letter["offset"], letter["reason"], letter["field"]) == (300, reason, name)
    assert list(json.loads(letter["raw"])) == ["a", "b", "weight"]
    assert "1e+100" in letter["detail"]


def test_a_row_of_weight_zero_has_an_output_row(
    store: DirectoryStore, X: np.ndarray, model: se.KMeans, newest: Any
) -> None:
    table = np.column_stack([X, np.ones(600)])
    table[[5, 300], 2] = 0.0
    source = MemorySource([table], features=("a", "b", "w"), weight="w", batch_size=50)
    sink = MemorySink()
    summary = run(source, model, [sink], store)
    assert len(sink.rows) == summary.events == 600
    assert newest(store).state.learned == 598


def test_times_from_the_future_are_rejected_and_do_not_fade_the_others(
    X: np.ndarray, model: se.KMeans
) -> None:
    table = np.column_stack([X, np.arange(600.0)])
    table[300, 2] = 1e9
    source = MemorySource([table], features=("a", "b", "t"), time="t", batch_size=50)
    forgetting = se.EventTimeHalfLife(seconds=1000.0)
    model = dataclasses.replace(model, forgetting=forgetting)
    dead = MemorySink("dead")
    summary = run(source, model, dead_letters=dead)
    assert (summary.events, summary.rejected) == (599, 1)
    assert (dead.rows[0]["offset"], dead.rows[0]["reason"]) == (300, "future")


def test_without_dead_letters_one_line_per_reason_is_logged(
    caplog: pytest.LogCaptureFixture, X: np.ndarray, model: se.KMeans, bad: Any
) -> None:
    items = [X[:100], *(bad(n) for n in range(9)), bad(9, "empty")]
    with caplog.at_level(logging.WARNING, "stream_em.engine.rejects"):
        run(MemorySource(items, batch_size=50), model)
    lines = [r.getMessage() for r in caplog.records if r.name == "stream_em.engine.rejects"]
    assert [line.startswith("rejected memory partition 0 offset") for line in lines] == [
        True,
        True,
        False,
    ]
    assert lines[2] == "rejected 8 more records: schema"


def test_too_many_rejects_cut_the_outputs_back_and_write_no_checkpoint(
    store: DirectoryStore, X: np.ndarray, model: se.KMeans, newest: Any, bad: Any, blobs: Any
) -> None:
    items: list[Any] = [X, *(bad(600 + n) for n in range(700))]
    sink, dead = MemorySink(), MemorySink("dead")
    schedule = Schedule(every_events=300, every_seconds=0)
    source = MemorySource(items, batch_size=50)
    with pytest.raises(TooManyRejects, match=r"offset 600: schema.*decimal commas") as caught:
        run(source, model, [sink], store, schedule=schedule, dead_letters=dead)
    assert caught.value.exit_code == 1
    held = newest(store)
    assert held.number > 0
    assert len(sink.rows) == held.state.total_events - held.state.held_rows
    assert len(dead.rows) == held.rejected
    repaired = dataclasses.replace(source, items=[X, blobs(700)])
    summary = run(repaired, model, [sink], store, dead_letters=dead)
    assert summary.total_events + summary.total_rejected == 1300
    assert len(sink.rows) == summary.total_events
    assert len(dead.rows) == summary.total_rejected


def test_a_wrong_codec_can_be_corrected_although_a_checkpoint_exists(
    store: DirectoryStore, X: np.ndarray, model: se.KMeans, bad: Any
) -> None:
    sink, dead = MemorySink(), MemorySink("dead")
    wrong = MemorySource([bad(n) for n in range(1000)], batch_size=50, weight="decimal")
    wrong = dataclasses.replace(wrong, max_reject_ratio=0.5, features=("x0", "x1", "decimal"))
    with pytest.raises(TooManyRejects):
        run(wrong, model, [sink], store, dead_letters=dead)
    assert (sink.rows, dead.rows) == ([], [])
    summary = run(MemorySource([X]), model, [sink], store, dead_letters=dead)
    assert (summary.total_events, summary.total_rejected, len(sink.rows)) == (600, 0, 600)
