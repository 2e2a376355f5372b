"""Settings a model holds as values; the functions that use them live further down the house."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from stream_em.errors import SettingsError


def at_least(value: Any, least: float, name: str, whole: bool = False) -> None:
    """Raise `SettingsError` unless `value` is a finite number (a whole one) of at least `least`."""
    kinds = (int,) if whole else (int, float)
    number = isinstance(value, kinds) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < least:
        what = "a whole number" if whole else "a finite number"
        raise SettingsError(f"{name} is {value!r}, expected {what} of at least {least:g}")


def only_none(value: Any, name: str) -> None:
    """Raise `SettingsError` for a setting whose only value is None so far."""
    if value is not None:
        raise SettingsError(f"{name} is {value!r}, but its only value so far is None; leave it out")


@dataclass(frozen=True)
class Seeding:
    """How the first clusters are found on held rows.

    `rows` are held before seeding (None: as many as the model needs, bounded), and the
    best of `restarts` seeds is kept, each greedy k-means++, at most `lloyd_steps` Lloyd
    iterations and, for soft models, `em_steps` EM iterations.
    """

    rows: int | None = None
    restarts: int = 8
    lloyd_steps: int = 10
    em_steps: int = 10
    kind: ClassVar[str] = "seeding"

    def __post_init__(self) -> None:
        if self.rows is not None:
            at_least(self.rows, 1, "rows", whole=True)
        at_least(self.restarts, 1, "restarts", whole=True)
        at_least(self.lloyd_steps, 0, "lloyd_steps", whole=True)
        at_least(self.em_steps, 0, "em_steps", whole=True)


@dataclass(frozen=True)
class Prior:
    """Penalised M-step: each covariance sees `rows` pseudo-rows of covariance Λ.

    Λ = scale · K^(-2/D) · diag(v), v the running variance of all rows, so the result is
    equivariant under a change of units; each weight sees `weight` pseudo-rows. EM with
    this penalty is monotone, unlike EM with a constant added to the diagonal.
    """

    rows: float = 1.0
    scale: float = 0.1
    weight: float = 1.0
    kind: ClassVar[str] = "prior"

    def __post_init__(self) -> None:
        at_least(self.rows, 0, "rows")
        at_least(self.scale, 0, "scale")
        at_least(self.weight, 0, "weight")


@dataclass(frozen=True)
class Restructuring:
    """How clusters move where they are needed: rows far from all are set aside, then claimed.

    A row is set aside when its squared distance passes `threshold` times the running mean
    (k-means), or when the background claims more than half of it (mixtures). At most
    `capacity` rows wait, none longer than `max_age_rows`. Every `every_rows` learned rows
    up to `moves` moves are tried, each the best of `candidates`; a move pays for itself in
    the objective or is refused. `min_rows` is the least a move may claim.

    `variable` lets a mixture with a background have fewer components than asked: two merge
    when that costs less than the description of one, ½P_k ln W, and one is born alone when
    it gains more.
    """

    threshold: float = 4.0
    capacity: int = 1000
    every_rows: int = 500
    max_age_rows: int = 10_000
    moves: int = 3
    candidates: int = 4
    min_rows: int = 1
    max_ratio: float | None = None
    variable: bool = False
    kind: ClassVar[str] = "restructuring"

    def __post_init__(self) -> None:
        at_least(self.threshold, 0, "threshold")
        for name in ("capacity", "every_rows", "max_age_rows", "candidates", "min_rows"):
            at_least(getattr(self, name), 1, name, whole=True)
        at_least(self.moves, 0, "moves", whole=True)
        if not isinstance(self.variable, bool):
            raise SettingsError(f"variable is {self.variable!r}, expected true or false")
        if self.max_ratio is not None:
            at_least(self.max_ratio, 0, "max_ratio")


@dataclass(frozen=True)
class Background:
    """A uniform component over the range of the rows, for what no cluster explains.

    Its share of the mixture is learned like any other, from one pseudo-row, and never
    falls below `least_share`.
    """

    least_share: float = 1e-4
    kind: ClassVar[str] = "background"

    def __post_init__(self) -> None:
        at_least(self.least_share, 0, "least_share")
        if not 0 < self.least_share < 1:
            raise SettingsError(f"least_share is {self.least_share!r}, expected between 0 and 1")


@dataclass(frozen=True)
class Annealing:
    """Seed soft k-means by deterministic annealing (Rose, Gurewitz & Fox 1990).

    β rises from `start` times the critical value of the held rows by `factor` for each EM
    iteration until it reaches the model's.
    """

    start: float = 1.1
    factor: float = 1.2
    kind: ClassVar[str] = "annealing"

    def __post_init__(self) -> None:
        at_least(self.start, 1, "start")
        at_least(self.factor, 1, "factor")
        if self.factor == 1:
            raise SettingsError("factor is 1, expected more: β has to rise")


@dataclass(frozen=True)
class Learn:
    """Learn rows with missing values (NaN) by what the model expects of them.

    Exact for every covariance when values are missing at random; for k-means distances
    run over the observed features. Without it such rows are refused.
    """

    kind: ClassVar[str] = "learn"


@dataclass(frozen=True)
class Standardise:
    """Scale each feature by mean and standard deviation of the seeding rows, then frozen.

    Means and covariances come out in the original units; distances, likelihoods and
    metrics are in the model's.
    """

    kind: ClassVar[str] = "standardise"
