"""Real data whole: half-hourly electricity prices and demands, the same through every format."""

import csv
import dataclasses
import gzip
import json
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import stream_em as se
from stream_em.stores import DirectoryStore
from stream_em_connectors.files import CsvSource, JsonLinesSink, JsonLinesSource, ParquetSource

ROWS = 45_312
FEATURES = ("period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer")
MODELS = {
    "kmeans": se.KMeans(5),
    "gaussian-mixture": se.GaussianMixture(5, se.Full()),
}


class Outcome(NamedTuple):
    """What a run left behind, without what differs by design: names and offsets."""

    state: object
    summary: dict
    rows: list[dict]


@pytest.fixture(scope="module")
def files(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same table in three formats."""
    folder = tmp_path_factory.mktemp("elec")
    found = {"csv": shared_data / "elec.csv.gz"}
    with gzip.open(found["csv"], "rt", newline="") as lines:
        rows = [{name: float(cell) for name, cell in row.items()} for row in csv.DictReader(lines)]
    found["jsonl"] = folder / "elec.jsonl"
    found["jsonl"].write_text("".join(json.dumps(row) + "\n" for row in rows))
    found["parquet"] = folder / "elec.parquet"
    pq.write_table(pa.Table.from_pylist(rows), found["parquet"], row_group_size=7_000)
    return found


SOURCES = {"csv": CsvSource, "jsonl": JsonLinesSource, "parquet": ParquetSource}


@pytest.fixture(scope="module", params=MODELS)
def outcomes(
    request: pytest.FixtureRequest,
    files: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Outcome]:
    """One run through each format."""
    return {
        kind: _run(kind, path, MODELS[request.param], tmp_path_factory.mktemp(kind))
        for kind, path in files.items()
    }


def _run(kind: str, path: Path, model: object, folder: Path) -> Outcome:
    source = SOURCES[kind](str(path), features=FEATURES)
    store = DirectoryStore(folder / "saved")
    summary = se.run(source, model, [JsonLinesSink(str(folder / "rows.jsonl"))], store, seed=3)
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    counted = dataclasses.asdict(summary)
    del counted["seconds"], counted["checkpoints"]
    assert {row.pop("source") for row in rows} == {str(path)}
    offsets = [row.pop("offset") for row in rows]
    assert offsets == sorted(set(offsets))
    return Outcome(store.load(store.names()[-1]).state, counted, rows)


def test_every_row_is_learned_and_written_once(outcomes: dict[str, Outcome]) -> None:
    for outcome in outcomes.values():
        assert outcome.state.total_events == ROWS
        assert outcome.state.held_rows == 0
        assert outcome.summary["events"] == ROWS
        assert outcome.summary["rejected"] == 0
        assert len(outcome.rows) == ROWS


def test_the_final_state_is_the_same_to_the_last_bit(outcomes: dict[str, Outcome]) -> None:
    first, *others = outcomes.values()
    assert first.state.features == FEATURES
    for other in others:
        assert other.state == first.state
        assert other.summary == first.summary


def test_every_output_row_is_the_same(outcomes: dict[str, Outcome]) -> None:
    first, *others = outcomes.values()
    assert {row["cluster"] for row in first.rows} == set(range(5))
    for other in others:
        assert other.rows == first.rows
