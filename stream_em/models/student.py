"""Mixtures of Student's t: Gaussians with heavy tails, which outliers cannot drag along.

A row at squared Mahalanobis distance δ² counts by its relevance u = (ν + D)/(ν + δ²) for
mean and scale matrix of a component (Peel & McLachlan 2000):

    N = Σγ      N_u = Σγu      μ = Σγu x / N_u      Σ = Σγu (x - μ)(x - μ)ᵀ / N
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from stream_em.arrays import Array
from stream_em.errors import SettingsError
from stream_em.forgetting import Forgetting, PowerWindow
from stream_em.kernels import kernels_in_use
from stream_em.kernels.plain import LOG_2PI
from stream_em.models.covariance import Covariance, Full
from stream_em.models.density import assigned
from stream_em.models.gaussian import GaussianMixture
from stream_em.models.protocol import Clusters, Expectation, Model, Nested, Reading, check_common
from stream_em.models.settings import (
    Background,
    Learn,
    Prior,
    Restructuring,
    Seeding,
    Standardise,
    at_least,
)
from stream_em.moments import Moments, Scatter


@dataclass(frozen=True)
class StudentMixture(Model):
    """A mixture of multivariate t distributions with fixed degrees of freedom ν.

    `.covariances` are the scale matrices Σ in the shape of `covariance`; for ν > 2 the
    covariance of a component is Σ·ν/(ν - 2). For large ν it is a Gaussian mixture. Rows
    are not set aside, since far ones count little by themselves; `restructuring` goes
    with a `background` only, whose rows it lets become components.

    >>> StudentMixture(n_components=8).degrees_of_freedom
    4.0
    """

    n_components: int
    covariance: Covariance = Full()
    degrees_of_freedom: float = 4.0
    forgetting: Forgetting = PowerWindow(0.6)
    seeding: Seeding = Seeding()
    prior: Prior | None = Prior()
    restructuring: Restructuring | None = None
    background: Background | None = None
    scaling: Standardise | None = None
    missing: Learn | None = None
    initial_means: Nested | None = None
    initial_covariances: tuple[Any, ...] | None = None
    initial_weights: tuple[float, ...] | None = None
    kind: ClassVar[str] = "student-mixture"
    has_density: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least(self.degrees_of_freedom, 0, "degrees_of_freedom")
        if self.degrees_of_freedom == 0:
            raise SettingsError("degrees_of_freedom is 0, expected a number > 0; 4 is robust")
        check_common(self)
        for name in ("initial_means", "initial_covariances", "initial_weights"):
            object.__setattr__(self, name, getattr(self._gaussian, name))
        if self.restructuring is not None and self.background is None:
            raise SettingsError(
                "restructuring is on without a background, but components are born from rows "
                "that one claims; add background=Background(), or leave restructuring out"
            )

    @cached_property
    def _gaussian(self) -> GaussianMixture:
        """The mixture that reads the same tally, and checks the settings they share."""
        return GaussianMixture(
            n_components=self.n_components,
            covariance=self.covariance,
            prior=self.prior,
            initial_means=self.initial_means,
            initial_covariances=self.initial_covariances,
            initial_weights=self.initial_weights,
        )

    @property
    def size(self) -> int:
        return self.n_components

    @property
    def scatter(self) -> type[Scatter]:
        return self.covariance.scatter

    @property
    def per_feature(self) -> bool:
        return self.covariance.per_feature

    def relevance(self, clusters: Clusters, Z: Array) -> Array:
        return self.relevance_at(self._squared(clusters, Z), Z.shape[1])

    def relevance_at(self, squared: Array, D: int) -> Array:
        return (self.degrees_of_freedom + D) / (self.degrees_of_freedom + squared)

    def log_profile(self, squared: Array, D: int) -> Array:
        """log t in nats at squared Mahalanobis distances over D features, for |Σ| = 1."""
        v = self.degrees_of_freedom
        peak = math.lgamma((v + D) / 2) - math.lgamma(v / 2) - 0.5 * D * math.log(math.pi * v)
        return peak - 0.5 * (v + D) * np.log1p(squared / v)

    def _squared(self, clusters: Clusters, Z: Array) -> Array:
        """Squared Mahalanobis distances (n, K)."""
        density = self.covariance.log_density(
            kernels_in_use(),
            Z,
            clusters.means,
            clusters.precisions,
            np.zeros(len(clusters.means)),
        )
        return np.maximum(-2.0 * density - Z.shape[1] * LOG_2PI, 0.0)

    def e_step(self, clusters: Clusters, Z: Array) -> Expectation:
        density = self.log_profile(self._squared(clusters, Z), Z.shape[1]) + clusters.log_dets
        distance = kernels_in_use().nearest(Z, clusters.means)[1]
        return assigned(density, distance, clusters.weights)

    def m_step(self, moments: Moments, spread: Array, held: Clusters | None) -> Reading:
        return self._gaussian.m_step(moments, spread, held)

    def start(self, moments: Moments, spread: Array) -> Clusters:
        return self._gaussian.start(moments, spread)

    def given(self, means: Array, spread: Array, objective: float, unit: Array) -> Clusters:
        return self._gaussian.given(means, spread, objective, unit)

    def reread(self, moments: Moments, spread: Array, held: Clusters | None) -> Reading:
        return self._gaussian.reread(moments, spread, held)

    def n_parameters(self, D: int, K: int | None = None) -> int:
        return self._gaussian.n_parameters(D, K)

    def smallest_window(self, D: int) -> float:
        return self._gaussian.smallest_window(D)

    def rows_to_hold(self, D: int) -> int:
        return self._gaussian.rows_to_hold(D)

    def rows_withheld(self, D: int) -> int:
        return self._gaussian.rows_withheld(D)

    def reported(self, clusters: Clusters, moments: Moments | None, unit: Array) -> Array:
        """The scale matrices in original units, in the shape of `covariance`."""
        return self._gaussian.reported(clusters, moments, unit)

    def merge_costs(self, moments: Moments, spread: Array) -> Array:
        return self._gaussian.merge_costs(moments, spread)
