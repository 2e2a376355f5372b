"""The whole algorithm in a page: learning fades the held tally, merges the new one, and
reads the clusters off the result.

`step(model, state, X)` is `learn(model, state, tally(model, state, X))`. Both halves are
pure: the same state and rows give the same bits.
"""

from typing import Any

import numpy as np

from stream_em import background, moments
from stream_em.arrays import altered
from stream_em.averaging import averaged
from stream_em.errors import RowsError, SettingsError
from stream_em.forgetting import Arrival, Window
from stream_em.holding import (
    begun,
    initial_frame,
    latest_time,
    provisional,
    seeded,
    seeding_cut,
)
from stream_em.incomplete import expect
from stream_em.intake import arrived, width
from stream_em.models.protocol import Model, Reading
from stream_em.moments import DiagonalScatter, Moments, Retentions
from stream_em.restructuring import opened, received, seeding_typical, settled, ticked
from stream_em.scoring import (
    appended,
    joined,
    latest_rows,
    no_sums,
    scored,
    taken,
    tallied,
    unknown_scores,
    with_background,
)
from stream_em.spread import floored_variance
from stream_em.state import (
    Held,
    Identity,
    Info,
    State,
    Tally,
    Typical,
)


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
        typical=Typical(0.0, 0.0),
        quarantine=None,
        background=None,
        averaged=None,
        recent=None,
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
    return altered(
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
    held, rows = arrived(model, state, X, weights, times, labels, responsibilities)
    if state.moments is None:
        part = _untallied(model, held)
    else:
        start = begun(model, state, held) if state.learned == 0 else state
        assert start.frame is not None and start.clusters is not None
        latest = latest_time(state.time, held)
        part = tallied(model, start, held, latest)
    return altered(part, features=rows.features, ignored_columns=rows.ignored)


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
        clipped=0.0,
        far=None,
        uniform=None,
        recent=None,
        scores=unknown_scores(0),
        features=None,
        ignored_columns=0,
    )


def learn(model: Model, state: State, part: Tally) -> tuple[State, Info]:
    """The other half: fade the held tally, merge `part`, read the clusters off the result."""
    state = altered(
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
    kept, window = _scheduled(model, state, part)
    before = state.learned
    state, repairs = _merged(model, state, part, kept, window)
    state = altered(state, averaged=averaged(state, part.weight))
    if before == 0:
        state = opened(model, state, state.typical)
    state, moved = restructured(model, state, before)
    step_size = float(part.spread.step[0]) / window.weight
    return _reported(state, part, kept.step, step_size, repairs + moved)


def _scheduled(model: Model, state: State, part: Tally) -> tuple[Retentions, Window]:
    """What the step keeps of the held tally, and the schedule's window after it."""
    assert part.frame is not None and part.spread is not None
    elapsed = 0.0 if None in (state.time, part.time) else part.time - state.time  # type: ignore[operator]
    arrival = Arrival(part.weight, elapsed, model.smallest_window(len(part.frame.origin)))
    kept = model.forgetting(state.window, arrival)
    weight = kept.step * state.window.weight + float(part.spread.step[0])
    return kept, Window(weight, state.window.clock + part.weight)


def _merged(
    model: Model, state: State, part: Tally, kept: Retentions, window: Window
) -> tuple[State, tuple[str, ...]]:
    """The state with the held tally faded, `part` merged in, and the clusters read off."""
    assert part.spread is not None and part.frame is not None and part.clusters is not None
    assert state.moments is not None and state.spread is not None
    held = state.moments if state.learned else fresh(part, state.moments)
    typical, aside, arriving = received(model, state, part, kept)
    merged = moments.merge(moments.fade(held, kept), arriving)
    old = moments.fade(state.spread, Retentions(kept.objective, kept.objective))
    spread = moments.merge(old, part.spread)
    learned = state.learned + part.learned
    clusters, repairs = Reading(part.clusters, ())
    if not _withheld(model, learned, len(part.frame.origin)):
        clusters, repairs = model.m_step(merged, floored_variance(spread, part.frame), clusters)
    state = altered(
        state,
        learned=learned,
        time=part.time,
        frame=part.frame,
        window=window,
        clusters=clusters,
        moments=merged,
        spread=spread,
        typical=typical,
        quarantine=aside,
        background=background.united(background.faded(state.background, kept), part.uniform),
        recent=latest_rows(state.recent, part.recent),
    )
    return state, repairs


def restructured(model: Model, state: State, learned_before: int) -> tuple[State, tuple[str, ...]]:
    """The state after its ticks, its clusters read off anew where anything moved."""
    frame = state.frame
    assert frame is not None and state.spread is not None
    if _withheld(model, state.learned, len(frame.origin)):
        return state, ()
    state, moved = ticked(model, state, learned_before)
    if not moved or state.moments is None or state.spread is None:
        return state, ()
    v = floored_variance(state.spread, frame)
    clusters, repairs = model.reread(state.moments, v, state.clusters)
    return altered(state, clusters=clusters), repairs


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
    state = altered(state, final_events=state.final_events + part.total, unreported=())
    return state, info


def _held(model: Model, state: State, part: Tally) -> tuple[State, Info]:
    """Hold the rows; seed as soon as there are enough, and learn the rest after that."""
    before = state.held_rows
    if len(part.held) == 0:
        return _reported(state, part, 1.0, 0.0, ())
    rows = appended(state.held, part.held)
    cut = seeding_cut(model, rows)
    state = provisional(
        model, state, rows if cut is None else taken(rows, slice(0, cut - 1)), before
    )
    if cut is None:
        state = altered(state, held=rows, time=latest_time(state.time, rows))
        waiting = altered(part, total=0, scores=unknown_scores(0))
        return _reported(state, waiting, 1.0, 0.0, ())
    first, rest = taken(rows, slice(0, cut)), taken(rows, slice(cut, None))
    if not first.weights.any():
        return _passed(model, state, first, rest, part)
    return _seeded(model, state, first, rest, part)


def _passed(model: Model, state: State, first: Held, rest: Held, part: Tally) -> tuple[State, Info]:
    """Rows without weight that waited too long leave without clusters; the rest is held."""
    unknown = altered(part, total=len(first), scores=unknown_scores(len(first)))
    return _reported(altered(state, held=rest if len(rest) else None), unknown, 1.0, 0.0, ())


def _seeded(model: Model, state: State, first: Held, rest: Held, part: Tally) -> tuple[State, Info]:
    """Seed from the first rows, then learn the rest of the batch in the same step."""
    state, repairs, distance = seeded(model, state, first)
    state = opened(model, state, seeding_typical(state.learned, distance))
    frame, found = state.frame, state.clusters
    assert frame is not None and found is not None
    Z = frame.inward(first.rows)
    expectation = with_background(model, state, expect(model, found, Z), Z)
    scores = scored(found, state.identity, Z, expectation)
    start = state.final_events
    changes = state.unreported
    state = altered(state, final_events=start + len(first), unreported=())
    latest = latest_time(state.time, rest)
    tail = tallied(model, state, rest, latest)
    state = altered(state, total_events=state.total_events - len(rest))
    state, info = learn(model, state, tail)
    return state, altered(
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
    state = settled(model, state)
    nothing = Held(np.zeros((0, width(state) or 0)), np.zeros(0), None, None)
    part = _untallied(model, nothing)
    if state.held is None or len(state.held) == 0:
        return _reported(state, part, 1.0, 0.0, ())
    none = taken(state.held, slice(0, 0))
    finished = _seeded if state.held.weights.any() else _passed
    return finished(model, state, state.held, none, part)


def warm_up(model: Model, D: int = 2) -> None:
    """Run every kernel of a model once, so that none is compiled in the middle of a stream."""
    draw = np.random.default_rng(0)
    state = init(model)
    D = width(state) or D
    rows = draw.normal(size=(2 * model.size + 2, D))
    times = np.zeros(len(rows)) if model.forgetting.needs_times else None
    state, _ = step(model, state, rows, times=times)
    state, _ = finish(model, state)
    step(model, state, rows, times=times)
