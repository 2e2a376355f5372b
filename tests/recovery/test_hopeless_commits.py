"""A transaction that fails for good while all queues are full: the run hears of it and ends."""

import time

import numpy as np
import pytest

import stream_em as se
from stream_em.engine import Schedule, run
from stream_em.errors import Fenced, OutcomeUnknown, PartitionsLost
from stream_em.memory import MemorySource
from stream_em.stores import DirectoryStore

MODEL = se.KMeans(n_clusters=2, initial_means=[[0.0], [10.0]])
BATCH, ROWS = 10, 3_000  # many times more batches than all queues take
EVERY = Schedule(every_events=BATCH, every_seconds=600)

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def go(ledger, ledger_sink, tmp_path, monkeypatch: pytest.MonkeyPatch):
    """Run; the commit of checkpoint 3 takes until everything stands still, and then fails once."""
    rows = np.arange(ROWS, dtype=np.float64)[:, None] % 11

    def run_once(error: Exception) -> se.engine.Summary:
        sink = ledger_sink(ledger)
        opened = sink.transactions("engine", 600.0)
        commit, failures = opened.commit, [error]

        def committed(marker, courtesy):
            if marker.number == 3 and failures:
                time.sleep(0.5)
                raise failures.pop()
            return commit(marker, courtesy)

        monkeypatch.setattr(opened, "commit", committed)
        monkeypatch.setattr(sink, "transactions", lambda name, every: opened)
        store = DirectoryStore(str(tmp_path / "checkpoints"))
        return run(MemorySource([rows], BATCH), MODEL, [sink], store, schedule=EVERY, name="engine")

    return run_once


@pytest.mark.parametrize("error", [Fenced("a rival"), OutcomeUnknown("no answer")])
def test_the_run_ends_with_what_went_wrong(go, ledger, error: Exception) -> None:
    with pytest.raises(type(error)):
        go(error)
    assert ledger.marker.number == 2


def test_after_a_loss_it_starts_again_from_the_true_checkpoint(go, ledger) -> None:
    assert go(PartitionsLost("the group divided its partitions anew")).total_events == ROWS
    assert [row["offset"] for row in ledger.rows["out"]] == list(range(ROWS))
