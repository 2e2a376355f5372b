"""Hard k-means: the limit σ → 0 of a mixture with covariances σ²I."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from stream_em.arrays import Array
from stream_em.forgetting import Forgetting, PowerWindow
from stream_em.kernels import kernels_in_use
from stream_em.models.protocol import (
    Clusters,
    Expectation,
    Model,
    Nested,
    Reading,
    as_nested,
    check_common,
    held_rows_bound,
)
from stream_em.models.settings import (
    Learn,
    Prior,
    Restructuring,
    Seeding,
    Standardise,
    at_least,
    only_none,
)
from stream_em.moments import DiagonalScatter, Moments, Scatter

SMALLEST_WINDOW = 500.0  # rows


@dataclass(frozen=True)
class KMeans(Model):
    """Mini-batch k-means with weighted tallies; each row goes to its nearest mean.

    >>> KMeans(n_clusters=3).forgetting
    PowerWindow(alpha=0.8, minimum_rows=None)
    """

    n_clusters: int
    forgetting: Forgetting = PowerWindow(0.8)
    seeding: Seeding = Seeding()
    prior: Prior | None = None
    restructuring: Restructuring | None = Restructuring()
    background: None = None
    scaling: Standardise | None = None
    missing: Learn | None = None
    initial_means: Nested | None = None
    kind: ClassVar[str] = "kmeans"
    relocates: ClassVar[bool] = True
    has_density: ClassVar[bool] = False

    def __post_init__(self) -> None:
        at_least(self.n_clusters, 1, "n_clusters", whole=True)
        only_none(self.prior, "prior")
        only_none(self.background, "background")
        means = as_nested(self.initial_means, "initial_means", self.n_clusters)
        object.__setattr__(self, "initial_means", means)
        check_common(self)

    @property
    def size(self) -> int:
        return self.n_clusters

    @property
    def scatter(self) -> type[Scatter]:
        return DiagonalScatter

    def e_step(self, clusters: Clusters, Z: Array) -> Expectation:
        labels, distance = kernels_in_use().nearest(Z, clusters.means)
        nothing = np.full(len(Z), np.nan)
        return Expectation(None, labels, distance, None, nothing, nothing, np.zeros(len(Z)))

    def m_step(self, moments: Moments, spread: Array, held: Clusters | None) -> Reading:
        return Reading(_clusters(shares(moments.objective), moments.mean), ())

    def start(self, moments: Moments, spread: Array) -> Clusters:
        return _clusters(shares(moments.objective), moments.mean)

    def given(self, means: Array, spread: Array, objective: float, unit: Array) -> Clusters:
        return _clusters(np.full(len(means), 1 / len(means)), means)

    def reread(self, moments: Moments, spread: Array, held: Clusters | None) -> Reading:
        return self.m_step(moments, spread, None)

    def n_parameters(self, D: int, K: int | None = None) -> int:
        return (K or self.n_clusters) * D

    def smallest_window(self, D: int) -> float:
        return SMALLEST_WINDOW

    def rows_to_hold(self, D: int) -> int:
        return held_rows_bound(self.n_clusters, D, 0)

    def rows_withheld(self, D: int) -> int:
        return 0

    def reported(self, clusters: Clusters, moments: Moments | None, unit: Array) -> Array:
        """The variance of the rows of each cluster, (K, D)."""
        if moments is None:
            return np.zeros(clusters.means.shape)
        weights = np.where(moments.step > 0, moments.step, 1.0)
        return moments.scatter.values / weights[:, None] * np.square(unit)

    def merge_costs(self, moments: Moments, spread: Array) -> Array:
        return kernels_in_use().ward(moments.objective, moments.mean)


def _clusters(weights: Array, means: Array) -> Clusters:
    none = np.zeros(0)
    return Clusters(weights, means, none, none, none)


def shares(weights: Array) -> Array:
    """Weights (K,) as shares that sum to 1; equal ones where there is no weight."""
    total = weights.sum()
    return weights / total if total > 0 else np.full(len(weights), 1 / max(len(weights), 1))
