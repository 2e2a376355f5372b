"""Gaussian mixtures: posterior assignment, and a penalised M-step for five covariances."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from stream_em.arrays import Array
from stream_em.errors import SettingsError
from stream_em.forgetting import Forgetting, PowerWindow
from stream_em.models.covariance import Covariance, Full
from stream_em.models.density import assembled, expected
from stream_em.models.protocol import (
    Clusters,
    Expectation,
    Model,
    Nested,
    Reading,
    as_nested,
    as_tuples,
    check_common,
    held_rows_bound,
)
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
class GaussianMixture(Model):
    """A mixture of Gaussians, learned by online EM with a penalised M-step.

    >>> GaussianMixture(n_components=8).covariance
    Full()
    """

    n_components: int
    covariance: Covariance = Full()
    forgetting: Forgetting = PowerWindow(0.6)
    seeding: Seeding = Seeding()
    prior: Prior | None = Prior()
    restructuring: Restructuring | None = Restructuring()
    background: Background | None = Background()
    scaling: Standardise | None = None
    missing: Learn | None = None
    initial_means: Nested | None = None
    initial_covariances: tuple[Any, ...] | None = None
    initial_weights: tuple[float, ...] | None = None
    kind: ClassVar[str] = "gaussian-mixture"
    has_density: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least(self.n_components, 1, "n_components", whole=True)
        if not isinstance(self.covariance, Covariance):
            raise SettingsError(
                f"covariance is {self.covariance!r}, expected Full(), Tied(), Diagonal(), "
                "Spherical() or Isotropic(variance)"
            )
        means = as_nested(self.initial_means, "initial_means", self.n_components)
        object.__setattr__(self, "initial_means", means)
        for name in ("initial_covariances", "initial_weights"):
            object.__setattr__(self, name, as_tuples(getattr(self, name)))
        check_common(self)
        self._check_companions()

    def _check_companions(self) -> None:
        if self.initial_means is None:
            if self.initial_covariances is not None or self.initial_weights is not None:
                raise SettingsError(
                    "initial_covariances and initial_weights go with initial_means; give those too"
                )
            return
        if self.initial_covariances is not None:
            D = len(self.initial_means[0])
            self.covariance.accepted(self.initial_covariances, self.n_components, D, np.ones(D))
        if self.initial_weights is not None:
            self._check_weights()

    def _check_weights(self) -> None:
        try:
            weights = np.asarray(self.initial_weights, dtype=np.float64)
        except (TypeError, ValueError):
            weights = np.zeros(0)
        good = weights.shape == (self.n_components,) and np.isfinite(weights).all()
        if not good or weights.min() < 0 or weights.sum() <= 0:
            raise SettingsError(
                f"initial_weights are {self.initial_weights!r}, expected "
                f"{self.n_components} finite numbers >= 0 with a positive sum"
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

    def prior_covariance(self, spread: Array) -> tuple[float, Array]:
        """Pseudo-rows n0 and the diagonal Λ (D,) = scale·K^(-2/D)·v of the prior."""
        if self.prior is None:
            return 0.0, np.zeros(len(spread))
        shrink = self.prior.scale * self.n_components ** (-2 / len(spread))
        return self.prior.rows, shrink * spread

    def e_step(self, clusters: Clusters, Z: Array) -> Expectation:
        return expected(self.covariance, clusters, Z)

    def m_step(self, moments: Moments, spread: Array, held: Clusters | None) -> Reading:
        n0, prior = self.prior_covariance(spread)
        before = None if held is None else held.covariances
        covariances = self.covariance.estimate(moments, n0, prior, before)
        a0 = 0.0 if self.prior is None else self.prior.weight
        weights = moments.step + a0
        total = weights.sum()
        weights = weights / total if total > 0 else np.full(len(weights), 1 / len(weights))
        return assembled(self.covariance, weights, moments.mean, covariances)

    def start(self, moments: Moments, spread: Array) -> Clusters:
        return self.m_step(moments, spread, None).clusters

    def given(self, means: Array, spread: Array, objective: float, unit: Array) -> Clusters:
        K, D = means.shape
        weights = np.full(K, 1 / K)
        if self.initial_weights is not None:
            weights = np.asarray(self.initial_weights, dtype=np.float64)
            weights = weights / weights.sum()
        covariances = self.covariance.from_spread(spread, K)
        if self.initial_covariances is not None:
            covariances = self.covariance.accepted(self.initial_covariances, K, D, unit)
        return assembled(self.covariance, weights, means, covariances).clusters

    def reread(self, moments: Moments, spread: Array, held: Clusters | None) -> Reading:
        return self.m_step(moments, spread, None)

    def n_parameters(self, D: int, K: int | None = None) -> int:
        K = K or self.n_components
        return K - 1 + K * D + self.covariance.n_parameters(K, D)

    def smallest_window(self, D: int) -> float:
        return mixture_window(self.n_parameters(D))

    def rows_to_hold(self, D: int) -> int:
        return held_rows_bound(self.n_components, D, self.n_parameters(D))

    def rows_withheld(self, D: int) -> int:
        return mixture_rows_withheld(self.n_parameters(D))

    def reported(self, clusters: Clusters, moments: Moments | None, unit: Array) -> Array:
        return self.covariance.reported(clusters.covariances, unit)

    def merge_costs(self, moments: Moments, spread: Array) -> Array:
        n0, prior = self.prior_covariance(spread)
        covariances = self.covariance.estimate(moments, n0, prior, None)
        return self.covariance.merge_costs(moments.objective, moments.mean, covariances)


def mixture_window(n_parameters: int) -> float:
    """W_min = min(max(500, 5P), 20 000) rows."""
    return float(min(max(500, 5 * n_parameters), 20_000))


def mixture_rows_withheld(n_parameters: int) -> int:
    """Rows tallied before the first M-step from given means: min(5P, 2000)."""
    return min(5 * n_parameters, 2000)
