"""Where reading begins."""

from typing import Any

import pytest

from stream_em.errors import SettingsError, Unreachable
from stream_em.streams import Positions
from stream_em_connectors.kafka.client import TopicPartition

P0 = TopicPartition("t", 0)


def test_positions_of_all_partitions_are_known_before_the_first_row(
    cluster: Any, kafka: Any, x: Any
) -> None:
    cluster.add(0, *x(1, 2))
    stream = kafka(start="latest").opened_at(None)
    assert stream.positions.parts == {
        "t": {"id": "t-id"},
        "t/0": {"offset": 2, "id": "t-id"},
        "t/1": {"offset": 0, "id": "t-id"},
    }


def test_a_partition_that_is_not_in_the_checkpoint_is_new(
    cluster: Any, kafka: Any, x: Any, polled: Any, rows: Any
) -> None:
    cluster.add(1, *x(1, 2))
    saved = Positions({"t": {"id": "t-id"}, "t/0": {"offset": 0, "id": "t-id"}})
    stream = kafka(start="latest").opened_at(saved)
    assert rows(polled(stream)) == [1, 2]


@pytest.mark.parametrize(("start", "lines"), [("latest", 1), ("1970-01-02", 1), ("earliest", 0)])
def test_a_checkpoint_goes_before_a_start_and_one_line_says_so(
    cluster: Any, kafka: Any, caplog: Any, start: str, lines: int
) -> None:
    caplog.set_level("INFO", "stream_em_connectors")
    saved = kafka(start=start).opened_at(None).positions
    assert "`start` is ignored" not in caplog.text
    kafka(start=start).opened_at(saved)
    assert caplog.text.count("`start` is ignored") == lines


def test_a_topic_that_does_not_exist_is_out_of_reach(cluster: Any, kafka: Any) -> None:
    with pytest.raises(Unreachable, match="topic other does not exist"):
        kafka(topics=["t", "other"]).opened_at(None)


class TestStarts:
    def test_at_committed_offsets_else_at_the_beginning(
        self, cluster: Any, kafka: Any, x: Any, polled: Any, rows: Any
    ) -> None:
        cluster.add(0, *x(1, 2))
        cluster.add(1, *x(3))
        cluster.committed[P0] = 1
        assert rows(polled(kafka(start="committed", group_id="g").opened_at(None))) == [2, 3]

    def test_at_a_time(self, cluster: Any, kafka: Any, x: Any, polled: Any, rows: Any) -> None:
        cluster.add(0, *x(*range(5)))
        cluster.add(1, *x(9))
        stream = kafka(start="1970-01-01T00:00:00.003Z").opened_at(None)
        assert rows(polled(stream)) == [3, 4]
        assert stream.positions.parts["t/1"]["offset"] == 1

    def test_committed_needs_a_group(self, kafka: Any) -> None:
        with pytest.raises(SettingsError, match="group_id"):
            kafka(start="committed")

    @pytest.mark.parametrize("said", ["soon", "", 7])
    def test_others_are_refused(self, kafka: Any, said: Any) -> None:
        with pytest.raises(SettingsError, match="start"):
            kafka(start=said)
