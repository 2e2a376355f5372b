"""Shared by the tests of the command line: a way to call it, and a folder to call it in."""

from typing import NamedTuple

import numpy as np
import pytest

from stream_em.cli import main

ROWS = 1200
CONFIG = """\
[source]
kind = "csv"
path = "in.csv"
features = ["x", "y"]
batch_size = 100
[model]
kind = "kmeans"
n_clusters = 3
[[sinks]]
kind = "jsonl"
path = "out.jsonl"
[checkpoints]
directory = "saved"
every_events = 500
[http]
address = "off"
"""


class Left(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys):
    """Runs a command line in this process."""

    def invoke(*arguments):
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        return Left(left.value.code or 0, *capsys.readouterr())

    return invoke


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a configuration and its data, being the current one."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(5)
    centres = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    X = centres[rng.integers(3, size=ROWS)] + rng.normal(size=(ROWS, 2))
    np.savetxt("in.csv", X, delimiter=",", header="x,y", comments="")
    (tmp_path / "c.toml").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def rows():
    """How many rows the data in `here` has."""
    return ROWS


@pytest.fixture
def files(here):
    """Gives all that is in `here`."""

    def listed():
        return sorted(str(path.relative_to(here)) for path in here.rglob("*"))

    return listed
