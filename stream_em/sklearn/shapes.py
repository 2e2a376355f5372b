"""scikit-learn's four `covariance_type`s: one class for each, with what their shapes ask for.

K components, D features; P_k is the upper triangular factor with inv(cov_k) = P_k P_kᵀ.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, final

import numpy as np

from stream_em.arrays import Array
from stream_em.errors import SettingsError
from stream_em.models.covariance import Covariance, Diagonal, Full, Spherical, Tied
from stream_em.moments import DiagonalScatter, FullScatter, PooledScatter, Scatter
from stream_em.sklearn.settings import starting


class Shape(ABC):
    """How covariances of one type are laid out. Subclasses are final and hold nothing."""

    name: ClassVar[str]
    covariance: ClassVar[Covariance]

    @abstractmethod
    def layout(self, K: int, D: int) -> tuple[int, ...]:
        """The shape of covariances and precisions."""

    @abstractmethod
    def inverse(self, values: Array) -> Array:
        """Covariances from precisions."""

    @abstractmethod
    def cholesky(self, precisions: Array) -> Array:
        """`precisions_cholesky_` from the factors P_k that the engine keeps."""

    @abstractmethod
    def factors(self, cholesky: Array, K: int, D: int) -> Array:
        """The factors P_k that the engine keeps from `precisions_cholesky_`."""

    @abstractmethod
    def squared(self, cholesky: Array) -> Array:
        """`precisions_` from `precisions_cholesky_`."""

    @abstractmethod
    def scatter(self, covariances: Array, N: Array, D: int) -> Scatter:
        """The scatter of N (K,) rows that have these covariances."""

    @abstractmethod
    def variances(self, covariances: Array, K: int, D: int) -> Array:
        """The variance of each feature, (K, D)."""

    @abstractmethod
    def moved(self, noise: Array, covariances: Array, k: int) -> Array:
        """Standard normal rows (n, D) as rows of component k about its mean."""

    @abstractmethod
    def ridged(self, covariances: Array, ridge: float, D: int) -> Array:
        """Covariances with `ridge` added to every variance."""


@final
class _Full(Shape):
    name: ClassVar[str] = "full"
    covariance: ClassVar[Covariance] = Full()

    def layout(self, K: int, D: int) -> tuple[int, ...]:
        return (K, D, D)

    def inverse(self, values: Array) -> Array:
        return _symmetric(np.linalg.inv(values))

    def cholesky(self, precisions: Array) -> Array:
        return np.array(precisions)

    def factors(self, cholesky: Array, K: int, D: int) -> Array:
        return np.array(cholesky, dtype=np.float64, order="C")

    def squared(self, cholesky: Array) -> Array:
        return cholesky @ cholesky.swapaxes(-1, -2)

    def scatter(self, covariances: Array, N: Array, D: int) -> Scatter:
        return FullScatter(N[:, None, None] * covariances)

    def variances(self, covariances: Array, K: int, D: int) -> Array:
        return np.array(np.diagonal(covariances, axis1=1, axis2=2))

    def moved(self, noise: Array, covariances: Array, k: int) -> Array:
        return noise @ np.linalg.cholesky(covariances[k]).T

    def ridged(self, covariances: Array, ridge: float, D: int) -> Array:
        return covariances + ridge * np.eye(D)


@final
class _Tied(Shape):
    name: ClassVar[str] = "tied"
    covariance: ClassVar[Covariance] = Tied()

    def layout(self, K: int, D: int) -> tuple[int, ...]:
        return (D, D)

    def inverse(self, values: Array) -> Array:
        return _symmetric(np.linalg.inv(values))

    def cholesky(self, precisions: Array) -> Array:
        return np.array(precisions[0])

    def factors(self, cholesky: Array, K: int, D: int) -> Array:
        return np.array(np.broadcast_to(cholesky, (K, D, D)), dtype=np.float64)

    def squared(self, cholesky: Array) -> Array:
        return cholesky @ cholesky.T

    def scatter(self, covariances: Array, N: Array, D: int) -> Scatter:
        return PooledScatter(N.sum() * covariances)

    def variances(self, covariances: Array, K: int, D: int) -> Array:
        return np.tile(np.diag(covariances), (K, 1))

    def moved(self, noise: Array, covariances: Array, k: int) -> Array:
        return noise @ np.linalg.cholesky(covariances).T

    def ridged(self, covariances: Array, ridge: float, D: int) -> Array:
        return covariances + ridge * np.eye(D)


@final
class _Diagonal(Shape):
    name: ClassVar[str] = "diag"
    covariance: ClassVar[Covariance] = Diagonal()

    def layout(self, K: int, D: int) -> tuple[int, ...]:
        return (K, D)

    def inverse(self, values: Array) -> Array:
        return 1 / values

    def cholesky(self, precisions: Array) -> Array:
        return np.array(precisions)

    def factors(self, cholesky: Array, K: int, D: int) -> Array:
        return np.array(cholesky, dtype=np.float64, order="C")

    def squared(self, cholesky: Array) -> Array:
        return np.square(cholesky)

    def scatter(self, covariances: Array, N: Array, D: int) -> Scatter:
        return DiagonalScatter(N[:, None] * covariances)

    def variances(self, covariances: Array, K: int, D: int) -> Array:
        return np.array(covariances)

    def moved(self, noise: Array, covariances: Array, k: int) -> Array:
        return noise * np.sqrt(covariances[k])

    def ridged(self, covariances: Array, ridge: float, D: int) -> Array:
        return covariances + ridge


@final
class _Spherical(Shape):
    name: ClassVar[str] = "spherical"
    covariance: ClassVar[Covariance] = Spherical()

    def layout(self, K: int, D: int) -> tuple[int, ...]:
        return (K,)

    def inverse(self, values: Array) -> Array:
        return 1 / values

    def cholesky(self, precisions: Array) -> Array:
        return np.array(precisions[:, 0])

    def factors(self, cholesky: Array, K: int, D: int) -> Array:
        return np.tile(np.asarray(cholesky, dtype=np.float64)[:, None], D)

    def squared(self, cholesky: Array) -> Array:
        return np.square(cholesky)

    def scatter(self, covariances: Array, N: Array, D: int) -> Scatter:
        return DiagonalScatter(np.tile((N * covariances)[:, None], D))

    def variances(self, covariances: Array, K: int, D: int) -> Array:
        return np.tile(covariances[:, None], D)

    def moved(self, noise: Array, covariances: Array, k: int) -> Array:
        return noise * np.sqrt(covariances[k])

    def ridged(self, covariances: Array, ridge: float, D: int) -> Array:
        return covariances + ridge


def _symmetric(values: Array) -> Array:
    return (values + values.swapaxes(-1, -2)) / 2


FULL, TIED, DIAGONAL, SPHERICAL = _Full(), _Tied(), _Diagonal(), _Spherical()
SHAPES = (FULL, TIED, DIAGONAL, SPHERICAL)


def shape_of(covariance_type: Any) -> Shape:
    """The shape of a `covariance_type`.

    >>> shape_of("diag").layout(3, 2)
    (3, 2)
    """
    for shape in SHAPES:
        if isinstance(covariance_type, str) and shape.name == covariance_type:
            return shape
    names = ", ".join(repr(shape.name) for shape in SHAPES)
    raise SettingsError(f"covariance_type is {covariance_type!r}, expected one of {names}")


def shape_like(covariance: Covariance) -> Shape:
    """The shape of a mixture's covariance."""
    (found,) = (shape for shape in SHAPES if shape.covariance == covariance)
    return found


def covariances_of(precisions: Any, shape: Shape, K: int, D: int) -> Array:
    """The covariances that `precisions_init` stands for."""
    values = starting(precisions, "precisions_init", shape.layout(K, D))
    try:
        with np.errstate(divide="ignore"):
            return shape.covariance.accepted(shape.inverse(values), K, D, np.ones(D))
    except (np.linalg.LinAlgError, SettingsError):
        raise SettingsError(
            f"precisions_init are no {shape.name} precisions of {K} components: expected "
            "symmetric, positive definite ones; correct the values or leave them out"
        ) from None
