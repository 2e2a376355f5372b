"""Soft k-means: γ = softmax(-β d²), an equal-weight mixture with variance σ² = 1/(2β)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from stream_em.arrays import Array
from stream_em.errors import SettingsError
from stream_em.forgetting import Forgetting, PowerWindow
from stream_em.kernels import kernels_in_use
from stream_em.models.covariance import Isotropic
from stream_em.models.density import assembled, expected
from stream_em.models.gaussian import mixture_rows_withheld, mixture_window
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
    Annealing,
    Learn,
    Prior,
    Restructuring,
    Seeding,
    Standardise,
    at_least,
    only_none,
)
from stream_em.moments import DiagonalScatter, Moments, Scatter


@dataclass(frozen=True)
class SoftKMeans(Model):
    """Soft k-means with inverse temperature `beta`, where J = Σ|x - μ|².

    beta=None takes D·Σw/(2J) of the seeding rows, σ² = J/(ND), and keeps it. Below the
    critical β = 1/(2 λ_max(cov X)) all means collapse onto one (Rose, Gurewitz & Fox 1990).
    """

    n_clusters: int
    beta: float | None = None
    forgetting: Forgetting = PowerWindow(0.6)
    seeding: Seeding = Seeding()
    prior: Prior | None = None
    restructuring: Restructuring | None = Restructuring()
    background: None = None
    scaling: Standardise | None = None
    missing: Learn | None = None
    initial_means: Nested | None = None
    annealing: Annealing | None = None
    kind: ClassVar[str] = "soft-kmeans"
    relocates: ClassVar[bool] = True
    has_density: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least(self.n_clusters, 1, "n_clusters", whole=True)
        if self.beta is not None:
            at_least(self.beta, 0, "beta")
            if self.beta == 0 or math.isinf(1 / self.beta):
                raise SettingsError(f"beta is {self.beta!r}, expected > 0")
        only_none(self.prior, "prior")
        only_none(self.background, "background")
        means = as_nested(self.initial_means, "initial_means", self.n_clusters)
        object.__setattr__(self, "initial_means", means)
        if not isinstance(self.annealing, Annealing | None):
            raise SettingsError(f"annealing is {self.annealing!r}, expected Annealing(...) or None")
        check_common(self)

    @property
    def size(self) -> int:
        return self.n_clusters

    @property
    def scatter(self) -> type[Scatter]:
        return DiagonalScatter

    def variance(self, spread: Array, objective: float) -> float:
        """σ² = 1/(2β), from β or from the mean squared distance `objective`."""
        if self.beta is not None:
            return 1 / (2 * self.beta)
        least = 1e-12 * float(spread.sum())
        chosen = max(objective, least) / len(spread)
        return chosen if chosen > 0 else 1.0

    def tempered(self, clusters: Clusters, beta: float) -> Clusters:
        """The same means at another inverse temperature."""
        return _clusters(clusters.means, 1 / (2 * beta))

    def e_step(self, clusters: Clusters, Z: Array) -> Expectation:
        return expected(_isotropic(clusters), clusters, Z)

    def m_step(self, moments: Moments, spread: Array, held: Clusters | None) -> Reading:
        variance = held.covariances[0] if held is not None else self.variance(spread, 0.0)
        return Reading(_clusters(moments.mean, float(variance)), ())

    def start(self, moments: Moments, spread: Array) -> Clusters:
        total = moments.step.sum()
        objective = moments.scatter.values.sum() / total if total > 0 else 0.0
        return _clusters(moments.mean, self.variance(spread, float(objective)))

    def given(self, means: Array, spread: Array, objective: float, unit: Array) -> Clusters:
        return _clusters(means, self.variance(spread, objective))

    def reread(self, moments: Moments, spread: Array, held: Clusters | None) -> Reading:
        return self.m_step(moments, spread, held)

    def n_parameters(self, D: int, K: int | None = None) -> int:
        return (K or self.n_clusters) * D

    def smallest_window(self, D: int) -> float:
        return mixture_window(self.n_parameters(D))

    def rows_to_hold(self, D: int) -> int:
        return held_rows_bound(self.n_clusters, D, 0)

    def rows_withheld(self, D: int) -> int:
        return mixture_rows_withheld(self.n_parameters(D))

    def reported(self, clusters: Clusters, moments: Moments | None, unit: Array) -> Array:
        """The fixed variance σ² of each cluster, (K,)."""
        return clusters.covariances * np.square(unit).mean()

    def merge_costs(self, moments: Moments, spread: Array) -> Array:
        return kernels_in_use().ward(moments.objective, moments.mean)


def critical_beta(Z: Array, weights: Array) -> float:
    """1/(2 λ_max(cov Z)), below which all means collapse onto one; +inf without spread."""
    total = float(weights.sum())
    moved = np.nan_to_num(Z) - weights @ np.nan_to_num(Z) / total
    largest = float(np.linalg.eigvalsh((moved * weights[:, None]).T @ moved / total)[-1])
    return 1 / (2 * largest) if largest > 0 else math.inf


def _isotropic(clusters: Clusters) -> Isotropic:
    return Isotropic(float(clusters.covariances[0]) if len(clusters.covariances) else 1.0)


def _clusters(means: Array, variance: float) -> Clusters:
    K = len(means)
    covariance = Isotropic(variance)
    weights = np.full(K, 1 / max(K, 1))
    return assembled(covariance, weights, means, np.full(K, variance)).clusters
