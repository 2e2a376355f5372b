"""Records that are gone, topics made again, and topics shorter than they were."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from stream_em.errors import SavedStateError, SourceChanged
from stream_em.streams import Positions
from stream_em_connectors.kafka.client import TopicPartition

Produce = Callable[..., None]
Make = Callable[..., str]


class TestGaps:
    def test_a_gap_at_the_start_is_an_error_of_known_size(
        self,
        kafka: Any,
        topic: Make,
        produce: Produce,
        delete_records: Any,
        x: Any,
        polled: Any,
        so_many: Any,
        rows: Any,
        after: Any,
    ) -> None:
        name = topic(1)
        produce(name, x(*range(10)))
        with closing(kafka(name, batch_size=2).opened_at(None)) as stream:
            at = after(stream, polled(stream, so_many(2)))
        delete_records(name, 0, 6)
        with pytest.raises(SavedStateError, match=rf"{name} partition 0 .*: 4 offsets"):
            kafka(name).opened_at(at)
        with closing(kafka(name, on_gap="skip", until_end=True).opened_at(at)) as stream:
            assert rows(polled(stream)) == [6, 7, 8, 9]
            assert stream.skipped == 4

    @pytest.mark.parametrize("on_gap", ["error", "skip"])
    def test_a_gap_under_the_run(
        self,
        kafka: Any,
        topic: Make,
        produce: Produce,
        delete_records: Any,
        x: Any,
        polled: Any,
        so_many: Any,
        rows: Any,
        on_gap: str,
    ) -> None:
        name = topic(2)
        with closing(kafka(name, on_gap=on_gap).opened_at(None)) as stream:
            consumer = stream._consumer
            consumer.pause([TopicPartition(name, 0)])
            produce(name, x(*range(10)))
            produce(name, x(*range(10, 20)), partition=1)
            first = polled(stream, so_many(10))
            delete_records(name, 0, 6)
            consumer.seek(TopicPartition(name, 0), 0)  # forget what was fetched before
            consumer.resume([TopicPartition(name, 0)])
            if on_gap == "error":
                with pytest.raises(SavedStateError, match="6 offsets are gone"):
                    polled(stream)
                return
            second = polled(stream, so_many(4))
            assert (rows(first), rows(second)) == (list(range(10, 20)), [6, 7, 8, 9])
            assert stream.skipped == 6


class TestRecreated:
    """A topic deleted and made again under the same name."""

    @pytest.fixture
    def again(
        self, topic: Make, delete_topic: Any, produce: Produce, x: Any
    ) -> Callable[[str, int], None]:
        def made(name: str, records: int) -> None:
            delete_topic(name)
            topic(1, name)
            produce(name, x(*range(1000, 1000 + records)))

        return made

    def test_at_the_start(
        self,
        kafka: Any,
        topic: Make,
        produce: Produce,
        again: Any,
        x: Any,
        polled: Any,
        so_many: Any,
        rows: Any,
        after: Any,
        told: Any,
    ) -> None:
        name = topic(2)
        produce(name, x(1, 2))
        with closing(kafka(name).opened_at(None)) as stream:
            at = after(stream, polled(stream, so_many(2)))
        again(name, 5)
        with pytest.raises(SourceChanged, match="made again"):
            kafka(name).opened_at(at)
        batches = told(kafka(name, on_recreated="beginning", until_end=True), at)
        assert rows(batches) == [1000, 1001, 1002, 1003, 1004]

    def test_under_the_run(
        self,
        kafka: Any,
        topic: Make,
        produce: Produce,
        again: Any,
        x: Any,
        polled: Any,
        so_many: Any,
    ) -> None:
        name = topic(1)
        produce(name, x(1, 2))
        with closing(kafka(name).opened_at(None)) as stream:
            polled(stream, so_many(2))
            again(name, 5)
            with pytest.raises(SourceChanged, match=r"made again|deleted|truncated"):
                polled(stream)

    def test_under_the_run_it_may_begin_again(
        self,
        kafka: Any,
        topic: Make,
        produce: Produce,
        again: Any,
        x: Any,
        polled: Any,
        so_many: Any,
        rows: Any,
        after: Any,
        offset: Any,
    ) -> None:
        name = topic(1)
        produce(name, x(1, 2))
        with closing(kafka(name, on_recreated="beginning").opened_at(None)) as stream:
            first = polled(stream, so_many(2))
            again(name, 1)
            rest = polled(stream, so_many(1))
            assert rows(rest)[-1] == 1000
            assert offset(after(stream, [*first, *rest]), name) == 1


def test_a_shorter_topic_is_never_skipped(
    kafka: Any, topic: Make, produce: Produce, x: Any
) -> None:
    name = topic(1)
    produce(name, x(1))
    with closing(kafka(name).opened_at(None)) as stream:
        at = dict(stream.positions.parts)
    at[f"{name}/0"] = {**at[f"{name}/0"], "offset": 5}
    with pytest.raises(SourceChanged, match="ends at offset 1, but reading stands at 5"):
        kafka(name, on_gap="skip").opened_at(Positions(at))
