"""Every source goes through this: exact batches, exact resumes, every record accounted for."""

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream_em.memory import MemorySource
from stream_em.streams import Batch, Positions, Rejected, Source, Stream
from stream_em_connectors.files import CsvSource, JsonLinesSource, ParquetSource, text_reader

FEATURES = ("x", "y")
GOOD = 100
BAD = frozenset({0, 5, 6, 40, 41, 42, 99, 100, 107})  # places of bad records among all
FILES = 4  # of which one is empty


def records() -> list[dict[str, Any]]:
    """Rows and bad records in the order of the input."""
    made: list[dict[str, Any]] = []
    for place in range(GOOD + len(BAD)):
        row = {
            "x": place / 8,
            "y": -1.5 * place,
            "w": float(place % 3),
            "at": 1.0e9 + place,
            "id": f"k{place}",
        }
        made.append(row | {"x": None} if place in BAD else row)
    return made


def split() -> list[list[dict[str, Any]]]:
    """The records of each file; the second file is empty."""
    everything = records()
    return [everything[:41], [], everything[41:60], everything[60:]]


def csv_lines(rows: list[dict[str, Any]], quoted: bool) -> str:
    mark = '"' if quoted else ""
    middle = '"two\nlines, ""so"" it is"' if quoted else "é"
    lines = [
        f"{mark}{'' if row['x'] is None else row['x']}{mark},{middle},{row['y']},{row['w']},"
        f"{row['at']},{row['id']}\n"
        for row in rows
    ]
    return "x,text,y,w,at,id\n" + "".join(lines)


def json_lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row | {"more": {"é": [1]}}) + "\n" for row in rows)


def save_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_bytes(csv_lines(rows, quoted=False).encode())


def save_quoted(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_bytes(csv_lines(rows, quoted=True).replace("\n", "\r\n").encode())


def save_gzip(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_bytes(gzip.compress(csv_lines(rows, quoted=True).encode()))


def save_unended(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_bytes(json_lines(rows).rstrip("\n").encode())


def save_zstd(path: Path, rows: list[dict[str, Any]]) -> None:
    data = json_lines(rows).encode()
    path.write_bytes(pa.compress(data, "zstd", asbytes=True) if data else b"")


def save_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    kinds = {"x": pa.float64(), "y": pa.float64(), "w": pa.float64(), "at": pa.float64()}
    schema = pa.schema([*kinds.items(), ("id", pa.string())])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, row_group_size=7)


@dataclass(frozen=True)
class World:
    """A kind of source, and how its files are written."""

    made: Callable[..., Source]
    ending: str
    save: Callable[[Path, list[dict[str, Any]]], None]

    def source(self, folder: Path, batch_size: int) -> Source:
        if not any(folder.iterdir()):
            for number, rows in enumerate(split()):
                self.save(folder / f"part-{number}{self.ending}", rows)
        return self.made(
            path=str(folder / f"part-*{self.ending}"),
            features=list(FEATURES),
            weight="w",
            time="at",
            key="id",
            batch_size=batch_size,
        )


@dataclass(frozen=True)
class MemoryWorld:
    """The memory source, whose records are arrays and marks."""

    def source(self, folder: Path, batch_size: int) -> Source:
        items: list[Any] = []
        for place, row in enumerate(records()):
            if row["x"] is None:
                items.append(Rejected("memory", 0, place, "missing_feature", "x", "", b""))
            else:
                items.append([[row["x"], row["y"], row["w"], row["at"], place]])
        names = ("x", "y", "w", "at", "id")
        return MemorySource(items, batch_size, names, time="at", weight="w", key="id")


WORLDS = {
    "csv": World(CsvSource, ".csv", save_csv),
    "csv quoted crlf": World(CsvSource, ".csv", save_quoted),
    "csv.gz": World(CsvSource, ".csv.gz", save_gzip),
    "jsonl unended": World(JsonLinesSource, ".jsonl", save_unended),
    "jsonl.zst": World(JsonLinesSource, ".jsonl.zst", save_zstd),
    "parquet": World(ParquetSource, ".parquet", save_parquet),
    "memory": MemoryWorld(),
}


@pytest.fixture(params=WORLDS.values(), ids=WORLDS.keys())
def world(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=[None, 300], ids=["one block", "many blocks"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where blocks of input end must not matter."""
    if request.param is not None:
        monkeypatch.setattr(text_reader, "BLOCK", request.param)


def polled(stream: Stream) -> Iterator[Batch]:
    while not stream.ended:
        batch = stream.poll(0.5)
        if batch is not None:
            yield batch
    assert stream.poll(0) is None
    stream.close()


def told(batch: Batch) -> tuple[Any, ...]:
    """All that must be the same, however reading got here."""
    origins = batch.origins
    sources = [origins.sources[place] for place in origins.source]
    return (
        batch.rows.tolist(),
        None if batch.weights is None else batch.weights.tolist(),
        sources,
        origins.offset.tolist(),
        origins.keys,
        None if origins.times is None else origins.times.tolist(),
        batch.rejected,
    )


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_batches_have_exactly_their_size(world: Any, tmp_path: Path, size: int) -> None:
    batches = list(polled(world.source(tmp_path, size).opened_at(None)))
    lengths = [len(batch.rows) for batch in batches]
    whole, rest = divmod(GOOD, size)
    assert [n for n in lengths if n] == [size] * whole + [rest] * bool(rest)
    assert all(lengths[:-1]) or isinstance(world, MemoryWorld)  # which may stop at rejects
    good = [row for row in records() if row["x"] is not None]
    rows = np.concatenate([batch.rows for batch in batches])
    assert rows.tolist() == [[row["x"], row["y"]] for row in good]
    weights = np.concatenate([batch.weights for batch in batches if batch.weights is not None])
    assert weights.tolist() == [row["w"] for row in good]
    times = np.concatenate([batch.origins.times for batch in batches])
    assert times.tolist() == [row["at"] for row in good]


@pytest.mark.usefixtures("blocks")
def test_every_record_is_a_row_or_rejected(world: Any, tmp_path: Path) -> None:
    batches = list(polled(world.source(tmp_path, 7).opened_at(None)))
    accepted = sum(len(batch.rows) for batch in batches)
    rejected = [one for batch in batches for one in batch.rejected]
    assert accepted + len(rejected) == len(records())
    assert {one.reason for one in rejected} == {"missing_feature"}
    assert {one.field for one in rejected} == {"x"}


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("size", [1, 7, 40])
def test_resumed_anywhere_the_rest_is_the_same(world: Any, tmp_path: Path, size: int) -> None:
    source = world.source(tmp_path, size)
    stream = source.opened_at(None)
    positions = stream.positions
    batches = list(polled(stream))
    starts = [positions := positions.advanced(batch.next_positions) for batch in batches]
    for done in range(0, len(batches), 1 if size > 1 else 13):
        saved = Positions(json.loads(json.dumps(dict(starts[done].parts))))
        rest = list(polled(source.opened_at(saved)))
        assert [told(batch) for batch in rest] == [told(batch) for batch in batches[done + 1 :]]


def test_resumed_before_the_first_row_nothing_is_lost(world: Any, tmp_path: Path) -> None:
    source = world.source(tmp_path, 40)
    stream = source.opened_at(None)
    stream.close()
    again = list(polled(source.opened_at(stream.positions)))
    assert [told(batch) for batch in again] == [
        told(batch) for batch in polled(source.opened_at(None))
    ]


def test_a_limit_holds_from_then_on(world: Any, tmp_path: Path) -> None:
    stream = world.source(tmp_path, 40).opened_at(None)
    first = stream.poll(1)
    stream.limit(3)
    lengths = [len(batch.rows) for batch in polled(stream)]
    assert first is not None
    assert len(first.rows) == 40
    assert max(lengths) == 3
    assert sum(lengths) == GOOD - 40


def test_progress_ends_at_the_total(world: Any, tmp_path: Path) -> None:
    stream = world.source(tmp_path, 7).opened_at(None)
    seen = [stream.progress() for _ in polled(stream)]
    assert [one.read_bytes for one in seen] == sorted(one.read_bytes for one in seen)
    assert seen[-1].read_bytes == seen[-1].total_bytes


def test_identity_is_plain_and_says_what_is_read(world: Any, tmp_path: Path) -> None:
    identity = world.source(tmp_path, 7).identity()
    assert json.loads(json.dumps(identity)) == identity
    assert (identity["weight"], identity["time"], identity["key"]) == ("w", "at", "id")
    assert world.source(tmp_path, 8).identity() == identity


def content(path: str) -> bytes:
    data = Path(path).read_bytes()
    if path.endswith(".gz"):
        return gzip.decompress(data)
    if path.endswith(".zst"):
        return pa.input_stream(path).read()
    return data


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("kind", [kind for kind in WORLDS if kind not in ("memory", "parquet")])
def test_offsets_are_bytes_of_the_content(kind: str, tmp_path: Path) -> None:
    for batch in polled(WORLDS[kind].source(tmp_path, 7).opened_at(None)):
        origins = batch.origins
        for place, row in enumerate(batch.rows):
            data = content(origins.sources[origins.source[place]])[origins.offset[place] :]
            assert str(row[0]).encode() in data.split(b",")[0]
        for one in batch.rejected:
            assert content(one.source)[one.offset :].startswith(one.raw)
            assert b"k" in one.raw


def test_parquet_counts_rows(tmp_path: Path) -> None:
    batches = list(polled(WORLDS["parquet"].source(tmp_path, 1000).opened_at(None)))
    places = [*batches[0].origins.offset.tolist(), *(one.offset for one in batches[0].rejected)]
    assert sorted(places) == sorted(n for rows in split() for n in range(len(rows)))


@pytest.mark.parametrize("kind", [kind for kind in WORLDS if kind != "memory"])
def test_without_features_the_numeric_columns_are_learned(kind: str, tmp_path: Path) -> None:
    source = replace(WORLDS[kind].source(tmp_path, 7), features=None)
    stream = source.opened_at(None)
    stream.close()
    assert stream.features == FEATURES


@pytest.mark.parametrize("kind", [kind for kind in WORLDS if kind != "memory"])
def test_read_bytes_add_up_to_the_content(kind: str, tmp_path: Path) -> None:
    source = WORLDS[kind].source(tmp_path, 7)
    total = sum(batch.read_bytes for batch in polled(source.opened_at(None)))
    whole = sum(len(content(str(path))) for path in tmp_path.iterdir())
    assert 0.8 * whole < total <= whole + len(split())


@pytest.mark.parametrize("kind", ["csv", "jsonl unended", "parquet"])
def test_starting_at_the_latest_reads_nothing_old(kind: str, tmp_path: Path) -> None:
    source = replace(WORLDS[kind].source(tmp_path, 7), start="latest")
    stream = source.opened_at(None)
    assert sum(len(batch.rows) for batch in polled(stream)) <= 1  # an unended line is not over
    late = split()[-1][:3]
    WORLDS[kind].save(tmp_path / f"part-9{WORLDS[kind].ending}", late)
    batches = list(polled(source.opened_at(stream.positions)))
    assert sum(len(batch.rows) + len(batch.rejected) for batch in batches) in (3, 4)
