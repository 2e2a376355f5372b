"""What is refused before a run begins: outputs in conflict, schedules without sense."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import stream_em as se
from stream_em.engine import Schedule, conflicts, run, unfit_for_transactions
from stream_em.errors import SettingsError
from stream_em.memory import MemorySink, MemorySource
from stream_em_connectors.kafka.sink import KafkaSink


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


def test_outputs_of_one_name_are_not_called_the_same() -> None:
    servers = ("one:9092", "other:9092")
    one, other = (KafkaSink(at, "x", delivery="at-least-once") for at in servers)
    again = KafkaSink(servers[0], "x", delivery="at-least-once")
    file: Any = At("x")
    source = MemorySource([])
    for sinks in ([file, one], [one, other]):
        (told,) = conflicts(source, sinks)
        assert told.startswith("two outputs have the same name 'x'")
    (told,) = conflicts(source, [one, again])
    assert told.startswith("two outputs are the same")


def test_two_spellings_of_one_cluster_are_shown() -> None:
    sinks = [KafkaSink("127.0.0.1:9", "a"), KafkaSink("localhost:9", "b")]
    (told,) = unfit_for_transactions(sinks, True, Schedule(), "run", False)
    assert "bootstrap_servers ['127.0.0.1:9'] and ['localhost:9']" in told
    assert "client" not in told.partition("(")[2].partition(")")[0]


def test_conflicts_stop_a_run_before_it_begins(X: np.ndarray, model: se.KMeans) -> None:
    with pytest.raises(SettingsError, match="two outputs are the same"):
        run(MemorySource([X]), model, [MemorySink("a"), MemorySink("a")])


def test_schedules_are_checked() -> None:
    with pytest.raises(SettingsError, match="keep came as 1"):
        Schedule(keep=1)
    with pytest.raises(SettingsError, match="every_events came as -1"):
        Schedule(every_events=-1)
