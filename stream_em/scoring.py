"""Rows under fixed clusters: their scores, their sums, and their tally."""

import numpy as np

from stream_em import incomplete, moments
from stream_em.arrays import Array
from stream_em.background import background_share, log_volumes, mixed, outside, ranged
from stream_em.incomplete import expect, spread_of
from stream_em.kernels import kernels_in_use
from stream_em.kernels.plain import IDLE
from stream_em.models.protocol import Clusters, Expectation, Model
from stream_em.models.settings import Restructuring
from stream_em.moments import Moments
from stream_em.seeding import with_given
from stream_em.spread import grain, moderated, reach
from stream_em.state import (
    Held,
    Identity,
    Quarantine,
    Scores,
    State,
    Sums,
    Tally,
)

WINDOW_ROWS = 1000  # on which merges are scored where the number of clusters varies
CLIP = 16.0  # squared distances count up to 16 d̄² for what is typical


def scored(clusters: Clusters, identity: Identity, Z: Array, expectation: Expectation) -> Scores:
    """What fixed clusters say of rows Z (n, D)."""
    labels, soft = expectation.labels, expectation.responsibilities
    if soft is None:
        probability, distance = np.ones(len(Z)), expectation.nearest_distance
    else:
        probability = soft[np.arange(len(Z)), labels]
        moved = Z - clusters.means[labels]
        distance = np.einsum("nd,nd->n", moved, moved)
        if np.isnan(distance).any():
            distance = incomplete.squared_distance(moved)
    return Scores(
        labels,
        probability,
        distance,
        expectation.log_likelihood,
        expectation.background,
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
    inside = np.einsum("nk,nk->n", R, expectation.log_joint)
    share = outside(expectation, given)
    energy = (1 - share) * inside + entropy
    if expectation.log_background is not None:
        energy += share * expectation.log_background
    return Sums(
        total,
        objective,
        float(weights @ expectation.log_likelihood),
        float(weights @ entropy),
        float(weights @ energy),
    )


def tallied(model: Model, start: State, held: Held, latest: float | None) -> Tally:
    """Half a step: the rows of `held` tallied under the clusters of `start`.

    `latest` is the event time to which the rows' weights are faded.
    """
    frame, clusters = start.frame, start.clusters
    assert frame is not None and clusters is not None
    Z = frame.inward(held.rows)
    expectation = expect(model, clusters, Z)
    effective = model.forgetting.row_weights(held.weights, held.times, latest)
    counted = held.weights > 0
    expectation = with_background(model, start, expectation, Z)
    share = outside(expectation, held.given)
    own, far = _set_aside(model, start, expectation, held, Z, effective)
    own, uniform = own * (1 - share), None
    if start.background is not None:
        uniform = ranged(Z[counted], float(effective @ share))
    mean = start.typical.mean
    clip = CLIP * mean if mean > 0 else np.inf
    return Tally(
        held=taken(held, slice(0, 0)),
        frame=frame,
        clusters=clusters,
        moments=tally_of(model, clusters, Z, own, expectation, held.given),
        spread=_spread(model, start, Z, effective),
        weight=float(held.weights.sum()),
        total=len(held),
        learned=int(np.count_nonzero(counted)),
        time=latest,
        sums=summed(expectation, held.weights, held.given),
        clipped=float(held.weights @ np.minimum(expectation.nearest_distance, clip)),
        far=far,
        uniform=uniform,
        recent=_recent(model, Z[counted]),
        scores=scored(clusters, start.identity, Z, expectation),
        features=None,
        ignored_columns=0,
    )


def _spread(model: Model, start: State, Z: Array, weights: Array) -> Moments:
    """The rows as one cluster; what lies beyond all that was seen counts as far as its edge."""
    before, frame = start.spread, start.frame
    goes_on = start.learned > 0 and not model.forgetting.learns_at_once
    if goes_on and before is not None and frame is not None:
        Z = moderated(Z, reach(before, frame))
    return spread_of(model, Z, weights, before)


def _set_aside(
    model: Model, start: State, expectation: Expectation, held: Held, Z: Array, effective: Array
) -> tuple[Array, Quarantine | None]:
    """Weights (n,) that enter the tally, and the rows that wait outside it or as copies."""
    if start.quarantine is None or model.restructuring is None:
        return effective, None
    aside = _aside(model.restructuring, start, expectation, held, model.size)
    arrivals = start.learned + np.cumsum(held.weights > 0) - 1
    copies = start.background is not None
    scores = expectation.background if copies else expectation.nearest_distance
    far = Quarantine(Z[aside], effective[aside], scores[aside], arrivals[aside])
    return (effective if copies else np.where(aside, 0.0, effective)), far


def with_background(model: Model, start: State, expectation: Expectation, Z: Array) -> Expectation:
    """The expectation of the mixture (1 - w0)·Σ π_k N_k + w0/V.

    w0 = max(N_0/(N_0 + ΣN_k), least share). Responsibilities stay given not background.
    """
    uniform, held, spread = start.background, start.moments, start.spread
    if uniform is None or model.background is None or held is None or spread is None:
        return expectation
    assert start.frame is not None
    share = background_share(model.background, uniform, float(held.step.sum()))
    variance, least = moments.variance(spread)[0], grain(spread, start.frame)
    return mixed(expectation, share, log_volumes(uniform, variance, least, Z))


def _recent(model: Model, Z: Array) -> Array | None:
    """The last complete rows, where the number of clusters varies."""
    if model.restructuring is None or not model.restructuring.variable:
        return None
    return np.array(Z[~np.isnan(Z).any(axis=1)][-WINDOW_ROWS:])


def latest_rows(before: Array | None, after: Array | None) -> Array | None:
    """The last rows of two runs of rows."""
    if before is None or after is None:
        return before if after is None else after
    return np.concatenate([before, after])[-WINDOW_ROWS:]


def bar_factor(settings: Restructuring, clusters: int, size: int) -> float:
    """How many times the typical squared distance is far; less while clusters are missing."""
    return settings.threshold if clusters >= size else 1.0


def far_bar(settings: Restructuring, state: State, size: int) -> float:
    """The squared distance beyond which a row is far; less while a cluster has nothing to do."""
    factor = bar_factor(settings, len(state.identity.slots), size)
    return (min(factor, 1.0) if _idle(state.moments) else factor) * state.typical.mean


def _idle(held: Moments | None) -> bool:
    """Whether some cluster holds next to none of the events: moving it costs nothing."""
    if held is None:
        return False
    N = held.objective
    return bool(N.min() * len(N) <= IDLE * N.sum())


def _aside(
    settings: Restructuring, start: State, expectation: Expectation, held: Held, size: int
) -> Array:
    """Which rows are set aside, (n,) bool: far ones, or those the background claims."""
    free = (held.weights > 0) & ~np.isnan(held.rows).any(axis=1)
    if held.given is not None:
        free &= np.isnan(held.given).any(axis=1)
    if start.background is not None:
        return free & (expectation.background > 0.5)
    mean = start.typical.mean
    if start.learned < settings.every_rows or mean <= 0:
        return np.zeros(len(free), dtype=bool)
    return free & (expectation.nearest_distance > far_bar(settings, start, size))


def tally_of(
    model: Model,
    clusters: Clusters,
    Z: Array,
    weights: Array,
    expectation: Expectation,
    given: Array | None,
) -> Moments:
    kernels = kernels_in_use()
    R = expectation.responsibilities
    lacking = model.missing is not None and bool(np.isnan(Z).any())
    if R is None and given is None and not lacking:
        return moments.hard_tally(kernels, Z, weights, expectation.labels, clusters.means)
    if R is None:
        K = len(clusters.means)
        R = (expectation.labels[:, None] == np.arange(K)).astype(np.float64)
    R = np.ascontiguousarray(with_given(R, given))
    return incomplete.tally_expected(model, clusters, Z, weights, R)


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
