"""Positions committed for a group, and what the status tells."""

from typing import Any

import pytest

from stream_em.errors import SourceFailed
from stream_em_connectors.kafka.client import Committed, TopicPartition
from stream_em_connectors.kafka.courtesy import Courtesy

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


class TestCommits:
    def test_without_a_group_nothing_is_committed(self, cluster: Any, kafka: Any) -> None:
        stream = kafka().opened_at(None)
        stream.commit(stream.positions)
        assert stream.courtesy(stream.positions) is None
        assert cluster.consumers[-1].commits == []

    def test_with_one_positions_are_and_counted(
        self, cluster: Any, kafka: Any, x: Any, polled: Any, after: Any
    ) -> None:
        cluster.add(0, *x(1, 2))
        stream = kafka(group_id="g").opened_at(None)
        at = after(stream, polled(stream))
        stream.commit(at)
        assert cluster.consumers[-1].commits == [{P0: 2, P1: 0}]
        cluster.consumers[-1].refuses_commits = True
        with pytest.raises(SourceFailed):
            stream.commit(at)
        status = stream.status()
        assert status is not None
        assert (status.commits, status.failed_commits) == (1, 1)

    def test_a_transaction_may_carry_them(
        self, cluster: Any, kafka: Any, x: Any, polled: Any, after: Any
    ) -> None:
        cluster.add(0, *x(1, 2))
        cluster.committed[P0] = 0
        stream = kafka(group_id="g").opened_at(None)
        at = after(stream, polled(stream))
        wanted = {P0: Committed(2, ""), P1: Committed(0, "")}
        assert stream.courtesy(at) == Courtesy("cluster-id", "g", wanted)
        before = stream.status()
        assert before is not None
        assert before.uncommitted == {P0: 2, P1: 0}
        stream.committed(at, 0.25)
        status = stream.status()
        assert status is not None
        assert (status.commits, status.commit_seconds) == (1, 0.25)
        assert status.uncommitted == {P0: 0, P1: 0}


def test_status_tells_lag_newest_and_what_is_uncommitted(
    cluster: Any, kafka: Any, x: Any, polled: Any
) -> None:
    cluster.add(0, *x(*range(10)))
    stream = kafka(group_id="g", batch_size=4).opened_at(None)
    stream.poll(0)
    cluster.add(0, b"bad")
    status = stream.status()
    assert status is not None
    assert (status.lag, status.assigned, status.connected) == ({P0: 6, P1: 0}, 2, True)
    assert status.newest == {P0: 3.0}
    stream.commit(stream.positions)
    polled(stream)
    cluster.add(0, *x(1))
    stream.poll(0)
    status = stream.status()
    assert status is not None
    assert status.uncommitted == {P0: 12, P1: 0}
    assert status.errors["deserialize"] == 1
