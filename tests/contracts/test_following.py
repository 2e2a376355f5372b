"""Files that grow, rotate and are joined by others, and standard input."""

import gzip
import io
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream_em.errors import SettingsError, SourceChanged, SourceFailed
from stream_em.streams import Batch, Positions, Stream
from stream_em_connectors.files import CsvSource, JsonLinesSource, ParquetSource, following


@pytest.fixture(autouse=True)
def _looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(following, "NAP_SECONDS", 0.005)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "app.log"
    path.write_text("x\n1\n2\n")
    return path


def followed(path: Path | str, **settings: Any) -> CsvSource:
    made = {"features": ["x"], "follow": True, "max_wait_ms": 20, **settings}
    return CsvSource(str(path), **made)


def batches_of(stream: Stream, rows: int) -> list[Batch]:
    """Poll until so many rows came; more than that would be an error of the source."""
    found: list[Batch] = []
    until = time.monotonic() + 20
    while sum(len(batch.rows) for batch in found) < rows and time.monotonic() < until:
        batch = stream.poll(0.05)
        if batch is not None:
            found.append(batch)
    return found


def values(batches: list[Batch]) -> list[float]:
    return [x for batch in batches for x in batch.rows[:, 0].tolist()]


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_growth_is_read_and_never_half_a_line(log: Path) -> None:
    stream = followed(log, batch_size=2).opened_at(None)
    first = batches_of(stream, 2)
    assert (values(first), first[0].timed) == ([1, 2], False)
    append(log, "3\n4")
    second = batches_of(stream, 1)
    assert (values(second), second[0].timed) == ([3], True)
    assert stream.poll(0.1) is None
    append(log, "4\n5\n")
    assert values(batches_of(stream, 2)) == [44, 5]
    assert not stream.ended
    assert stream.progress().total_bytes is None
    stream.close()
    assert stream.ended


def test_polling_does_not_take_much_longer_than_asked(log: Path) -> None:
    stream = followed(log).opened_at(None)
    batches_of(stream, 2)
    began = time.monotonic()
    assert stream.poll(0.1) is None
    assert 0.09 < time.monotonic() - began < 5
    stream.close()


def test_an_empty_file_may_get_its_header_later(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.touch()
    stream = followed(path).opened_at(None)
    assert stream.poll(0.02) is None
    append(path, "x")
    assert stream.poll(0.02) is None
    append(path, "\n7\n")
    assert values(batches_of(stream, 1)) == [7]
    stream.close()
    path.write_text("x\n")
    with pytest.raises(SettingsError, match="name them"):
        followed(path, features=None).opened_at(None)


def test_rotation_reads_the_old_file_to_its_end(log: Path) -> None:
    stream = followed(log).opened_at(None)
    batches_of(stream, 2)
    writer = log.open("a")
    old = log.rename(log.with_name("app.log.1"))
    log.write_text("x\n4\n")
    writer.write("3\n")  # its writer has not noticed yet
    writer.close()
    batches = batches_of(stream, 2)
    assert values(batches) == [3, 4]
    assert {name for batch in batches for name in batch.origins.sources} == {str(log)}
    append(log, "5\n")
    assert values(batches_of(stream, 1)) == [5]
    stream.close()
    assert old.exists()


def test_several_rotations_between_two_looks(log: Path) -> None:
    stream = followed(log).opened_at(None)
    batches_of(stream, 2)
    rotate_twice(log)
    assert values(batches_of(stream, 3)) == [3, 4, 5]
    stream.close()


def rotate_twice(log: Path) -> None:
    log.rename(log.with_name("app.log.2"))
    append(log.with_name("app.log.2"), "3\n")
    log.with_name("app.log.1").write_text("x\n4\n")
    log.write_text("x\n5\n")


@pytest.mark.parametrize("rows", [1, 2])
def test_a_restart_finds_the_rotated_file(log: Path, rows: int) -> None:
    source = followed(log, batch_size=rows)
    stream = source.opened_at(None)
    positions = batches_of(stream, rows)[0].next_positions
    stream.close()
    rotate_twice(log)
    stream = source.opened_at(positions)
    assert values(batches_of(stream, 5 - rows)) == [2, 3, 4, 5][rows - 1 :]
    stream.close()


def test_a_restart_without_the_rotated_file_names_the_gap(log: Path) -> None:
    source = followed(log, batch_size=1)
    stream = source.opened_at(None)
    positions = batches_of(stream, 2)[-1].next_positions
    stream.close()
    log.write_text("x\n8\n9\n10\n")
    with pytest.raises(SourceChanged, match="behind byte 6 of the old one cannot be found"):
        source.opened_at(positions)


def test_copied_and_truncated(log: Path) -> None:
    stream = followed(log).opened_at(None)
    batches_of(stream, 2)
    append(log, "3\n")
    shutil.copy(log, log.with_name("app.log.1"))
    os.truncate(log, 0)
    append(log, "x\n4\n")
    assert values(batches_of(stream, 2)) == [3, 4]
    stream.close()


@pytest.mark.parametrize("text", ["", "x\n9\n9\n9\n9\n"])
def test_truncated_without_a_copy_is_a_gap(log: Path, text: str) -> None:
    stream = followed(log).opened_at(None)
    batches_of(stream, 2)
    log.write_text(text)
    with pytest.raises(SourceFailed, match="up to byte 6"):
        batches_of(stream, 1)
    stream.close()


def test_new_files_are_taken_up_in_turn(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n2")
    source = followed(tmp_path / "*.csv", batch_size=2)
    stream = source.opened_at(None)
    assert values(batches_of(stream, 1)) == [1]
    (tmp_path / "b.csv").write_text("x\n3\n4\n")
    batches = batches_of(stream, 2)
    assert values(batches) == [3, 4]
    torn = [one for batch in batches for one in batch.rejected]
    assert [(one.reason, one.raw, one.offset) for one in torn] == [("decode_error", b"2", 4)]
    stream.close()
    positions = Positions()
    for batch in batches:
        positions = positions.advanced(batch.next_positions)
    (tmp_path / "c.csv").write_text("x\n5\n")
    stream = source.opened_at(positions)
    assert values(batches_of(stream, 1)) == [5]
    (tmp_path / "aa.csv").write_text("x\n5\n")
    with pytest.raises(SourceChanged, match=r"aa\.csv is new"):
        batches_of(stream, 1)
    stream.close()


def test_parquet_files_are_taken_up_when_they_are_complete(tmp_path: Path) -> None:
    def save(name: str, value: int) -> Path:
        pq.write_table(pa.table({"x": [value]}), tmp_path / name)
        return tmp_path / name

    save("a.parquet", 1)
    settings: dict[str, Any] = {"features": ["x"], "follow": True, "max_wait_ms": 20}
    stream = ParquetSource(str(tmp_path / "*.parquet"), **settings).opened_at(None)
    assert values(batches_of(stream, 1)) == [1]
    whole = save("later", 2).read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[:-20])
    assert stream.poll(0.1) is None
    (tmp_path / "b.parquet").write_bytes(whole)
    assert values(batches_of(stream, 1)) == [2]
    stream.close()


def test_compressed_files_are_followed_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"x\n" + b"1\n" * 100 + b"2"))
    stream = followed(tmp_path / "*.csv*").opened_at(None)
    assert values(batches_of(stream, 101)) == [1.0] * 100 + [2.0]
    assert stream.poll(0.1) is None
    (tmp_path / "b.csv").write_text("x\n3\n")
    assert values(batches_of(stream, 1)) == [3]
    stream.close()


def test_following_from_the_latest_line(log: Path) -> None:
    append(log, "3")
    stream = followed(log, start="latest").opened_at(None)
    assert stream.poll(0.05) is None
    append(log, "3\n4\n")
    assert values(batches_of(stream, 2)) == [33, 4]
    stream.close()


# --- standard input ---------------------------------------------------------------------


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[BinaryIO]:
    """The end of a pipe that leads to standard input."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "r") as file, os.fdopen(writing, "wb", buffering=0) as end:
        monkeypatch.setattr("sys.stdin", file)
        yield end


def test_standard_input_waits_for_full_batches(pipe: BinaryIO) -> None:
    stream = CsvSource("-", features=["x"], batch_size=2).opened_at(None)
    pipe.write(b"x\n1\n2\n3\nnot")
    assert values(batches_of(stream, 2)) == [1, 2]
    assert stream.poll(0.05) is None
    pipe.write(b"hing\n4")
    pipe.close()
    batches = batches_of(stream, 2)
    assert values(batches) == [3, 4]
    assert [one.raw for one in batches[0].rejected] == [b"nothing"]
    assert batches[0].next_positions.parts == {"-": {"records": 5}}
    assert stream.poll(0.05) is None
    assert stream.ended


def test_standard_input_goes_on_counting(pipe: BinaryIO) -> None:
    pipe.write(b'{"x": 1}\n')
    pipe.close()
    positions = Positions({"-": {"records": 7}})
    stream = JsonLinesSource("-").opened_at(positions)
    assert stream.features == ("x",)
    batch = batches_of(stream, 1)[0]
    assert batch.next_positions.parts == {"-": {"records": 8}}
    assert batch.origins.sources == ("-",)


def test_standard_input_with_follow_does_not_wait_long(pipe: BinaryIO) -> None:
    stream = CsvSource("-", follow=True, max_wait_ms=20, header=False).opened_at
    pipe.write(b"1,2\n")
    opened = stream(None)
    batch = batches_of(opened, 1)[0]
    assert (batch.rows.tolist(), batch.timed, opened.features) == ([[1, 2]], True, ("0", "1"))
    opened.close()


def test_standard_input_may_be_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"x\n1\n2\n")))
    stream = CsvSource("-").opened_at(None)
    assert values(batches_of(stream, 2)) == [1, 2]
    assert stream.poll(0) is None
    assert stream.ended
