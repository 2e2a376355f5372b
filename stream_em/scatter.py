"""Scatter: the centred second moments of clusters, in one of three forms, each a class."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from stream_em.arrays import Array, record


class Scatter(ABC):
    """Σ wγ (z - mean)(z - mean)ᵀ of every cluster, in one of three forms."""

    values: Array

    @staticmethod
    @abstractmethod
    def zeros(K: int, D: int) -> "Scatter":
        """The scatter of K clusters without rows."""

    @staticmethod
    @abstractmethod
    def tallied(
        kernels: Any, Z: Array, weights: Array, R: Array, centres: Array
    ) -> tuple[Array, Array, Array, "Scatter"]:
        """N (K,), Σw²γ (K,), mean (K, D) and scatter of weighted rows."""

    @abstractmethod
    def plus(self, other: "Scatter", between: Array, delta: Array) -> "Scatter":
        """Sum of two scatters plus between_k δ_k δ_kᵀ; between (K,), delta (K, D)."""

    @abstractmethod
    def faded(self, retention: float) -> "Scatter":
        """The scatter times a retention."""

    @abstractmethod
    def taken(self, rows: Array) -> "Scatter":
        """The scatter of some clusters, in the order of `rows`."""

    @abstractmethod
    def joined(self, other: "Scatter") -> "Scatter":
        """The scatters of two sets of clusters, one after the other."""

    @abstractmethod
    def folded(self, p: int, q: int, spread: Array) -> "Scatter":
        """Cluster q folded into p, plus spread (2, D) of the two means about the new one.

        `spread` rows are √n_i (μ_i - μ); row q stays in place and is to be dropped.
        """

    @abstractmethod
    def widened(self, excess: Array) -> "Scatter":
        """The scatter plus one matrix for each cluster, excess (K, D, D)."""

    @abstractmethod
    def permuted(self, order: Array) -> "Scatter":
        """The scatter with its features in another order (D,)."""

    @abstractmethod
    def rescaled(self, factor: Array) -> "Scatter":
        """The scatter of the same rows measured in other units; factor (D,)."""


@record
class FullScatter(Scatter):
    """One matrix for each cluster."""

    values: Array  # (K, D, D)

    @staticmethod
    def zeros(K: int, D: int) -> "FullScatter":
        return FullScatter(np.zeros((K, D, D)))

    @staticmethod
    def tallied(
        kernels: Any, Z: Array, weights: Array, R: Array, centres: Array
    ) -> tuple[Array, Array, Array, Scatter]:
        N, squares, mean, scatter = kernels.soft_tally_full(Z, weights, R, centres)
        return N, squares, mean, FullScatter(scatter)

    def plus(self, other: Scatter, between: Array, delta: Array) -> "FullScatter":
        outer = (between[:, None] * delta)[:, :, None] * delta[:, None, :]
        return FullScatter(self.values + other.values + outer)

    def faded(self, retention: float) -> "FullScatter":
        return FullScatter(self.values * retention)

    def taken(self, rows: Array) -> "FullScatter":
        return FullScatter(self.values[rows])

    def joined(self, other: Scatter) -> "FullScatter":
        return FullScatter(np.concatenate([self.values, other.values]))

    def folded(self, p: int, q: int, spread: Array) -> "FullScatter":
        values = np.array(self.values)
        values[p] += values[q] + spread.T @ spread
        return FullScatter(values)

    def widened(self, excess: Array) -> "FullScatter":
        return FullScatter(self.values + excess)

    def permuted(self, order: Array) -> "FullScatter":
        return FullScatter(self.values[:, order][:, :, order])

    def rescaled(self, factor: Array) -> "FullScatter":
        return FullScatter(self.values * np.outer(factor, factor))


@record
class DiagonalScatter(Scatter):
    """One sum of squares for each cluster and feature."""

    values: Array  # (K, D)

    @staticmethod
    def zeros(K: int, D: int) -> "DiagonalScatter":
        return DiagonalScatter(np.zeros((K, D)))

    @staticmethod
    def tallied(
        kernels: Any, Z: Array, weights: Array, R: Array, centres: Array
    ) -> tuple[Array, Array, Array, Scatter]:
        N, squares, mean, scatter = kernels.soft_tally_diagonal(Z, weights, R, centres)
        return N, squares, mean, DiagonalScatter(scatter)

    def plus(self, other: Scatter, between: Array, delta: Array) -> "DiagonalScatter":
        return DiagonalScatter(self.values + other.values + between[:, None] * np.square(delta))

    def faded(self, retention: float) -> "DiagonalScatter":
        return DiagonalScatter(self.values * retention)

    def taken(self, rows: Array) -> "DiagonalScatter":
        return DiagonalScatter(self.values[rows])

    def joined(self, other: Scatter) -> "DiagonalScatter":
        return DiagonalScatter(np.concatenate([self.values, other.values]))

    def folded(self, p: int, q: int, spread: Array) -> "DiagonalScatter":
        values = np.array(self.values)
        values[p] += values[q] + np.square(spread).sum(axis=0)
        return DiagonalScatter(values)

    def widened(self, excess: Array) -> "DiagonalScatter":
        return DiagonalScatter(self.values + np.diagonal(excess, axis1=1, axis2=2))

    def permuted(self, order: Array) -> "DiagonalScatter":
        return DiagonalScatter(self.values[:, order])

    def rescaled(self, factor: Array) -> "DiagonalScatter":
        return DiagonalScatter(self.values * np.square(factor))


@record
class PooledScatter(Scatter):
    """One matrix for all clusters together."""

    values: Array  # (D, D)

    @staticmethod
    def zeros(K: int, D: int) -> "PooledScatter":
        return PooledScatter(np.zeros((D, D)))

    @staticmethod
    def tallied(
        kernels: Any, Z: Array, weights: Array, R: Array, centres: Array
    ) -> tuple[Array, Array, Array, Scatter]:
        N, squares, mean, scatter = kernels.soft_tally_pooled(Z, weights, R, centres)
        return N, squares, mean, PooledScatter(scatter)

    def plus(self, other: Scatter, between: Array, delta: Array) -> "PooledScatter":
        outer = (between[:, None] * delta)[:, :, None] * delta[:, None, :]
        return PooledScatter(self.values + other.values + outer.sum(axis=0))

    def faded(self, retention: float) -> "PooledScatter":
        return PooledScatter(self.values * retention)

    def taken(self, rows: Array) -> "PooledScatter":
        return self

    def joined(self, other: Scatter) -> "PooledScatter":
        return PooledScatter(self.values + other.values)

    def folded(self, p: int, q: int, spread: Array) -> "PooledScatter":
        return PooledScatter(self.values + spread.T @ spread)

    def widened(self, excess: Array) -> "PooledScatter":
        return PooledScatter(self.values + excess.sum(axis=0))

    def permuted(self, order: Array) -> "PooledScatter":
        return PooledScatter(self.values[order][:, order])

    def rescaled(self, factor: Array) -> "PooledScatter":
        return PooledScatter(self.values * np.outer(factor, factor))
