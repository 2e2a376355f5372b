"""Shared by the tests of the engine: its rows, a model of them, and what a store holds."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import stream_em as se
from stream_em.checkpoints import Checkpoint
from stream_em.engine import Schedule
from stream_em.stores import DirectoryStore
from stream_em.streams import Rejected


@pytest.fixture(autouse=True)
def all_threads_end() -> Iterator[None]:
    """No test leaves a thread of the engine behind."""
    yield
    left = [t for t in threading.enumerate() if t.name.startswith("stream-em")]
    for thread in left:
        thread.join(5)
    assert [t.name for t in left if t.is_alive()] == []


@pytest.fixture(scope="session")
def blobs() -> Callable[[int], np.ndarray]:
    """`blobs(n)`: rows (n, 2) from three clear clusters."""

    def drawn(n: int) -> np.ndarray:
        draw = np.random.default_rng(5)
        return draw.normal(size=(n, 2)) + 12.0 * draw.integers(0, 3, size=(n, 1))

    return drawn


@pytest.fixture(scope="session", name="X")
def _rows(blobs: Callable[[int], np.ndarray]) -> np.ndarray:
    """600 rows."""
    return blobs(600)


@pytest.fixture(scope="session")
def model() -> se.KMeans:
    """A model that holds the first 120 rows for its seeding."""
    return se.KMeans(n_clusters=3, seeding=se.Seeding(rows=120, restarts=2))


@pytest.fixture(scope="session")
def every() -> Schedule:
    """A checkpoint after each 100 rows."""
    return Schedule(every_events=100, every_seconds=0)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(str(tmp_path / "checkpoints"))


@pytest.fixture(scope="session")
def newest() -> Callable[[DirectoryStore], Checkpoint]:
    """`newest(store)`: the last checkpoint that a store holds."""

    def loaded(store: DirectoryStore) -> Checkpoint:
        return store.load(store.names()[-1])

    return loaded


@pytest.fixture(scope="session")
def bad() -> Callable[..., Rejected]:
    """`bad(offset, reason="schema")`: a record that makes no row."""

    def made(offset: int, reason: str = "schema") -> Rejected:
        raw = b'{"x1": "1,5"}'
        return Rejected("memory", 0, offset, reason, "x1", "'1,5', expected a number", raw)

    return made
