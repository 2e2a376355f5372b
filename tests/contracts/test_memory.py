"""The memory source and sink keep the contracts of their ports, marks included."""

import numpy as np
import pytest

from stream_em.errors import OutputChanged, SettingsError, SourceChanged
from stream_em.memory import Crash, Crashed, MemorySink, MemorySource, Stop
from stream_em.streams import Batch, Positions, Rejected

X = np.arange(40.0).reshape(20, 2)
BAD = Rejected("memory", 0, 7, "schema", "x0", "text", b"n/a")


def everything(source: MemorySource, positions: Positions | None = None) -> list[Batch]:
    stream = source.opened_at(positions)
    batches = []
    while not stream.ended:
        batch = stream.poll(0)
        if batch is not None:
            batches.append(batch)
    stream.close()
    return batches


def rows(batches: list[Batch]) -> np.ndarray:
    return np.concatenate([batch.rows for batch in batches])


@pytest.mark.parametrize("batch_size", [1, 3, 20, 50])
def test_batches_have_exactly_the_size_whatever_the_cut_of_the_items(batch_size: int) -> None:
    whole = everything(MemorySource([X], batch_size=batch_size))
    pieces = everything(MemorySource([X[:7], X[7:8], X[8:]], batch_size=batch_size))
    assert [len(b.rows) for b in whole[:-1]] == [batch_size] * (len(whole) - 1)
    assert [b.rows.tolist() for b in whole] == [b.rows.tolist() for b in pieces]
    assert rows(whole).tolist() == X.tolist()


@pytest.mark.parametrize("batch_size", [1, 3, 20])
def test_the_rest_after_any_batch_is_the_rest_of_the_whole(batch_size: int) -> None:
    source = MemorySource([X[:5], BAD, X[5:]], batch_size=batch_size)
    whole = everything(source)
    for place, batch in enumerate(whole):
        rest = everything(source, batch.next_positions)
        assert [b.rows.tolist() for b in rest] == [b.rows.tolist() for b in whole[place + 1 :]]
        assert [b.rejected for b in rest] == [b.rejected for b in whole[place + 1 :]]
        assert [b.next_positions for b in rest] == [b.next_positions for b in whole[place + 1 :]]


def test_rejected_records_are_in_their_batch_and_take_an_offset() -> None:
    (batch,) = everything(MemorySource([X[:2], BAD, X[2:4]]))
    assert batch.rejected == (BAD,)
    assert batch.origins.offset.tolist() == [0, 1, 3, 4]
    assert batch.next_positions == Positions({"memory": 5})


def test_time_weight_and_key_are_columns_that_are_no_features() -> None:
    table = np.array([[1.0, 10.0, 0.5, 7.0], [2.0, 20.0, 1.5, 8.0]])
    source = MemorySource([table], features=("x", "t", "w", "k"), time="t", weight="w", key="k")
    (batch,) = everything(source)
    assert source.opened_at(None).features == ("x",)
    assert batch.rows.tolist() == [[1.0], [2.0]]
    assert batch.origins.times.tolist() == [10.0, 20.0]
    assert batch.weights.tolist() == [0.5, 1.5]
    assert batch.origins.keys == (7.0, 8.0)


def test_a_limit_cuts_batches_from_then_on() -> None:
    stream = MemorySource([X], batch_size=8).opened_at(None)
    assert len(stream.poll(0).rows) == 8
    stream.limit(3)
    assert len(stream.poll(0).rows) == 3
    assert stream.progress().read_bytes == 11


def test_a_crash_mark_raises_once_and_loses_the_batch_being_read() -> None:
    source = MemorySource([X[:5], Crash(), X[5:]], batch_size=4)
    stream = source.opened_at(None)
    first = stream.poll(0)
    with pytest.raises(Crashed):
        stream.poll(0)
    again = everything(source, first.next_positions)
    assert rows([first, *again]).tolist() == X.tolist()


def test_a_stop_mark_ends_the_input_once() -> None:
    source = MemorySource([X[:5], Stop(), X[5:]], batch_size=4)
    before = everything(source)
    assert rows(before).tolist() == X[:5].tolist()
    after = everything(source, before[-1].next_positions)
    assert rows(after).tolist() == X[5:].tolist()


def test_positions_beyond_the_end_are_a_changed_source() -> None:
    with pytest.raises(SourceChanged, match=r"20 records.*stands at 21"):
        MemorySource([X]).opened_at(Positions({"memory": 21}))


def test_a_batch_size_below_one_is_refused() -> None:
    with pytest.raises(SettingsError, match="batch_size came as 0"):
        MemorySource([X], batch_size=0)


def test_an_empty_source_ends_at_once() -> None:
    stream = MemorySource([]).opened_at(None)
    assert stream.ended
    assert stream.poll(0) is None


def test_the_sink_is_cut_back_to_its_barrier() -> None:
    sink = MemorySink()
    sink.begin("a", False)
    sink.write({"n": np.array([1, 2])})
    extent = sink.barrier(1)
    assert sink.visible == 0
    sink.committed(1)
    assert sink.visible == 2
    sink.write({"n": [3, None]})
    sink.close()
    assert len(sink.rows) == 4
    sink.roll_back(extent, 1, "b")
    assert sink.rows == [{"n": 1}, {"n": 2}]


def test_the_sink_refuses_rows_of_nobody_and_missing_rows() -> None:
    sink = MemorySink()
    sink.rows.append({"n": 1})
    with pytest.raises(OutputChanged, match="holds 1 rows of nobody"):
        sink.begin("a", False)
    assert sink.begin("a", True) == {"length": 0}
    assert sink.rows  # until the first checkpoint is true
    sink.committed(0)
    with pytest.raises(OutputChanged, match="holds 0 rows, checkpoint 4 recorded 9"):
        sink.roll_back({"length": 9}, 4, "a")
    appending = MemorySink(append=True)
    appending.rows.append({"n": 1})
    assert appending.begin("a", True) == {"length": 1}
