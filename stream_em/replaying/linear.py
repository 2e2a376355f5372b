"""Tallies as vectors: sums about one anchor for each cluster, which add and subtract.

The anchors are means near the rows' own, so that no digits are lost; sums about one
origin for all clusters would lose those of narrow clusters far from it.
"""

import numpy as np

from stream_em import moments
from stream_em.arrays import Array, altered, record
from stream_em.moments import Moments, Scatter
from stream_em.replaying.memos import Memo


@record
class Linear:
    """Σ wγ, and Σ wγu of 1, z - anchor and (z - anchor)(z - anchor)ᵀ, for each cluster."""

    weight: Array  # (K,)
    relevance: Array  # (K,) the same where u is 1
    first: Array  # (K, D)
    second: Scatter
    background: float


def linear(memo: Memo, anchor: Array) -> Linear:
    """A memo's tally as sums about anchors (K, D)."""
    held, pull = memo.moments, moments.pull(memo.moments)
    delta = held.mean - anchor
    nothing = moments.zero(type(held.scatter), *anchor.shape).scatter
    second = held.scatter.plus(nothing, pull, delta)
    return Linear(held.step, pull, pull[:, None] * delta, second, memo.background)


def combined(*terms: tuple[float, Linear]) -> Linear:
    """Σ factor·sums; factors may be negative."""
    factor, total = terms[0]
    out = _times(factor, total)
    for factor, term in terms[1:]:
        more = _times(factor, term)
        still = np.zeros(len(more.weight))
        out = Linear(
            out.weight + more.weight,
            out.relevance + more.relevance,
            out.first + more.first,
            out.second.plus(more.second, still, np.zeros(more.first.shape)),
            out.background + more.background,
        )
    return out


def _times(factor: float, a: Linear) -> Linear:
    return Linear(
        a.weight * factor,
        a.relevance * factor,
        a.first * factor,
        a.second.faded(factor),
        a.background * factor,
    )


def memo_of(a: Linear, anchor: Array, like: Memo) -> Memo | None:
    """The tally that sums stand for, or None where a weight is negative.

    What sums do not say, such as the entropy, is taken from `like`.
    """
    if (a.weight < 0).any() or (a.relevance < 0).any() or a.background < 0:
        return None
    delta = a.first / np.where(a.relevance > 0, a.relevance, 1.0)[:, None]
    nothing = moments.zero(type(a.second), *anchor.shape).scatter
    scatter = a.second.plus(nothing, -a.relevance, delta)
    robust = None if like.moments.relevance is None else a.relevance
    squares = like.moments.squares
    held = Moments(a.weight, a.weight, squares, anchor + delta, scatter, robust)
    return altered(like, moments=held, background=a.background)
