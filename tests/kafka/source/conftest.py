"""Numbers as records of JSON, and what the batches of a stream amount to."""

import json
from collections.abc import Callable, Sequence

import pytest

from stream_em.streams import Batch, Positions, Stream


@pytest.fixture(scope="session")
def x() -> Callable[..., list[bytes]]:
    """`x(1, 2)`: records of the feature "x"."""

    def made(*values: float) -> list[bytes]:
        return [json.dumps({"x": value}).encode() for value in values]

    return made


@pytest.fixture(scope="session")
def rows() -> Callable[[Sequence[Batch]], list[float]]:
    """`rows(batches)`: the first feature of all rows."""

    def found(batches: Sequence[Batch]) -> list[float]:
        return [value for batch in batches for value in batch.rows[:, 0].tolist()]

    return found


@pytest.fixture(scope="session")
def after() -> Callable[[Stream, Sequence[Batch]], Positions]:
    """`after(stream, batches)`: the positions behind batches, as a checkpoint gives them back."""

    def advanced(stream: Stream, batches: Sequence[Batch]) -> Positions:
        at = stream.positions
        for batch in batches:
            at = at.advanced(batch.next_positions)
        return Positions(json.loads(json.dumps(dict(at.parts))))

    return advanced
