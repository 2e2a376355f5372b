"""Spherical k-means: rows count by their directions alone, as embeddings do."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from stream_em.arrays import Array
from stream_em.forgetting import Forgetting, PowerWindow, Refusal
from stream_em.kernels import kernels_in_use
from stream_em.models import directions
from stream_em.models.kmeans import SMALLEST_WINDOW, shares
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
from stream_em.models.settings import Prior, Restructuring, Seeding, at_least, only_none
from stream_em.moments import DiagonalScatter, Moments, Scatter


@dataclass(frozen=True)
class SphericalKMeans(Model):
    """Mini-batch k-means by cosine: rows are divided by their lengths, means have length 1.

    The squared distance of a row to a mean is 2 - 2 cos. A row of zeros has no direction
    and is refused.

    >>> import stream_em as se
    >>> model = se.SphericalKMeans(n_clusters=2, initial_means=[[1.0, 0.1], [0.0, 1.0]])
    >>> state, _ = se.step(model, se.init(model), [[9.0, 0.0], [0.1, 0.0], [0.0, 5.0]])
    >>> se.clusters(model, state).means
    array([[1., 0.],
           [0., 1.]])
    """

    n_clusters: int
    forgetting: Forgetting = PowerWindow(0.8)
    seeding: Seeding = Seeding()
    prior: Prior | None = None
    restructuring: Restructuring | None = Restructuring()
    background: None = None
    scaling: None = None
    missing: None = None
    initial_means: Nested | None = None
    kind: ClassVar[str] = "spherical-kmeans"
    relocates: ClassVar[bool] = True
    directional: ClassVar[bool] = True
    has_density: ClassVar[bool] = False

    def __post_init__(self) -> None:
        at_least(self.n_clusters, 1, "n_clusters", whole=True)
        for name in ("prior", "background", "scaling", "missing"):
            only_none(getattr(self, name), name)
        means = as_nested(self.initial_means, "initial_means", self.n_clusters)
        directions.refuse_zero_means(means)
        object.__setattr__(self, "initial_means", means)
        check_common(self)

    @property
    def size(self) -> int:
        return self.n_clusters

    @property
    def scatter(self) -> type[Scatter]:
        return DiagonalScatter

    def refusals(self, X: Array) -> tuple[Refusal, ...]:
        return directions.zero_rows(X)

    def centres(self, means: Array) -> Array:
        return directions.centres(means, None)

    def distortion(self, moments: Moments) -> float:
        return directions.distortion(moments.step, moments.mean)

    def e_step(self, clusters: Clusters, Z: Array) -> Expectation:
        labels, distance = kernels_in_use().nearest(Z, clusters.means)
        nothing = np.full(len(Z), np.nan)
        return Expectation(None, labels, distance, None, nothing, nothing, np.zeros(len(Z)))

    def m_step(self, moments: Moments, spread: Array, held: Clusters | None) -> Reading:
        before = None if held is None else held.means
        means = directions.centres(moments.mean, before)
        return Reading(_clusters(shares(moments.objective), means), ())

    def start(self, moments: Moments, spread: Array) -> Clusters:
        return self.m_step(moments, spread, None).clusters

    def given(self, means: Array, spread: Array, objective: float, unit: Array) -> Clusters:
        return _clusters(np.full(len(means), 1 / len(means)), means)

    def reread(self, moments: Moments, spread: Array, held: Clusters | None) -> Reading:
        return self.m_step(moments, spread, None)

    def n_parameters(self, D: int, K: int | None = None) -> int:
        return (K or self.n_clusters) * (D - 1)

    def smallest_window(self, D: int) -> float:
        return SMALLEST_WINDOW

    def rows_to_hold(self, D: int) -> int:
        return held_rows_bound(self.n_clusters, D, 0)

    def rows_withheld(self, D: int) -> int:
        return 0

    def reported(self, clusters: Clusters, moments: Moments | None, unit: Array) -> Array:
        """The variance of the directions of each cluster, (K, D)."""
        if moments is None:
            return np.zeros(clusters.means.shape)
        weights = np.where(moments.step > 0, moments.step, 1.0)
        return moments.scatter.values / weights[:, None]

    def merge_costs(self, moments: Moments, spread: Array) -> Array:
        return directions.ward(moments.objective, moments.mean)


def _clusters(weights: Array, means: Array) -> Clusters:
    none = np.zeros(0)
    return Clusters(weights, means, none, none, none)
