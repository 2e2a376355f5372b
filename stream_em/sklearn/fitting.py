"""Finite data: batch iterations from several starts, and the state a stream goes on from.

Every iteration is a `step` under `KeepNothing`, the engine's own E- and M-step. It stops
by scikit-learn's rules, so that `n_iter_` and the results of equal starts are the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np

from stream_em import moments
from stream_em.arrays import Array, altered
from stream_em.background import ranged
from stream_em.errors import RowsError, SettingsError
from stream_em.forgetting import KeepNothing, Window
from stream_em.holding import begun, seeded
from stream_em.learning import init, step
from stream_em.models.density import assembled
from stream_em.models.gaussian import GaussianMixture
from stream_em.models.protocol import Model
from stream_em.moments import Retentions
from stream_em.reading import score
from stream_em.restructuring import opened, seeding_typical
from stream_em.sklearn.shapes import shape_like
from stream_em.state import Held, Info, Scores, State

Chooser = Callable[[Held, np.random.RandomState], Array]


class Start(NamedTuple):
    """Given starting values, each None where it is to be found; in the rows' units."""

    means: Array | None = None  # (K, D)
    weights: Array | None = None  # (K,)
    covariances: Array | None = None  # in the shape of the model's
    choose: Chooser | None = None  # who chooses the means (K, D) when there are rows

    @property
    def complete(self) -> bool:
        """Whether nothing is left to chance."""
        return self.means is not None

    def chosen(self, rows: Held, seed: int) -> "Start":
        """The start with its means, where somebody is there to choose them."""
        if self.choose is None:
            return self
        return Start(self.choose(rows, np.random.RandomState(seed)))


class Effort(NamedTuple):
    """How long to go on."""

    tol: float
    max_iter: int
    ridge: float | None = None  # added to all variances after each M-step, instead of the prior


class Run(NamedTuple):
    """Batch iterations from one start, and what they led to."""

    state: State
    scores: Scores  # all rows under the final clusters
    bounds: tuple[float, ...]  # before each M-step: mean log-likelihood in nats, or -J
    quality: float  # of the run, higher is better
    converged: bool


def plainly(model: Model) -> Model:
    """The model as finite data see it: each step forgets all before it, no cluster moves."""
    changes = {"forgetting": KeepNothing(), "restructuring": None, "background": None}
    return cast(Model, replace(cast(Any, model), **changes))


def lent(model: Model, start: Start) -> Model:
    """The model of a stream, which begins from given means or finds all by itself."""
    if start.means is None and (start.weights is not None or start.covariances is not None):
        raise SettingsError(
            "weights_init and precisions_init came without means_init, but a stream takes all "
            "clusters from its first rows or none; give means_init too, or call fit"
        )
    given: dict[str, Any] = {"initial_means": start.means}
    if start.weights is not None:
        given["initial_weights"] = start.weights
    if start.covariances is not None:
        given["initial_covariances"] = start.covariances
    return cast(Model, replace(cast(Any, model), **given))


def best_run(model: Model, start: Start, rows: Held, effort: Effort, seeds: Sequence[int]) -> Run:
    """The best of one run from each seed; one is enough where all is given."""
    seeds = seeds[:1] if start.complete else seeds
    if effort.ridge is not None:
        model = cast(Model, replace(cast(Any, model), prior=None))
    plain = plainly(model)
    runs = (_run(plain, _started(model, start, rows, seed), rows, effort) for seed in seeds)
    return max(runs, key=lambda run: run.quality)


def _started(model: Model, start: Start, rows: Held, seed: int) -> State:
    """Clusters at the given starting values, the others found on the rows."""
    plain, start = plainly(model), start.chosen(rows, seed)
    if start.means is None:
        state = seeded(plain, init(plain, seed), distinct(model, rows)).state
    else:
        begins = lent(plain, Start(start.means))
        state = begun(begins, init(begins, seed), rows)
    clusters = state.clusters
    if clusters is None or not isinstance(model, GaussianMixture):
        return state
    _check_all_found(model, start, len(clusters.means))
    weights, covariances = clusters.weights, clusters.covariances
    if start.weights is not None:
        weights = start.weights / start.weights.sum()
    if start.covariances is not None:
        covariances = start.covariances
    found = assembled(model.covariance, weights, clusters.means, covariances)
    return altered(state, clusters=found.clusters)


def _check_all_found(model: Model, start: Start, found: int) -> None:
    if found < model.size and (start.weights is not None or start.covariances is not None):
        raise RowsError(
            f"weights and precisions came for {model.size} components, but the rows have only "
            f"{found} distinct values; ask for fewer components or leave the starting values out"
        )


def distinct(model: Model, rows: Held) -> Held:
    """Rows to seed from: distinct ones in an order of their own, with the sum of their weights.

    A row of weight 2 and two equal rows seed alike, whatever order rows came in. Of many
    rows the sample is evenly spaced in that order, which is that along one direction.
    """
    counted = rows.weights > 0
    X, weights = rows.rows[counted], rows.weights[counted]
    _, first, place = np.unique(_along(X), return_index=True, return_inverse=True)
    sums = np.bincount(place, weights, len(first))
    stride = -(-len(first) // (2 * model.rows_to_hold(X.shape[1])))
    return Held(X[first[::stride]], sums[::stride], None, None)


def _along(X: Array) -> Array:
    """The place of each row along a fixed direction, (n,); the same bits for equal rows."""
    D = X.shape[1]
    direction, low = np.random.default_rng(D).normal(size=D), X.min(axis=0)
    place = np.zeros(len(X))
    for d in range(D):
        place += (X[:, d] - low[d]) * direction[d]
    return place


def _run(plain: Model, state: State, rows: Held, effort: Effort) -> Run:
    """Iterations until the clusters stand still."""
    stands_still: _Rule = _em_stands_still if plain.has_density else _lloyd_stands_still
    bounds: list[float] = []
    converged, turn = False, None
    while len(bounds) < effort.max_iter and not converged:
        after, info = step(plain, state, rows.rows, weights=rows.weights)
        if not plain.has_density:
            after = _filled(plain, state, after, info, rows)
        if effort.ridge:
            after = _ridged(plain, after, effort.ridge)
        total = info.log_likelihood / info.weight if plain.has_density else -info.objective
        bounds.append(float(total))
        before, turn, state = turn, _Turn(state, after, info), after
        converged = stands_still(before, turn, effort.tol)
    scores = score(plain, state, rows.rows)
    quality = bounds[-1] if plain.has_density else -float(rows.weights @ scores.squared_distance)
    return Run(state, scores, tuple(bounds), quality, converged)


def _filled(plain: Model, before: State, after: State, info: Info, rows: Held) -> State:
    """The state after a step of k-means, its empty clusters moved to the farthest rows.

    As scikit-learn does it: such a row leaves the cluster it was counted in and is the mean
    of the empty one. Nothing moves where all rows lie on their means.
    """
    assert after.moments is not None
    empty = np.flatnonzero(after.moments.step == 0)
    distance = np.where(rows.weights > 0, info.scores.squared_distance, -1.0)
    if len(empty) == 0 or distance.max() <= 0:
        return after
    farthest = np.argpartition(distance, -len(empty))[: -len(empty) - 1 : -1]
    labels = np.array(info.scores.labels)
    labels[farthest] = empty
    return step(plain, before, rows.rows, weights=rows.weights, labels=labels)[0]


def _ridged(model: Model, state: State, ridge: float) -> State:
    """`ridge` on every variance: what scikit-learn calls `reg_covar`."""
    held = state.clusters
    assert held is not None and isinstance(model, GaussianMixture)
    shape = shape_like(model.covariance)
    covariances = shape.ridged(held.covariances, ridge, held.means.shape[1])
    found = assembled(model.covariance, held.weights, held.means, covariances)
    return altered(state, clusters=found.clusters)


class _Turn(NamedTuple):
    """One iteration: the states around it, and what its E-step found."""

    before: State
    after: State
    info: Info


_Rule = Callable[[_Turn | None, _Turn, float], bool]


def _em_stands_still(last: _Turn | None, turn: _Turn, tol: float) -> bool:
    """Whether the mean log-likelihood changed by less than `tol` nats."""
    if last is None:
        return False
    gain = turn.info.log_likelihood - last.info.log_likelihood
    return abs(gain) < tol * turn.info.weight


def _lloyd_stands_still(last: _Turn | None, turn: _Turn, tol: float) -> bool:
    """Whether no label changed, or Σ|shift|² is at most `tol` times the mean variance."""
    if last and np.array_equal(last.info.scores.labels, turn.info.scores.labels):
        return True
    old, new, spread = turn.before.clusters, turn.after.clusters, turn.after.spread
    assert old is not None and new is not None and spread is not None
    moved = float(np.square(new.means - old.means).sum())
    return moved <= tol * float(moments.variance(spread).mean())


class Seen(NamedTuple):
    """What a tally speaks of."""

    rows: int
    learned: int  # rows with weight
    weight: float
    mean_distance: float  # squared, to the nearest mean


def seen(rows: Held, scores: Scores) -> Seen:
    """The account of rows that were fitted."""
    weight = float(rows.weights.sum())
    distance = float(rows.weights @ scores.squared_distance) / weight
    return Seen(len(rows), int(np.count_nonzero(rows.weights)), weight, distance)


def resumed(model: Model, state: State, account: Seen, edges: Array) -> State:
    """The state that `partial_fit` goes on from: a tally faded to the window of the policy.

    `edges` (n, D), in the rows' units, are all rows or those at the edge of their ranges.
    """
    assert state.moments is not None and state.frame is not None
    kept = model.forgetting.settled(account.weight, model.smallest_window(edges.shape[1]))
    uniform = None if model.background is None else ranged(state.frame.inward(edges), 0.0)
    state = altered(
        state,
        total_events=account.rows,
        final_events=account.rows,
        learned=account.learned,
        window=Window(kept * account.weight, account.weight),
        moments=moments.fade(state.moments, Retentions(kept, 1.0)),
        background=uniform,
        unreported=(),
    )
    return opened(model, state, seeding_typical(account.learned, account.mean_distance))
