"""Where reading starts and resumes, what is committed, and how far behind it is."""

import json
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

import stream_em as se
from stream_em.stores import DirectoryStore
from stream_em.streams import Batch, Positions

NOW = int(time.time()) * 1000  # milliseconds; records from long ago would be deleted at once
AT = datetime.fromtimestamp(NOW / 1000, UTC).isoformat()

Produce = Callable[..., None]
Make = Callable[..., str]


@pytest.mark.parametrize(
    ("start", "found"),
    [("earliest", [0, 1, 2, 3, 4]), ("latest", []), ("committed", [2, 3, 4]), (AT, [3, 4])],
    ids=["earliest", "latest", "committed", "time"],
)
def test_a_fresh_run_starts_where_it_is_told(
    kafka: Any,
    topic: Make,
    produce: Produce,
    x: Any,
    polled: Any,
    so_many: Any,
    rows: Any,
    after: Any,
    told: Any,
    start: str,
    found: list[float],
) -> None:
    name, group = topic(1), uuid.uuid4().hex
    produce(name, x(*range(5)), times=[NOW + second * 1000 for second in range(-3, 2)])
    with closing(kafka(name, group_id=group, batch_size=2).opened_at(None)) as stream:
        batches = polled(stream, so_many(2))
        stream.commit(after(stream, batches))
    assert rows(told(kafka(name, group_id=group, start=start, until_end=True))) == found


def test_latest_is_resolved_once_and_loses_nothing_on_resume(
    kafka: Any, topic: Make, produce: Produce, x: Any, rows: Any, told: Any
) -> None:
    name = topic(2)
    produce(name, x(1))
    with closing(kafka(name, start="latest").opened_at(None)) as stream:
        checkpoint_0 = stream.positions
    produce(name, x(2), partition=0)
    produce(name, x(3), partition=1)
    again = told(kafka(name, start="latest", until_end=True), checkpoint_0)
    assert sorted(rows(again)) == [2, 3]


def test_a_resumed_stream_gives_the_rest_whatever_was_committed(
    kafka: Any,
    topic: Make,
    produce: Produce,
    x: Any,
    polled: Any,
    so_many: Any,
    rows: Any,
    after: Any,
    told: Any,
) -> None:
    name, group = topic(1), uuid.uuid4().hex
    produce(name, x(*range(1000)))
    with closing(kafka(name, group_id=group, batch_size=100).opened_at(None)) as stream:
        batches = polled(stream, so_many(300))
        at = after(stream, batches)
        stream.commit(Positions({f"{name}/0": {**at.parts[f"{name}/0"], "offset": 7}}))
    assert rows(told(kafka(name, group_id=group, until_end=True), at)) == list(range(300, 1000))


def test_an_engine_killed_and_started_again_counts_each_record_once(
    kafka: Any, topic: Make, produce: Produce, tmp_path: Any
) -> None:
    name = topic(3)
    dice = np.random.default_rng(1)
    for partition in range(3):
        values = dice.normal(size=(2000, 2)).round(3).tolist()
        made = [json.dumps({"x": a, "y": b}).encode() for a, b in values]
        produce(name, [*made, b"bad"], partition=partition)
    source = kafka(name, features=["x", "y"], batch_size=500, until_end=True, group_id=name)
    model, store = se.KMeans(3), DirectoryStore(tmp_path / "checkpoints")
    first = se.run(source, model, store=store, max_events=2500)
    assert first.events == 2500
    second = se.run(source, model, store=store)
    assert (second.total_events, second.total_rejected) == (6000, 3)


def test_positions_committed_for_the_group_are_seen_by_all(
    kafka: Any,
    topic: Make,
    produce: Produce,
    committed_offsets: Any,
    x: Any,
    polled: Any,
    so_many: Any,
    after: Any,
) -> None:
    name, group = topic(2), uuid.uuid4().hex
    produce(name, x(1, 2, 3))
    with closing(kafka(name, group_id=group).opened_at(None)) as stream:
        stream.commit(after(stream, polled(stream, so_many(3))))
        assert {n: at for n, (at, _) in committed_offsets(group, name).items()} == {0: 3, 1: 0}
        status = stream.status()
        assert status is not None
        assert (status.commits, status.failed_commits) == (1, 0)
        assert status.uncommitted == {(name, 0): 0, (name, 1): 0}


def test_status_tells_the_lag(
    kafka: Any, topic: Make, produce: Produce, x: Any, polled: Any, so_many: Any, rows: Any
) -> None:
    name = topic(1)
    produce(name, x(*range(100)), times=[NOW] * 100)
    with closing(kafka(name, batch_size=30).opened_at(None)) as stream:
        stream.limit(30)
        polled(stream, so_many(30))
        status = stream.status()
        assert status is not None
        assert status.lag == {(name, 0): 70}
        assert status.newest == {(name, 0): NOW / 1000}
        assert status.connected
        polled(stream, so_many(70))
        produce(name, x(1))

        def caught_up(found: list[Batch]) -> bool:
            status = stream.status()
            return status is not None and len(rows(found)) == 1 and status.lag == {(name, 0): 0}

        polled(stream, caught_up)
