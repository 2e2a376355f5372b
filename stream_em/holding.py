"""Before there are clusters: rows are held, provisional clusters answer, then rows seed."""

import warnings
from typing import NamedTuple

import numpy as np

from stream_em import moments
from stream_em.arrays import Array, altered
from stream_em.background import ranged
from stream_em.errors import StreamEmWarning
from stream_em.forgetting import Window
from stream_em.incomplete import spread_of
from stream_em.kernels import kernels_in_use
from stream_em.models.protocol import Model
from stream_em.models.soft_kmeans import SoftKMeans, critical_beta
from stream_em.moments import Moments, Retentions
from stream_em.scoring import taken
from stream_em.seeding import Material, Seeded, seed_clusters, warn_if_fewer
from stream_em.spread import DIGITS, floored_variance, grain, moderated, reach_of_rows
from stream_em.state import Change, Frame, Held, Identity, State

PATIENCE = 4  # rows held for each row with weight that seeding needs, at most


def framed(model: Model, held: Held) -> Frame:
    """Coordinates about the weighted mean of the rows, in units of their deviation if asked."""
    if model.directional:
        return on_sphere(held.rows.shape[1])
    origin = spread_of(model, held.rows, held.weights, None).mean[0]
    return Frame(origin, _units(model, Frame(origin, np.ones(len(origin))), held))


def on_sphere(D: int) -> Frame:
    """Coordinates in which only directions count."""
    return Frame(np.zeros(D), np.ones(D), sphere=True)


def _spread_of_first(model: Model, Z: Array, weights: Array) -> Moments:
    """The first rows as one cluster, the farthest of them drawn back."""
    return spread_of(model, moderated(Z, reach_of_rows(Z, weights)), weights, None)


def _units(model: Model, frame: Frame, held: Held) -> Array:
    D = held.rows.shape[1]
    if model.scaling is None or not held.weights.any():
        return np.ones(D)
    spread = _spread_of_first(model, held.rows - frame.origin, held.weights)
    v = moments.variance(spread)[0]
    small = v <= np.square(DIGITS * np.abs(frame.origin))
    return np.where(small, 1.0, np.sqrt(np.where(small, 1.0, v)))


def initial_frame(model: Model) -> Frame:
    """Coordinates about the mean of the given means."""
    means = np.asarray(model.initial_means, dtype=np.float64)
    if model.directional:
        return on_sphere(means.shape[1])
    return Frame(means.mean(axis=0), np.ones(means.shape[1]))


def begun(model: Model, state: State, held: Held) -> State:
    """A state with given means as its first rows complete it: units, covariances, β."""
    if state.frame is None or model.initial_means is None or not held.weights.any():
        return state
    frame = altered(state.frame, unit=_units(model, state.frame, held))
    Z = frame.inward(held.rows)
    means = frame.inward(np.asarray(model.initial_means, dtype=np.float64))
    spread = spread_of(model, Z, held.weights, None)
    distance = kernels_in_use().nearest(np.nan_to_num(Z), means)[1]
    objective = float(held.weights @ distance / held.weights.sum())
    v = floored_variance(spread, frame)
    clusters = model.given(means, v, objective, frame.unit)
    warn_below_critical_beta(model, Z, held.weights)
    empty = moments.zero(model.scatter, len(means), len(v))
    tally = Moments(empty.step, empty.objective, empty.squares, means, empty.scatter)
    uniform = None
    if model.background is not None:
        uniform = ranged(Z[held.weights > 0], 0.0)
    return altered(
        state, frame=frame, clusters=clusters, moments=tally, spread=spread, background=uniform
    )


def latest_time(before: float | None, held: Held) -> float | None:
    """The latest event time among rows with weight and `before`; None where there is none."""
    if held.times is None:
        return before
    times = held.times[(held.weights > 0) & np.isfinite(held.times)]
    if len(times) == 0:
        return before
    return float(times.max()) if before is None else max(before, float(times.max()))


def seeding_cut(model: Model, held: Held) -> int | None:
    """How many of the held rows seed; None while there are too few.

    Up to the row with weight that completes n0; and no more than 4·n0 rows in all, so
    that rows without weight are not held for ever.
    """
    counted = np.cumsum(held.weights > 0)
    if model.forgetting.learns_at_once:
        return len(held) if len(held) and counted[-1] else None
    needed = model.seeding.rows or model.rows_to_hold(held.rows.shape[1])
    complete = int(np.searchsorted(counted, needed)) + 1
    cut = min(complete, PATIENCE * needed)
    return cut if cut <= len(held) else None


class Grown(NamedTuple):
    """A state whose clusters were seeded, and the numerical repairs that needed."""

    state: State
    interventions: tuple[str, ...]
    mean_distance: float  # mean squared distance of the rows to their nearest mean


def _found(
    model: Model, state: State, held: Held, restarts: int
) -> tuple[Frame, Material, Moments, Seeded]:
    """Coordinates, the rows in them, those as one cluster, and the clusters found."""
    frame = framed(model, held)
    Z = frame.inward(held.rows)
    latest = latest_time(None, held)
    weights = model.forgetting.row_weights(held.weights, held.times, latest)
    spread = _spread_of_first(model, Z, weights)
    v = floored_variance(spread, frame)
    material = Material(Z, weights, held.given, v, grain(spread, frame))
    return frame, material, spread, seed_clusters(model, material, state.seed, restarts)


def seeded(model: Model, state: State, held: Held) -> Grown:
    """Clusters from all rows of `held`, whose tally becomes the state's."""
    frame, material, spread, found = _found(model, state, held, model.seeding.restarts)
    warn_if_fewer(model, found)
    warn_below_critical_beta(model, material.Z, material.weights)
    total = float(held.weights.sum())
    smallest = model.smallest_window(held.rows.shape[1])
    kept = model.forgetting.settled(total, smallest)
    state = _renamed(state, found, frame, "seeding", len(held))
    state = altered(
        state,
        window=Window(kept * float(spread.step[0]), total),
        moments=moments.fade(found.moments, Retentions(kept, 1.0)),
        spread=spread,
        learned=int(np.count_nonzero(held.weights)),
        time=latest_time(state.time, held),
        held=None,
    )
    if model.background is not None:
        state = _with_background(state, material.Z[held.weights > 0], found.claimed, kept)
    distance = kernels_in_use().nearest(np.nan_to_num(material.Z), found.clusters.means)[1]
    mean_distance = float(held.weights @ distance) / total
    return Grown(state, found.interventions, mean_distance)


def _with_background(state: State, Z: Array, claimed: float, kept: float) -> State:
    """A background of what it claimed and one pseudo-row, to which each cluster gives its share."""
    held = state.moments
    assert held is not None
    step, objective = float(held.step.sum()), float(held.objective.sum())
    given = Retentions(1 - 1 / max(step, 2.0), 1 - 1 / max(objective, 2.0))
    uniform = altered(
        ranged(Z, 0.0),
        step=claimed * kept + step * (1 - given.step),
        objective=claimed + objective * (1 - given.objective),
    )
    return altered(state, moments=moments.fade(held, given), background=uniform)


def provisional(model: Model, state: State, held: Held, before: int) -> State:
    """Clusters that answer while rows are held, renewed at 1, 2, 4, ... rows."""
    size = 1
    while size <= len(held):
        rows = taken(held, slice(0, size))
        if size > before and rows.weights.any():
            frame, *_, found = _found(model, state, rows, restarts=1)
            state = _renamed(state, found, frame, "provisional", size)
        size *= 2
    return state


def _renamed(state: State, found: Seeded, frame: Frame, reason: str, rows: int) -> State:
    """The state under found clusters: all names before end, new ones begin."""
    row, deaths = state.final_events + rows, []
    if state.clusters is not None and state.frame is not None:
        means = state.frame.outward(state.clusters.means)
        deaths = _changes("death", state.identity, means, row, reason)
    K, first = len(found.slots), state.identity.next_uid
    identity = Identity(found.slots, np.arange(first, first + K), first + K)
    births = _changes("birth", identity, frame.outward(found.clusters.means), row, reason)
    return altered(
        state,
        frame=frame,
        clusters=found.clusters,
        identity=identity,
        unreported=(*state.unreported, *deaths, *births),
    )


def _changes(
    kind: str, identity: Identity, positions: Array, row: int, reason: str
) -> list[Change]:
    dead = kind == "death"
    return [
        Change(
            kind,
            slot,
            uid if dead else None,
            None if dead else uid,
            row,
            reason,
            tuple(position),
        )
        for slot, uid, position in zip(
            identity.slots.tolist(), identity.uids.tolist(), positions.tolist(), strict=True
        )
    ]


def warn_below_critical_beta(model: Model, Z: Array, weights: Array) -> None:
    """Warn when β lies below 1/(2 λ_max(cov X)), where all means collapse onto one."""
    if not isinstance(model, SoftKMeans) or model.beta is None or not weights.any():
        return
    critical = critical_beta(Z, weights)
    if model.beta < critical:
        warnings.warn(
            f"beta={model.beta:g} lies below the critical {critical:g} of these rows, "
            "where all means collapse onto one; choose a larger beta, or None for the default",
            StreamEmWarning,
            stacklevel=2,
        )
