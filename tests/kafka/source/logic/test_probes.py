"""Probes: the cluster, its topics, and a record of them."""

from typing import Any

import pytest

from stream_em.errors import Unreachable


class TestProbes:
    def test_all_is_well(self, cluster: Any, kafka: Any, x: Any) -> None:
        cluster.add(0, *x(*range(200)))
        found = list(kafka(group_id="g").probes())
        assert [one.problem for one in found] == [None, None, None]
        assert "cluster-id" in found[0].detail
        assert "2 partitions" in found[1].detail
        asked = cluster.consumers[-1]
        assert (asked.callbacks, asked.commits) == (None, [])  # neither joined nor committed
        assert asked.left is not None

    def test_an_empty_topic_has_no_record_yet(self, cluster: Any, kafka: Any) -> None:
        assert [one.detail for one in kafka().probes()][-1] == "no record yet"

    def test_a_record_of_another_format_is_told(self, cluster: Any, kafka: Any) -> None:
        cluster.add(0, b"1,2")
        assert "decode_error" in (list(kafka().probes())[-1].problem or "")

    def test_an_absent_topic_is_told(self, cluster: Any, kafka: Any) -> None:
        assert "does not exist" in (list(kafka(topics=["other"]).probes())[-1].problem or "")

    def test_nobody_to_ask_is_unreachable(self, cluster: Any, kafka: Any) -> None:
        cluster.down = True
        with pytest.raises(Unreachable):
            list(kafka().probes())
