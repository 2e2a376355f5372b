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

A robust model counts rows for its means by their relevance u: it tallies Σwγu as a third
weight, `relevance`, about which mean and scatter are centred and merged. The laws are the
same; where it is None, u is 1 and the third weight is `step`.

Sources: Chan, Golub & LeVeque 1983 (merge); Schubert & Gertz, SSDBM 2018 (weighted);
Lang & Schubert 2020 (centred features instead of sums).
"""

from typing import Any, NamedTuple

import numpy as np

from stream_em.arrays import Array, record
from stream_em.scatter import DiagonalScatter as DiagonalScatter
from stream_em.scatter import FullScatter as FullScatter
from stream_em.scatter import PooledScatter as PooledScatter
from stream_em.scatter import Scatter as Scatter


class Retentions(NamedTuple):
    """What a step keeps of the held tally, each in [0, 1]."""

    step: float  # of the weight that steers learning: schedules and half-lives
    objective: float  # of the weight that counts events: half-lives only


@record
class Moments:
    """The tally of K clusters in D features, about a reference vector kept elsewhere."""

    step: Array  # (K,) N_step: weight that steers learning, faded by every schedule
    objective: Array  # (K,) N_obj: weight that counts events, faded by half-lives only
    squares: Array  # (K,) Σw²γ, faded by the square of the step retention
    mean: Array  # (K, D) offset from the reference vector
    scatter: Scatter  # centred at the mean, normalised by `step`
    relevance: Array | None = None  # (K,) Σwγu, faded like `step`; None stands for `step`


def zero(form: type[Scatter], K: int, D: int) -> Moments:
    """The tally of no rows.

    >>> zero(DiagonalScatter, 2, 3).step
    array([0., 0.])
    """
    none = np.zeros(K)
    return Moments(none, none, none, np.zeros((K, D)), form.zeros(K, D))


def tally(
    form: type[Scatter],
    kernels: Any,
    Z: Array,
    weights: Array,
    R: Array,
    centres: Array,
    relevance: Array | None = None,
) -> Moments:
    """Tally rows Z (n, D) with weights (n,) under responsibilities R (n, K).

    `centres` (K, D) are the means the responsibilities were made under; a cluster
    that receives nothing keeps its centre as mean. `relevance` (n, K) are the u by which
    rows count for mean and scatter.
    """
    if relevance is None:
        N, squares, mean, scatter = form.tallied(kernels, Z, weights, R, centres)
        return Moments(N, N, squares, mean, scatter)
    total, _, mean, scatter = form.tallied(kernels, Z, weights, R * relevance, centres)
    N = weights @ R
    return Moments(N, N, np.square(weights) @ R, mean, scatter, total)


def pull(a: Moments) -> Array:
    """The weight (K,) with which each mean and scatter takes part in a merge."""
    return a.step if a.relevance is None else a.relevance


def _relevances(a: Moments, b: Moments) -> tuple[Array, Array] | None:
    """The third weights of both, or None where neither has one."""
    return None if a.relevance is None and b.relevance is None else (pull(a), pull(b))


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
    left, right = pull(a), pull(b)
    total = left + right
    held = left > 0
    safe = total if held.all() else np.where(total > 0, total, 1.0)
    delta = b.mean - a.mean
    mean = a.mean + (right / safe)[:, None] * delta
    if not held.all():
        mean = np.where(held[:, None], mean, np.where((right > 0)[:, None], b.mean, a.mean))
    return Moments(
        a.step + b.step,
        a.objective + b.objective,
        a.squares + b.squares,
        mean,
        a.scatter.plus(b.scatter, left * right / safe, delta),
        None if _relevances(a, b) is None else total,
    )


def fade(a: Moments, retention: Retentions) -> Moments:
    """The tally with its weights faded; means stay where they are.

    >>> fade(zero(DiagonalScatter, 1, 1), Retentions(0.5, 1.0)).step
    array([0.])
    """
    return Moments(
        a.step * retention.step,
        a.objective * retention.objective,
        a.squares * (retention.step * retention.step),
        a.mean,
        a.scatter.faded(retention.step),
        None if a.relevance is None else a.relevance * retention.step,
    )


def fold(a: Moments, p: int, q: int) -> Moments:
    """Structural merge: clusters p and q become one in p's place; q's row is dropped.

    The mean is weighted by N_obj (times the mean relevance), the scatter follows by the
    parallel-axis theorem; where N_step is proportional to N_obj this is Chan's merge.
    """
    by = a.objective if a.objective[p] + a.objective[q] > 0 else a.step
    if a.relevance is not None:
        by = by * a.relevance / np.where(a.step > 0, a.step, 1.0)
    pair = [p, q]
    total = by[pair].sum()
    mean = by[pair] @ a.mean[pair] / total if total > 0 else a.mean[p]
    spread = np.sqrt(pull(a)[pair])[:, None] * (a.mean[pair] - mean)

    def sums(values: Array) -> Array:
        out = np.array(values)
        out[p] += out[q]
        return out

    means = np.array(a.mean)
    means[p] = mean
    joined = Moments(
        sums(a.step),
        sums(a.objective),
        sums(a.squares),
        means,
        a.scatter.folded(p, q, spread),
        None if a.relevance is None else sums(a.relevance),
    )
    return take(joined, np.delete(np.arange(len(a.step)), q))


def take(a: Moments, rows: Array) -> Moments:
    """The tally of some clusters, in the order of `rows`."""
    return Moments(
        a.step[rows],
        a.objective[rows],
        a.squares[rows],
        a.mean[rows],
        a.scatter.taken(rows),
        None if a.relevance is None else a.relevance[rows],
    )


def join(a: Moments, b: Moments) -> Moments:
    """The clusters of `a` followed by those of `b`; both about the same reference."""
    relevances = _relevances(a, b)
    return Moments(
        np.concatenate([a.step, b.step]),
        np.concatenate([a.objective, b.objective]),
        np.concatenate([a.squares, b.squares]),
        np.concatenate([a.mean, b.mean]),
        a.scatter.joined(b.scatter),
        None if relevances is None else np.concatenate(relevances),
    )


def move(a: Moments, shift: Array, factor: Array) -> Moments:
    """The same tally in other coordinates: z becomes z·factor + shift, each (D,)."""
    mean, scatter = a.mean * factor + shift, a.scatter.rescaled(factor)
    return Moments(a.step, a.objective, a.squares, mean, scatter, a.relevance)


def permute(a: Moments, order: Array) -> Moments:
    """The same tally with its features in another order (D,)."""
    mean, scatter = a.mean[:, order], a.scatter.permuted(order)
    return Moments(a.step, a.objective, a.squares, mean, scatter, a.relevance)


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
