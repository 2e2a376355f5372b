"""What every codec gives: columns of accepted rows, and the flaws of the others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stream_em.arrays import LARGEST, Array, record
from stream_em.streams import Json


@dataclass(frozen=True)
class Fields:
    """Which fields of a record make a row."""

    features: tuple[str, ...]
    weight: str | None = None
    time: str | None = None
    key: str | None = None
    missing: bool = False  # absent features are NaN in the row; else they are flaws

    @property
    def names(self) -> tuple[str, ...]:
        """All fields that are read, each once, features first."""
        extra = (self.weight, self.time, self.key)
        return tuple(dict.fromkeys((*self.features, *(name for name in extra if name is not None))))


class Flaw(NamedTuple):
    """Why a record is no row."""

    reason: str  # one of streams.REASONS
    field: str | None
    detail: str  # what came, what was expected


class FlawError(Exception):
    """Carries a flaw from where it is found to where the record is judged."""

    def __init__(self, reason: str, field: str | None, detail: str) -> None:
        self.flaw = Flaw(reason, field, detail)


class Row(NamedTuple):
    """A record that was judged on its own and found good."""

    values: tuple[float, ...]  # (D,)
    weight: float
    time: float  # seconds, NaN where absent
    key: Json


Verdicts = Mapping[int, Row | Flaw]  # index of a record -> what became of it


class Raw(NamedTuple):
    """Columns of all records of a run, whatever their quality."""

    rows: Array  # (n, D) float64; unusable is an infinity, or NaN unless that means absent
    weights: Array | None  # (n,) float64
    times: Array | None  # (n,) float64 seconds, NaN where absent, an infinity where unreadable
    keys: list[Json] | None  # (n,)


@record
class Decoded:
    """The accepted rows of a run of records, and the flaws of the others."""

    rows: Array  # (n, D) float64 of magnitude up to LARGEST; NaN where it may be missing
    weights: Array | None  # (n,) float64, finite and >= 0
    times: Array | None  # (n,) float64 seconds, NaN where absent
    keys: tuple[Json, ...] | None  # (n,)
    kept: Array  # (n,) int64, indices of the accepted among all records
    flaws: tuple[tuple[int, Flaw], ...]  # indices of the others, in order


def blank(n: int, fields: Fields) -> Raw:
    """Columns for `n` records, to be filled."""
    return Raw(
        rows=np.full((n, len(fields.features)), np.inf if fields.missing else np.nan),
        weights=None if fields.weight is None else np.ones(n),
        times=None if fields.time is None else np.full(n, np.nan),
        keys=None if fields.key is None else [None] * n,
    )


def doubtful(raw: Raw, missing: bool = False) -> list[int]:
    """Indices of the records that cannot be taken as they are and need a closer look.

    `missing` takes NaN features as absent; then only infinities are unusable.
    """
    if missing:
        good = ~(np.abs(raw.rows) > LARGEST).any(axis=1)
    else:
        good = (np.abs(raw.rows) <= LARGEST).all(axis=1)  # False for NaN and infinities too
    if raw.weights is not None:
        good &= (raw.weights >= 0) & (raw.weights <= LARGEST)
    if raw.times is not None:
        good &= ~(np.abs(raw.times) > LARGEST)
    return [] if good.all() else [int(place) for place in np.flatnonzero(~good)]


def settled(raw: Raw, verdicts: Verdicts) -> Decoded:
    """Columns and verdicts together: a verdict replaces what the columns say of its record."""
    flaws = [(i, v) for i, v in sorted(verdicts.items()) if isinstance(v, Flaw)]
    for place, verdict in verdicts.items():
        if isinstance(verdict, Row):
            _put(raw, place, verdict)
    if not flaws:
        kept = np.arange(len(raw.rows), dtype=np.int64)
        keys = None if raw.keys is None else tuple(raw.keys)
        return Decoded(raw.rows, raw.weights, raw.times, keys, kept, ())
    good = np.ones(len(raw.rows), dtype=bool)
    good[[place for place, _ in flaws]] = False
    kept = np.flatnonzero(good)
    return Decoded(
        rows=raw.rows[kept],
        weights=None if raw.weights is None else raw.weights[kept],
        times=None if raw.times is None else raw.times[kept],
        keys=None if raw.keys is None else tuple(raw.keys[i] for i in kept.tolist()),
        kept=kept,
        flaws=tuple(flaws),
    )


def _put(raw: Raw, place: int, row: Row) -> None:
    raw.rows[place] = row.values
    if raw.weights is not None:
        raw.weights[place] = row.weight
    if raw.times is not None:
        raw.times[place] = row.time
    if raw.keys is not None:
        raw.keys[place] = row.key
