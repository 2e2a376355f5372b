"""Merging: two tallies of one state, or two states, become one.

Tallies made under the same clusters merge in any order. Two states were made under
different clusters: their 2K clusters are put side by side and reduced to K by the
cheapest structural merges, so that N is conserved and every fate of a cluster is told.
"""

from dataclasses import replace
from typing import Any, NamedTuple, overload

import numpy as np

from stream_em import moments
from stream_em.arrays import Array
from stream_em.errors import RowsError, ShapeMismatch
from stream_em.forgetting import Arrival, Window
from stream_em.holding import floored_variance
from stream_em.learning import learn, tally
from stream_em.models.protocol import Model
from stream_em.moments import Moments
from stream_em.scoring import appended, joined
from stream_em.state import Change, Frame, Held, Identity, State, Tally


@overload
def merge(model: Model, a: State, b: State) -> State: ...
@overload
def merge(model: Model, a: Tally, b: Tally) -> Tally: ...
def merge(model: Model, a: Any, b: Any) -> Any:
    """The union of two tallies of one state, or of two states of one model.

    States are reduced to K clusters by the cheapest merges; the heavier part's uid
    survives, b's uids are shifted past a's, and the changes appear in the next `info`.
    Raises `RowsError` for other features and for tallies made under other clusters.

    >>> import stream_em as se
    >>> model = se.KMeans(n_clusters=1, initial_means=[[0.0]], forgetting=se.KeepAll())
    >>> a, _ = se.step(model, se.init(model), [[1.0], [3.0]])
    >>> b, _ = se.step(model, se.init(model), [[5.0]])
    >>> se.clusters(model, se.merge(model, a, b)).means
    array([[3.]])
    """
    if isinstance(a, Tally) and isinstance(b, Tally):
        return _merged_tallies(model, a, b)
    if isinstance(a, State) and isinstance(b, State):
        return _merged_states(model, a, b)
    raise RowsError(
        f"merge takes two states or two tallies, got {type(a).__name__} and {type(b).__name__}"
    )


def _merged_tallies(model: Model, a: Tally, b: Tally) -> Tally:
    if a.features is not None and b.features is not None and a.features != b.features:
        raise RowsError(f"tallies of other features: {a.features} and {b.features}")
    if a.clusters != b.clusters or a.frame != b.frame:
        raise RowsError("tallies made under different clusters are never merged; tally again")
    if a.moments is None or b.moments is None or a.spread is None or b.spread is None:
        united, spread = None, None
    else:
        left, right = _at_latest(model, a.time, a.moments, b.time, b.moments)
        united = moments.merge(left, right)
        spread = moments.merge(*_at_latest(model, a.time, a.spread, b.time, b.spread))
    return replace(
        a,
        held=appended(a.held, b.held),
        moments=united,
        spread=spread,
        weight=a.weight + b.weight,
        total=a.total + b.total,
        learned=a.learned + b.learned,
        time=_later(a.time, b.time),
        sums=a.sums.plus(b.sums),
        scores=joined(a.scores, b.scores),
        features=a.features or b.features,
        ignored_columns=a.ignored_columns + b.ignored_columns,
    )


def _later(a: float | None, b: float | None) -> float | None:
    known = [time for time in (a, b) if time is not None]
    return max(known) if known else None


def _at_latest(
    model: Model, a_time: float | None, a: Moments, b_time: float | None, b: Moments
) -> tuple[Moments, Moments]:
    """Both tallies faded to the later event time, where the policy lives in event time."""
    latest = _later(a_time, b_time)
    if not model.forgetting.needs_times or latest is None:
        return a, b

    def faded(part: Moments, time: float | None) -> Moments:
        elapsed = 0.0 if time is None else latest - time
        return moments.fade(part, model.forgetting(Window(0.0, 0.0), Arrival(0.0, elapsed, 0.0)))

    return faded(a, a_time), faded(b, b_time)


def _order(a: State, b: State) -> Array | None:
    """Where a's features stand among b's, (D,); None where they agree or have no names."""
    if a.features is None or b.features is None or a.features == b.features:
        return None
    if sorted(a.features) != sorted(b.features):
        raise RowsError(
            f"the states have other features: {a.features} and {b.features}; "
            "only states of the same features can be merged"
        )
    return np.array([b.features.index(name) for name in a.features])


def _merged_states(model: Model, a: State, b: State) -> State:
    widths = {width for width in (_width(a), _width(b)) if width is not None}
    if len(widths) > 1:
        raise ShapeMismatch(f"the states have {sorted(widths)} features; they cannot be merged")
    order = _order(a, b)
    if a.learned == 0 and a.held_rows == 0:
        return _totalled(replace(b, seed=a.seed), a, b)
    if b.learned == 0 and b.held_rows == 0:
        return _totalled(a, a, b)
    if a.moments is None and b.moments is None:
        assert a.held is not None and b.held is not None
        return _totalled(replace(a, held=appended(a.held, _reordered(b.held, order))), a, b)
    if b.moments is None:
        assert b.held is not None
        return _with_held(model, a, _reordered(b.held, order), a, b)
    if a.moments is None:
        assert a.held is not None
        back = None if order is None else np.argsort(order)
        return _with_held(model, b, _reordered(a.held, back), a, b)
    return _united(model, a, b, order)


def _reordered(held: Held, order: Array | None) -> Held:
    return held if order is None else replace(held, rows=held.rows[:, order])


def _width(state: State) -> int | None:
    return None if state.frame is None else len(state.frame.origin)


def _totalled(state: State, a: State, b: State) -> State:
    return replace(
        state,
        features=state.features or a.features or b.features,
        total_events=a.total_events + b.total_events,
        final_events=a.final_events + b.final_events,
        time=_later(a.time, b.time),
    )


def _with_held(model: Model, seeded: State, held: Held, a: State, b: State) -> State:
    """One state has clusters, the other only rows: those are learned under the clusters."""
    given = held.given
    if given is not None and given.shape[1] != len(seeded.identity.slots):
        given = None
    part = tally(
        model,
        seeded,
        held.rows,
        weights=held.weights,
        times=held.times,
        responsibilities=given,
    )
    state, info = learn(model, seeded, part)
    events = a.total_events + b.total_events
    return replace(
        _totalled(state, a, b), seed=a.seed, final_events=events, unreported=info.changes
    )


class Side(NamedTuple):
    """Clusters side by side: where each came from, and its name."""

    moments: Moments
    uids: Array  # (k,)
    slots: Array  # (k,) -1 where the cluster has no slot yet


def _moved(part: Moments, source: Frame, target: Frame, order: Array | None) -> Moments:
    """A tally of one frame in the coordinates, and the order of features, of another."""
    if order is not None:
        part = moments.permute(part, order)
        source = Frame(source.origin[order], source.unit[order])
    shift = (source.origin - target.origin) / target.unit
    return moments.move(part, shift, source.unit / target.unit)


def _united(model: Model, a: State, b: State, order: Array | None) -> State:
    assert a.frame and b.frame and a.moments and b.moments and a.spread and b.spread
    arrived = _moved(b.moments, b.frame, a.frame, order)
    left, right = _at_latest(model, a.time, a.moments, b.time, arrived)
    other = _moved(b.spread, b.frame, a.frame, order)
    spread = moments.merge(*_at_latest(model, a.time, a.spread, b.time, other))
    v = floored_variance(spread, a.frame)
    side = Side(
        moments.join(left, right),
        np.concatenate([a.identity.uids, b.identity.uids + a.identity.next_uid]),
        np.concatenate([a.identity.slots, np.full(len(b.identity.slots), -1)]),
    )
    side, changes = _reduced(model, side, v, a.frame, a.total_events + b.total_events)
    side, births = _placed(side, a.frame, a.total_events + b.total_events)
    assert a.clusters is not None
    clusters = model.reread(side.moments, v, a.clusters).clusters
    return replace(
        _totalled(a, a, b),
        learned=a.learned + b.learned,
        window=Window(a.window.weight + b.window.weight, a.window.clock + b.window.clock),
        clusters=clusters,
        identity=Identity(side.slots, side.uids, a.identity.next_uid + b.identity.next_uid),
        moments=side.moments,
        spread=spread,
        unreported=(*a.unreported, *changes, *births),
    )


def _reduced(
    model: Model, side: Side, v: Array, frame: Frame, row: int
) -> tuple[Side, list[Change]]:
    """Greedy structural merges down to K; the heavier part's uid survives."""
    changes = []
    while len(side.uids) > model.size:
        costs = model.merge_costs(side.moments, v)
        p, q = (int(i) for i in np.unravel_index(int(costs.argmin()), costs.shape))
        o = side.moments.objective
        kept, lost = (p, q) if o[p] >= o[q] else (q, p)
        uids, slots = np.array(side.uids), np.array(side.slots)
        uids[p], slots[p] = uids[kept], slots[p] if slots[p] >= 0 else slots[q]
        changes.append((int(side.uids[lost]), int(uids[p])))
        side = Side(moments.fold(side.moments, p, q), np.delete(uids, q), np.delete(slots, q))
    return side, _told(side, changes, frame, row)


def _told(side: Side, merges: list[tuple[int, int]], frame: Frame, row: int) -> list[Change]:
    """The merges as changes; a survivor that was merged away later is told at its last place."""
    places = {int(uid): i for i, uid in enumerate(side.uids)}
    became = dict(merges)
    told = []
    for old, new in merges:
        last = new
        while last not in places:
            last = became[last]
        mean = tuple(frame.outward(side.moments.mean[places[last]]).tolist())
        slot = int(side.slots[places[last]])
        told.append(Change("merge", slot, old, new, row, "states merged", mean))
    return told


def _placed(side: Side, frame: Frame, row: int) -> tuple[Side, list[Change]]:
    """Clusters without a slot take the free ones, as births; rows in the order of slots."""
    slots, births = np.array(side.slots), []
    free = (slot for slot in range(2 * len(slots)) if slot not in set(side.slots.tolist()))
    for i in np.flatnonzero(slots < 0):
        slots[i] = next(free)
        mean = tuple(frame.outward(side.moments.mean[i]).tolist())
        births.append(
            Change("birth", int(slots[i]), None, int(side.uids[i]), row, "states merged", mean)
        )
    order = np.argsort(slots)
    return Side(moments.take(side.moments, order), side.uids[order], slots[order]), births
