"""Rows under fixed clusters: their scores, their sums, and their tally."""

from typing import Any

import numpy as np

from stream_em import moments
from stream_em.arrays import Array
from stream_em.errors import RowsError
from stream_em.models.density import kernels_in_use
from stream_em.models.protocol import Clusters, Expectation, Model
from stream_em.moments import Moments
from stream_em.seeding import with_given
from stream_em.state import Frame, Held, Identity, Scores, Sums, Tally


def scored(clusters: Clusters, identity: Identity, Z: Array, expectation: Expectation) -> Scores:
    """What fixed clusters say of rows Z (n, D)."""
    labels, soft = expectation.labels, expectation.responsibilities
    if soft is None:
        probability, distance = np.ones(len(Z)), expectation.nearest_distance
    else:
        probability = soft[np.arange(len(Z)), labels]
        moved = Z - clusters.means[labels]
        distance = np.einsum("nd,nd->n", moved, moved)
    return Scores(
        labels,
        probability,
        distance,
        expectation.log_likelihood,
        np.zeros(len(Z)),
        identity.slots,
        identity.uids,
        soft,
    )


def unknown_scores(n: int) -> Scores:
    """Scores of rows without any cluster: label 0 with probability 1, the rest unknown."""
    nothing, none = np.full(n, np.nan), np.zeros(1, dtype=np.int64)
    labels = np.zeros(n, dtype=np.int64)
    return Scores(labels, np.ones(n), nothing, nothing, np.zeros(n), none, none, None)


def joined(a: Scores, b: Scores) -> Scores:
    """The scores of two runs of rows under the same clusters, one after the other."""
    soft = None if a.soft is None or b.soft is None else np.concatenate([a.soft, b.soft])
    return Scores(
        np.concatenate([a.labels, b.labels]),
        np.concatenate([a.probability, b.probability]),
        np.concatenate([a.squared_distance, b.squared_distance]),
        np.concatenate([a.log_likelihood, b.log_likelihood]),
        np.concatenate([a.background, b.background]),
        b.slots,
        b.uids,
        soft,
    )


def no_sums(model: Model) -> Sums:
    """The sums over no rows; those a model cannot have are NaN."""
    nothing = 0.0 if model.has_density else np.nan
    return Sums(0.0, 0.0, nothing, nothing, nothing)


def summed(expectation: Expectation, weights: Array, given: Array | None) -> Sums:
    """Objective, log-likelihood, entropy and free energy F = Q + H of weighted rows.

    Q = Σ wγ log p(z, k) and H = -Σ wγ log γ (Neal & Hinton 1998); rows with given
    responsibilities count with those.
    """
    total = float(weights.sum())
    objective = float(weights @ expectation.nearest_distance)
    if expectation.responsibilities is None or expectation.log_joint is None:
        return Sums(total, objective, np.nan, np.nan, np.nan)
    R, entropy = expectation.responsibilities, expectation.entropy
    if given is not None:
        R = with_given(R, given)
        logs = np.log(np.where(R > 0, R, 1.0))
        entropy = np.where(np.isnan(given).any(axis=1), entropy, -(R * logs).sum(axis=1))
    energy = np.einsum("nk,nk->n", R, expectation.log_joint) + entropy
    return Sums(
        total,
        objective,
        float(weights @ expectation.log_likelihood),
        float(weights @ entropy),
        float(weights @ energy),
    )


def tallied(
    model: Model,
    frame: Frame,
    clusters: Clusters,
    identity: Identity,
    held: Held,
    latest: float | None,
) -> Tally:
    """Half a step: the rows of `held` tallied under fixed clusters.

    `latest` is the event time to which the rows' weights are faded.
    """
    Z = frame.inward(held.rows)
    expectation = model.e_step(clusters, Z)
    effective = model.forgetting.row_weights(held.weights, held.times, latest)
    return Tally(
        held=taken(held, slice(0, 0)),
        frame=frame,
        clusters=clusters,
        moments=_moments(model, clusters, Z, effective, expectation, held.given),
        spread=moments.of_rows(Z, effective),
        weight=float(held.weights.sum()),
        total=len(held),
        learned=int(np.count_nonzero(held.weights)),
        time=latest,
        sums=summed(expectation, held.weights, held.given),
        scores=scored(clusters, identity, Z, expectation),
        features=None,
        ignored_columns=0,
    )


def _moments(
    model: Model,
    clusters: Clusters,
    Z: Array,
    weights: Array,
    expectation: Expectation,
    given: Array | None,
) -> Moments:
    kernels = kernels_in_use()
    R = expectation.responsibilities
    if R is None and given is None:
        return moments.hard_tally(kernels, Z, weights, expectation.labels, clusters.means)
    if R is None:
        K = len(clusters.means)
        R = (expectation.labels[:, None] == np.arange(K)).astype(np.float64)
    R = np.ascontiguousarray(with_given(R, given))
    return moments.tally(model.scatter, kernels, Z, weights, R, clusters.means)


def given_responsibilities(labels: Any, responsibilities: Any, n: int, K: int) -> Array | None:
    """What is known of n rows as (n, K), NaN where unknown; None when nothing is given.

    Raises `RowsError` for labels (n,) that are no rows of `means` or -1, and for
    responsibilities that are no distributions.
    """
    if labels is not None and responsibilities is not None:
        raise RowsError("labels and responsibilities came together; give one of the two")
    if n == 0 or (labels is None and responsibilities is None):
        return None
    return _posterior(responsibilities, n, K) if labels is None else _one_hot(labels, n, K)


def _posterior(responsibilities: Any, n: int, K: int) -> Array:
    try:
        given = np.asarray(responsibilities, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise RowsError(f"responsibilities must be numbers, (n, K) = {n, K} ({error})") from None
    if given.shape != (n, K):
        raise RowsError(f"responsibilities came in shape {given.shape}, expected {(n, K)}")
    known = given[~np.isnan(given).any(axis=1)]
    if (known < 0).any() or not np.allclose(known.sum(axis=1), 1.0, atol=1e-6):
        raise RowsError(
            "given responsibilities must be >= 0 and sum to 1 in each row; "
            "use rows of NaN where they are unknown"
        )
    return np.where(np.isnan(given).any(axis=1, keepdims=True), np.nan, given)


def _one_hot(labels: Any, n: int, K: int) -> Array:
    given_labels = np.asarray(labels)
    if given_labels.shape != (n,) or not np.issubdtype(given_labels.dtype, np.integer):
        raise RowsError(f"labels must be {n} whole numbers, rows of means; -1 where unknown")
    if ((given_labels < -1) | (given_labels >= K)).any():
        raise RowsError(f"labels must lie between -1 (unknown) and {K - 1}")
    given = (given_labels[:, None] == np.arange(K)).astype(np.float64)
    given[given_labels < 0] = np.nan
    return given


def taken(held: Held, rows: slice) -> Held:
    """Some of the rows, with what came beside them."""
    return Held(
        held.rows[rows],
        held.weights[rows],
        None if held.times is None else held.times[rows],
        None if held.given is None else held.given[rows],
    )


def appended(a: Held | None, b: Held) -> Held:
    """Two runs of rows, one after the other; copies, so that no caller's array is kept."""
    if a is None or len(a) == 0:
        return Held(np.array(b.rows), np.array(b.weights), _copy(b.times), _copy(b.given))
    return Held(
        np.concatenate([a.rows, b.rows]),
        np.concatenate([a.weights, b.weights]),
        _optional(a, b, a.times, b.times),
        _optional(a, b, a.given, b.given),
    )


def _copy(values: Array | None) -> Array | None:
    return None if values is None else np.array(values)


def _optional(a: Held, b: Held, left: Array | None, right: Array | None) -> Array | None:
    """Concatenate columns that either run may lack; absent values are NaN."""
    if left is None and right is None:
        return None
    shape = (left if left is not None else right).shape[1:]  # type: ignore[union-attr]
    left = np.full((len(a), *shape), np.nan) if left is None else left
    right = np.full((len(b), *shape), np.nan) if right is None else right
    return np.concatenate([left, right])
