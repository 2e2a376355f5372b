"""The union of two states: their clusters side by side, reduced by the cheapest merges.

The states were made under different clusters, so nothing is merged row by row: N is
conserved, frames and event times are mapped onto the first state's, and what becomes
of each cluster is told.
"""

from typing import NamedTuple

import numpy as np

from stream_em import moments
from stream_em.arrays import Array, altered
from stream_em.background import united as united_ranges
from stream_em.errors import RowsError, ShapeMismatch
from stream_em.forgetting import Arrival, Window
from stream_em.learning import learn, tally
from stream_em.models.protocol import Model
from stream_em.moments import Moments, Retentions
from stream_em.quarantine import absorbed, bounded, united
from stream_em.scoring import appended, latest_rows
from stream_em.spread import floored_variance
from stream_em.state import (
    Averaged,
    Change,
    Frame,
    Held,
    Identity,
    Quarantine,
    State,
    Typical,
    Uniform,
)


def later(a: float | None, b: float | None) -> float | None:
    known = [time for time in (a, b) if time is not None]
    return max(known) if known else None


def at_latest(
    model: Model, a_time: float | None, a: Moments, b_time: float | None, b: Moments
) -> tuple[Moments, Moments]:
    """Both tallies faded to the later event time, where the policy lives in event time."""
    latest = later(a_time, b_time)
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


def merged_states(model: Model, a: State, b: State) -> State:
    widths = {width for width in (_width(a), _width(b)) if width is not None}
    if len(widths) > 1:
        raise ShapeMismatch(f"the states have {sorted(widths)} features; they cannot be merged")
    order = _order(a, b)
    if a.learned == 0 and a.held_rows == 0:
        return _totalled(altered(b, seed=a.seed), a, b)
    if b.learned == 0 and b.held_rows == 0:
        return _totalled(a, a, b)
    if a.moments is None and b.moments is None:
        assert a.held is not None and b.held is not None
        return _totalled(altered(a, held=appended(a.held, _reordered(b.held, order))), a, b)
    if b.moments is None:
        assert b.held is not None
        return _with_held(model, a, _reordered(b.held, order), a, b)
    if a.moments is None:
        assert a.held is not None
        back = None if order is None else np.argsort(order)
        return _with_held(model, b, _reordered(a.held, back), a, b)
    return _united(model, a, b, order)


def _reordered(held: Held, order: Array | None) -> Held:
    return held if order is None else altered(held, rows=held.rows[:, order])


def _width(state: State) -> int | None:
    return None if state.frame is None else len(state.frame.origin)


def _totalled(state: State, a: State, b: State) -> State:
    return altered(
        state,
        features=state.features or a.features or b.features,
        total_events=a.total_events + b.total_events,
        final_events=a.final_events + b.final_events,
        time=later(a.time, b.time),
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
    return altered(
        _totalled(state, a, b), seed=a.seed, final_events=events, unreported=info.changes
    )


class Side(NamedTuple):
    """Clusters side by side: where each came from, and its name."""

    moments: Moments
    averaged: Moments | None  # moved along
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
    left, right = at_latest(model, a.time, a.moments, b.time, arrived)
    other = _moved(b.spread, b.frame, a.frame, order)
    spread = moments.merge(*at_latest(model, a.time, a.spread, b.time, other))
    v = floored_variance(spread, a.frame)
    side = Side(
        moments.join(left, right),
        _averages(a, b, order),
        np.concatenate([a.identity.uids, b.identity.uids + a.identity.next_uid]),
        np.concatenate([a.identity.slots, np.full(len(b.identity.slots), -1)]),
    )
    row = a.total_events + b.total_events
    side, changes = _reduced(model, side, v, a.frame, row)
    side, births = _placed(side, a.frame, row)
    aside, dropped = _asides(model, a, b, order)
    merged = side.moments
    if dropped is not None and a.background is None:
        merged = absorbed(merged, dropped, model.centres(merged.mean))
    return altered(
        _totalled(a, a, b),
        learned=a.learned + b.learned,
        window=Window(a.window.weight + b.window.weight, a.window.clock + b.window.clock),
        clusters=model.reread(merged, v, a.clusters).clusters,
        identity=Identity(side.slots, side.uids, a.identity.next_uid + b.identity.next_uid),
        moments=merged,
        spread=spread,
        typical=Typical(a.typical.total + b.typical.total, a.typical.weight + b.typical.weight),
        quarantine=aside,
        recent=_recents(a, b, order),
        background=_backgrounds(a, b, order),
        averaged=_averaged(a, b, side.averaged),
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
        average = None if side.averaged is None else moments.fold(side.averaged, p, q)
        side = Side(
            moments.fold(side.moments, p, q), average, np.delete(uids, q), np.delete(slots, q)
        )
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
    average = None if side.averaged is None else moments.take(side.averaged, order)
    placed = Side(moments.take(side.moments, order), average, side.uids[order], slots[order])
    return placed, births


def _averages(a: State, b: State, order: Array | None) -> Moments | None:
    """The averaged tallies side by side, each by its share of the events."""
    if a.averaged is None or b.averaged is None or a.frame is None or b.frame is None:
        return None
    share = a.window.clock / (a.window.clock + b.window.clock)
    arrived = _moved(b.averaged.moments, b.frame, a.frame, order)
    return moments.join(
        moments.fade(a.averaged.moments, Retentions(share, share)),
        moments.fade(arrived, Retentions(1 - share, 1 - share)),
    )


def _averaged(a: State, b: State, united: Moments | None) -> Averaged | None:
    if united is None or a.averaged is None or b.averaged is None:
        return None
    return Averaged(united, a.averaged.since + b.averaged.since)


def _asides(
    model: Model, a: State, b: State, order: Array | None
) -> tuple[Quarantine | None, Quarantine | None]:
    """Rows set aside by either, the largest of them, and those that find no room."""
    if a.quarantine is None or b.quarantine is None or model.restructuring is None:
        return a.quarantine, None
    assert a.frame is not None and b.frame is not None
    columns = slice(None) if order is None else order
    rows = a.frame.inward(b.frame.outward(b.quarantine.rows)[:, columns])
    older = altered(a.quarantine, arrivals=a.quarantine.arrivals + b.learned)
    newer = altered(b.quarantine, rows=rows, arrivals=b.quarantine.arrivals + a.learned)
    return bounded(united(older, newer), model.restructuring.capacity)


def _recents(a: State, b: State, order: Array | None) -> Array | None:
    """The latest rows of both, in a's coordinates, the second state's last."""
    if a.recent is None or b.recent is None or a.frame is None or b.frame is None:
        return a.recent
    columns = slice(None) if order is None else order
    return latest_rows(a.recent, a.frame.inward(b.frame.outward(b.recent)[:, columns]))


def _backgrounds(a: State, b: State, order: Array | None) -> Uniform | None:
    if a.background is None or b.background is None or a.frame is None or b.frame is None:
        return a.background
    columns = slice(None) if order is None else order
    low, high = (
        a.frame.inward(b.frame.outward(edge)[None, columns])[0]
        for edge in (b.background.low, b.background.high)
    )
    return united_ranges(a.background, altered(b.background, low=low, high=high))
