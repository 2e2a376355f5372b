"""Partitions that come and go among the members of a group."""

from typing import Any

import pytest

from stream_em.errors import PartitionsLost, SavedStateError, SettingsError, SourceFailed
from stream_em.streams import Positions
from stream_em_connectors.kafka.client import TopicPartition

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


class TestSharing:
    """`sharing = "group"`."""

    def test_it_needs_a_group_and_an_instance(self, kafka: Any) -> None:
        with pytest.raises(SettingsError, match="group_id"):
            kafka(sharing="group")
        with pytest.raises(SettingsError, match="instance_id"):
            kafka(sharing="group", group_id="g").named("engine", None)
        with pytest.raises(SettingsError, match="instance_id"):
            kafka(sharing="group", group_id="g").opened_at(None)

    def test_batches_speak_of_owned_partitions_only(
        self, cluster: Any, shared: Any, x: Any, polled: Any, rows: Any, after: Any
    ) -> None:
        cluster.add(0, *x(1))
        cluster.add(1, *x(2))
        stream = shared().opened_at(None)
        assert set(stream.positions.parts) == {"t", "t/0", "t/1"}
        fake = cluster.consumers[-1]
        assert fake.instance == "one"
        fake.during_poll.append(lambda: fake.give(P1))
        batches = polled(stream)
        assert rows(batches) == [2]
        assert set(after(stream, batches).parts) == {"t", "t/0", "t/1"}
        assert all("t/0" not in batch.next_positions.parts for batch in batches)
        stream.commit(after(stream, batches))
        assert fake.commits == [{P1: 1}]
        carried = stream.courtesy(after(stream, batches))
        assert carried is not None
        assert (carried.group, set(carried.offsets)) == (("member", "one"), {P1})

    @pytest.mark.parametrize(("committed", "found"), [(1, [3, 4]), (3, [4]), (9, [3, 4])])
    def test_the_later_of_checkpoint_and_committed_counts(
        self,
        cluster: Any,
        shared: Any,
        x: Any,
        polled: Any,
        rows: Any,
        committed: int,
        found: list[float],
    ) -> None:
        cluster.add(0, *x(1, 2, 3, 4))
        cluster.committed[P0] = committed
        saved = Positions({"t": {"id": "t-id"}, "t/0": {"offset": 2, "id": "t-id"}})
        stream = shared().opened_at(saved)
        cluster.consumers[-1].during_poll.append(lambda: cluster.consumers[-1].give(P0))
        assert rows(polled(stream)) == found

    def test_latest_means_when_the_run_began(
        self, cluster: Any, shared: Any, x: Any, polled: Any, rows: Any
    ) -> None:
        stream = shared(start="latest").opened_at(None)
        cluster.add(0, *x(1))
        cluster.consumers[-1].during_poll.append(lambda: cluster.consumers[-1].give(P0))
        assert rows(polled(stream)) == [1]

    def test_before_a_partition_goes_all_is_settled_and_committed(
        self, cluster: Any, shared: Any, x: Any, polled: Any, rows: Any
    ) -> None:
        cluster.add(0, *x(*range(10)))
        cluster.add(1, *x(*range(10, 20)))
        stream = shared(batch_size=4).opened_at(None)
        fake, settled = cluster.consumers[-1], []
        stream.attend(lambda: settled.append(len(fake.commits)))
        fake.during_poll.append(lambda: fake.give(P0, P1))
        batches = [stream.poll(0), stream.poll(0), stream.poll(0)]
        fake.during_poll.append(lambda: fake.take(P0))
        rest = polled(stream, 5)
        assert rows([b for b in batches if b]) == list(range(12))
        assert rows(rest) == list(range(12, 20))
        assert settled == [0]
        assert fake.commits == [{P0: 10}]
        assert all("t/0" not in batch.next_positions.parts for batch in rest)
        status = stream.status()
        assert status is not None
        assert (status.assigned, status.rebalances) == (1, 1)

    def test_unserved_records_of_a_partition_that_goes_are_dropped(
        self, cluster: Any, shared: Any, x: Any, rows: Any
    ) -> None:
        cluster.add(0, *x(*range(4)))
        cluster.add(1, *x(*range(10, 12)))
        stream = shared(batch_size=3, max_wait_ms=60_000).opened_at(None)
        fake = cluster.consumers[-1]
        stream.attend(lambda: None)
        fake.during_poll.append(lambda: fake.give(P0, P1))
        first = stream.poll(0)
        second = stream.poll(0)
        assert first is not None and second is not None
        assert rows([first, second]) == [0, 1, 2, 3, 10, 11]
        cluster.add(0, *x(4, 5))
        assert stream.poll(0) is None  # two rows wait
        fake.during_poll.append(lambda: fake.take(P0))
        cluster.add(1, *x(12, 13, 14))
        third = stream.poll(0)
        assert third is not None
        assert rows([third]) == [12, 13, 14]
        assert fake.commits == [{P0: 4}]

    def test_what_cannot_be_settled_is_lost(self, cluster: Any, shared: Any, polled: Any) -> None:
        def fail() -> None:
            raise SourceFailed("the disk is full")

        stream = shared().opened_at(None)
        fake = cluster.consumers[-1]
        stream.attend(fail)
        fake.during_poll.append(lambda: fake.give(P0))
        polled(stream)
        fake.during_poll.append(lambda: fake.take(P0))
        with pytest.raises(PartitionsLost, match=r"t/0.*the disk is full"):
            stream.poll(0)
        assert fake.commits == []

    def test_lost_partitions_end_the_run(
        self, cluster: Any, shared: Any, x: Any, polled: Any
    ) -> None:
        cluster.add(0, *x(1))
        stream = shared().opened_at(None)
        fake = cluster.consumers[-1]
        fake.during_poll.append(lambda: fake.give(P0))
        polled(stream)
        cluster.add(0, *x(2))
        fake.during_poll.append(lambda: fake.lose(P0))
        with pytest.raises(PartitionsLost, match="t/0"):
            stream.poll(0)

    def test_a_gap_found_on_assignment_is_raised_by_the_poll(
        self, cluster: Any, log: Any, shared: Any
    ) -> None:
        stream = shared().opened_at(None)
        cluster.logs[P0] = log(first=5, end=6)
        fake = cluster.consumers[-1]
        fake.during_poll.append(lambda: fake.give(P0))
        with pytest.raises(SavedStateError, match="5 offsets"):
            stream.poll(0)

    def test_closing_settles_nothing_and_stays_a_member(
        self, cluster: Any, shared: Any, polled: Any
    ) -> None:
        settled: list[int] = []
        stream = shared().opened_at(None)
        fake = cluster.consumers[-1]
        stream.attend(lambda: settled.append(1))
        fake.during_poll.append(lambda: fake.give(P0))
        polled(stream)
        stream.close()
        fake.take(P0)
        assert (settled, fake.left) == ([], False)
        assert stream.ended and stream.poll(0) is None

    def test_until_end_waits_for_partitions(
        self, cluster: Any, shared: Any, x: Any, polled: Any, rows: Any
    ) -> None:
        cluster.add(0, *x(1))
        stream = shared(until_end=True).opened_at(None)
        assert stream.poll(0) is None
        assert not stream.ended
        cluster.consumers[-1].during_poll.append(lambda: cluster.consumers[-1].give(P0))
        assert rows(polled(stream)) == [1]
        assert stream.ended
