"""What survives a step, and what merely happened in it: two families of records.

`State` is all that must survive a crash; `Info` feeds metrics and outputs and is never
read back. A `Tally` is half a step: rows tallied under fixed clusters.
"""

from typing import NamedTuple

import numpy as np

from stream_em.arrays import Array, record
from stream_em.forgetting import Window
from stream_em.models.directions import unit_rows
from stream_em.models.protocol import Clusters
from stream_em.moments import Moments


@record
class Frame:
    """The model's coordinates: z = (x - origin)/unit, fixed once clusters are seeded.

    On the `sphere` z = x/|x| instead: only directions count, and the origin is 0.
    """

    origin: Array  # (D,) the reference vector r, in the rows' units
    unit: Array  # (D,) ones unless the model standardises
    sphere: bool = False

    def inward(self, X: Array) -> Array:
        """Rows (n, D) in the model's coordinates, C order."""
        if self.sphere:
            return unit_rows(X)
        return np.ascontiguousarray((X - self.origin) / self.unit)

    def outward(self, Z: Array) -> Array:
        """Model coordinates (n, D) or (D,) back in the rows' units; on the sphere, directions."""
        if self.sphere:
            return unit_rows(np.atleast_2d(Z)).reshape(Z.shape)
        return Z * self.unit + self.origin


@record
class Held:
    """Rows with what came beside them, as they wait for seeding or for their tally."""

    rows: Array  # (n, D) in the rows' units
    weights: Array  # (n,)
    times: Array | None  # (n,) seconds
    given: Array | None  # (n, K) responsibilities given with the rows; NaN where unknown

    def __len__(self) -> int:
        return len(self.rows)


@record
class Quarantine:
    """Rows set aside, as copies: no cluster is near, and none has claimed them yet."""

    rows: Array  # (q, D) in the model's coordinates
    weights: Array  # (q,) faded like events
    scores: Array  # (q,) squared distance to the nearest mean, or share of the background
    arrivals: Array  # (q,) int64, rows learned before each

    def __len__(self) -> int:
        return len(self.rows)


@record
class Typical:
    """The running mean squared distance to the nearest mean, A/B, glitches clipped."""

    total: float  # A
    weight: float  # B

    @property
    def mean(self) -> float:
        """d̄², 0 while nothing is known."""
        return self.total / self.weight if self.weight > 0 else 0.0


@record
class Averaged:
    """Normalised statistics averaged along the stream, late ones most: a second model."""

    moments: Moments  # each step's tally over its window's weight, weights ∝ n'³
    since: float  # the clock, in Σw, when averaging began


@record
class Uniform:
    """The tally of the background, and the ranges over which it is uniform."""

    step: float  # N_0, steers its share
    objective: float  # N_0, counts events
    low: Array  # (D,) running range, in the model's coordinates
    high: Array  # (D,)


@record
class Identity:
    """Names of the live clusters; rows run in the order of slots."""

    slots: Array  # (K,) int64, reused after a death
    uids: Array  # (K,) int64, never reused
    next_uid: int


class Change(NamedTuple):
    """A cluster was born, died, merged or moved to other rows."""

    kind: str  # birth, death, merge, relocation
    slot: int
    old_uid: int | None
    new_uid: int | None
    row: int  # total events when it happened
    reason: str
    position: tuple[float, ...]  # (D,) the mean, in the rows' units


@record
class State:
    """All that must survive a crash. A plain value: same state and rows, same next state."""

    seed: int  # randomness is data: every draw is keyed by it
    features: tuple[str, ...] | None  # names, once a data frame gave them
    total_events: int  # rows accepted since the model began, weight 0 included
    final_events: int  # of those, rows whose assignment is final
    learned: int  # rows with weight > 0 in the tally
    time: float | None  # latest event time seen, seconds
    frame: Frame | None  # None until there are rows or given means
    window: Window  # of the schedule
    clusters: Clusters | None  # provisional while rows are held
    identity: Identity
    moments: Moments | None  # the tally; None while rows are held
    spread: Moments | None  # all rows as one cluster: the running variance
    held: Held | None  # rows before seeding
    typical: Typical  # k-means: what counts as far
    quarantine: Quarantine | None  # rows set aside; None without restructuring
    background: Uniform | None  # None without one
    averaged: Averaged | None  # None where the policy forgets events
    recent: Array | None  # (≤ 1000, D) last rows, model coordinates, to score merges on
    unreported: tuple[Change, ...]  # changes that belong to the next step's info

    @property
    def held_rows(self) -> int:
        """Rows that wait for seeding."""
        return 0 if self.held is None else len(self.held)


@record
class Scores:
    """Rows as fixed clusters see them; distances and densities in the model's units."""

    labels: Array  # (n,) int64, row of `means`
    probability: Array  # (n,) of that label
    squared_distance: Array  # (n,) to the mean of that label
    log_likelihood: Array  # (n,) nats of the whole model; NaN for k-means
    background: Array  # (n,) share of the background
    slots: Array  # (K,) of the clusters at scoring time
    uids: Array  # (K,)
    soft: Array | None  # (n, K); None stands for one-hot at `labels`

    @property
    def outlier(self) -> Array:
        """Which rows are outliers, (n,) bool: more likely background than of any cluster.

        All False for models without a background.
        """
        return np.asarray(self.background > 0.5)

    @property
    def responsibilities(self) -> Array:
        """Posterior over the clusters, (n, K), rows sum to 1."""
        if self.soft is not None:
            return self.soft
        return (self.labels[:, None] == np.arange(max(len(self.slots), 1))).astype(np.float64)


class Sums(NamedTuple):
    """Sums over rows, each times its weight, scored before the rows' own update."""

    weight: float  # Σw behind the others
    objective: float  # squared distance to the nearest mean
    log_likelihood: float  # nats
    entropy: float  # nats of the responsibilities
    free_energy: float  # nats, F = Q + H ≤ log_likelihood; higher is better

    def plus(self, other: "Sums") -> "Sums":
        """The sums over both sets of rows."""
        return Sums(*(a + b for a, b in zip(self, other, strict=True)))


@record
class Tally:
    """Rows tallied under fixed clusters; tallies of one state merge in any order."""

    held: Held  # the rows themselves while clusters are missing; else empty
    frame: Frame | None
    clusters: Clusters | None  # that the rows were tallied under
    moments: Moments | None
    spread: Moments | None  # the rows as one cluster
    weight: float  # m = Σw, none of it faded
    total: int  # rows, weight 0 included
    learned: int  # rows with weight > 0
    time: float | None  # latest event time, which row weights are faded to
    sums: Sums
    clipped: float  # Σw·min(d², 16 d̄²), for the running mean distance
    far: Quarantine | None  # rows set aside (k-means), or copies of them (mixtures)
    uniform: Uniform | None  # the background's part, and the rows' ranges
    recent: Array | None  # (≤ 1000, D) its last rows, where merges are scored on them
    scores: Scores
    features: tuple[str, ...] | None
    ignored_columns: int


@record
class Info:
    """What happened in a step: for metrics and outputs, never read back."""

    events: int  # rows whose assignment became final
    weight: float  # Σw behind the four sums
    objective: float  # Σ w·squared distance to the nearest mean, before the update
    log_likelihood: float  # Σ w·nats
    entropy: float  # Σ w·nats
    free_energy: float  # Σ w·nats, at most log_likelihood
    retention: float  # share of the held step weight kept
    step_size: float  # γ, share of the new tally that arrived in this step
    changes: tuple[Change, ...]
    scores: Scores  # of the rows that became final, in order
    first: int  # index of the first of them, counted from the model's first row
    ignored_columns: int
    interventions: tuple[str, ...]  # numerical repairs, by kind


@record
class Found:
    """The clusters read off a state, in the rows' units and in the order of slots."""

    uids: Array  # (K,) int64
    slots: Array  # (K,) int64
    weights: Array  # (K,) sum 1
    means: Array  # (K, D)
    covariances: Array  # scikit-learn's shape for the model's covariance
    counts: Array  # (K,) N_obj: events, faded only by half-lives
    background: float = 0.0  # events that no cluster explains; with `counts` and held rows, all
