"""A real `stream-em run`, killed by SIGKILL at twenty random moments, ends as if never killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stream_em.stores import DirectoryStore

ROWS, KILLS = 200_000, 20

CONFIGURATION = """
[source]
kind = "csv"
path = {data}
time = "at"
key = "id"

[model]
kind = "gaussian-mixture"
n_components = 4

[[sinks]]
kind = "jsonl"
path = "assignments.jsonl"

[[sinks]]
kind = "parquet"
path = "assignments"

[dead_letters]
kind = "jsonl"
path = "rejected.jsonl"

[checkpoints]
directory = "checkpoints"
every_events = 7_000

[http]
address = "off"
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows around four centres, one record in a thousand broken."""
    draw = np.random.default_rng(0)
    centres = np.array([[0.0, 0, 0], [6, 0, 0], [0, 6, 0], [0, 0, 6]])
    X = centres[draw.integers(4, size=ROWS)] + draw.normal(size=(ROWS, 3))
    lines = [f"{i},{i * 0.5},{x:.6f},{y:.6f},{z:.6f}" for i, (x, y, z) in enumerate(X.tolist())]
    lines[500::1000] = [line.replace(".", "?", 2) for line in lines[500::1000]]
    path = tmp_path_factory.mktemp("data") / "rows.csv"
    path.write_text("id,at,a,b,c\n" + "\n".join(lines) + "\n")
    return path


def start(folder: Path, data: Path) -> subprocess.Popen[bytes]:
    configuration = folder / "run.toml"
    if not configuration.exists():
        configuration.write_text(CONFIGURATION.format(data=json.dumps(str(data))))
    command = [sys.executable, "-m", "stream_em", "run", "-c", "run.toml", "--no-progress"]
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)


def written(folder: Path) -> int:
    output = folder / "assignments.jsonl"
    return output.stat().st_size if output.exists() else 0


def killed_somewhere(folder: Path, data: Path, draw: random.Random) -> bool:
    """Start the run and kill it: at once, or a moment after it has moved on. True if it lived."""
    process, before = start(folder, data), written(folder)
    if draw.random() < 0.2:
        time.sleep(draw.random())
    else:
        while process.poll() is None and written(folder) <= before:
            time.sleep(0.005)
        time.sleep(0.25 * draw.random() ** 2)
    lived = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return lived


def test_twenty_kills_leave_no_trace(data: Path, tmp_path: Path) -> None:
    quiet, beaten = tmp_path / "quiet", tmp_path / "beaten"
    quiet.mkdir()
    beaten.mkdir()
    assert start(quiet, data).wait() == 0, (quiet / "log.txt").read_text()[-3000:]
    draw = random.Random(os.environ.get("STREAM_EM_KILLS_SEED", "kills"))
    lived = sum(killed_somewhere(beaten, data, draw) for _ in range(KILLS))
    assert start(beaten, data).wait() == 0, (beaten / "log.txt").read_text()[-3000:]
    assert lived >= KILLS // 2, "too few kills hit a living run to show anything"

    expected, found = newest(quiet), newest(beaten)
    assert expected.state == found.state
    assert expected.rejected == found.rejected == ROWS // 1000
    assert found.state.total_events + found.rejected == ROWS
    for name in ("assignments.jsonl", "rejected.jsonl"):
        assert (beaten / name).read_bytes() == (quiet / name).read_bytes()
    assert parquet_rows(beaten) == parquet_rows(quiet)
    keys = [json.loads(line)["key"] for line in (beaten / "assignments.jsonl").open()]
    assert len(keys) == len(set(keys)) == ROWS - ROWS // 1000


def newest(folder: Path):  # type: ignore[no-untyped-def]
    store = DirectoryStore(str(folder / "checkpoints"))
    return store.load(store.names()[-1])


def parquet_rows(folder: Path) -> list[object]:
    """All rows of all parts; how they are cut into parts depends on when checkpoints fell."""
    import pyarrow.parquet

    assert not list((folder / "assignments").glob(".*")), "a temporary part was left behind"
    table = pyarrow.parquet.read_table(folder / "assignments")
    return table.sort_by("offset").to_pydict()["offset"]
