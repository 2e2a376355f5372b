"""What bad input gets: a clear error, or a rejected record with its reason; never a bad row."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream_em.errors import SettingsError
from stream_em.streams import Batch, Positions, Rejected, Source
from stream_em_connectors.files import (
    CsvSource,
    JsonLinesSource,
    ParquetSource,
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


# --- cells and fields -------------------------------------------------------------------

CELLS = {
    "abc": "decode_error",
    "1_000": "decode_error",
    "0x10": "decode_error",
    "1,5": "schema",
    "true": "decode_error",
    "inf": "non_finite",
    "-Infinity": "non_finite",
    "": "missing_feature",
    " NA ": "missing_feature",
    "NaN": "missing_feature",
    "1e308": "too_large",
    "-1e101": "too_large",
    "1e999": "too_large",
    "\xff": "decode_error",
    '"abc"': "decode_error",
    '""': "missing_feature",
}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("company", ["alone", "with a cell that no parser reads"])
def test_a_bad_cell_rejects_its_record_only(tmp_path: Path, cell: str, company: str) -> None:
    other = "" if company == "alone" else "?,0\n"
    text = f"x,y\n1,2\n{cell},3\n{other}4,5\n"
    rows, rejected = read(csv_of(tmp_path, text.encode("latin-1")))
    assert rows == [[1, 2], [4, 5]]
    assert rejected[0].reason == CELLS[cell]
    assert rejected[0].offset == 8
    assert rejected[0].raw == f"{cell},3".encode("latin-1")
    assert rejected[0].field == (None if cell in ("1,5", "\xff") else "x")
    assert len(rejected) == (1 if company == "alone" else 2)


@pytest.mark.parametrize("company", ["alone", "with a cell that no parser reads"])
@pytest.mark.parametrize("cell", ["1e2", " 100", "+100", "100.", "1E+2", '"100"', "\t100 "])
def test_a_number_is_the_same_number_in_any_company(
    tmp_path: Path, cell: str, company: str
) -> None:
    other = "" if company == "alone" else "?,0\n"
    rows, _ = read(csv_of(tmp_path, f"x,y\n{cell},3\n{other}4,5\n"))
    assert rows == [[100, 3], [4, 5]]


FIELDS = {
    '{"x": "1", "y": 2}': "decode_error",
    '{"x": true, "y": 2}': "decode_error",
    '{"x": [1], "y": 2}': "decode_error",
    '{"x": NaN, "y": 2}': "non_finite",
    '{"x": -Infinity, "y": 2}': "non_finite",
    '{"x": null, "y": 2}': "missing_feature",
    '{"y": 2}': "missing_feature",
    '{"x": 1e308, "y": 2}': "too_large",
    '{"x": 1e999, "y": 2}': "too_large",
    '{"x": 1' + "0" * 400 + ', "y": 2}': "too_large",
    '{"x": 1, "y"': "decode_error",
    "x,y": "decode_error",
    "[1, 2]": "schema",
    "": "empty",
    "  \t": "empty",
    '{"x": 1, "y": 2, "note": "\xff"}': "decode_error",
}


@pytest.mark.parametrize("line", FIELDS)
def test_a_bad_json_record_is_rejected_alone(tmp_path: Path, line: str) -> None:
    raw = line.encode("latin-1")
    source = jsonl_of(tmp_path, '{"x": 1, "y": 2}', raw + b"\r\n", '{"z": {}, "x": 3, "y": 4}')
    rows, rejected = read(source)
    assert rows == [[1, 2], [3, 4]]
    assert [(one.reason, one.offset, one.raw) for one in rejected] == [(FIELDS[line], 17, raw)]


@pytest.mark.parametrize(
    ("literal", "came"),
    [("1e308", "1e+308 came"), ("1e400", "308 or beyond came"), ("-1e400", "308 or beyond came")],
)
def test_a_number_that_no_float_holds_is_not_told_as_another(
    tmp_path: Path, literal: str, came: str
) -> None:
    _, (flawed,) = read(jsonl_of(tmp_path, f'{{"x": {literal}, "y": 2}}'))
    assert came in flawed.detail


def test_a_field_without_a_name_is_nobodys_choice(tmp_path: Path) -> None:
    source = jsonl_of(tmp_path, '{"": 0, "x": 1, "y": {"": 5, "z": 2}}', features=None)
    assert next(polled(source)).rows.tolist() == [[1, 2]]


def test_nested_fields_are_read_by_dotted_paths(tmp_path: Path) -> None:
    good, flat = '{"a": {"x": 1, "b": {"y": 2}}, "t": {"at": 5}}', '{"a": {"x": 1, "b": 2}}'
    bare = '{"a": {"x": 3, "b": {"y": 4}}}'
    source = jsonl_of(tmp_path, good, flat, bare, features=["a.x", "a.b.y"], time="t.at")
    batch = next(polled(source))
    assert batch.rows.tolist() == [[1, 2], [3, 4]]
    assert batch.origins.times is not None
    assert np.array_equal(batch.origins.times, [5, np.nan], equal_nan=True)
    assert [(one.reason, one.field) for one in batch.rejected] == [("missing_feature", "a.b.y")]


def test_bad_parquet_values(tmp_path: Path) -> None:
    x = [1.0, None, float("nan"), float("inf"), 1e308, 2.0]
    pq.write_table(pa.table({"x": x, "y": range(6)}), tmp_path / "in.parquet")
    rows, rejected = read(ParquetSource(str(tmp_path / "in.parquet"), features=("x", "y")))
    assert rows == [[1, 0], [2, 5]]
    reasons = ["missing_feature", "non_finite", "non_finite", "too_large"]
    assert [(one.offset, one.reason) for one in rejected] == list(enumerate(reasons, 1))
    assert json.loads(rejected[0].raw) == {"x": None, "y": 1}


def test_text_columns_of_parquet_are_no_features(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": ["1"], "y": [1]}), tmp_path / "in.parquet")
    with pytest.raises(SettingsError, match=r"'x'.*string"):
        ParquetSource(str(tmp_path / "in.parquet"), features=("x",)).opened_at(None)


# --- weights, times, keys ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("weight", "good"), [("0", True), ("2.5", True), ("-1", False), ("nan", False)]
)
def test_weights(tmp_path: Path, weight: str, good: bool) -> None:
    rows, rejected = read(csv_of(tmp_path, f"x,y,w\n1,2,{weight}\n3,4,1\n", weight="w"))
    assert len(rows) == 1 + good
    assert [(one.reason, one.field) for one in rejected] == [("weight", "w")] * (not good)


@pytest.mark.parametrize("weight", ["-0.5", '"1"', "null", "NaN", "1e200", "true"])
def test_json_weights_that_are_none(tmp_path: Path, weight: str) -> None:
    lines = [f'{{"x": 1, "y": 2, "w": {weight}}}', '{"x": 1, "y": 2}', '{"x": 3, "y": 4, "w": 0}']
    rows, rejected = read(jsonl_of(tmp_path, *lines, weight="w"))
    assert rows == [[3, 4]]
    assert [(one.reason, one.field) for one in rejected] == [("weight", "w")] * 2


MOMENT = 1_700_000_000.25
TIMES = {
    "seconds": str(MOMENT),
    "iso, no offset": "2023-11-14T22:13:20.250",
    "iso, offset": "2023-11-14 23:13:20.25+01:00",
    "iso, zulu": "2023-11-14T22:13:20.250000Z",
}


@pytest.mark.parametrize("company", ["", "later?", "NA"])
@pytest.mark.parametrize("text", TIMES.values(), ids=TIMES.keys())
def test_times_mean_the_same_in_any_company(tmp_path: Path, text: str, company: str) -> None:
    other = f"3,4,{company}\n" if company else ""
    batch = next(polled(csv_of(tmp_path, f"x,y,at\n1,2,{text}\n{other}", time="at")))
    assert batch.origins.times is not None
    assert batch.origins.times[0] == MOMENT
    assert [one.reason for one in batch.rejected] == ["decode_error"] * (company == "later?")
    assert np.isnan(batch.origins.times[1:]).all()
    lines = [json.dumps({"x": 1, "y": 2, "at": text}), '{"x": 1, "y": 2, "at": []}']
    batch = next(polled(jsonl_of(tmp_path, *lines, time="at")))
    assert batch.origins.times is not None
    assert batch.origins.times.tolist() == [MOMENT]
    assert [(one.reason, one.field) for one in batch.rejected] == [("decode_error", "at")]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_parquet_timestamps(tmp_path: Path, unit: str) -> None:
    at = pa.array([1_700_000_000_250, None], pa.timestamp("ms", "Europe/Berlin"))
    table = pa.table({"x": [1, 2], "at": at.cast(pa.timestamp(unit, "Europe/Berlin"))})
    pq.write_table(table, tmp_path / "in.parquet")
    source = ParquetSource(str(tmp_path / "in.parquet"), features=("x",), time="at", key="x")
    batch = next(polled(source))
    assert batch.origins.times is not None
    assert np.array_equal(batch.origins.times, [MOMENT, np.nan], equal_nan=True)
    assert batch.origins.keys == (1, 2)
