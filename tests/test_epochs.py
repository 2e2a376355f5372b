"""A stream that gives up partitions ends the epoch first; one that lost them starts again."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import final

import numpy as np
import pytest

import stream_em as se
from stream_em.engine import Schedule, run
from stream_em.errors import CheckpointFailed, PartitionsLost
from stream_em.memory import MemorySink
from stream_em.stores import DirectoryStore
from stream_em.streams import Batch, Json, Origins, Positions, Progress, Source, Stream

MODEL = se.KMeans(n_clusters=2, initial_means=[[0.0], [10.0]])
RARELY = Schedule(every_events=0, every_seconds=600)
SIZE = 10


@final
class Group:
    """What outlives a stream: how many rows were handed out, and what becomes of them."""

    def __init__(self, revokes: set[int], loses: set[int], end: int) -> None:
        self.revokes, self.loses, self.end = revokes, loses, end
        self.settled: list[int] = []  # position at each end of an epoch
        self.committed: list[int] = []


@final
class GroupSource(Source):
    kind = "group"
    batch_size = SIZE

    def __init__(self, group: Group) -> None:
        self.group = group

    def opened_at(self, positions: Positions | None) -> Stream:
        start = 0 if positions is None else int(positions.parts.get("p", 0))
        return GroupStream(self.group, start)

    def identity(self) -> dict[str, Json]:
        return {}


@final
class GroupStream(Stream):
    """Rows 0.0, 1.0, … of one partition; gives it up, or loses it, where the group says."""

    features = ("x",)

    def __init__(self, group: Group, start: int) -> None:
        self.group, self.at = group, start
        self.positions = Positions({"p": start})
        self._settle: Callable[[], None] = lambda: None

    def attend(self, settle: Callable[[], None]) -> None:
        self._settle = settle

    def poll(self, seconds: float) -> Batch | None:
        if self.at in self.group.revokes:
            self.group.revokes.discard(self.at)
            self._settle()
            self.group.settled.append(self.at)
        if self.at in self.group.loses:
            self.group.loses.discard(self.at)
            raise PartitionsLost("partition p went to another engine")
        rows = np.arange(self.at, self.at + SIZE, dtype=np.float64)[:, None]
        offsets = np.arange(self.at, self.at + SIZE)
        zeros = np.zeros(SIZE, dtype=np.int32)
        self.at += SIZE
        origins = Origins(("p",), zeros, zeros, offsets, None, None)
        return Batch(rows, None, origins, (), Positions({"p": self.at}), 8 * SIZE)

    @property
    def ended(self) -> bool:
        return self.at >= self.group.end

    def limit(self, rows: int) -> None:
        """Batches are small."""

    def progress(self) -> Progress:
        return Progress(self.at, None)

    def commit(self, positions: Positions) -> None:
        self.group.committed.append(int(positions.parts["p"]))

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture(autouse=True)
def all_threads_end() -> Iterator[None]:
    yield
    left = [t for t in threading.enumerate() if t.name.startswith("stream-em")]
    for thread in left:
        thread.join(5)
    assert [t.name for t in left if t.is_alive()] == []


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(str(tmp_path / "checkpoints"))


def test_an_epoch_ends_with_everything_learned_and_saved(store, monkeypatch) -> None:
    group, saved = Group({50, 120}, set(), 200), []
    save = DirectoryStore.save

    def saving(self, checkpoint):
        saved.append((checkpoint.state.total_events, len(group.settled)))
        return save(self, checkpoint)

    monkeypatch.setattr(DirectoryStore, "save", saving)
    assert run(GroupSource(group), MODEL, store=store, schedule=RARELY).total_events == 200
    assert group.settled == [50, 120]
    assert saved == [(0, 0), (50, 0), (120, 1), (200, 2)]


def test_after_a_loss_the_run_starts_again_from_the_true_checkpoint(store) -> None:
    group, sink = Group({50}, {120}, 200), MemorySink()
    summary = run(GroupSource(group), MODEL, [sink], store, schedule=RARELY)
    assert summary.total_events == 200
    assert summary.resumed_from is not None
    assert summary.resumed_from.startswith("00000001-")
    assert [row["offset"] for row in sink.rows] == list(range(200))


def test_a_loss_before_anything_was_saved_starts_anew(store) -> None:
    group, sink = Group(set(), {70}, 100), MemorySink()
    assert run(GroupSource(group), MODEL, [sink], store, schedule=RARELY).total_events == 100
    assert [row["offset"] for row in sink.rows] == list(range(100))


def test_a_fresh_run_that_loses_partitions_does_not_delete_what_it_saved(store) -> None:
    run(GroupSource(Group(set(), set(), 30)), MODEL, store=store, schedule=RARELY)
    group = Group({50}, {80}, 100)
    summary = run(GroupSource(group), MODEL, store=store, schedule=RARELY, fresh=True)
    assert (summary.total_events, summary.events) == (100, 50)


def test_an_epoch_that_cannot_be_saved_ends_the_run(store, monkeypatch) -> None:
    monkeypatch.setattr("stream_em.engine.schedule.RETRY_SECONDS", 0.01)
    group, save = Group({50}, set(), 100), DirectoryStore.save

    def saving(self, checkpoint):
        if checkpoint.number:
            raise OSError(28, "No space left on device")
        return save(self, checkpoint)

    monkeypatch.setattr(DirectoryStore, "save", saving)
    with pytest.raises(CheckpointFailed):
        run(GroupSource(group), MODEL, store=store, schedule=RARELY)
    assert group.settled == []


def test_positions_are_committed_after_each_checkpoint(store) -> None:
    group = Group({50}, set(), 100)
    run(GroupSource(group), MODEL, store=store, schedule=RARELY)
    assert group.committed[-1] == 100
    assert set(group.committed) <= {0, 50, 100}
