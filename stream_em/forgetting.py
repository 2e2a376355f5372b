"""Forgetting: how much of the held tally a step keeps.

A policy answers with a pair of retentions. The first fades the weight that steers
learning: every Robbins-Monro schedule γ is a retention λ = m(1-γ)/(γW), with m the
arriving and W the held weight. The second fades the weight that counts events, and
is below one only where old events are really to be forgotten. All clocks count
rows or event time, so results do not depend on how a stream is cut into batches.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from stream_em.arrays import Array, record
from stream_em.errors import RowsError, SettingsError
from stream_em.moments import Retentions


@record
class Window:
    """The schedule's own memory: the effective weight W held, and its clock n in Σw."""

    weight: float
    clock: float


class Arrival(NamedTuple):
    """What a policy is told of a step."""

    weight: float  # m = Σw of the arriving rows, none of it faded
    elapsed: float  # seconds by which the rows moved the event time on, 0 or more
    smallest: float  # the window below which nothing fades, W_min, in Σw


class Refusal(NamedTuple):
    """A row that must not be learned from, and why."""

    row: int
    reason: str  # one of streams.REASONS
    detail: str


class Forgetting(ABC):
    """A policy. Subclasses are final, hold settings only, and are free of state."""

    needs_times: ClassVar[bool] = False
    withholds: ClassVar[bool] = True  # a mixture begun from given means waits before its M-step
    averages: ClassVar[bool] = False  # averaged statistics mean something: nothing is forgotten
    learns_at_once: ClassVar[bool] = False  # the first rows seed; later ones replace them

    @abstractmethod
    def __call__(self, held: Window, arriving: Arrival) -> Retentions:
        """The step and objective retentions, each in [0, 1]."""

    def settled(self, weight: float, smallest: float) -> float:
        """The share of a seeding tally of `weight` that the schedule's window holds."""
        return 1.0

    def row_weights(self, weights: Array, times: Array | None, latest: float | None) -> Array:
        """Weights (n,) of the rows of one step, faded to the end of that step."""
        return weights

    def refusals(self, times: Array | None, latest: float | None) -> tuple[Refusal, ...]:
        """The rows that this policy cannot place in time."""
        return ()


def _positive(value: float, name: str) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (number and math.isfinite(value) and value > 0):
        raise SettingsError(f"{name} is {value!r}, expected a finite number > 0")


@dataclass(frozen=True)
class KeepAll(Forgetting):
    """Forget nothing: plain sums, γ_t = m_t/n_t (MacQueen 1967; Sculley 2010).

    >>> KeepAll()(Window(10.0, 10.0), Arrival(5.0, 0.0, 500.0))
    Retentions(step=1.0, objective=1.0)
    """

    kind: ClassVar[str] = "keep-all"
    averages: ClassVar[bool] = True
    withholds: ClassVar[bool] = False

    def __call__(self, held: Window, arriving: Arrival) -> Retentions:
        return Retentions(1.0, 1.0)


@dataclass(frozen=True)
class KeepNothing(Forgetting):
    """Forget everything: each step is one batch Lloyd or EM iteration, γ = 1."""

    kind: ClassVar[str] = "keep-nothing"
    withholds: ClassVar[bool] = False
    learns_at_once: ClassVar[bool] = True

    def __call__(self, held: Window, arriving: Arrival) -> Retentions:
        return Retentions(0.0, 0.0)


@dataclass(frozen=True)
class PowerWindow(Forgetting):
    """An effective window W(n) = W_min (n/W_min)^alpha that grows slower than the stream.

    λ = clip((max(W(n), 2m) - m)/W, 0, 1): the step sizes of Cappé & Moulines 2009 in
    units of rows. alpha = 1 keeps all; alpha = 0.5 follows fastest. A step after the
    first takes at most half of the weight. `minimum_rows` is W_min; None leaves it to
    the model (500 for k-means; 5 rows for each free parameter of a mixture).

    >>> round(PowerWindow(0.8)(Window(500.0, 500.0), Arrival(100.0, 0.0, 500.0)).step, 6)
    0.957031
    """

    alpha: float = 0.6
    minimum_rows: float | None = None
    kind: ClassVar[str] = "power-window"
    averages: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _positive(self.alpha, "alpha")
        if self.alpha > 1:
            raise SettingsError(f"alpha is {self.alpha!r}, expected at most 1 (1 keeps all)")
        if self.minimum_rows is not None:
            _positive(self.minimum_rows, "minimum_rows")

    def window(self, n: float, smallest: float) -> float:
        """W(n), in Σw: n itself up to W_min, a power of it beyond."""
        least = smallest if self.minimum_rows is None else self.minimum_rows
        return n if n < least else float(least * (n / least) ** self.alpha)

    def __call__(self, held: Window, arriving: Arrival) -> Retentions:
        if held.weight <= 0:
            return Retentions(1.0, 1.0)
        n, m = held.clock + arriving.weight, arriving.weight
        wanted = max(self.window(n, arriving.smallest), 2 * m)
        return Retentions(min(max((wanted - m) / held.weight, 0.0), 1.0), 1.0)

    def settled(self, weight: float, smallest: float) -> float:
        return self.window(weight, smallest) / weight if weight > 0 else 1.0


@dataclass(frozen=True)
class HalfLife(Forgetting):
    """Halve the weight of a row every `events` rows (in Σw), exactly for any cut.

    >>> HalfLife(events=100)(Window(1.0, 1.0), Arrival(200.0, 0.0, 500.0))
    Retentions(step=0.25, objective=0.25)
    """

    events: float
    kind: ClassVar[str] = "half-life"

    def __post_init__(self) -> None:
        _positive(self.events, "events")

    def __call__(self, held: Window, arriving: Arrival) -> Retentions:
        kept = 2.0 ** (-arriving.weight / self.events)
        return Retentions(kept, kept)

    def row_weights(self, weights: Array, times: Array | None, latest: float | None) -> Array:
        after = weights.sum() - np.cumsum(weights)
        return weights * np.exp2(-np.maximum(after, 0.0) / self.events)


@dataclass(frozen=True)
class EventTimeHalfLife(Forgetting):
    """Halve the weight of a row every `seconds` of event time, whatever order rows come in.

    Exponential forward decay (Cormode, Shkapenyuk, Srivastava & Xu, ICDE 2009): late
    rows count less, and the clock is the latest event time seen, never the wall. A row
    more than `max_ahead_seconds` ahead of that clock is refused, because it would fade
    all others at once; None stands for ten half-lives.
    """

    seconds: float
    max_ahead_seconds: float | None = None
    kind: ClassVar[str] = "event-time-half-life"
    needs_times: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _positive(self.seconds, "seconds")
        if self.max_ahead_seconds is not None:
            _positive(self.max_ahead_seconds, "max_ahead_seconds")

    def __call__(self, held: Window, arriving: Arrival) -> Retentions:
        kept = 2.0 ** (-arriving.elapsed / self.seconds)
        return Retentions(kept, kept)

    def row_weights(self, weights: Array, times: Array | None, latest: float | None) -> Array:
        if not weights.any():
            return weights
        if times is None or latest is None:
            raise RowsError(
                "rows came without event times, which EventTimeHalfLife needs; "
                "give times= (seconds or datetime64), or use HalfLife(events=...)"
            )
        return weights * np.exp2((times - latest) / self.seconds)

    def refusals(self, times: Array | None, latest: float | None) -> tuple[Refusal, ...]:
        if times is None or len(times) == 0:
            return ()
        ahead = 10 * self.seconds if self.max_ahead_seconds is None else self.max_ahead_seconds
        first = times[0] if latest is None else latest
        if np.isfinite(times).all() and times.max() <= first + ahead:
            return ()
        refused = []
        for row, time in enumerate(times.tolist()):
            if not math.isfinite(time):
                detail = f"event time {time} is no number of seconds"
                refused.append(Refusal(row, "schema", detail))
            elif latest is not None and time > latest + ahead:
                detail = f"event time {time} is {time - latest:g} s ahead of the latest, {latest}"
                refused.append(Refusal(row, "future", detail))
            else:
                latest = time if latest is None else max(latest, time)
        return tuple(refused)
