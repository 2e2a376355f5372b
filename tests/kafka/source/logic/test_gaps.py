"""Records that are gone, topics made again, and positions beyond the end."""

from typing import Any

import pytest

from stream_em.errors import RecordsGone, SavedStateError, SourceChanged
from stream_em.streams import Positions
from stream_em_connectors.kafka.client import TopicPartition

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


class TestGaps:
    """Records that were deleted before they were read."""

    saved = Positions({"t": {"id": "t-id"}, "t/0": {"offset": 3, "id": "t-id"}})

    def test_at_the_start_they_are_an_error(self, cluster: Any, log: Any, kafka: Any) -> None:
        cluster.logs[P0] = log(first=10, end=10)
        with pytest.raises(SavedStateError, match=r't partition 0 .*: 7 offsets.*on_gap = "skip"'):
            kafka().opened_at(self.saved)
        assert cluster.consumers[-1].left is not None

    def test_they_may_be_skipped_and_are_counted(
        self, cluster: Any, log: Any, kafka: Any, x: Any, polled: Any, rows: Any
    ) -> None:
        cluster.logs[P0] = log(first=10, end=10)
        cluster.add(0, *x(1))
        stream = kafka(on_gap="skip").opened_at(self.saved)
        assert stream.positions.parts["t/0"]["offset"] == 10
        assert rows(polled(stream)) == [1]
        assert stream.skipped == 7

    def test_while_reading_they_are_an_error(
        self, cluster: Any, log: Any, kafka: Any, polled: Any
    ) -> None:
        stream = kafka().opened_at(None)
        cluster.logs[P0] = log(first=10, end=12)
        with pytest.raises(SavedStateError, match="10 offsets are gone"):
            polled(stream)

    def test_what_was_read_before_is_handed_out_first(
        self, cluster: Any, log: Any, kafka: Any, x: Any, rows: Any
    ) -> None:
        cluster.add(0, *x(1, 2))
        stream = kafka(max_wait_ms=60_000).opened_at(None)
        assert stream.poll(0) is None
        cluster.logs[P0] = log(first=10, end=12)
        assert rows([stream.poll(0)]) == [1, 2]
        for _ in range(2):
            assert not stream.ended
            with pytest.raises(RecordsGone, match="8 offsets are gone"):
                stream.poll(0)

    def test_what_the_client_had_at_hand_is_not_passed_over(
        self, cluster: Any, log: Any, kafka: Any, x: Any, rows: Any
    ) -> None:
        stream = kafka(max_wait_ms=60_000).opened_at(None)
        cluster.add(0, *x(1, 2))
        assert stream.poll(0) is None
        cluster.add(0, *x(3, 4))
        cluster.logs[P1] = log(first=10, end=12)
        batch = stream.poll(0)
        assert rows([batch]) == [1, 2]
        assert batch.next_positions.parts["t/0"]["offset"] == 2

    def test_while_reading_they_may_be_skipped(
        self, cluster: Any, log: Any, kafka: Any, x: Any, polled: Any, rows: Any, after: Any
    ) -> None:
        stream = kafka(on_gap="skip").opened_at(None)
        cluster.logs[P0] = log(first=10, end=10)
        cluster.add(0, *x(5))
        batches = polled(stream)
        assert rows(batches) == [5]
        assert after(stream, batches).parts["t/0"]["offset"] == 11
        assert stream.skipped == 10

    def test_what_the_client_had_at_hand_is_read_again(
        self, cluster: Any, log: Any, kafka: Any, x: Any, polled: Any, rows: Any
    ) -> None:
        stream = kafka(on_gap="skip").opened_at(None)
        cluster.add(0, *x(1, 2))
        cluster.logs[P1] = log(first=10, end=10)
        cluster.add(1, *x(3))
        assert rows(polled(stream)) == [1, 2, 3]


@pytest.mark.parametrize("on_gap", ["error", "skip"])
def test_beyond_the_end_is_never_skipped(
    cluster: Any, log: Any, kafka: Any, x: Any, polled: Any, on_gap: str
) -> None:
    saved = Positions({"t": {"id": "t-id"}, "t/0": {"offset": 3, "id": "t-id"}})
    with pytest.raises(SourceChanged, match="ends at offset 0, but reading stands at 3"):
        kafka(on_gap=on_gap).opened_at(saved)
    cluster.add(0, *x(1, 2, 3))
    stream = kafka(on_gap=on_gap).opened_at(saved)
    cluster.logs[P0] = log(end=1)
    with pytest.raises(SourceChanged, match="truncated"):
        polled(stream)


class TestRecreated:
    """A topic deleted and made again under the same name."""

    @pytest.fixture
    def saved(self, cluster: Any, kafka: Any, x: Any, polled: Any, after: Any) -> Positions:
        """The positions behind the records of the topic that was there first."""
        cluster.add(0, *x(1, 2))
        stream = kafka().opened_at(None)
        return after(stream, polled(stream))

    def test_at_the_start_it_is_refused(
        self, cluster: Any, saved: Positions, kafka: Any, x: Any
    ) -> None:
        cluster.made_again("t", 2)
        cluster.add(0, *x(*range(9)))
        with pytest.raises(SourceChanged, match=r"made again.*t-id.*on_recreated") as caught:
            kafka().opened_at(saved)
        assert caught.value.exit_code == 4

    def test_at_the_start_it_may_begin_again(
        self, cluster: Any, saved: Positions, kafka: Any, x: Any, polled: Any, rows: Any
    ) -> None:
        cluster.made_again("t", 1)
        cluster.add(0, *x(*range(9)))
        stream = kafka(on_recreated="beginning").opened_at(saved)
        batches = polled(stream)
        assert rows(batches) == list(range(9))
        merged = saved.advanced(stream.positions).advanced(batches[-1].next_positions)
        rest = kafka().opened_at(merged)  # t/1 of the old topic is still in there
        assert polled(rest) == []

    def test_under_the_run_it_ends_the_run(
        self, cluster: Any, kafka: Any, x: Any, polled: Any
    ) -> None:
        stream = kafka().opened_at(None)
        cluster.made_again("t", 2)
        cluster.add(0, *x(*range(9)))
        with pytest.raises(SourceChanged, match="made again"):
            polled(stream)

    def test_under_the_run_it_may_begin_again(
        self, cluster: Any, kafka: Any, x: Any, polled: Any, rows: Any, after: Any
    ) -> None:
        cluster.add(0, *x(1, 2, 3))
        cluster.add(1, *x(4))
        stream = kafka(on_recreated="beginning", batch_size=2).opened_at(None)
        first = stream.poll(0)
        assert first is not None
        cluster.made_again("t", 3)
        cluster.add(0, *x(5))
        cluster.add(2, *x(6))
        batches = polled(stream, 6)
        assert rows(batches)[-2:] == [5, 6]
        at = after(stream, [first, *batches]).parts
        assert at["t"] == {"id": "t-id-again"}
        assert [at[f"t/{n}"]["offset"] for n in range(3)] == [1, 0, 1]
        assert rows(polled(kafka().opened_at(Positions(at)))) == []

    def test_a_deleted_topic_ends_the_run(self, cluster: Any, kafka: Any, polled: Any) -> None:
        stream = kafka().opened_at(None)
        logs, cluster.logs = cluster.logs, {}
        cluster.consumers[-1].paused = set(logs)
        with pytest.raises(SourceChanged, match="deleted"):
            polled(stream)
