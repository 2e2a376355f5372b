"""What every sink into files promises, shown on JSON lines, compressed ones and Parquet."""

import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream_em.engine.rejects import dead_letters
from stream_em.errors import Locked, OutputChanged, SettingsError, SinkFailed, Unreachable
from stream_em.streams import Base64, Json, Rejected, Sink
from stream_em_connectors.files import jsonl_sink, parquet_sink
from stream_em_connectors.files.jsonl_sink import JsonLinesSink
from stream_em_connectors.files.parquet_sink import ParquetSink


def lines(path: Path) -> list[Any]:
    data = path.read_bytes() if path.exists() else b""
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    return [json.loads(line) for line in data.splitlines()]


def parts(path: Path) -> list[Any]:
    names = sorted(path.glob("*.parquet"))
    return [row for name in names for row in pq.read_table(name).to_pylist()]


class Kind(NamedTuple):
    """A sink into files and how a stranger reads what it wrote."""

    make: Callable[..., Sink]
    name: str
    rows: Callable[[Path], list[Any]]
    waits: bool  # rows are seen only once their checkpoint is committed


KINDS = {
    "jsonl": Kind(JsonLinesSink, "out.jsonl", lines, False),
    "jsonl.gz": Kind(JsonLinesSink, "out.jsonl.gz", lines, False),
    "parquet": Kind(ParquetSink, "out", parts, True),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write often, so that a crash finds rows in the file that no checkpoint knows."""
    monkeypatch.setattr(jsonl_sink, "CHUNK", 600)
    monkeypatch.setattr(parquet_sink, "ROW_GROUP", 5)


def table(start: int, stop: int) -> dict[str, Any]:
    """Output rows numbered from `start` to `stop`."""
    n = stop - start
    return {
        "source": ["readings.csv"] * n,
        "partition": np.zeros(n, np.int32),
        "offset": np.arange(start, stop),
        "key": [None if i % 3 == 0 else f"k{i}" for i in range(start, stop)],
        "time": [None] * n,
        "cluster": np.arange(start, stop) % 4,
        "cluster_uid": np.arange(start, stop) % 5,
        "probability": np.linspace(0.5, 1.0, n),
        "squared_distance": np.arange(start, stop) / 7,
        "log_likelihood": np.full(n, np.nan),
    }


def offsets(kind: Kind, path: Path) -> list[int]:
    return [row["offset"] for row in kind.rows(path)]


def begun(kind: Kind, path: Path, overwrite: bool = False, **options: Any) -> tuple[Sink, Json]:
    sink = kind.make(str(path), **options)
    return sink, sink.begin("first", overwrite)


def through(sink: Sink, start: int, stop: int, number: int) -> Json:
    """Rows written, made durable and committed as checkpoint `number`."""
    sink.write(table(start, stop))
    extent = sink.barrier(number)
    sink.committed(number)
    return json.loads(json.dumps(extent))


def after_resuming(kind: Kind, path: Path, extent: Json, number: int) -> list[int]:
    """What is there once a run resumed at checkpoint `number` has written two rows."""
    sink = kind.make(str(path))
    sink.roll_back(extent, number, "second")
    through(sink, 0, 2, number + 1)
    sink.close()
    return offsets(kind, path)


# --- what is written is what can be read


def test_rows_come_out_as_they_went_in(kind: Kind, tmp_path: Path) -> None:
    sink, _ = begun(kind, tmp_path / kind.name)
    through(sink, 0, 7, 1)
    through(sink, 7, 9, 2)
    sink.close()
    rows = kind.rows(tmp_path / kind.name)
    assert [row["offset"] for row in rows] == list(range(9))
    assert rows[1] == {
        "source": "readings.csv",
        "partition": 0,
        "offset": 1,
        "key": "k1",
        "time": None,
        "cluster": 1,
        "cluster_uid": 1,
        "probability": 0.5 + 0.5 / 6,
        "squared_distance": 1 / 7,
        "log_likelihood": None,
    }


def test_equal_runs_give_equal_bytes(kind: Kind, tmp_path: Path) -> None:
    def written(folder: Path, incarnation: str) -> dict[str, bytes]:
        folder.mkdir()
        sink = kind.make(str(folder / kind.name))
        sink.begin(incarnation, False)
        through(sink, 0, 20, 1)
        sink.close()
        files = [path for path in folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    assert written(tmp_path / "a", "one") == written(tmp_path / "b", "other")


def test_dead_letters_of_any_bytes(kind: Kind, tmp_path: Path) -> None:
    bad = [
        Rejected("a\udcff.csv", 0, 12, "schema", "x", "'n/a', expected a number", b'n/a,"\x00\n'),
        Rejected("a.csv", 0, 99, "decode_error", None, "no UTF-8", b"\xff\xfe"),
    ]
    sink, _ = begun(kind, tmp_path / kind.name)
    sink.write(dead_letters(bad))
    sink.barrier(1)
    sink.committed(1)
    sink.close()
    first, second = kind.rows(tmp_path / kind.name)
    assert (first["raw"], first["raw_encoding"]) == ('n/a,"\x00\n', "utf-8")
    assert (second["raw"], second["raw_encoding"]) == ("//4=", "base64")
    assert (second["offset"], second["reason"], second["field"], second["time"]) == (
        *(99, "decode_error"),
        *(None, None),
    )


@pytest.mark.parametrize(
    "key", [5, 1 << 70, [1, "a"], {"a": None}, "\ud800", np.int64(3), "", Base64("/wA=")]
)
def test_any_key_is_written(kind: Kind, tmp_path: Path, key: Any) -> None:
    sink, _ = begun(kind, tmp_path / kind.name)
    sink.write({"offset": np.arange(2), "key": [key, None]})
    sink.barrier(1)
    sink.committed(1)
    sink.close()
    found, absent = (row["key"] for row in kind.rows(tmp_path / kind.name))
    assert absent is None
    if kind.waits and not isinstance(key, str):
        found = json.loads(found)
    assert found == key or key == "\ud800"


# --- crashes


class Crash(NamedTuple):
    """Files as a kill left them, and the checkpoint that was true then."""

    files: Path
    number: int
    extent: Json
    rows: int


def crashes(kind: Kind, folder: Path, script: str) -> Iterator[Crash]:
    """Run a script, and leave a copy of the files after every step.

    `w` writes 7 rows, `b` is a barrier, `s` saves the checkpoint, `c` commits it.
    """
    folder.mkdir()
    sink, first = begun(kind, folder / kind.name)
    written, number, barrier, true = 0, 0, (first, 0), (0, first, 0)
    for place, step in enumerate(script):
        if step == "w":
            sink.write(table(written, written + 7))
            written += 7
        elif step == "b":
            number += 1
            barrier = (json.loads(json.dumps(sink.barrier(number))), written)
        elif step == "s":
            true = (number, *barrier)
        else:
            sink.committed(number)
        copy = folder.with_name(f"{folder.name}-{place}")
        shutil.copytree(folder, copy)
        yield Crash(copy / kind.name, *true)
    sink.close()


def check_recovery(kind: Kind, crash: Crash) -> None:
    """Exactly the rows of the true checkpoint are there; twice over, and then the rest."""
    for incarnation in ("second", "third"):
        sink = kind.make(str(crash.files))
        sink.roll_back(crash.extent, crash.number, incarnation)
        assert offsets(kind, crash.files) == list(range(crash.rows))
        sink.write(table(crash.rows, crash.rows + 40))
        sink.close()
    sink = kind.make(str(crash.files))
    sink.roll_back(crash.extent, crash.number, "fourth")
    through(sink, crash.rows, crash.rows + 9, crash.number + 1)
    sink.close()
    assert offsets(kind, crash.files) == list(range(crash.rows + 9))
    assert not list(crash.files.parent.rglob(".*"))


def test_a_crash_at_every_point(kind: Kind, tmp_path: Path) -> None:
    for crash in crashes(kind, tmp_path / "run", "wwbswcwbscbsc" + "wbwbsc"):
        check_recovery(kind, crash)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from(["w", "ww", "b", "wb", "bs", "bsc", "wbsc", "wbsw"]), max_size=6))
def test_a_crash_after_any_history(
    kind: Kind, tmp_path_factory: pytest.TempPathFactory, script: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("history") / "run"
    for crash in list(crashes(kind, folder, "".join(script)))[-2:]:
        check_recovery(kind, crash)


def test_rolling_back_while_open_and_after_close(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / kind.name
    sink, _ = begun(kind, path)
    extent = through(sink, 0, 10, 1)
    sink.write(table(10, 30))
    sink.roll_back(extent, 1, "first")
    assert offsets(kind, path) == list(range(10))
    sink.write(table(10, 30))
    sink.close()
    sink.close()
    sink.roll_back(extent, 1, "first")
    through(sink, 10, 12, 2)
    sink.close()
    assert offsets(kind, path) == list(range(12))


def test_close_makes_nothing_visible(kind: Kind, tmp_path: Path) -> None:
    sink, _ = begun(kind, tmp_path / kind.name)
    sink.write(table(0, 3))
    sink.close()
    assert offsets(kind, tmp_path / kind.name) == []


def test_keeping_rows_of_an_input_that_is_gone(kind: Kind, tmp_path: Path) -> None:
    *_, crash = crashes(kind, tmp_path / "run", "wbscwbwww")
    if not kind.waits:
        with open(crash.files, "ab") as file:
            file.write(gzip.compress(b'{"offset":')[:-9] if ".gz" in kind.name else b'{"offset":')
    sink = kind.make(str(crash.files))
    extent = sink.keep(crash.extent, crash.number, "second")
    kept = offsets(kind, crash.files)
    assert kept == list(range(len(kept)))
    assert len(kept) >= crash.rows if kind.waits else len(kept) > crash.rows
    sink.write(table(50, 55))
    sink.roll_back(extent, crash.number, "second")
    assert offsets(kind, crash.files) == kept
    sink.close()


# --- what is refused


def test_a_strangers_output_is_refused_and_left_alone(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / kind.name
    sink, _ = begun(kind, path)
    through(sink, 0, 4, 1)
    sink.close()
    with pytest.raises(OutputChanged, match=r"append.*--overwrite"):
        begun(kind, path)
    assert offsets(kind, path) == [0, 1, 2, 3]
    assert OutputChanged.exit_code == 4


def test_a_part_that_waits_for_its_checkpoint_is_an_output_too(tmp_path: Path) -> None:
    *_, crash = crashes(KINDS["parquet"], tmp_path / "run", "wbs")
    with pytest.raises(OutputChanged, match="overwrite"):
        ParquetSink(str(crash.files)).begin("stranger", False)
    check_recovery(KINDS["parquet"], crash)


def test_what_is_overwritten_goes_at_a_resume_too(kind: Kind, tmp_path: Path) -> None:
    """An output that joins a run later begins behind checkpoints that it has no part in."""
    path = tmp_path / kind.name
    sink, _ = begun(kind, path)
    for number in range(1, 4):
        through(sink, 3 * number, 3 * number + 3, number)
    sink.close()
    sink, _ = begun(kind, path, overwrite=True)
    extent = json.loads(json.dumps(sink.barrier(7)))
    sink.close()
    assert after_resuming(kind, path, extent, 7) == [0, 1]


def test_what_is_overwritten_stays_until_the_first_checkpoint(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / kind.name
    sink, _ = begun(kind, path)
    through(sink, 0, 9, 1)
    sink.close()
    for dies in (True, False):
        sink, start = begun(kind, path, overwrite=True)
        assert offsets(kind, path) == list(range(9))
        if not dies:
            sink.committed(0)
            assert not path.exists() or offsets(kind, path) == []
        sink.close()
    assert after_resuming(kind, path, start, 0) == [0, 1]


def test_overwriting_replaces_and_appending_adds(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / kind.name
    for options, overwrite, expected in (
        ({}, False, [0, 1]),
        ({}, True, [0, 1]),
        ({"append": True}, False, [0, 1, 0, 1]),
        ({"append": True}, True, [0, 1, 0, 1, 0, 1]),
    ):
        sink, start = begun(kind, path, overwrite, **options)
        through(sink, 0, 2, 1)
        sink.close()
        assert offsets(kind, path) == expected
    sink = kind.make(str(path), append=True)
    sink.roll_back(start, 0, "second")  # its checkpoint 0: only what was there before
    sink.close()
    assert offsets(kind, path) == [0, 1, 0, 1]


@pytest.mark.parametrize("name", ["jsonl", "jsonl.gz"])
@pytest.mark.parametrize("harm", ["shorter", "altered", "gone"])
def test_a_changed_file_is_refused_and_left_alone(tmp_path: Path, name: str, harm: str) -> None:
    path = tmp_path / KINDS[name].name
    sink, _ = begun(KINDS[name], path)
    extent = through(sink, 0, 50, 1)
    sink.close()
    data = path.read_bytes()
    changed = {"shorter": data[:-1], "altered": data[:-30] + b"?" + data[-29:], "gone": b""}[harm]
    path.write_bytes(changed)
    with pytest.raises(OutputChanged, match="checkpoint 1"):
        KINDS[name].make(str(path)).roll_back(extent, 1, "second")
    assert path.read_bytes() == changed


def test_a_missing_part_is_refused(tmp_path: Path) -> None:
    *_, crash = crashes(KINDS["parquet"], tmp_path / "run", "wbs")
    for path in crash.files.glob(".part*"):
        path.unlink()
    with pytest.raises(OutputChanged, match=r"lacks part part-00000001\.parquet"):
        ParquetSink(str(crash.files)).roll_back(crash.extent, crash.number, "second")


@pytest.mark.parametrize(("recorded", "now"), [("jsonl", "parquet"), ("parquet", "jsonl")])
def test_an_extent_of_another_kind_is_refused(tmp_path: Path, recorded: str, now: str) -> None:
    sink, extent = begun(KINDS[recorded], tmp_path / "recorded")
    sink.close()
    with pytest.raises(OutputChanged, match="recorded"):
        KINDS[now].make(str(tmp_path / "now")).roll_back(extent, 0, "second")


def test_outputs_that_cannot_be_opened(kind: Kind, tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="No such file or directory"):
        begun(kind, tmp_path / "missing" / kind.name)
    wrong = tmp_path / f"wrong{kind.name}"
    wrong.touch() if kind.waits else wrong.mkdir()
    with pytest.raises(Unreachable, match="wrong"):
        begun(kind, wrong)
    assert Unreachable.exit_code == 3


def test_a_held_output_names_its_holder(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / kind.name
    sink, extent = begun(kind, path)
    host = os.uname().nodename
    with pytest.raises(Locked, match=f"process {os.getpid()} on {host}"):
        begun(kind, path)
    with pytest.raises(Locked, match="stop that engine"):
        kind.make(str(path)).roll_back(extent, 0, "second")
    through(sink, 0, 2, 1)
    sink.close()
    assert offsets(kind, path) == [0, 1]
    begun(kind, path, overwrite=True)[0].close()


@pytest.mark.parametrize("make", [JsonLinesSink, ParquetSink])
def test_promises_are_words(make: Callable[..., Sink]) -> None:
    assert make("x").exactly_once
    assert not make("x", delivery="at-least-once").exactly_once
    with pytest.raises(SettingsError, match="did you mean 'exactly-once'"):
        make("x", delivery="exactly once")


# --- disks that fail


def fill(sink: Sink, start: int) -> None:
    """Write rows that do not compress until it fails."""
    noise = np.random.default_rng(0)
    for first in range(start, 100_000, 100):
        rows = table(first, first + 100)
        rows["key"] = [noise.bytes(40).hex() for _ in range(100)]
        sink.write(rows)


def test_a_full_disk_leaves_whole_rows(kind: Kind, small_disk: Path) -> None:
    path = small_disk / kind.name
    sink, _ = begun(kind, path)
    extent = through(sink, 0, 10, 1)
    with pytest.raises(SinkFailed, match=kind.name):
        fill(sink, 10)
    found = offsets(kind, path)
    assert found == list(range(len(found)))
    assert len(found) >= 10
    with pytest.raises(SinkFailed):
        sink.barrier(3)
    sink.close()
    sink = kind.make(str(path))
    sink.roll_back(extent, 1, "second")
    through(sink, 10, 20, 2)
    sink.close()
    assert offsets(kind, path) == list(range(20))


def test_no_fsync_after_one_failed(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, _ = begun(kind, tmp_path / kind.name)
    sink.write(table(0, 3))
    calls = []

    def broken(handle: int) -> None:
        calls.append(handle)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(SinkFailed, match="Input/output error"):
        sink.barrier(1)
    with pytest.raises(SinkFailed):
        sink.write(table(3, 2000))
    with pytest.raises(SinkFailed):
        sink.barrier(2)
    sink.close()
    assert len(calls) == 1
