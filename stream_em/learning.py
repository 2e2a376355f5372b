"""The whole algorithm in a page: learning fades the held tally, merges the new one, and
reads the clusters off the result.

`step(model, state, X)` is `learn(model, state, tally(model, state, X))`. Both halves are
pure: the same state and rows give the same bits.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from stream_em import moments
from stream_em.arrays import Array, as_rows, as_times, as_weights
from stream_em.errors import RowsError, SettingsError
from stream_em.forgetting import Arrival, Refusal, Window
from stream_em.holding import (
    begun,
    floored_variance,
    initial_frame,
    latest_time,
    provisional,
    seeded,
)
from stream_em.models.protocol import Model, Reading
from stream_em.moments import DiagonalScatter, Moments, Retentions
from stream_em.scoring import (
    appended,
    given_responsibilities,
    joined,
    no_sums,
    scored,
    taken,
    tallied,
    unknown_scores,
)
from stream_em.state import Found, Held, Identity, Info, Scores, State, Tally


def init(model: Model, seed: int = 0) -> State:
    """The empty state of a model; D comes with the first rows or the given means.

    `seed` is a whole number >= 0 that keys every random draw.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise SettingsError(f"seed is {seed!r}, expected a whole number of at least 0")
    none = np.zeros(0, dtype=np.int64)
    state = State(
        seed=int(seed),
        features=None,
        total_events=0,
        final_events=0,
        learned=0,
        time=None,
        frame=None,
        window=Window(0.0, 0.0),
        clusters=None,
        identity=Identity(none, none, 0),
        moments=None,
        spread=None,
        held=None,
        unreported=(),
    )
    return state if model.initial_means is None else _with_given_means(model, state)


def _with_given_means(model: Model, state: State) -> State:
    """Clusters at the given means, until the first rows complete them (`holding.begun`)."""
    frame, K = initial_frame(model), model.size
    means = frame.inward(np.asarray(model.initial_means, dtype=np.float64))
    around = moments.of_rows(means, np.ones(K))
    clusters = model.given(means, floored_variance(around, frame), 0.0, frame.unit)
    empty = moments.zero(model.scatter, K, means.shape[1])
    return replace(
        state,
        frame=frame,
        clusters=clusters,
        identity=Identity(np.arange(K), np.arange(K), K),
        moments=Moments(empty.step, empty.objective, empty.squares, means, empty.scatter),
        spread=moments.zero(DiagonalScatter, 1, means.shape[1]),
    )


def step(
    model: Model,
    state: State,
    X: Any,
    *,
    weights: Any = None,
    times: Any = None,
    labels: Any = None,
    responsibilities: Any = None,
) -> tuple[State, Info]:
    """Learn one batch: the next state, and what happened.

    X (n, D) are rows as an array or data frame; `weights` (n,) ≥ 0; `times` (n,) seconds
    or datetime64; `labels` (n,) rows of `means`, -1 where unknown; `responsibilities`
    (n, K), rows of NaN where unknown. Given labels enter the tally as they are.
    Raises `RowsError` for rows that cannot be learned; the state is then unchanged.

    >>> import stream_em as se
    >>> model = se.KMeans(n_clusters=2, initial_means=[[0.0], [10.0]])
    >>> state, info = se.step(model, se.init(model), [[1.0], [9.0], [11.0]])
    >>> se.clusters(model, state).means
    array([[ 1.],
           [10.]])
    >>> info.objective
    3.0
    """
    part = tally(
        model,
        state,
        X,
        weights=weights,
        times=times,
        labels=labels,
        responsibilities=responsibilities,
    )
    return learn(model, state, part)


def tally(
    model: Model,
    state: State,
    X: Any,
    *,
    weights: Any = None,
    times: Any = None,
    labels: Any = None,
    responsibilities: Any = None,
) -> Tally:
    """Half a step: rows tallied under the state's clusters; arguments as for `step`.

    While there are no clusters the tally holds the rows themselves.
    """
    rows = as_rows(X, state.features, _width(state))
    n = len(rows.values)
    held = Held(
        rows.values,
        as_weights(weights, n),
        as_times(times, n),
        given_responsibilities(labels, responsibilities, n, _live(model, state)),
    )
    _refuse(model, state, held)
    if state.moments is None:
        part = _untallied(model, held)
    else:
        start = begun(model, state, held) if state.learned == 0 else state
        assert start.frame is not None and start.clusters is not None
        latest = latest_time(state.time, held)
        part = tallied(model, start.frame, start.clusters, state.identity, held, latest)
    return replace(part, features=rows.features, ignored_columns=rows.ignored)


def _live(model: Model, state: State) -> int:
    return model.size if state.moments is None else len(state.identity.slots)


def _width(state: State) -> int | None:
    if state.frame is not None:
        return len(state.frame.origin)
    return None if state.held is None else state.held.rows.shape[1]


def _refuse(model: Model, state: State, held: Held) -> None:
    if model.forgetting.needs_times and held.times is None and len(held):
        model.forgetting.row_weights(held.weights, None, None)
    for refusal in model.forgetting.refusals(held.times, state.time):
        raise RowsError(f"row {refusal.row}: {refusal.detail}; leave such rows out")


def refusals(model: Model, state: State, times: Array | None) -> tuple[Refusal, ...]:
    """The rows, by index and reason, that `step` would raise for because of their times (n,)."""
    return model.forgetting.refusals(times, state.time)


def _untallied(model: Model, held: Held) -> Tally:
    return Tally(
        held=held,
        frame=None,
        clusters=None,
        moments=None,
        spread=None,
        weight=float(held.weights.sum()),
        total=len(held),
        learned=int(np.count_nonzero(held.weights)),
        time=None,
        sums=no_sums(model),
        scores=unknown_scores(0),
        features=None,
        ignored_columns=0,
    )


def learn(model: Model, state: State, part: Tally) -> tuple[State, Info]:
    """The other half: fade the held tally, merge `part`, read the clusters off the result."""
    state = replace(
        state,
        features=state.features if part.features is None else part.features,
        total_events=state.total_events + part.total,
    )
    if part.moments is None or part.clusters is None or part.spread is None:
        return _held(model, state, part)
    if state.moments is None or state.spread is None or part.frame is None:
        raise RowsError("this tally was made under clusters that the state does not have")
    if part.learned == 0:
        return _reported(state, part, 1.0, 0.0, ())
    if state.learned > 0 and part.clusters != state.clusters:
        raise RowsError(
            "this tally was made under other clusters than the state's, and such tallies are "
            "never merged; make it again with tally(model, state, X)"
        )
    D = len(part.frame.origin)
    elapsed = 0.0 if None in (state.time, part.time) else part.time - state.time  # type: ignore[operator]
    arrival = Arrival(part.weight, elapsed, model.smallest_window(D))
    kept = model.forgetting(state.window, arrival)
    arrived = float(part.spread.step[0])
    window = Window(kept.step * state.window.weight + arrived, state.window.clock + part.weight)
    held = state.moments if state.learned else fresh(part, state.moments)
    merged = moments.merge(moments.fade(held, kept), part.moments)
    spread = moments.merge(
        moments.fade(state.spread, Retentions(kept.objective, kept.objective)), part.spread
    )
    learned = state.learned + part.learned
    clusters, repairs = Reading(part.clusters, ())
    if not _withheld(model, learned, D):
        clusters, repairs = model.m_step(merged, floored_variance(spread, part.frame), clusters)
    state = replace(
        state,
        learned=learned,
        time=part.time,
        frame=part.frame,
        window=window,
        clusters=clusters,
        moments=merged,
        spread=spread,
    )
    return _reported(state, part, kept.step, arrived / window.weight, repairs)


def fresh(part: Tally, held: Moments) -> Moments:
    """The empty tally of given means, moved to the frame that the first rows completed."""
    assert part.clusters is not None
    return Moments(held.step, held.objective, held.squares, part.clusters.means, held.scatter)


def _withheld(model: Model, learned: int, D: int) -> bool:
    """Whether a mixture from given means still waits for its first M-step."""
    if model.initial_means is None or not model.forgetting.withholds:
        return False
    return learned < model.rows_withheld(D)


def _reported(
    state: State, part: Tally, retention: float, step_size: float, repairs: tuple[str, ...]
) -> tuple[State, Info]:
    info = Info(
        events=part.total,
        weight=part.sums.weight,
        objective=part.sums.objective,
        log_likelihood=part.sums.log_likelihood,
        entropy=part.sums.entropy,
        free_energy=part.sums.free_energy,
        retention=retention,
        step_size=step_size,
        changes=state.unreported,
        scores=part.scores,
        first=state.final_events,
        ignored_columns=part.ignored_columns,
        interventions=repairs,
    )
    state = replace(state, final_events=state.final_events + part.total, unreported=())
    return state, info


def _held(model: Model, state: State, part: Tally) -> tuple[State, Info]:
    """Hold the rows; seed as soon as there are enough, and learn the rest after that."""
    before = state.held_rows
    if len(part.held) == 0:
        return _reported(state, part, 1.0, 0.0, ())
    rows = appended(state.held, part.held)
    cut, seeds = _rows_that_seed(model, rows), _enough(model, rows)
    state = provisional(model, state, taken(rows, slice(0, cut - seeds)), before)
    if not seeds:
        state = replace(state, held=rows, time=latest_time(state.time, rows))
        waiting = replace(part, total=0, scores=unknown_scores(0))
        return _reported(state, waiting, 1.0, 0.0, ())
    return _seeded(model, state, taken(rows, slice(0, cut)), taken(rows, slice(cut, None)), part)


def _enough(model: Model, held: Held) -> bool:
    needed = 1 if model.forgetting.learns_at_once else _needed(model, held.rows.shape[1])
    return int(np.count_nonzero(held.weights)) >= needed


def _needed(model: Model, D: int) -> int:
    return model.seeding.rows or model.rows_to_hold(D)


def _rows_that_seed(model: Model, held: Held) -> int:
    """How many of the rows seed: up to the last one needed, or all."""
    counted = np.cumsum(held.weights > 0)
    needed = _needed(model, held.rows.shape[1])
    if model.forgetting.learns_at_once or len(counted) == 0 or counted[-1] < needed:
        return len(held)
    return int(np.searchsorted(counted, needed)) + 1


def _seeded(model: Model, state: State, first: Held, rest: Held, part: Tally) -> tuple[State, Info]:
    """Seed from the first rows, then learn the rest of the batch in the same step."""
    state, repairs = seeded(model, state, first)
    frame, found = state.frame, state.clusters
    assert frame is not None and found is not None
    Z = frame.inward(first.rows)
    scores = scored(found, state.identity, Z, model.e_step(found, Z))
    start = state.final_events
    changes = state.unreported
    state = replace(state, final_events=start + len(first), unreported=())
    latest = latest_time(state.time, rest)
    tail = tallied(model, frame, found, state.identity, rest, latest)
    state = replace(state, total_events=state.total_events - len(rest))
    state, info = learn(model, state, tail)
    return state, replace(
        info,
        events=len(first) + info.events,
        changes=changes + info.changes,
        scores=joined(scores, info.scores),
        first=start,
        ignored_columns=part.ignored_columns,
        interventions=repairs + info.interventions,
    )


def finish(model: Model, state: State) -> tuple[State, Info]:
    """End of a finite stream: seed from what is held. Without held rows nothing changes."""
    nothing = Held(np.zeros((0, _width(state) or 0)), np.zeros(0), None, None)
    part = _untallied(model, nothing)
    if state.held is None or len(state.held) == 0:
        return _reported(state, part, 1.0, 0.0, ())
    if not state.held.weights.any():
        rows = len(state.held)
        unknown = replace(part, total=rows, scores=unknown_scores(rows))
        return _reported(replace(state, held=None), unknown, 1.0, 0.0, ())
    return _seeded(model, state, state.held, taken(state.held, slice(0, 0)), part)


def score(model: Model, state: State, X: Any) -> Scores:
    """Rows X (n, D) as the clusters stand now; nothing is learned.

    Without any cluster the label is 0 with probability 1, and the rest is NaN.
    """
    rows = as_rows(X, state.features, _width(state))
    if state.clusters is None or state.frame is None:
        return unknown_scores(len(rows.values))
    Z = state.frame.inward(rows.values)
    return scored(state.clusters, state.identity, Z, model.e_step(state.clusters, Z))


def clusters(model: Model, state: State) -> Found:
    """The clusters of a state, in the rows' units; none and empty means before any rows."""
    identity = state.identity
    if state.clusters is None or state.frame is None:
        none = np.zeros(0)
        means = np.zeros((0, _width(state) or 0))
        return Found(identity.uids, identity.slots, none, means, none, none)
    tallied_rows = state.moments
    return Found(
        identity.uids,
        identity.slots,
        state.clusters.weights,
        state.frame.outward(state.clusters.means),
        model.reported(state.clusters, tallied_rows, state.frame.unit),
        np.zeros(len(identity.slots)) if tallied_rows is None else tallied_rows.objective,
    )


def warm_up(model: Model, D: int = 2) -> None:
    """Run every kernel of a model once, so that none is compiled in the middle of a stream."""
    draw = np.random.default_rng(0)
    state = init(model)
    width = _width(state) or D
    rows = draw.normal(size=(2 * model.size + 2, width))
    times = np.zeros(len(rows)) if model.forgetting.needs_times else None
    state, _ = step(model, state, rows, times=times)
    state, _ = finish(model, state)
    step(model, state, rows, times=times)
