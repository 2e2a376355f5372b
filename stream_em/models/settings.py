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
class Standardise:
    """Scale each feature by mean and standard deviation of the seeding rows, then frozen.

    Means and covariances come out in the original units; distances, likelihoods and
    metrics are in the model's.
    """

    kind: ClassVar[str] = "standardise"
