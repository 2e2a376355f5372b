"""Missing values that are learned: the same rows from every format, and all of them learned."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stream_em as se
from stream_em.arrays import Array
from stream_em.config import examine, load, merged
from stream_em.config.show import as_resolved
from stream_em.errors import SettingsError
from stream_em.memory import MemorySink, MemorySource
from stream_em.streams import Rejected, Source
from stream_em_connectors.files import CsvSource, JsonLinesSource, ParquetSource

NAN = math.nan


def read(source: Source) -> tuple[Array, list[Rejected]]:
    stream = source.opened_at(None)
    rows, rejected = [np.empty((0, len(stream.features)))], []
    while not stream.ended:
        batch = stream.poll(0.5)
        if batch is not None:
            rows.append(batch.rows)
            rejected.extend(batch.rejected)
    stream.close()
    return np.concatenate(rows), rejected


def csv_of(folder: Path, text: str, **settings: Any) -> CsvSource:
    path = folder / "in.csv"
    path.write_text(text, newline="")
    return CsvSource(str(path), **{"features": ["x", "y"], "missing": "learn", **settings})


def jsonl_of(folder: Path, *lines: str, **settings: Any) -> JsonLinesSource:
    path = folder / "in.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))
    return JsonLinesSource(str(path), **{"features": ["x", "y"], "missing": "learn", **settings})


def parquet_of(folder: Path, table: pa.Table, **settings: Any) -> ParquetSource:
    path = folder / "in.parquet"
    pq.write_table(table, path)
    return ParquetSource(str(path), **{"features": ["x", "y"], "missing": "learn", **settings})


def same(found: Array, expected: Any) -> bool:
    return np.array_equal(found, np.array(expected, dtype=float).reshape(-1, 2), equal_nan=True)


def with_gaps(seed: int, n: int, share: float) -> Array:
    """Rows (n, 2) of two clusters, `share` of the cells missing, every ninth row wholly."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 2)) + 8.0 * rng.integers(0, 2, size=(n, 1))
    rows[rng.random((n, 2)) < share] = NAN
    rows[::9] = NAN
    return rows


def as_csv(rows: Array, absent: str = "") -> str:
    lines = (",".join(absent if v != v else repr(v) for v in row) for row in rows.tolist())
    return "x,y\n" + "".join(f"{line}\n" for line in lines)


# --- reading ----------------------------------------------------------------------------


def test_all_formats_give_the_same_rows(tmp_path: Path) -> None:
    rows = with_gaps(1, 3000, 0.2)
    cells = [[None if v != v else v for v in row] for row in rows.tolist()]
    objects = [json.dumps({"x": x, "y": y} if x or y else {}) for x, y in cells]
    columns = {"x": [x for x, _ in cells], "y": [y for _, y in cells]}
    sources = (
        csv_of(tmp_path, as_csv(rows)),
        jsonl_of(tmp_path, *objects),
        parquet_of(tmp_path, pa.table(columns)),
    )
    for source in sources:
        found, rejected = read(source)
        assert same(found, rows)
        assert rejected == []


CELLS = ["", "NA", " NA ", '""', '"NA"', "\t", "1", " 2 ", "-999", " -999", "-999.0", "1e3"]
BAD = {"abc": "decode_error", "inf": "non_finite", "1e308": "too_large", "1e999": "too_large"}


@pytest.mark.parametrize("company", ["alone", "with a cell that no parser reads"])
@pytest.mark.parametrize("cell", [*CELLS, *BAD, "nan"])
def test_a_cell_means_the_same_in_any_company(tmp_path: Path, cell: str, company: str) -> None:
    other = "" if company == "alone" else "?,0\n"
    text = f"x,y\n1,2\n{cell},3\n{other}4,5\n"
    found, rejected = read(csv_of(tmp_path, text, missing_values=["", "NA", "-999"]))
    plain = cell.strip(' \t"')
    reason = "non_finite" if cell == "nan" else BAD.get(cell)
    value = NAN if plain in ("", "NA", "-999") else float(plain) if reason is None else 0.0
    assert same(found, [[1, 2], *([[value, 3]] if reason is None else []), [4, 5]])
    assert [one.reason for one in rejected][: reason is not None] == [reason] * bool(reason)
    assert len(rejected) == (reason is not None) + (company != "alone")


@settings(max_examples=60, deadline=None)
@given(
    table=st.lists(
        st.lists(st.sampled_from([*CELLS, *BAD, "é", '5" x', "   "]), min_size=1, max_size=4),
        max_size=8,
    ),
    width=st.sampled_from([["x"], ["x", "y"]]),
)
def test_a_record_is_the_same_alone_and_among_others(
    tmp_path_factory: pytest.TempPathFactory, table: list[list[str]], width: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    header, lines = ",".join(width), [",".join(cells) for cells in table]
    known: dict[str, Any] = {"features": width, "missing_values": ["", "NA", "-999"]}

    def outcome(records: list[str]) -> tuple[list[list[str]], list[tuple[str, str | None]]]:
        text = "".join(f"{line}\n" for line in (header, *records))
        rows, rejected = read(csv_of(folder, text, **known))
        return [list(map(repr, row)) for row in rows.tolist()], [
            (one.reason, one.field) for one in rejected
        ]

    alone = [outcome([line]) for line in lines]
    assert outcome(lines) == (
        [row for rows, _ in alone for row in rows],
        [one for _, rejected in alone for one in rejected],
    )


def test_wrong_widths_blank_lines_and_weights_are_rejected_as_ever(tmp_path: Path) -> None:
    text = "x,y,w\n1,,1\n1,2\n\n1,2,\n,,2\n1,2,NA\n"
    found, rejected = read(csv_of(tmp_path, text, weight="w"))
    assert same(found, [[1, NAN], [NAN, NAN]])
    assert [one.reason for one in rejected] == ["schema", "empty", "weight", "weight"]
    one = csv_of(tmp_path, 'x\n1\n\n   \n""\nNA\n', features=["x"])
    found, rejected = read(one)
    assert np.array_equal(found, [[1], [NAN], [NAN]], equal_nan=True)
    assert [one.reason for one in rejected] == ["empty", "empty"]


def test_json_fields_that_are_absent(tmp_path: Path) -> None:
    lines = {
        '{"x": 1, "a": {"y": 2}, "w": 1}': [1, 2],
        '{"x": null, "a": {"y": 2}, "w": 1}': [NAN, 2],
        '{"x": 1, "a": {}, "w": 1}': [1, NAN],
        '{"x": 1, "a": null, "w": 1}': [1, NAN],
        '{"w": 0}': [NAN, NAN],
        '{"x": 1, "a": {"y": 2}}': "weight",
        '{"x": 1, "w": null}': "weight",
        '{"x": "1", "w": 1}': "decode_error",
        '{"x": true, "w": 1}': "decode_error",
        '{"x": NaN, "w": 1}': "non_finite",
        '{"x": 1e308, "w": 1}': "too_large",
        '{"x": 1e999, "w": 1}': "too_large",
        "[]": "schema",
    }
    found, rejected = read(jsonl_of(tmp_path, *lines, features=["x", "a.y"], weight="w"))
    assert same(found, [row for row in lines.values() if isinstance(row, list)])
    assert [one.reason for one in rejected] == [x for x in lines.values() if isinstance(x, str)]


def test_parquet_nulls_are_missing_and_nan_is_not(tmp_path: Path) -> None:
    x = [1.0, None, NAN, math.inf, 1e308, 2.0]
    table = pa.table({"x": x, "y": pa.nulls(6), "w": [1, 1, 1, 1, 1, None]})
    found, rejected = read(parquet_of(tmp_path, table))
    assert same(found, [[1, NAN], [NAN, NAN], [2, NAN]])
    assert [one.reason for one in rejected] == ["non_finite", "non_finite", "too_large"]
    found, rejected = read(parquet_of(tmp_path, table, weight="w"))
    assert [one.reason for one in rejected][-1] == "weight"


# --- learning ---------------------------------------------------------------------------

MODELS = [
    se.GaussianMixture(2, covariance=se.Full(), missing=se.Learn()),
    se.KMeans(2, missing=se.Learn()),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.kind)
def test_every_row_is_learned_and_written(tmp_path: Path, model: Any) -> None:
    rows = with_gaps(2, 4000, 0.2)
    sink = MemorySink()
    summary = se.run(csv_of(tmp_path, as_csv(rows), batch_size=300), model, [sink])
    assert (summary.events, summary.rejected) == (4000, 0)
    assert len({row["offset"] for row in sink.rows}) == len(sink.rows) == 4000
    squared = np.array([row["squared_distance"] for row in sink.rows], dtype=float)
    assert np.isfinite(squared).all() and (squared >= 0).all()
    density = np.array([row["log_likelihood"] for row in sink.rows], dtype=float)
    assert np.isfinite(density).all() if model.has_density else np.isnan(density).all()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.kind)
def test_rows_that_are_wholly_missing_are_learned_too(tmp_path: Path, model: Any) -> None:
    rows = with_gaps(3, 1000, 0.2)
    sink = MemorySink()
    text = as_csv(np.vstack([rows, np.full((500, 2), NAN)]), absent="NA")
    summary = se.run(csv_of(tmp_path, text, batch_size=100), model, [sink])
    assert (summary.events, len(sink.rows)) == (1500, 1500)
    found = np.array([row["squared_distance"] for row in sink.rows], dtype=float)
    assert np.isfinite(found).all()


def test_the_gate_lets_nan_pass_only_where_it_is_learned() -> None:
    rows = [[[0.0, 0.0], [9.0, NAN], [9.0, 9.0], [math.inf, NAN]]]
    means = [[0.0, 0.0], [9.0, 9.0]]
    for missing, events in ((None, 2), (se.Learn(), 3)):
        model = se.KMeans(2, initial_means=means, missing=missing)
        dead = MemorySink(name="dead")
        assert se.run(MemorySource(rows), model, dead_letters=dead).events == events
        assert {row["reason"] for row in dead.rows} == {"non_finite"}
        assert dead.rows[-1]["field"] == "x0"


def test_a_model_that_does_not_learn_them_is_refused(tmp_path: Path) -> None:
    source = csv_of(tmp_path, "x,y\n1,2\n")
    with pytest.raises(SettingsError, match='missing = "learn"'):
        se.run(source, se.KMeans(2))


# --- configuration ----------------------------------------------------------------------

CONFIGURATION = """\
[source]
kind = "csv"
path = "in.csv"
missing = "learn"
[model]
kind = "kmeans"
n_clusters = 2
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "c.toml"
    path.write_text(text)
    return path


def test_the_source_says_it_for_the_model_as_well(tmp_path: Path) -> None:
    path = written(tmp_path, CONFIGURATION)
    plan = load(path)
    assert plan.model == se.KMeans(2, missing=se.Learn())
    assert load(path, ["source.missing=reject"]).model == se.KMeans(2)
    text = as_resolved(merged(path), plan)
    (line,) = [line for line in text.splitlines() if line.startswith("missing.kind")]
    assert line.endswith("# source.missing (c.toml:4)")
    assert load(written(tmp_path, text)).model == plan.model
    explicit = CONFIGURATION.replace('"kmeans"', '"kmeans"\nmissing = "learn"')
    shown = as_resolved(merged(written(tmp_path, explicit)), plan)
    assert "# c.toml:7" in next(x for x in shown.splitlines() if x.startswith("missing.kind"))


def test_a_kind_that_cannot_learn_them_is_an_error_of_the_source(tmp_path: Path) -> None:
    path = written(tmp_path, CONFIGURATION.replace('"kmeans"', '"spherical-kmeans"'))
    (finding,) = [one for one in examine(merged(path)).findings if one.severity == "error"]
    assert finding.origin == "c.toml:4"
    assert "spherical-kmeans does not learn" in finding.message
