"""Where a replay begins, and the state it leaves behind."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np

from stream_em import moments
from stream_em.arrays import Array, altered
from stream_em.errors import RowsError
from stream_em.forgetting import KeepAll, Window
from stream_em.holding import begun, latest_time, seeded
from stream_em.learning import learn
from stream_em.models.protocol import Model
from stream_em.moments import Retentions
from stream_em.replaying.data import Survey
from stream_em.replaying.memos import Memo, tallied_under
from stream_em.restructuring import opened, seeding_typical, settled
from stream_em.scoring import taken, tallied
from stream_em.spread import floored_variance
from stream_em.state import Frame, Held, State, Uniform

STREAMED_ROWS = 500  # in one step of the pass that looks for moves


class Start(NamedTuple):
    """Clusters to begin from, and what stays fixed from here on."""

    state: State
    columns: Array  # (K,) columns of given responsibilities that are live
    spread: Array  # (D,) the variance v of the prior
    passes: int  # through the data that this took


def fixed(model: Model) -> Model:
    """The model as a replay sees it: nothing fades, no cluster moves away."""
    return cast(Model, replace(cast(Any, model), forgetting=KeepAll(), restructuring=None))


def started(model: Model, state: State, survey: Survey, pieces: Iterable[Held]) -> Start:
    """The clusters of a state, or of its given means, or found on the rows themselves."""
    passes = 0
    if state.clusters is not None and state.learned > 0:
        state = settled(model, state)
        columns = np.arange(len(state.identity.slots))
    elif state.moments is not None:
        state = begun(fixed(model), state, survey.sample)
        columns = state.identity.slots
    else:
        grown = seeded(fixed(model), altered(state, held=None), survey.sample)
        state = grown.state
        if _streams(model, survey):
            state, passes = _streamed(model, state, grown.mean_distance, pieces), 1
        columns = state.identity.slots
    frame = state.frame
    if frame is None or state.moments is None:
        raise RowsError("this state has clusters without a tally; begin from init() instead")
    spread = _spread(survey, frame)
    state = altered(state, held=None, quarantine=None, averaged=None, spread=spread)
    v = floored_variance(spread, frame)
    state = altered(state, background=_over_all_rows(state, survey))
    return Start(state, columns, v, passes)


def _streams(model: Model, survey: Survey) -> bool:
    """Whether clusters may move to rows that the seeds missed; given labels keep them."""
    if model.restructuring is None or model.forgetting.learns_at_once:
        return False
    if not (model.relocates or model.background):
        return False
    return survey.sample.given is None


def _streamed(model: Model, state: State, mean_distance: float, pieces: Iterable[Held]) -> State:
    """One pass as a stream that keeps all: moves of clusters are what a replay cannot make."""
    lively = cast(Model, replace(cast(Any, model), forgetting=KeepAll()))
    changes = state.unreported
    state = altered(state, unreported=())
    state = opened(lively, state, seeding_typical(state.learned, mean_distance))
    for piece in pieces:
        for start in range(0, len(piece), STREAMED_ROWS):
            rows = taken(piece, slice(start, start + STREAMED_ROWS))
            part = tallied(lively, state, rows, latest_time(state.time, rows))
            state, info = learn(lively, state, part)
            changes = (*changes, *info.changes)
    state = settled(lively, state)
    return altered(state, unreported=changes)


def _spread(survey: Survey, frame: Frame) -> moments.Moments:
    """All rows as one cluster in the coordinates of a frame."""
    shift = (survey.centre - frame.origin) / frame.unit
    return moments.move(survey.spread, shift, 1 / frame.unit)


def _over_all_rows(state: State, survey: Survey) -> Uniform | None:
    """The background over the ranges of all rows."""
    if state.background is None or state.frame is None:
        return state.background
    frame = state.frame
    low = (survey.low - frame.origin) / frame.unit
    high = (survey.high - frame.origin) / frame.unit
    return altered(state.background, low=low, high=high)


def read_off(model: Model, state: State, spread: Array, memo: Memo) -> tuple[State, int]:
    """The clusters that maximise F for a tally, and how many repairs they needed."""
    held = tallied_under(state, memo)
    clusters, repairs = model.m_step(held, spread, state.clusters)
    uniform = state.background
    if uniform is not None:
        uniform = altered(uniform, step=memo.background, objective=memo.background)
    return altered(state, clusters=clusters, moments=held, background=uniform), len(repairs)


def left(model: Model, state: State, survey: Survey, memo: Memo, mean_distance: float) -> State:
    """The state to go on from: the tally of all rows, faded to the window of the policy.

    `state` holds the clusters, `memo` the tally of all rows. The rows count as learned
    once, whatever the state had learned before; clocks never run backwards.
    """
    assert state.frame is not None
    total = survey.weight
    smallest = model.smallest_window(len(state.frame.origin))
    kept = Retentions(model.forgetting.settled(total, smallest), 1.0)
    uniform = state.background
    if uniform is not None:
        uniform = altered(uniform, step=memo.background * kept.step, objective=memo.background)
    times = [t for t in (state.time, survey.time) if t is not None]
    state = altered(
        state,
        total_events=max(state.total_events, survey.rows),
        final_events=max(state.final_events, survey.rows),
        learned=survey.learned,
        time=max(times) if times else None,
        window=Window(kept.step * total, total),
        moments=moments.fade(tallied_under(state, memo), kept),
        background=uniform,
    )
    return opened(model, state, seeding_typical(survey.learned, mean_distance))
