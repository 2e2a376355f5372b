"""How many rows a batch has, and how long they wait for others."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

Produce = Callable[..., None]
Make = Callable[..., str]


def test_a_smaller_batch_is_handed_out_after_a_while(
    kafka: Any, topic: Make, produce: Produce, x: Any, polled: Any, so_many: Any
) -> None:
    name = topic(1)
    produce(name, x(*range(25)))
    with closing(kafka(name, batch_size=10, max_wait_ms=50).opened_at(None)) as stream:
        batches = polled(stream, so_many(25))
        assert [len(batch.rows) for batch in batches] == [10, 10, 5]
        assert [batch.timed for batch in batches] == [False, False, True]


def test_rows_wait_for_others_as_long_as_they_may(
    kafka: Any, topic: Make, produce: Produce, x: Any, polled: Any, so_many: Any, rows: Any
) -> None:
    name = topic(1)
    produce(name, x(1, 2))
    with closing(kafka(name, batch_size=3, max_wait_ms=3_600_000).opened_at(None)) as stream:
        assert stream.poll(2.0) is None
        produce(name, x(3))
        (batch,) = polled(stream, so_many(3))
        assert rows([batch]) == [1, 2, 3]


def test_a_limit_holds_and_positions_stay_behind_it(
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
    name = topic(2)
    produce(name, x(*range(500)), partition=0)
    produce(name, x(*range(500, 1000)), partition=1)
    source = kafka(name, batch_size=1000)
    with closing(source.opened_at(None)) as stream:
        stream.limit(30)
        batches = polled(stream, so_many(300))
        assert max(len(batch.rows) for batch in batches) == 30
        at = after(stream, batches)
    rest = told(kafka(name, until_end=True), at)
    assert sorted(rows(batches) + rows(rest)) == list(range(1000))
