"""Restructuring: what becomes of rows set aside, and clusters that move to where rows are.

Between ticks rows only wait. At a tick, every `every_rows` learned rows, those that a
cluster has come near to, or that waited too long, are absorbed; then moves are tried,
each of which must pay for itself in the objective. Clocks count rows, and every draw
is keyed by seed, tick and move, so results do not depend on how a stream is cut.
"""

import math
from typing import NamedTuple

import numpy as np

from stream_em import averaging, moments
from stream_em.arrays import Array, altered
from stream_em.background import background_share, log_ranges
from stream_em.births import birth
from stream_em.models.protocol import Model
from stream_em.models.settings import Restructuring
from stream_em.models.soft_kmeans import SoftKMeans
from stream_em.moments import Moments, Retentions
from stream_em.quarantine import absorbed, bounded, chosen, empty, faded, rescored, united
from stream_em.relocations import House, merged, relocated
from stream_em.scoring import far_bar, with_background
from stream_em.spread import floored_variance, grain
from stream_em.state import Averaged, Change, Quarantine, State, Tally, Typical

PATIENT_TICKS = 8  # between births tried on rows that mostly wait already
MEMORY_ROWS = 3300  # half-life of the running mean distance
NO_CHANGES: tuple[Change, ...] = ()
FULL_MEMORY = 4760.0  # MEMORY_ROWS/ln 2, the weight that half-life can hold


def seeding_typical(rows: int, mean_distance: float) -> Typical:
    """The running mean distance as the seeding rows leave it."""
    weight = min(float(rows), FULL_MEMORY)
    return Typical(weight * mean_distance, weight)


def opened(model: Model, state: State, typical: Typical) -> State:
    """A state whose clusters have just been seeded or given, ready to average and set aside."""
    if model.forgetting.averages:
        state = altered(state, averaged=averaging.opened(state))
    if model.restructuring is None or model.forgetting.learns_at_once or state.frame is None:
        return state
    if not (model.relocates or state.background):
        return state
    return altered(state, typical=typical, quarantine=empty(len(state.frame.origin)))


class Received(NamedTuple):
    """What a step's rows leave behind before anything is learned from them."""

    typical: Typical
    quarantine: Quarantine | None
    moments: Moments  # the part's tally, with rows merged in that found no room


def received(model: Model, state: State, part: Tally, kept: Retentions) -> Received:
    """The rows set aside by `part` united with those of the state, as many as there is room."""
    assert part.moments is not None
    typical = _updated(state.typical, part)
    if state.quarantine is None or part.far is None or model.restructuring is None:
        return Received(typical, state.quarantine, part.moments)
    aside = faded(state.quarantine, kept.objective)
    aside = united(aside, part.far) if len(part.far) else aside
    aside, dropped = bounded(aside, model.restructuring.capacity)
    arrived = part.moments
    if state.background is None and part.clusters is not None:
        arrived = absorbed(arrived, dropped, part.clusters.means)
    return Received(typical, aside, arrived)


def _updated(typical: Typical, part: Tally) -> Typical:
    kept = 2.0 ** (-part.learned / MEMORY_ROWS)
    return Typical(kept * typical.total + part.clipped, kept * typical.weight + part.weight)


class Ticked(NamedTuple):
    """A state after its ticks, and whether its clusters must be read off anew."""

    state: State
    moved: bool


def ticked(model: Model, state: State, learned_before: int) -> Ticked:
    """The ticks that a step has crossed: absorb, then move. Changes are left unreported."""
    settings = model.restructuring
    if settings is None or state.quarantine is None or learned_before < settings.every_rows:
        return Ticked(state, False)
    crossed = state.learned // settings.every_rows - learned_before // settings.every_rows
    if crossed == 0 or (len(state.quarantine) == 0 and not settings.variable):
        return Ticked(state, False)
    if state.background is not None:
        return _births(model, settings, state, crossed)
    return _relocations(model, settings, state, crossed)


def _key(settings: Restructuring, state: State, move: int) -> tuple[int, ...]:
    """What a draw is keyed by: seed, tick and move."""
    return state.seed, state.learned // settings.every_rows, move


def _softness(model: Model, state: State) -> float:
    """1/β = 2σ² of a soft model; 0 for hard assignment."""
    if not isinstance(model, SoftKMeans) or state.clusters is None:
        return 0.0
    return 2 * float(state.clusters.covariances[0])


def _house(state: State, held: Moments, aside: Quarantine) -> House:
    averaged = None if state.averaged is None else state.averaged.moments
    return House(held, state.identity, aside, averaged, averaging.normalising(state, held))


def _averaged_after(state: State, house: House) -> Averaged | None:
    if state.averaged is None or house.averaged is None:
        return state.averaged
    return Averaged(house.averaged, state.averaged.since)


def _relocations(model: Model, settings: Restructuring, state: State, crossed: int) -> Ticked:
    assert state.quarantine is not None and state.moments is not None and state.frame is not None
    aside = rescored(state.quarantine, model.centres(state.moments.mean))
    bar = far_bar(settings, state, model.size)
    stays = (aside.scores > bar) & (state.learned - aside.arrivals <= settings.max_age_rows)
    held = state.moments
    if not stays.all():
        held = absorbed(held, chosen(aside, ~stays), model.centres(held.mean))
        aside = rescored(chosen(aside, stays), model.centres(held.mean))
    before = state.unreported
    house, changes = _house(state, held, aside), before
    for move in range(settings.moves * crossed):
        found = relocated(
            model,
            settings,
            house,
            state.frame,
            state.typical.mean,
            _softness(model, state),
            _key(settings, state, move),
            state.total_events,
        )
        if found is None:
            break
        aside = rescored(found.house.aside, model.centres(found.house.moments.mean))
        house, changes = found.house._replace(aside=aside), (*changes, *found.changes)
    state = altered(
        state,
        moments=house.moments,
        identity=house.identity,
        quarantine=house.aside,
        averaged=_averaged_after(state, house),
        unreported=changes,
    )
    return Ticked(state, not stays.all() or len(changes) > len(before))


def _births(model: Model, settings: Restructuring, state: State, crossed: int) -> Ticked:
    aside, uniform = _claimed(model, settings, state), state.background
    assert state.frame is not None and state.spread is not None and state.moments is not None
    assert uniform is not None and model.background is not None
    house, changes = _house(state, state.moments, aside), NO_CHANGES
    v = floored_variance(state.spread, state.frame)
    widths = log_ranges(
        uniform, moments.variance(state.spread)[0], grain(state.spread, state.frame)
    )
    price = _price(model, state) if settings.variable else 0.0
    if settings.variable:
        house, changes = _thinned(model, state, house, v, price)
    tries = settings.moves * crossed if _gathering(settings, state, crossed) else 0
    for move in range(tries):
        share = background_share(model.background, uniform, float(house.moments.step.sum()))
        log_density = np.log(share) - widths.sum()
        draw = np.random.default_rng(_key(settings, state, move))
        found = birth(
            model, house, uniform, state.frame, v, log_density, price, draw, state.total_events
        )
        if found is None:
            break
        (house, told), uniform = found
        changes = (*changes, *told)
    state = altered(
        state,
        moments=house.moments,
        identity=house.identity,
        quarantine=house.aside,
        averaged=_averaged_after(state, house),
        background=uniform,
        unreported=(*state.unreported, *changes),
    )
    return Ticked(state, bool(changes))


def _gathering(settings: Restructuring, state: State, crossed: int) -> bool:
    """Whether a birth is worth trying: many of the waiting rows are new, or it is time again.

    Lasting outliers would otherwise be split, fitted and refused at every tick.
    """
    aside = state.quarantine
    assert aside is not None
    tick = state.learned // settings.every_rows
    if tick // PATIENT_TICKS > (tick - crossed) // PATIENT_TICKS:
        return True
    new = state.learned - aside.arrivals <= settings.every_rows * crossed
    return int(np.count_nonzero(new)) * PATIENT_TICKS >= len(aside)


def _claimed(model: Model, settings: Restructuring, state: State) -> Quarantine:
    """The copies that are young and that the background still claims."""
    aside = state.quarantine
    assert aside is not None and state.clusters is not None
    if len(aside) == 0:
        return aside
    expectation = model.e_step(state.clusters, aside.rows)
    scores = with_background(model, state, expectation, aside.rows).background
    young = state.learned - aside.arrivals <= settings.max_age_rows
    return chosen(altered(aside, scores=scores), young & (scores >= 0.5))


def _price(model: Model, state: State) -> float:
    """½P_k ln W: nats that describe one more component (Schwarz 1978)."""
    assert state.spread is not None and state.frame is not None
    D = len(state.frame.origin)
    parameters = model.n_parameters(D, 2) - model.n_parameters(D, 1)
    events = max(float(moments.effective_size(state.spread)[0]), 2.0)
    return 0.5 * parameters * math.log(events)


def _thinned(
    model: Model, state: State, house: House, v: Array, price: float
) -> tuple[House, tuple[Change, ...]]:
    """The house after all merges that lose less than a component's description costs.

    Runnalls' bound orders the merges but lies far above what they lose, so the loss is
    measured on the latest rows.
    """
    changes: tuple[Change, ...] = ()
    rows = state.recent
    if rows is None or len(rows) == 0 or state.frame is None or state.spread is None:
        return house, changes
    events = float(moments.effective_size(state.spread)[0])
    score = _window_score(model, state, house, v, rows)
    while len(house.identity.slots) > 1:
        costs = model.merge_costs(house.moments, v)
        p, q = (int(i) for i in np.unravel_index(int(costs.argmin()), costs.shape))
        fewer, told = merged(house, state.frame, (p, q), state.total_events, "one describes both")
        after = _window_score(model, state, fewer, v, rows)
        if (score - after) * events >= price:
            break
        house, score, changes = fewer, after, (*changes, *told)
    return house, changes


def _window_score(model: Model, state: State, house: House, v: Array, rows: Array) -> float:
    """Mean log-likelihood in nats of the latest rows (r, D) under the house's clusters."""
    clusters = model.reread(house.moments, v, state.clusters).clusters
    at = altered(state, clusters=clusters, moments=house.moments)
    expectation = with_background(model, at, model.e_step(clusters, rows), rows)
    return float(expectation.log_likelihood.mean())


def settled(model: Model, state: State) -> State:
    """The state with the rows set aside absorbed: what is read while some wait.

    Mixtures hold copies of rows that the background has counted, so there is nothing
    to absorb.
    """
    aside = state.quarantine
    if aside is None or state.moments is None or state.frame is None or state.spread is None:
        return state
    if state.background is not None or len(aside) == 0:
        return state
    held = absorbed(state.moments, aside, model.centres(state.moments.mean))
    v = floored_variance(state.spread, state.frame)
    clusters = model.m_step(held, v, state.clusters).clusters
    return altered(
        state, moments=held, clusters=clusters, quarantine=empty(len(state.frame.origin))
    )
