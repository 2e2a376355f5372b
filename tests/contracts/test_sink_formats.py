"""What is particular to each sink: gzip members, Parquet parts, standard output."""

import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from stream_em.errors import SettingsError, SinkFailed, Unreachable
from stream_em.streams import Json, Sink
from stream_em_connectors.files.jsonl_sink import JsonLinesSink
from stream_em_connectors.files.parquet_sink import ParquetSink
from stream_em_connectors.files.stdout_sink import StdoutSink


def table(start: int, stop: int) -> dict[str, Any]:
    """Rows numbered from `start` to `stop`."""
    return {"offset": np.arange(start, stop), "key": [f"k{i}" for i in range(start, stop)]}


def begun(sink: Sink) -> tuple[Sink, Json]:
    return sink, sink.begin("first", False)


def through(sink: Sink, start: int, stop: int, number: int) -> Json:
    """Rows written, made durable and committed as checkpoint `number`."""
    sink.write(table(start, stop))
    extent = sink.barrier(number)
    sink.committed(number)
    return extent


def test_appending_to_a_line_without_end(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text('{"offset":-1}')
    sink, _ = begun(JsonLinesSink(str(path), append=True))
    through(sink, 0, 1, 1)
    sink.close()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["offset"] for row in rows] == [-1, 0]


def test_a_pipe_cannot_be_cut_back(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Unreachable, match="stdout"):
        begun(JsonLinesSink(str(tmp_path / "pipe")))


def test_compressed_rows_can_be_read_up_to_each_barrier(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl.gz"
    sink, _ = begun(JsonLinesSink(str(path)))
    ends = [through(sink, n * 100, (n + 1) * 100, n + 1)["length"] for n in range(3)]
    assert sink.barrier(4)["length"] == ends[-1]  # no rows, no member
    sink.close()
    for n, end in enumerate(ends):
        whole = gzip.decompress(path.read_bytes()[:end]).splitlines()
        assert len(whole) == (n + 1) * 100


def test_parquet_parts_are_named_after_their_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "out"
    sink, _ = begun(ParquetSink(str(path)))
    through(sink, 0, 3, 1)
    assert sink.barrier(2) == {"base": 0, "parts": []}  # no rows, no part
    sink.committed(2)
    sink.write(table(3, 6))
    sink.barrier(3)
    assert {name for name in os.listdir(path) if not name.startswith(".")} == {
        "part-00000001.parquet"
    }
    sink.committed(3)
    sink.close()
    assert sorted(os.listdir(path)) == ["part-00000001.parquet", "part-00000003.parquet"]


def test_parquet_types_do_not_depend_on_values(tmp_path: Path) -> None:
    path = tmp_path / "out"
    sink, _ = begun(ParquetSink(str(path)))
    known = ("source", "partition", "offset", "key", "time", "cluster", "cluster_uid")
    numbers = ("probability", "squared_distance", "log_likelihood")
    absent = {name: [None] for name in (*known, *numbers, "extra")}
    sink.write(absent)
    sink.write({**absent, "offset": [3], "key": [7], "time": [1.5], "extra": ["x"]})
    sink.barrier(1)
    sink.committed(1)
    sink.close()
    types = {f.name: str(f.type) for f in pq.read_schema(path / "part-00000001.parquet")}
    assert types == {
        "source": "string",
        "partition": "int32",
        "offset": "int64",
        "key": "string",
        "time": "double",
        "cluster": "int32",
        "cluster_uid": "int64",
        "probability": "double",
        "squared_distance": "double",
        "log_likelihood": "double",
        "extra": "string",
    }


def test_other_columns_stop_a_parquet_output(tmp_path: Path) -> None:
    sink, _ = begun(ParquetSink(str(tmp_path / "out")))
    sink.write({"offset": [1], "extra": [1]})
    with pytest.raises(SinkFailed, match="extra"):
        sink.write({"offset": [1]})
    sink.close()


def test_strangers_in_a_parquet_folder_stay(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.mkdir()
    (path / "_SUCCESS").touch()
    sink, extent = begun(ParquetSink(str(path)))
    (path / "README").write_text("mine")
    through(sink, 0, 3, 1)
    sink.roll_back(extent, 0, "first")
    sink.close()
    assert sorted(os.listdir(path)) == ["README", "_SUCCESS"]


def test_standard_output_takes_rows_and_promises_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", stream)
    sink = StdoutSink()
    assert sink.begin("first", False) is None
    sink.write({"offset": np.arange(2), "log_likelihood": np.array([np.nan, 1.0])})
    sink.roll_back(sink.barrier(1), 1, "first")
    sink.close()
    assert not sink.exactly_once
    assert stream.buffer.getvalue() == (  # type: ignore[attr-defined]
        b'{"offset":0,"log_likelihood":null}\n{"offset":1,"log_likelihood":1.0}\n'
    )
    with pytest.raises(SettingsError, match="standard output"):
        StdoutSink(delivery="exactly-once")


def test_a_reader_that_goes_away() -> None:
    program = (
        "from stream_em_connectors.files.stdout_sink import StdoutSink\n"
        "from stream_em.errors import SinkFailed\n"
        "import sys\n"
        "sink = StdoutSink()\n"
        "try:\n"
        "    while True: sink.write({'offset': list(range(1000))})\n"
        "except SinkFailed as error:\n"
        "    print(error, file=sys.stderr)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    message = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() == 0
    assert message.startswith("whoever read standard output has gone away")
    assert message.count("\n") == 1
