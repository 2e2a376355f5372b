"""What is refused before a run begins: outputs in conflict, schedules without sense."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import stream_em as se
from stream_em.engine import Schedule, conflicts, run
from stream_em.errors import SettingsError
from stream_em.memory import MemorySink, MemorySource


@dataclass
class At:
    """A port with a path."""

    path: str
    kind: str = "jsonl"

    @property
    def name(self) -> str:
        return self.path


@pytest.mark.parametrize(
    ("pattern", "outputs", "found"),
    [
        ("in/*.csv", ["out.jsonl", "other.jsonl"], 0),
        ("in/*.csv", ["out.jsonl", "./out.jsonl"], 1),
        ("in/*.jsonl", ["in/out.jsonl"], 1),
        ("in/*.jsonl", ["in/deeper/out.jsonl"], 0),
        ("in/**/*.jsonl", ["in/a/b/out.jsonl"], 1),
        ("in/x.csv", ["in/x.csv"], 1),
        ("in/*.parquet", ["in"], 1),
        ("-", ["-"], 0),
    ],
)
def test_outputs_in_conflict_are_named(pattern: str, outputs: list[str], found: int) -> None:
    source: Any = At(pattern)
    sinks: Any = [At(path) for path in outputs]
    assert len(conflicts(source, sinks)) == found
    assert len(conflicts(source, sinks[:-1], sinks[-1])) == found


def test_conflicts_stop_a_run_before_it_begins(X: np.ndarray, model: se.KMeans) -> None:
    with pytest.raises(SettingsError, match="two outputs are the same"):
        run(MemorySource([X]), model, [MemorySink("a"), MemorySink("a")])


def test_schedules_are_checked() -> None:
    with pytest.raises(SettingsError, match="keep came as 1"):
        Schedule(keep=1)
    with pytest.raises(SettingsError, match="every_events came as -1"):
        Schedule(every_events=-1)
