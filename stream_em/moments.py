"""Moments: the tally of rows that everything is read off.

For each cluster a tally holds two weights, a mean and a centred scatter, all about
one fixed reference vector, never raw sums: those lose the variance far from the
origin. The laws, up to rounding:

    merge(a, merge(b, c)) = merge(merge(a, b), c)        merge(a, b) = merge(b, a)
    merge(zero, a) = a
    fade(merge(a, b), r) = merge(fade(a, r), fade(b, r))
    fade(fade(a, r), s) = fade(a, r·s)                   fade(a, 1) = a
    tally(A) merged with tally(B) = tally(A ∪ B)         under the same clusters

There is no subtraction: it has no law that holds in floating point.

Sources: Chan, Golub & LeVeque 1983 (merge); Schubert & Gertz, SSDBM 2018 (weighted);
Lang & Schubert 2020 (centred features instead of sums).
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np

from stream_em.arrays import Array, record


class Retentions(NamedTuple):
    """What a step keeps of the held tally, each in [0, 1]."""

    step: float  # of the weight that steers learning: schedules and half-lives
    objective: float  # of the weight that counts events: half-lives only


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
        outer = (between[:, None] * delta).T @ delta
        return PooledScatter(self.values + other.values + outer)

    def faded(self, retention: float) -> "PooledScatter":
        return PooledScatter(self.values * retention)

    def taken(self, rows: Array) -> "PooledScatter":
        return self

    def joined(self, other: Scatter) -> "PooledScatter":
        return PooledScatter(self.values + other.values)

    def folded(self, p: int, q: int, spread: Array) -> "PooledScatter":
        return PooledScatter(self.values + spread.T @ spread)

    def permuted(self, order: Array) -> "PooledScatter":
        return PooledScatter(self.values[order][:, order])

    def rescaled(self, factor: Array) -> "PooledScatter":
        return PooledScatter(self.values * np.outer(factor, factor))


@record
class Moments:
    """The tally of K clusters in D features, about a reference vector kept elsewhere."""

    step: Array  # (K,) N_step: weight that steers learning, faded by every schedule
    objective: Array  # (K,) N_obj: weight that counts events, faded by half-lives only
    squares: Array  # (K,) Σw²γ, faded by the square of the step retention
    mean: Array  # (K, D) offset from the reference vector
    scatter: Scatter  # centred at the mean, normalised by `step`


def zero(form: type[Scatter], K: int, D: int) -> Moments:
    """The tally of no rows.

    >>> zero(DiagonalScatter, 2, 3).step
    array([0., 0.])
    """
    none = np.zeros(K)
    return Moments(none, none, none, np.zeros((K, D)), form.zeros(K, D))


def tally(
    form: type[Scatter], kernels: Any, Z: Array, weights: Array, R: Array, centres: Array
) -> Moments:
    """Tally rows Z (n, D) with weights (n,) under responsibilities R (n, K).

    `centres` (K, D) are the means the responsibilities were made under; a cluster
    that receives nothing keeps its centre as mean.
    """
    N, squares, mean, scatter = form.tallied(kernels, Z, weights, R, centres)
    return Moments(N, N, squares, mean, scatter)


def hard_tally(kernels: Any, Z: Array, weights: Array, labels: Array, centres: Array) -> Moments:
    """Tally rows Z (n, D) with weights (n,) into the clusters of their labels (n,)."""
    N, squares, mean, scatter = kernels.hard_tally(Z, weights, labels, centres)
    return Moments(N, N, squares, mean, DiagonalScatter(scatter))


def merge(a: Moments, b: Moments) -> Moments:
    """The tally of all rows of `a` and `b`, made under the same clusters.

    >>> from stream_em.kernels import plain
    >>> X, one = np.array([[1.0], [2.0], [6.0]]), np.ones((3, 1))
    >>> def of(part): return tally(DiagonalScatter, plain, X[part], one[part, 0], one[part], X[:1])
    >>> both = merge(of(slice(0, 1)), of(slice(1, 3)))
    >>> both.step, both.mean, both.scatter.values
    (array([3.]), array([[3.]]), array([[14.]]))
    """
    step = a.step + b.step
    safe = np.where(step > 0, step, 1.0)
    delta = b.mean - a.mean
    mean = a.mean + (b.step / safe)[:, None] * delta
    mean = np.where((a.step > 0)[:, None], mean, np.where((b.step > 0)[:, None], b.mean, a.mean))
    return Moments(
        step,
        a.objective + b.objective,
        a.squares + b.squares,
        mean,
        a.scatter.plus(b.scatter, a.step * b.step / safe, delta),
    )


def fade(a: Moments, retention: Retentions) -> Moments:
    """The tally with its weights faded; means stay where they are.

    >>> fade(zero(DiagonalScatter, 1, 1), Retentions(0.5, 1.0)).step
    array([0.])
    """
    return Moments(
        a.step * retention.step,
        a.objective * retention.objective,
        a.squares * retention.step**2,
        a.mean,
        a.scatter.faded(retention.step),
    )


def fold(a: Moments, p: int, q: int) -> Moments:
    """Structural merge: clusters p and q become one in p's place; q's row is dropped.

    The mean is weighted by N_obj, the scatter follows by the parallel-axis theorem;
    where N_step is proportional to N_obj this is Chan's merge.
    """
    by = a.objective if a.objective[p] + a.objective[q] > 0 else a.step
    pair = [p, q]
    total = by[pair].sum()
    mean = by[pair] @ a.mean[pair] / total if total > 0 else a.mean[p]
    spread = np.sqrt(a.step[pair])[:, None] * (a.mean[pair] - mean)

    def sums(values: Array) -> Array:
        out = np.array(values)
        out[p] += out[q]
        return out

    means = np.array(a.mean)
    means[p] = mean
    joined = Moments(
        sums(a.step), sums(a.objective), sums(a.squares), means, a.scatter.folded(p, q, spread)
    )
    return take(joined, np.delete(np.arange(len(a.step)), q))


def take(a: Moments, rows: Array) -> Moments:
    """The tally of some clusters, in the order of `rows`."""
    return Moments(
        a.step[rows], a.objective[rows], a.squares[rows], a.mean[rows], a.scatter.taken(rows)
    )


def join(a: Moments, b: Moments) -> Moments:
    """The clusters of `a` followed by those of `b`; both about the same reference."""
    return Moments(
        np.concatenate([a.step, b.step]),
        np.concatenate([a.objective, b.objective]),
        np.concatenate([a.squares, b.squares]),
        np.concatenate([a.mean, b.mean]),
        a.scatter.joined(b.scatter),
    )


def move(a: Moments, shift: Array, factor: Array) -> Moments:
    """The same tally in other coordinates: z becomes z·factor + shift, each (D,)."""
    return Moments(
        a.step, a.objective, a.squares, a.mean * factor + shift, a.scatter.rescaled(factor)
    )


def permute(a: Moments, order: Array) -> Moments:
    """The same tally with its features in another order (D,)."""
    return Moments(a.step, a.objective, a.squares, a.mean[:, order], a.scatter.permuted(order))


def of_rows(Z: Array, weights: Array) -> Moments:
    """The tally of weighted rows as one cluster with per-feature scatter."""
    D = Z.shape[1]
    total = weights.sum()
    if total <= 0:
        return zero(DiagonalScatter, 1, D)
    mean = weights @ Z / total
    scatter = weights @ np.square(Z - mean)
    N = np.array([total])
    return Moments(N, N, np.array([weights @ weights]), mean[None], DiagonalScatter(scatter[None]))


def variance(a: Moments) -> Array:
    """Per-feature variance (K, D) of a tally with diagonal scatter; 0 where there are no rows."""
    return a.scatter.values / np.where(a.step > 0, a.step, 1.0)[:, None]


def effective_size(a: Moments) -> Array:
    """Kish's effective sample size N²/Σw² of each cluster, (K,); 0 without rows."""
    return np.square(a.step) / np.where(a.squares > 0, a.squares, 1.0)
