"""Crashes at every place: a second run ends in the same state, one output row per input row.

Marks in the data die while reading; wrapped stores and sinks die before or after any one
of their calls, which covers every window of the checkpoint protocol: before checkpoint 0,
between barrier and checkpoint, between checkpoint and `committed`, and during pruning.
"""

import json
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow.parquet as pq
import pytest

import stream_em as se
from stream_em.checkpoints import Checkpoint
from stream_em.engine import Schedule, Summary, run
from stream_em.engine.saving import Draft, InStore
from stream_em.errors import TooManyRejects
from stream_em.memory import Crash, Crashed, MemorySink, MemorySource
from stream_em.stores import DirectoryStore, Store
from stream_em.streams import Columns, Json, Rejected, Sink
from stream_em_connectors.files.jsonl_sink import JsonLinesSink
from stream_em_connectors.files.parquet_sink import ParquetSink

MODEL = se.GaussianMixture(n_components=2, seeding=se.Seeding(rows=90, restarts=1))
EVERY = Schedule(every_events=80, every_seconds=0, keep=2)
BATCH, ROWS = 40, 400


def blobs() -> np.ndarray:
    draw = np.random.default_rng(11)
    return draw.normal(size=(ROWS, 2)) + 10.0 * draw.integers(0, 2, size=(ROWS, 1))


X = blobs()
BAD = Rejected("memory", 0, 150, "schema", "x0", "'a', expected a number", b"a")


class Died(BaseException):
    """The process ended here."""


@final
class Fuse:
    """Burns at the call number `calls` of one method, before or after the call is done."""

    def __init__(self, method: str, calls: int, after: bool) -> None:
        self.method, self.calls, self.after = method, calls, after
        self.burnt = False

    def around(self, method: str, call: Any) -> Any:
        mine = method == self.method and not self.burnt
        if mine:
            self.calls -= 1
        burning = mine and self.calls < 0
        if burning and not self.after:
            self.burn()
        result = call()
        if burning:
            self.burn()
        return result

    def burn(self) -> None:
        self.burnt = True
        raise Died


@final
class DyingStore(Store):
    kind = "dying"

    def __init__(self, inner: Store, fuse: Fuse) -> None:
        self.inner, self.fuse = inner, fuse

    def lock(self) -> AbstractContextManager[None]:
        return self.inner.lock()

    def save(self, checkpoint: Checkpoint) -> str:
        return self.fuse.around("save", lambda: self.inner.save(checkpoint))

    def names(self) -> tuple[str, ...]:
        return self.inner.names()

    def digest(self, name: str) -> str:
        return self.inner.digest(name)

    def size(self, name: str) -> int:
        return self.inner.size(name)

    def load(self, name: str) -> Checkpoint:
        return self.fuse.around("load", lambda: self.inner.load(name))

    def delete(self, names: Iterable[str]) -> None:
        """One file after the other, as a crash may find them."""
        for name in names:
            self.fuse.around("delete", lambda name=name: self.inner.delete([name]))

    def clean(self) -> None:
        self.fuse.around("clean", self.inner.clean)


@final
class DyingSink(Sink):
    kind = "dying"

    def __init__(self, inner: MemorySink, fuse: Fuse) -> None:
        self.name, self.exactly_once = inner.name, True
        self.inner, self.fuse = inner, fuse

    def begin(self, incarnation: str, overwrite: bool) -> Json:
        return self.fuse.around("begin", lambda: self.inner.begin(incarnation, overwrite))

    def roll_back(self, extent: Json, number: int, incarnation: str) -> None:
        self.fuse.around("roll_back", lambda: self.inner.roll_back(extent, number, incarnation))

    def write(self, columns: Columns) -> None:
        self.fuse.around("write", lambda: self.inner.write(columns))

    def barrier(self, number: int) -> Json:
        return self.fuse.around("barrier", lambda: self.inner.barrier(number))

    def committed(self, number: int) -> None:
        self.fuse.around("committed", lambda: self.inner.committed(number))

    def close(self) -> None:
        self.inner.close()


@pytest.fixture
def lockstep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every checkpoint land before the next batch, so that calls can be counted."""
    turn = InStore.turn

    def turned(self: InStore, draft: Draft) -> None:
        turn(self, draft)
        self._landed("the checkpoint just begun")

    monkeypatch.setattr(InStore, "turn", turned)


@final
class World:
    """What outlives a process: the folder and the outputs."""

    def __init__(self, folder: Path) -> None:
        self.store = DirectoryStore(str(folder / "checkpoints"))
        self.lines, self.parts = folder / "rows.jsonl", folder / "parts"
        self.rows = MemorySink("rows")
        self.dead = folder / "dead.jsonl"

    def run(
        self, fuse: Fuse | None = None, items: list[Any] | None = None, fresh: bool = False
    ) -> Summary:
        source = MemorySource([X[:150], BAD, X[150:]] if items is None else items, BATCH)
        files: list[Sink] = [JsonLinesSink(str(self.lines)), ParquetSink(str(self.parts))]
        dead = JsonLinesSink(str(self.dead))
        store: Store = self.store if fuse is None else DyingStore(self.store, fuse)
        first: Sink = self.rows if fuse is None else DyingSink(self.rows, fuse)
        return run(
            *(source, MODEL, [first, *files], store),
            schedule=EVERY,
            dead_letters=dead,
            fresh=fresh,
        )

    def survived(self) -> tuple[Any, ...]:
        last = self.store.load(self.store.names()[-1])
        parts = pq.read_table(self.parts).to_pylist()
        files = self.lines.read_bytes(), self.dead.read_bytes(), parts
        return last.state, last.positions, last.pending, last.rejected, list(self.rows.rows), files


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    world = World(tmp_path_factory.mktemp("uninterrupted"))
    summary = world.run()
    assert (summary.total_events, summary.total_rejected) == (ROWS, 1)
    survived = world.survived()
    lines, dead, parts = survived[-1]
    accepted = [n for n in range(ROWS + 1) if n != 150]
    for rows in (world.rows.rows, [json.loads(line) for line in lines.splitlines()], parts):
        assert [row["offset"] for row in rows] == accepted
    assert [json.loads(line)["offset"] for line in dead.splitlines()] == [150]
    return survived


WINDOWS = [
    *(("begin", 0), ("clean", 0)),  # before checkpoint 0
    *(("save", number) for number in range(4)),
    *(("barrier", number) for number in range(3)),
    *(("committed", number) for number in range(3)),
    *(("delete", number) for number in range(3)),  # pruning
    *(("write", number) for number in (0, 3, 6)),
]


@pytest.mark.usefixtures("lockstep")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("method", "calls"), WINDOWS)
def test_dying_in_any_window_of_the_protocol(
    tmp_path: Path, uninterrupted: tuple[Any, ...], method: str, calls: int, after: bool
) -> None:
    world, fuse = World(tmp_path), Fuse(method, calls, after)
    with pytest.raises(Died):
        world.run(fuse)
    world.run()
    assert world.survived() == uninterrupted


@pytest.mark.usefixtures("lockstep")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("method", "calls"), [("load", 0), ("delete", 0), ("clean", 0), ("roll_back", 0), ("save", 0)]
)
def test_dying_again_while_recovering(
    tmp_path: Path, uninterrupted: tuple[Any, ...], method: str, calls: int, after: bool
) -> None:
    world, first, second = World(tmp_path), Fuse("save", 2, True), Fuse(method, calls, after)
    with pytest.raises(Died):
        world.run(first)
    if method == "delete":  # a newer file that is not whole has to go first
        (tmp_path / "checkpoints" / "00000099-torn.ckpt").write_bytes(b"STREAMEM")
    with pytest.raises(Died):
        world.run(second)
    world.run()
    assert world.survived() == uninterrupted


@pytest.mark.usefixtures("lockstep")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("method", "calls"),
    [
        *(("clean", 0), ("begin", 0), ("save", 0), ("committed", 0), ("write", 0), ("barrier", 0)),
        *(("delete", number) for number in range(2)),  # of what was there before
    ],
)
def test_dying_while_beginning_anew(
    tmp_path: Path, uninterrupted: tuple[Any, ...], method: str, calls: int, after: bool
) -> None:
    """What was there holds until the new beginning does; a plain restart goes on from either."""
    world, fuse, items = World(tmp_path), Fuse(method, calls, after), with_marks([ROWS - 30])
    with pytest.raises(Crashed):
        world.run(items=items)
    assert len(world.store.names()) == 2
    with pytest.raises(Died):
        world.run(fuse, fresh=True)
    world.run()
    assert world.survived() == uninterrupted


def with_marks(places: list[int]) -> list[Any]:
    items: list[Any] = []
    for start, end in zip([0, *places], [*places, ROWS], strict=True):
        items += [X[start:end]] if not start < 150 <= end else [X[start:150], BAD, X[150:end]]
        if end < ROWS:
            items.append(Crash())
    return items


@pytest.mark.parametrize("place", [*range(0, ROWS, BATCH), 17, 133, 150, ROWS - 1])
def test_dying_while_reading(tmp_path: Path, uninterrupted: tuple[Any, ...], place: int) -> None:
    world, items = World(tmp_path), with_marks([place])
    with pytest.raises(Crashed):
        world.run(items=items)
    world.run(items=items)
    assert world.survived() == uninterrupted


def test_dying_once_in_every_batch(tmp_path: Path, uninterrupted: tuple[Any, ...]) -> None:
    world, items = World(tmp_path), with_marks(list(range(20, ROWS, BATCH)))
    crashes = 0
    while crashes < 100:
        try:
            world.run(items=items)
            break
        except Crashed:
            crashes += 1
    assert crashes == ROWS // BATCH
    assert world.survived() == uninterrupted


@pytest.mark.usefixtures("lockstep")
@pytest.mark.parametrize("full", [{2}, {2, 3}, {3}, {4, 5}])
def test_failed_checkpoints_cost_no_row(
    tmp_path: Path,
    uninterrupted: tuple[Any, ...],
    monkeypatch: pytest.MonkeyPatch,
    full: set[int],
) -> None:
    monkeypatch.setattr("stream_em.engine.schedule.RETRY_SECONDS", 0.01)
    world, saves, save = World(tmp_path), [0], DirectoryStore.save

    def saving(self: DirectoryStore, checkpoint: Checkpoint) -> str:
        saves[0] += 1
        if saves[0] in full:
            raise OSError(28, "No space left on device")
        return save(self, checkpoint)

    monkeypatch.setattr(DirectoryStore, "save", saving)
    world.run()
    assert saves[0] > max(full)
    assert world.survived() == uninterrupted


def test_too_many_rejects_leave_the_files_as_the_checkpoint_knows_them(tmp_path: Path) -> None:
    world = World(tmp_path)
    with pytest.raises(TooManyRejects):
        world.run(items=[X[:320], *[BAD] * 1400])
    held = world.store.load(world.store.names()[-1])
    written = held.state.total_events - held.state.held_rows
    parts = pq.read_table(world.parts).num_rows if list(world.parts.glob("*.parquet")) else 0
    assert len(world.lines.read_bytes().splitlines()) == parts == len(world.rows.rows) == written
    assert len(world.dead.read_bytes().splitlines()) == held.rejected
    summary = world.run(items=[X[:320], *[BAD] * held.rejected, X[320:]])
    assert (summary.total_events, summary.total_rejected) == (ROWS, held.rejected)
    assert pq.read_table(world.parts).num_rows == ROWS
    assert len(world.dead.read_bytes().splitlines()) == held.rejected


def test_what_was_written_after_the_true_checkpoint_is_deleted(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.run()
    folder = Path(world.store.directory)
    newest = world.store.names()[-1]
    whole = world.survived()
    data = (folder / newest).read_bytes()
    (folder / "00000050-torn.ckpt").write_bytes(data[: len(data) // 2])
    (folder / "00000051-empty.ckpt").write_bytes(b"")
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    (folder / "00000052-flipped.ckpt").write_bytes(flipped)
    summary = world.run()
    assert (summary.resumed_from, summary.events) == (newest, 0)
    assert world.store.names()[-1] == newest
    assert world.survived() == whole
