"""What every store promises, shown on a folder of files."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stream_em as se
from stream_em.checkpoints import Checkpoint, encode
from stream_em.errors import CheckpointDamaged, Locked, Unreachable
from stream_em.stores import DirectoryStore, Store
from stream_em.streams import Origins, Positions


def checkpoint(number: int, rows: int = 30) -> Checkpoint:
    """A checkpoint with held rows, so that its size follows `rows`."""
    model = se.KMeans(n_clusters=3)
    X = np.random.default_rng(number).standard_normal((rows, 4))
    state, _ = se.step(model, se.init(model, seed=number), X)
    numbers = np.zeros(rows, np.int32)
    pending = Origins(("a.csv",), numbers, numbers, np.arange(rows), None, None)
    return Checkpoint(
        number=number,
        incarnation="cafe",
        model=model,
        state=state,
        positions=Positions({"a.csv": {"offset": 7 * number, "digest": "ab"}}),
        pending=pending,
        extents={"out.jsonl": {"length": number, "digest": "cd"}},
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = DirectoryStore(str(tmp_path / "checkpoints"))
    with found.lock():
        pass
    return found


def test_what_is_saved_is_loaded(store: Store) -> None:
    name = store.save(checkpoint(3))
    assert re.fullmatch(r"0*3-cafe\.ckpt", name)
    assert store.load(name) == checkpoint(3)
    assert store.load(name).number == 3


def test_names_run_from_old_to_new(store: Store) -> None:
    numbers = [2, 10, 9, 0, 100_000_000, 99_999_999]
    for number in numbers:
        store.save(checkpoint(number, rows=1))
    assert [store.load(name).number for name in store.names()] == sorted(numbers)


def test_nothing_is_overwritten(store: Store) -> None:
    name = store.save(checkpoint(1))
    with pytest.raises(FileExistsError, match="never overwritten"):
        store.save(replace(checkpoint(2), number=1))
    assert store.load(name) == checkpoint(1)
    other = store.save(replace(checkpoint(1), incarnation="beef"))
    assert len({name, other}) == 2


def test_deleting(store: Store) -> None:
    names = [store.save(checkpoint(number)) for number in range(4)]
    store.delete(names[:2])
    store.delete([names[0], names[2]])  # the first is gone already
    assert store.names() == (names[3],)
    with pytest.raises(CheckpointDamaged, match="cannot be read"):
        store.load(names[0])


def test_a_store_that_was_never_used_is_empty_and_not_created(tmp_path: Path) -> None:
    store = DirectoryStore(str(tmp_path / "new"))
    assert store.names() == ()
    store.clean()
    assert os.listdir(tmp_path) == []


def test_strangers_are_passed_over_and_left(store: DirectoryStore) -> None:
    folder = Path(store.directory)
    strangers = {"notes.txt", "1-cafe.ckpt.bak", "x-cafe.ckpt", ".hidden", ".x.tmp"}
    for name in strangers:
        (folder / name).write_text("mine")
    name = store.save(checkpoint(1))
    torn = folder / f".{name}.123.tmp"
    torn.write_bytes(b"half")
    assert store.names() == (name,)
    store.clean()
    assert set(os.listdir(folder)) == {*strangers, name, "lock"}


# --- one engine at a time


def test_a_second_engine_is_kept_out(store: DirectoryStore) -> None:
    holder = f"process {os.getpid()} on {os.uname().nodename}"
    with store.lock():
        with pytest.raises(Locked, match=holder) as caught, store.lock():
            pass
        store.save(checkpoint(1))
    assert caught.value.exit_code == 4
    with store.lock():
        assert len(store.names()) == 1


def test_a_lock_dies_with_its_process(store: DirectoryStore) -> None:
    program = (
        "import sys\n"
        "from stream_em.stores import DirectoryStore\n"
        "with DirectoryStore(sys.argv[1]).lock():\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, store.directory],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    with pytest.raises(Locked, match=f"process {other.pid} on "), store.lock():
        pass
    other.kill()
    other.communicate()
    with store.lock():
        pass


def test_a_lock_is_released_after_an_error(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.lock():
        raise ZeroDivisionError
    with store.lock():
        pass


def test_places_where_nothing_can_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for directory in (tmp_path / "missing" / "checkpoints", tmp_path / "file"):
        with (
            pytest.raises(Unreachable, match=directory.name),
            DirectoryStore(str(directory)).lock(),
        ):
            pass


# --- damage


@pytest.fixture(scope="module")
def whole() -> bytes:
    return encode(checkpoint(5))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_torn_flipped_and_emptied_files(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, data: st.DataObject
) -> None:
    store = DirectoryStore(str(tmp_path_factory.mktemp("damage")))
    before = store.save(checkpoint(4, rows=2))
    name = store.save(checkpoint(5))
    place = data.draw(st.integers(0, len(whole) - 1))
    bit = data.draw(st.integers(0, 7))
    flipped = bytearray(whole)
    flipped[place] ^= 1 << bit
    zeroed = whole[:place] + bytes(len(whole) - place)
    for harm in (whole[:place], bytes(flipped), zeroed, whole + b"\0", whole[place + 1 :]):
        if harm != whole:
            (Path(store.directory) / name).write_bytes(harm)
            with pytest.raises(CheckpointDamaged, match=re.escape(name)):
                store.load(name)
    (Path(store.directory) / name).write_bytes(b"")
    with pytest.raises(CheckpointDamaged, match="is empty") as caught:
        store.load(name)
    assert "--fresh" in str(caught.value)
    assert store.load(before) == checkpoint(4, rows=2)


def test_a_full_disk_leaves_the_old_checkpoints(small_disk: Path) -> None:
    store = DirectoryStore(str(small_disk / "checkpoints"))
    with store.lock():
        names = [store.save(checkpoint(number)) for number in range(2)]
        with pytest.raises(OSError, match=r"No space left|File too large"):
            store.save(checkpoint(2, rows=1900))
        assert set(os.listdir(store.directory)) == {*names, "lock"}
        assert [store.load(name) for name in names] == [checkpoint(0), checkpoint(1)]
        names.append(store.save(checkpoint(2)))  # there is room for a smaller one
        assert store.names() == tuple(names)


@pytest.mark.parametrize("failing", ["first", "second"])  # of the file, of the folder
def test_a_checkpoint_that_may_not_be_durable_is_none(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    calls: list[int] = []

    def fsync(handle: int) -> None:
        calls.append(handle)
        if len(calls) == {"first": 1, "second": 2}[failing]:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output error"):
        store.save(checkpoint(1))
    assert os.listdir(store.directory) == ["lock"]
    store.save(checkpoint(1))
    assert len(calls) > 2
