"""Files that are missing, damaged, empty, changed, or badly described."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream_em.errors import SettingsError, SourceChanged, SourceFailed, Unreachable
from stream_em.streams import Batch, Positions, Rejected, Source, Stream
from stream_em_connectors.files import (
    CsvSource,
    JsonLinesSource,
    ParquetSource,
    chunks,
    inputs,
    text_reader,
)


def polled(source: Source, positions: Positions | None = None) -> Iterator[Batch]:
    stream = source.opened_at(positions)
    while not stream.ended:
        batch = stream.poll(0.5)
        if batch is not None:
            yield batch
    stream.close()


def read(source: Source) -> tuple[list[list[float]], list[Rejected]]:
    batches = list(polled(source))
    rows = [row for batch in batches for row in batch.rows.tolist()]
    return rows, [one for batch in batches for one in batch.rejected]


def csv_of(tmp_path: Path, text: str | bytes, **settings: Any) -> CsvSource:
    path = tmp_path / "in.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return CsvSource(str(path), **{"features": ["x", "y"], **settings})


def jsonl_of(tmp_path: Path, *lines: str | bytes, **settings: Any) -> JsonLinesSource:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"".join(x.encode() + b"\n" if isinstance(x, str) else x for x in lines))
    return JsonLinesSource(str(path), **{"features": ["x", "y"], **settings})


# --- whole files ------------------------------------------------------------------------


@pytest.mark.parametrize("made", [CsvSource, JsonLinesSource, ParquetSource])
def test_paths_that_cannot_be_read(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unreachable, match="does not exist"):
        made(str(tmp_path / "none.csv"), features=["x"]).opened_at(None)
    with pytest.raises(Unreachable, match="no file matches"):
        made(str(tmp_path / "*.csv"), features=["x"]).opened_at(None)
    with pytest.raises(Unreachable, match="is a folder"):
        made(str(tmp_path), features=["x"]).opened_at(None)
    (tmp_path / "secret").write_text("x\n1\n")

    def refused(*_: Any) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(inputs.os, "pread", refused)
    with pytest.raises(Unreachable, match="Permission denied"):
        made(str(tmp_path / "secret"), features=["x"]).opened_at(None)


def test_files_of_another_format(tmp_path: Path) -> None:
    path = tmp_path / "in.gz"
    path.write_bytes(b"x,y\n1,2\n")
    with pytest.raises(Unreachable, match="gzip file is damaged"):
        CsvSource(str(path), features=["x"]).opened_at(None)
    with pytest.raises(Unreachable, match="no readable Parquet"):
        ParquetSource(str(path), features=["x"]).opened_at(None)


@pytest.mark.parametrize("text", ["", "x,y", "x,y\n", "\n\n"])
@pytest.mark.parametrize("features", [None, ["x", "y"]])
def test_no_rows_are_no_error(tmp_path: Path, text: str, features: Any) -> None:
    source = csv_of(tmp_path, text, features=features)
    rows, rejected = read(source)
    assert rows == []
    assert rejected == []
    assert read(jsonl_of(tmp_path, features=features)) == ([], [])


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"'z' is not in.*x, y"):
        csv_of(tmp_path, "x,y\n1,2\n", features=["z"]).opened_at(None)
    with pytest.raises(SettingsError, match="'x' comes twice"):
        csv_of(tmp_path, "x,x\n1,2\n", features=["x"]).opened_at(None)
    with pytest.raises(SettingsError, match="no numeric column"):
        csv_of(tmp_path, "x,y\na,b\n", features=None).opened_at(None)


def test_a_later_file_without_a_column_fails_after_the_rows_before(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("y,x\n1,2\n")
    (tmp_path / "b.csv").write_text("x,z\n3,4\n")
    stream = CsvSource(str(tmp_path / "*.csv"), features=["x", "y"]).opened_at(None)
    batch = stream.poll(1)
    assert batch is not None
    assert batch.rows.tolist() == [[2, 1]]
    with pytest.raises(SourceFailed, match=r"'y' is not in .*b\.csv"):
        stream.poll(1)


def _polled_or_failure(stream: Stream) -> Batch | None:
    try:
        return stream.poll(1)
    except SourceFailed:
        return None


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_truncated_file_hands_out_what_is_whole(tmp_path: Path, ending: str) -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(20_000, 2)).tolist()
    text = ("x,y\n" + "".join(f"{x},{y}\n" for x, y in values)).encode()
    data = gzip.compress(text) if ending == ".gz" else pa.compress(text, "zstd", asbytes=True)
    path = tmp_path / f"in.csv{ending}"
    path.write_bytes(data[: len(data) // 2])
    stream = CsvSource(str(path), features=["x", "y"], batch_size=1000).opened_at(None)
    rows: list[list[float]] = []
    while (batch := _polled_or_failure(stream)) is not None:
        rows.extend(batch.rows.tolist())
    with pytest.raises(SourceFailed, match=rf"in\.csv{ending} cannot be read beyond byte \d+"):
        stream.poll(1)
    assert rows == values[: len(rows)]
    assert len(rows) > 5000


# --- files that changed -----------------------------------------------------------------


def stopped(source: CsvSource) -> Positions:
    """The position behind the first batch."""
    return next(polled(source)).next_positions


ROWS = "".join(f"{n},{n}\n" for n in range(100))


def test_a_changed_file_is_an_error_that_says_what(tmp_path: Path) -> None:
    source = csv_of(tmp_path, "x,y\n" + ROWS, batch_size=50)
    positions = stopped(source)
    changes = {
        "first .* bytes are others": "x,y\n" + ROWS.replace("3", "4"),
        "but at least": "x,y\n" + ROWS[:100],
        "give it back|does not exist": None,
    }
    for message, text in changes.items():
        path = Path(source.path)
        path.unlink() if text is None else path.write_text(text)
        with pytest.raises((SourceChanged, Unreachable), match=message):
            source.opened_at(positions)


def test_a_file_changed_beyond_its_head_is_noticed(tmp_path: Path) -> None:
    rows = "".join(f"{n},{n}\n" for n in range(5000))
    source = csv_of(tmp_path, "x,y\n" + rows, batch_size=3000)
    positions = stopped(source)
    Path(source.path).write_text("x,y\n" + rows.replace("2990,2990", "2990,2991"))
    with pytest.raises(SourceChanged, match="before byte"):
        source.opened_at(positions)
    Path(source.path).write_text("x,y\n" + rows[:9000])
    with pytest.raises(SourceChanged, match="ends before byte"):
        source.opened_at(positions)


def test_a_grown_file_is_read_on_but_not_within_its_last_line(tmp_path: Path) -> None:
    source = csv_of(tmp_path, "x,y\n1,2\n3,4", batch_size=2)
    positions = stopped(source)
    Path(source.path).write_text("x,y\n1,2\n3,4\n5,6\n")
    assert [batch.rows.tolist() for batch in polled(source, positions)] == [[[5, 6]]]
    Path(source.path).write_text("x,y\n1,2\n3,45\n")
    with pytest.raises(SourceChanged, match="then grew"):
        source.opened_at(positions)


def test_new_files_may_only_sort_last(tmp_path: Path) -> None:
    for name in ("b.csv", "d.csv"):
        (tmp_path / name).write_text("x,y\n1,2\n")
    source = CsvSource(str(tmp_path / "*.csv"), features=["x", "y"], batch_size=2)
    positions = stopped(source)
    (tmp_path / "e.csv").write_text("x,y\n5,6\n")
    assert [batch.rows.tolist() for batch in polled(source, positions)] == [[[5, 6]]]
    (tmp_path / "b.csv").write_text("x,y\n1,2\n3,4\n")
    with pytest.raises(SourceChanged, match=r"b\.csv.*grew"):
        source.opened_at(positions)
    (tmp_path / "b.csv").write_text("x,y\n1,2\n")
    (tmp_path / "c.csv").write_text("x,y\n5,6\n")
    with pytest.raises(SourceChanged, match=r"c\.csv is new"):
        source.opened_at(positions)


def test_a_changed_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"x": range(10)}), path)
    source = ParquetSource(str(path), features=["x"], batch_size=5)
    positions = next(polled(source)).next_positions
    pq.write_table(pa.table({"x": range(1, 11)}), path)
    with pytest.raises(SourceChanged, match="bytes are others"):
        source.opened_at(positions)


@pytest.mark.parametrize("block", [50, 1 << 22])
def test_endless_bad_records_end_a_batch_early(
    tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_reader, "BLOCK", block)
    monkeypatch.setattr(chunks, "REJECTED_COST", 10)
    lines = ["x,y", *["1,2"] * 3, *["?,0"] * 25, *["3,4"] * 6]
    source = csv_of(tmp_path, "\n".join(lines), batch_size=5)
    batches = list(polled(source))
    assert [(len(one.rows), len(one.rejected)) for one in batches] == [
        (3, 10),
        (0, 10),
        (5, 5),
        (1, 0),
    ]
    rest = list(polled(source, batches[0].next_positions))
    assert [(len(one.rows), len(one.rejected)) for one in rest] == [(0, 10), (5, 5), (1, 0)]


# --- settings ---------------------------------------------------------------------------

SETTINGS = [
    ({"batch_size": 0}, "batch_size"),
    ({"batch_size": 1.5}, "batch_size"),
    ({"missing": "skip"}, "missing"),
    ({"features": []}, "features"),
    ({"features": ["x", "x"]}, "twice"),
    ({"features": "x"}, "list of names"),
    ({"delimiter": ";;"}, "delimiter"),
    ({"delimiter": ",", "decimal": ","}, "differ"),
    ({"columns": ["x"]}, "header = false"),
    ({"encoding": "utf-16"}, "extends ASCII"),
    ({"encoding": "no such"}, "extends ASCII"),
    ({"missing_values": "NA"}, "list of texts"),
    ({"start": "committed"}, "earliest, latest"),
    ({"max_reject_ratio": 2}, "max_reject_ratio"),
    ({"max_record_bytes": 0}, "max_record_bytes"),
    ({"path": "a.csv.gz", "follow": True}, "do not grow"),
    ({"path": "a.csv.bz2"}, "decompress"),
    ({"path": ""}, "path"),
    ({"weight": ""}, "weight"),
]


@pytest.mark.parametrize(("changes", "message"), SETTINGS)
def test_wrong_settings_say_what_is_right(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        CsvSource(**{"path": "a.csv", **changes})


def test_settings_that_only_other_formats_have() -> None:
    with pytest.raises(SettingsError, match="standard input"):
        ParquetSource("-")
    with pytest.raises(SettingsError, match="both as a value and"):
        JsonLinesSource("-", features=["a", "a.b"])
    assert CsvSource("-").seekable is False
    assert CsvSource("a.csv", features=["x"], missing_values=["?"]).missing_values == ("?",)
