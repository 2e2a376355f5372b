"""Reading on: what is resumed, noticed and passed over, and where it ends."""

import json
from pathlib import Path
from typing import Any

import pytest

import stream_em as se
from stream_em.cli import main
from stream_em_connectors.kafka.client import TopicPartition

P0 = TopicPartition("t", 0)


def test_a_resumed_stream_gives_the_rest(
    cluster: Any, kafka: Any, x: Any, polled: Any, rows: Any, after: Any
) -> None:
    cluster.add(0, *x(*range(10)))
    cluster.add(1, *x(*range(10, 20)))
    stream = kafka(batch_size=7).opened_at(None)
    batches = polled(stream)
    assert rows(batches) == list(range(20))
    assert [len(batch.rows) for batch in batches] == [7, 7, 6]
    assert [batch.timed for batch in batches] == [False, False, True]
    for done in range(4):
        again = kafka(batch_size=3).opened_at(after(stream, batches[:done]))
        assert rows(polled(again, 9)) == rows(batches[done:])


def test_new_partitions_are_noticed_and_read_from_their_beginning(
    cluster: Any, log: Any, kafka: Any, x: Any, polled: Any, rows: Any, after: Any
) -> None:
    stream = kafka(start="latest").opened_at(None)
    assert polled(stream) == []
    cluster.logs[TopicPartition("t", 2)] = log()
    cluster.add(2, *x(7))
    cluster.add(0, *x(5))
    batches = polled(stream)
    assert sorted(rows(batches)) == [5, 7]
    assert after(stream, batches).parts["t/2"] == {"offset": 1, "id": "t-id"}


def test_markers_behind_the_last_record_move_positions(
    cluster: Any, kafka: Any, x: Any, polled: Any, after: Any
) -> None:
    cluster.add(0, *x(1))
    cluster.logs[P0].end += 1  # a marker
    stream = kafka(start="earliest").opened_at(None)
    assert after(stream, polled(stream)).parts["t/0"]["offset"] == 2
    cluster.logs[P0].end += 3  # a transaction taken back
    moved = polled(stream)
    assert [len(batch.rows) for batch in moved] == [0]
    assert moved[0].next_positions.parts["t/0"]["offset"] == 5
    assert moved[0].rows.shape == (0, 1)
    assert polled(stream) == []


def test_until_end_stops_at_the_ends_as_they_were(
    cluster: Any, log: Any, kafka: Any, x: Any, polled: Any, rows: Any, after: Any
) -> None:
    cluster.add(0, *x(1, 2))
    cluster.logs[P0].end += 1
    stream = kafka(until_end=True).opened_at(None)
    cluster.add(0, *x(3))
    cluster.add(1, *x(4))
    cluster.logs[TopicPartition("t", 2)] = log()
    batches = polled(stream)
    assert rows(batches) == [1, 2]
    assert stream.ended
    assert not batches[0].timed
    at = after(stream, batches).parts
    assert (at["t/0"]["offset"], at["t/1"]["offset"], "t/2" in at) == (3, 0, False)


def test_until_end_of_empty_topics_ends_at_once(cluster: Any, kafka: Any) -> None:
    stream = kafka(until_end=True).opened_at(None)
    assert stream.poll(0) is None
    assert stream.ended


def test_a_limit_holds_and_positions_stay_behind_it(
    cluster: Any, kafka: Any, x: Any, after: Any
) -> None:
    cluster.add(0, *x(*range(100)))
    stream = kafka(batch_size=40).opened_at(None)
    first = stream.poll(0)
    stream.limit(7)
    second = stream.poll(0)
    assert first is not None and second is not None
    assert (len(first.rows), len(second.rows)) == (40, 7)
    assert after(stream, [first, second]).parts["t/0"]["offset"] == 47


def test_nobody_answering_a_look_round_is_borne(
    cluster: Any, kafka: Any, x: Any, polled: Any, rows: Any
) -> None:
    stream = kafka().opened_at(None)
    cluster.down = True
    cluster.add(0, *x(1))
    assert rows(polled(stream)) == [1]


@pytest.mark.timeout(30)
def test_score_ends_where_a_topic_ends(
    cluster: Any, x: Any, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    cluster.add(0, *x(1, 9, 2))
    model = se.KMeans(n_clusters=2, initial_means=[[0.0], [10.0]])
    se.save(tmp_path / "saved.ckpt", model, se.init(model))
    (tmp_path / "c.toml").write_text(
        'source = { kind = "kafka", bootstrap_servers = "localhost:9", topics = ["t"], '
        'features = ["x"] }\nmodel = { kind = "kmeans", n_clusters = 2 }\n'
    )
    command = ["score", str(tmp_path / "saved.ckpt"), "-c", str(tmp_path / "c.toml")]
    with pytest.raises(SystemExit) as left:
        main(command)
    assert left.value.code == 0
    assert [json.loads(row)["cluster"] for row in capfdbinary.readouterr().out.splitlines()] == [
        *(0, 1, 0),
    ]
