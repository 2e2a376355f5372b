"""The five shapes of a Gaussian component's covariance, each a class of its own.

S_k is the scatter, N_k the step weight, Λ (D,) the diagonal of the prior's covariance
and n0 its pseudo-rows (both zero without a prior). P_k is the upper triangular factor
with inv(cov_k) = P_k P_kᵀ.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from stream_em.arrays import Array
from stream_em.errors import SettingsError
from stream_em.kernels import kernels_in_use
from stream_em.models import merging
from stream_em.models.settings import at_least
from stream_em.moments import DiagonalScatter, FullScatter, Moments, PooledScatter, Scatter


class Factors(NamedTuple):
    """Cholesky factors of the inverses, their log determinants, and repairs made."""

    precisions: Array  # (K, D, D) or (K, D)
    log_dets: Array  # (K,)
    interventions: tuple[str, ...]


class Covariance(ABC):
    """How the covariances of a mixture are tied down. Subclasses are final."""

    kind: ClassVar[str]
    scatter: ClassVar[type[Scatter]]
    per_feature: ClassVar[bool] = True  # each feature has a variance of its own

    @abstractmethod
    def n_parameters(self, K: int, D: int) -> int:
        """Free parameters of K covariances in D features."""

    @abstractmethod
    def estimate(self, moments: Moments, n0: float, prior: Array, held: Array | None) -> Array:
        """Covariances that maximise the penalised likelihood; `held` where N_k = 0."""

    @abstractmethod
    def from_spread(self, spread: Array, K: int) -> Array:
        """K^(-2/D)·diag(spread) in this shape; spread (D,) variances."""

    @abstractmethod
    def accepted(self, values: Any, K: int, D: int, unit: Array) -> Array:
        """Given covariances in original units, checked and moved to the model's; unit (D,)."""

    @abstractmethod
    def factors(self, covariances: Array, K: int, D: int) -> Factors:
        """Factors for `log_density`."""

    @abstractmethod
    def log_density(
        self, kernels: Any, Z: Array, means: Array, precisions: Array, log_dets: Array
    ) -> Array:
        """log N(z; k) as (n, K) nats."""

    @abstractmethod
    def reported(self, covariances: Array, unit: Array) -> Array:
        """Covariances in original units."""

    @abstractmethod
    def merge_costs(self, o: Array, means: Array, covariances: Array) -> Array:
        """(K, K) nats lost by merging two components of weights o (K,)."""


def _divided(sums: Array, step: Array, n0: float, held: Array | None) -> Array:
    """sums_k / (N_k + n0); an empty cluster keeps the held value."""
    wide = step.reshape(-1, *([1] * (sums.ndim - 1)))
    weights = wide + n0
    out = sums / np.where(weights > 0, weights, 1.0)
    return out if held is None else np.where(wide > 0, out, held)


def _shaped(values: Any, shape: tuple[int, ...]) -> Array:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.zeros(0)
    if array.shape != shape:
        raise SettingsError(f"initial_covariances came in shape {array.shape}, expected {shape}")
    return array


def _positive(values: Array) -> Array:
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise SettingsError("initial_covariances must be finite and > 0; correct the values")
    return values


def _factors_of_matrices(covariances: Array) -> Factors:
    """Factors of (K, D, D) matrices; a failing one gets a growing, counted jitter."""
    precisions, log_dets, tries = kernels_in_use().matrix_factors(covariances)
    return Factors(precisions, log_dets, ("cholesky_retry",) * int(tries.sum()))


def _factors_of_variances(variances: Array) -> Factors:
    """Factors of (K, D) variances; one that is not positive is floored, and counted."""
    precisions, log_dets, floored = kernels_in_use().variance_factors(variances)
    return Factors(precisions, log_dets, ("covariance_floor",) * int(floored.sum()))


@dataclass(frozen=True)
class Full(Covariance):
    """One matrix for each component; `.covariances` has shape (K, D, D)."""

    kind: ClassVar[str] = "full"
    scatter: ClassVar[type[Scatter]] = FullScatter

    def n_parameters(self, K: int, D: int) -> int:
        return K * D * (D + 1) // 2

    def estimate(self, moments: Moments, n0: float, prior: Array, held: Array | None) -> Array:
        return _divided(moments.scatter.values + n0 * np.diag(prior), moments.step, n0, held)

    def from_spread(self, spread: Array, K: int) -> Array:
        return np.tile(K ** (-2 / len(spread)) * np.diag(spread), (K, 1, 1))

    def accepted(self, values: Any, K: int, D: int, unit: Array) -> Array:
        return _symmetric_positive(_shaped(values, (K, D, D))) / np.outer(unit, unit)

    def factors(self, covariances: Array, K: int, D: int) -> Factors:
        return _factors_of_matrices(covariances)

    def log_density(
        self, kernels: Any, Z: Array, means: Array, precisions: Array, log_dets: Array
    ) -> Array:
        return kernels.log_density_full(Z, means, precisions, log_dets)

    def reported(self, covariances: Array, unit: Array) -> Array:
        return covariances * np.outer(unit, unit)

    def merge_costs(self, o: Array, means: Array, covariances: Array) -> Array:
        return merging.of_matrices(o, means, covariances)


def _symmetric_positive(matrices: Array) -> Array:
    slack = 1e-8 * np.abs(matrices).max(initial=0.0)
    symmetric = (np.abs(matrices - matrices.swapaxes(-1, -2)) <= slack).all()
    try:
        if not (symmetric and np.isfinite(matrices).all()):
            raise np.linalg.LinAlgError
        np.linalg.cholesky(matrices)
    except np.linalg.LinAlgError:
        raise SettingsError(
            "initial_covariances are not positive definite; give symmetric positive matrices"
        ) from None
    return matrices


@dataclass(frozen=True)
class Tied(Covariance):
    """One matrix for all components; `.covariances` has shape (D, D)."""

    kind: ClassVar[str] = "tied"
    scatter: ClassVar[type[Scatter]] = PooledScatter

    def n_parameters(self, K: int, D: int) -> int:
        return D * (D + 1) // 2

    def estimate(self, moments: Moments, n0: float, prior: Array, held: Array | None) -> Array:
        weight = moments.step.sum()
        if weight <= 0 and held is not None:
            return held
        return (moments.scatter.values + n0 * np.diag(prior)) / max(weight + n0, 1e-300)

    def from_spread(self, spread: Array, K: int) -> Array:
        return K ** (-2 / len(spread)) * np.diag(spread)

    def accepted(self, values: Any, K: int, D: int, unit: Array) -> Array:
        return _symmetric_positive(_shaped(values, (D, D))) / np.outer(unit, unit)

    def factors(self, covariances: Array, K: int, D: int) -> Factors:
        one = _factors_of_matrices(covariances[None])
        precisions = np.ascontiguousarray(np.broadcast_to(one.precisions, (K, D, D)))
        return Factors(precisions, np.repeat(one.log_dets, K), one.interventions)

    def log_density(
        self, kernels: Any, Z: Array, means: Array, precisions: Array, log_dets: Array
    ) -> Array:
        return kernels.log_density_full(Z, means, precisions, log_dets)

    def reported(self, covariances: Array, unit: Array) -> Array:
        return covariances * np.outer(unit, unit)

    def merge_costs(self, o: Array, means: Array, covariances: Array) -> Array:
        return merging.of_one_matrix(o, means, covariances)


@dataclass(frozen=True)
class Diagonal(Covariance):
    """Variances of each component and feature; `.covariances` has shape (K, D)."""

    kind: ClassVar[str] = "diagonal"
    scatter: ClassVar[type[Scatter]] = DiagonalScatter

    def n_parameters(self, K: int, D: int) -> int:
        return K * D

    def estimate(self, moments: Moments, n0: float, prior: Array, held: Array | None) -> Array:
        return _divided(moments.scatter.values + n0 * prior, moments.step, n0, held)

    def from_spread(self, spread: Array, K: int) -> Array:
        return np.tile(K ** (-2 / len(spread)) * spread, (K, 1))

    def accepted(self, values: Any, K: int, D: int, unit: Array) -> Array:
        return _positive(_shaped(values, (K, D))) / np.square(unit)

    def factors(self, covariances: Array, K: int, D: int) -> Factors:
        return _factors_of_variances(covariances)

    def log_density(
        self, kernels: Any, Z: Array, means: Array, precisions: Array, log_dets: Array
    ) -> Array:
        return kernels.log_density_diagonal(Z, means, precisions, log_dets)

    def reported(self, covariances: Array, unit: Array) -> Array:
        return covariances * np.square(unit)

    def merge_costs(self, o: Array, means: Array, covariances: Array) -> Array:
        return merging.of_variances(o, means, covariances)


@dataclass(frozen=True)
class Spherical(Covariance):
    """One variance for each component; `.covariances` has shape (K,).

    Under `Standardise` the reported variance is the mean over the features.
    """

    kind: ClassVar[str] = "spherical"
    per_feature: ClassVar[bool] = False
    scatter: ClassVar[type[Scatter]] = DiagonalScatter

    def n_parameters(self, K: int, D: int) -> int:
        return K

    def estimate(self, moments: Moments, n0: float, prior: Array, held: Array | None) -> Array:
        sums = moments.scatter.values.sum(axis=1) + n0 * prior.sum()
        return _divided(sums / moments.mean.shape[1], moments.step, n0, held)

    def from_spread(self, spread: Array, K: int) -> Array:
        return np.repeat(K ** (-2 / len(spread)) * spread.mean(), K)

    def accepted(self, values: Any, K: int, D: int, unit: Array) -> Array:
        return _positive(_shaped(values, (K,))) / np.square(unit).mean()

    def factors(self, covariances: Array, K: int, D: int) -> Factors:
        return _factors_of_variances(np.repeat(covariances[:, None], D, axis=1))

    def log_density(
        self, kernels: Any, Z: Array, means: Array, precisions: Array, log_dets: Array
    ) -> Array:
        return kernels.log_density_diagonal(Z, means, precisions, log_dets)

    def reported(self, covariances: Array, unit: Array) -> Array:
        return covariances * np.square(unit).mean()

    def merge_costs(self, o: Array, means: Array, covariances: Array) -> Array:
        variances = np.repeat(covariances[:, None], means.shape[1], axis=1)
        return merging.of_variances(o, means, variances)


@dataclass(frozen=True)
class Isotropic(Covariance):
    """The fixed σ²·I in the model's units, never learned; k-means is its limit σ → 0."""

    variance: float
    kind: ClassVar[str] = "isotropic"
    per_feature: ClassVar[bool] = False
    scatter: ClassVar[type[Scatter]] = DiagonalScatter

    def __post_init__(self) -> None:
        at_least(self.variance, 0, "variance")
        if self.variance == 0 or math.isinf(1 / self.variance):
            raise SettingsError(f"variance is {self.variance!r}, expected > 0; KMeans is the limit")

    def n_parameters(self, K: int, D: int) -> int:
        return 0

    def estimate(self, moments: Moments, n0: float, prior: Array, held: Array | None) -> Array:
        return np.full(len(moments.step), float(self.variance))

    def from_spread(self, spread: Array, K: int) -> Array:
        return np.full(K, float(self.variance))

    def accepted(self, values: Any, K: int, D: int, unit: Array) -> Array:
        raise SettingsError("initial_covariances make no sense with Isotropic; leave them out")

    def factors(self, covariances: Array, K: int, D: int) -> Factors:
        return _factors_of_variances(np.repeat(covariances[:, None], D, axis=1))

    def log_density(
        self, kernels: Any, Z: Array, means: Array, precisions: Array, log_dets: Array
    ) -> Array:
        return kernels.log_density_diagonal(Z, means, precisions, log_dets)

    def reported(self, covariances: Array, unit: Array) -> Array:
        return covariances * np.square(unit).mean()

    def merge_costs(self, o: Array, means: Array, covariances: Array) -> Array:
        return merging.of_fixed_variance(o, means, self.variance)
