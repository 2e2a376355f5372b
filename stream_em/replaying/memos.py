"""Memos: what chunks of rows were when visited last, and the tree that merges them.

The tree is a segment tree of n leaves, a plain tuple of 2n memos with the root at 1. To
replace a leaf is to merge ⌈log₂ n⌉ times. Nothing is ever subtracted, so scatters stay
positive semi-definite, and rounding does not pile up from sweep to sweep. It takes
2n·8·(K·(D² + D + 3) + 4) bytes with full covariances, 2n·8·(K·(2D + 3) + 4) with diagonal
ones and for k-means; Student's t adds one number for each cluster.
"""

from collections.abc import Iterable

import numpy as np

from stream_em import moments
from stream_em.arrays import altered, record
from stream_em.moments import Moments
from stream_em.state import State


@record
class Memo:
    """The tally of some rows, each made under the clusters that its rows met last."""

    moments: Moments
    background: float  # N_0, the weight that the background took
    entropy: float  # Σ w·nats: F less Q when visited, of assignments and of missing values
    weight: float  # Σw


Tree = tuple[Memo | None, ...]


def merged(a: Memo | None, b: Memo | None) -> Memo | None:
    """The memo of both sets of rows."""
    if a is None or b is None:
        return b if a is None else a
    return Memo(
        moments.merge(a.moments, b.moments),
        a.background + b.background,
        a.entropy + b.entropy,
        a.weight + b.weight,
    )


def planted(memos: Iterable[Memo]) -> Tree:
    """The tree over memos, its root the tally of all rows."""
    leaves: list[Memo | None] = list(memos)
    nodes = [None] * len(leaves) + leaves
    for at in range(len(leaves) - 1, 0, -1):
        nodes[at] = merged(nodes[2 * at], nodes[2 * at + 1])
    return tuple(nodes)


def placed(tree: Tree, leaf: int, memo: Memo) -> Tree:
    """The tree with another memo in the place of one leaf."""
    nodes = list(tree)
    at = len(nodes) // 2 + leaf
    nodes[at] = memo
    while at > 1:
        at //= 2
        nodes[at] = merged(nodes[2 * at], nodes[2 * at + 1])
    return tuple(nodes)


def root(tree: Tree) -> Memo:
    """The memo of all rows."""
    found = tree[1]
    assert found is not None
    return found


def leaf_of(tree: Tree, leaf: int) -> Memo:
    """The memo of one chunk."""
    found = tree[len(tree) // 2 + leaf]
    assert found is not None
    return found


def tallied_under(state: State, memo: Memo) -> Moments:
    """The memo's tally; a cluster without rows keeps the mean it has in `state`."""
    assert state.clusters is not None
    rows = (memo.moments.step > 0)[:, None]
    mean = np.where(rows, memo.moments.mean, state.clusters.means)
    return altered(memo.moments, mean=mean)
