"""The rows of a replay: the same ones in the same order, as often as they are wanted."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, final

import numpy as np

from stream_em import moments
from stream_em.arrays import Array, altered
from stream_em.errors import RowsError
from stream_em.holding import latest_time
from stream_em.incomplete import spread_of
from stream_em.learning import tally
from stream_em.models.directions import unit_rows
from stream_em.models.protocol import Model
from stream_em.moments import Moments
from stream_em.scoring import appended, taken
from stream_em.state import Held, State, Tally

MEMOS = 40  # chunks that rows are cut into, unless asked otherwise
BLOCK_ROWS = 65_536  # rows in one E-step, at most; larger chunks take several


@final
@dataclass(frozen=True, eq=False)
class Chunk:
    """Rows with what comes beside them; every field as the argument of `step`."""

    rows: Any  # (n, D)
    weights: Any = None
    times: Any = None
    labels: Any = None
    responsibilities: Any = None


Reader = Callable[[], Iterable[Any]]


class Pieces(ABC):
    """An iterable of rows that passed the gate; each iteration gives the same. Subclasses final."""

    features: tuple[str, ...] | None

    @abstractmethod
    def __iter__(self) -> Iterator[Held]:
        """The pieces in order."""


@final
@dataclass(frozen=True, eq=False)
class InMemory(Pieces):
    """One array or data frame, cut into pieces of `rows`."""

    held: Held
    rows: int
    features: tuple[str, ...] | None

    def __iter__(self) -> Iterator[Held]:
        for start in range(0, len(self.held), self.rows):
            yield taken(self.held, slice(start, start + self.rows))


@final
@dataclass(frozen=True, eq=False)
class ReadAgain(Pieces):
    """Chunks that are read anew in each iteration."""

    read: Reader
    model: Model
    blank: State  # without clusters, so that rows are only checked
    features: tuple[str, ...] | None

    def __iter__(self) -> Iterator[Held]:
        for chunk in self.read():
            yield _checked(self.model, self.blank, _as_chunk(chunk)).held


def opened(model: Model, state: State, chunks: Any, beside: Chunk, rows: int | None) -> Pieces:
    """`chunks` as pieces: an array or frame with `beside` it, or chunks to be read again."""
    blank = altered(state, moments=None, held=None)
    reader = _reader(chunks)
    if reader is None:
        part = _checked(model, blank, replace(beside, rows=chunks))
        return InMemory(part.held, _piece_rows(len(part.held), rows), part.features)
    if any(v is not None for v in (beside.weights, beside.times, beside.labels)) or (
        beside.responsibilities is not None
    ):
        raise RowsError(
            "weights, times and labels beside chunks belong to each of them; "
            "give Chunk(rows, weights=...) objects instead"
        )
    first = next(iter(reader()), None)
    if first is not None:
        part = _checked(model, blank, _as_chunk(first))
        width = taken(part.held, slice(0, 0))
        blank = altered(blank, features=part.features, held=width)
    return ReadAgain(reader, model, blank, blank.features)


def _reader(chunks: Any) -> Reader | None:
    """How to read chunks again; None for a single array or frame."""
    if callable(chunks):
        return chunks
    if isinstance(chunks, Iterator):
        raise RowsError(
            "chunks came as an iterator, which can be read only once; "
            "give a list of arrays, or a function that returns a new iterator"
        )
    if isinstance(chunks, Sequence) and len(chunks) and _is_chunk(chunks[0]):
        return lambda: chunks
    return None


def _is_chunk(value: Any) -> bool:
    return (
        isinstance(value, Chunk)
        or getattr(value, "columns", None) is not None
        or (np.ndim(value) == 2)
    )


def _as_chunk(value: Any) -> Chunk:
    return value if isinstance(value, Chunk) else Chunk(value)


def _checked(model: Model, blank: State, chunk: Chunk) -> Tally:
    return tally(
        model,
        blank,
        chunk.rows,
        weights=chunk.weights,
        times=chunk.times,
        labels=chunk.labels,
        responsibilities=chunk.responsibilities,
    )


def _piece_rows(n: int, rows: int | None) -> int:
    """Rows of a piece, so that a chunk of `rows` is one or several whole ones."""
    wanted = max(-(-n // MEMOS) if rows is None else rows, 1)
    return -(-wanted // -(-wanted // BLOCK_ROWS))


class Survey(NamedTuple):
    """What a first look at all rows finds, before any of them is assigned."""

    lengths: tuple[int, ...]  # rows of each piece
    learned: int  # rows with weight > 0
    spread: Moments  # all rows as one cluster, about `centre`
    centre: Array  # (D,) in the rows' units; of their directions where only those count
    low: Array  # (D,) least value of rows with weight
    high: Array  # (D,)
    time: float | None  # latest event time
    sample: Held  # rows with weight, evenly spaced, to seed from

    @property
    def rows(self) -> int:
        """All rows, weight 0 included."""
        return sum(self.lengths)

    @property
    def weight(self) -> float:
        """Σw."""
        return float(self.spread.step[0])


def surveyed(model: Model, pieces: Pieces) -> Survey | None:
    """Look at all rows; None when none has weight."""
    found: Survey | None = None
    sample, stride, seen = None, 1, 0
    lengths = []
    for piece in pieces:
        lengths.append(len(piece))
        counted = _with_weight(piece)
        if len(counted) == 0:
            continue
        found = _looked_at(model, found, counted)
        sample = appended(sample, taken(counted, slice(-seen % stride, None, stride)))
        seen += len(counted)
        needed = model.seeding.rows or model.rows_to_hold(sample.rows.shape[1])
        while len(sample) > 2 * needed:
            sample, stride = appended(None, taken(sample, slice(None, None, 2))), 2 * stride
    if found is None or sample is None:
        return None
    return found._replace(lengths=tuple(lengths), learned=seen, sample=sample)


def _with_weight(piece: Held) -> Held:
    keep = piece.weights > 0
    if keep.all():
        return piece
    return Held(
        piece.rows[keep],
        piece.weights[keep],
        None if piece.times is None else piece.times[keep],
        None if piece.given is None else piece.given[keep],
    )


def _looked_at(model: Model, before: Survey | None, piece: Held) -> Survey:
    X = unit_rows(piece.rows) if model.directional else piece.rows
    low, high = np.fmin.reduce(X, axis=0), np.fmax.reduce(X, axis=0)
    if before is None:
        centre = spread_of(model, X, piece.weights, None).mean[0]
        spread = spread_of(model, X - centre, piece.weights, None)
        return Survey((), 0, spread, centre, low, high, latest_time(None, piece), piece)
    more = spread_of(model, X - before.centre, piece.weights, before.spread)
    return before._replace(
        spread=moments.merge(before.spread, more),
        low=np.fmin(before.low, low),
        high=np.fmax(before.high, high),
        time=latest_time(before.time, piece),
    )


def spans(lengths: Sequence[int], rows: int | None) -> tuple[int, ...]:
    """How many consecutive pieces share a memo, so that each covers at least `rows` of them.

    >>> spans([100] * 7, 300)
    (3, 3, 1)
    """
    wanted = -(-sum(lengths) // MEMOS) if rows is None else rows
    found, pieces, filled = [], 0, 0
    for length in lengths:
        pieces, filled = pieces + 1, filled + length
        if filled >= wanted:
            found.append(pieces)
            pieces, filled = 0, 0
    return (*found, pieces) if pieces else tuple(found)


def chunked(
    pieces: Pieces, lengths: Sequence[int], covered: Sequence[int]
) -> Iterator[Iterator[Held]]:
    """The pieces of each memo in turn. Raises `RowsError` when they are not those surveyed.

    Each inner iterator has to be used up before the next one is taken.
    """
    walk = iter(pieces)
    at = 0
    for count in covered:
        yield _next_pieces(walk, lengths[at : at + count])
        at += count
    if next(walk, None) is not None:
        raise RowsError("more chunks came than in the sweep before; give the same ones each time")


def _next_pieces(walk: Iterator[Held], lengths: Sequence[int]) -> Iterator[Held]:
    for length in lengths:
        piece = next(walk, None)
        came = 0 if piece is None else len(piece)
        if piece is None or came != length:
            raise RowsError(
                f"a chunk came with {came} rows and had {length} before; a replay needs the same "
                "rows in each sweep, so give data that does not change meanwhile"
            )
        yield piece
