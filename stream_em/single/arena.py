"""A state moved into two arrays that single rows change in place, and moved out again."""

from typing import NamedTuple

import numpy as np

from stream_em.arrays import Array, altered, identical
from stream_em.averaging import POWER
from stream_em.forgetting import Forgetting, HalfLife, KeepAll, PowerWindow, Window
from stream_em.kernels import arena as at
from stream_em.models.covariance import Covariance, Diagonal, Full, Isotropic, Spherical, Tied
from stream_em.models.gaussian import GaussianMixture
from stream_em.models.kmeans import KMeans, shares
from stream_em.models.protocol import Clusters, Model
from stream_em.models.soft_kmeans import SoftKMeans
from stream_em.moments import Moments, Scatter
from stream_em.restructuring import MEMORY_ROWS
from stream_em.scoring import CLIP, bar_factor
from stream_em.spread import DIGITS
from stream_em.state import Averaged, Quarantine, State, Typical, Uniform

LARGEST_D = 256  # features; beyond, batches go through BLAS, whose bits no loop can follow


class Arena(NamedTuple):
    """The two arrays, and the shapes of the blocks in them."""

    numbers: Array  # float64
    counts: Array  # int64
    shapes: tuple[tuple[int, int], ...]

    def block(self, which: int) -> Array:
        """A block as a matrix, to be read and written."""
        rows, columns = self.shapes[which]
        place = int(self.counts[at.PLACES + which])
        return self.numbers[place : place + rows * columns].reshape(rows, columns)

    def waiting(self) -> int:
        """Rows set aside."""
        return int(self.counts[at.WAITING])


def form_of(model: Model) -> int | None:
    """The form in which single rows see a model's clusters; None where they cannot."""
    if type(model) is KMeans:
        return at.HARD
    if type(model) is SoftKMeans:
        return at.FIXED
    return _form_of(model.covariance) if type(model) is GaussianMixture else None


def _form_of(covariance: Covariance) -> int | None:
    forms: dict[type[Covariance], int] = {
        Isotropic: at.FIXED,
        Spherical: at.SPHERICAL,
        Diagonal: at.DIAGONAL,
        Full: at.FULL,
        Tied: at.TIED,
    }
    return forms.get(type(covariance))


def _policy_of(forgetting: Forgetting) -> int | None:
    policies: dict[type[Forgetting], int] = {
        KeepAll: at.KEEP_ALL,
        PowerWindow: at.POWER_WINDOW,
        HalfLife: at.HALF_LIFE,
    }
    return policies.get(type(forgetting))


def fits(model: Model, state: State) -> bool:
    """Whether single rows of a state can be learned in place, by the ordinary rules.

    They cannot while there are no clusters, nor where latest rows are kept, nor under
    policies that ask for event times or forget everything.
    """
    if form_of(model) is None or _policy_of(model.forgetting) is None:
        return False
    if state.moments is None or state.clusters is None or state.spread is None:
        return False
    if state.frame is None or state.learned == 0 or state.unreported or state.recent is not None:
        return False
    settings = model.restructuring
    if settings is not None and settings.variable:
        return False
    if (state.background is None) != (model.background is None):
        return False
    aside = state.quarantine
    if aside is not None and (settings is None or len(aside) > settings.capacity):
        return False
    plain = state.moments.relevance is None and len(state.frame.origin) <= LARGEST_D
    return plain and identical(state.clusters.means, state.moments.mean)


def moved_in(model: Model, state: State, refresh: float) -> Arena:
    """A state that `fits`, laid out for single rows."""
    form = form_of(model)
    assert form is not None and state.moments is not None and state.clusters is not None
    K, D = state.moments.mean.shape
    settings = model.restructuring if state.quarantine is not None else None
    capacity = 0 if settings is None else settings.capacity
    shapes = at.shapes(K, D, form, capacity)
    sizes = [rows * columns for rows, columns in shapes]
    places = at.SCALARS + np.cumsum([0, *sizes])
    arena = Arena(np.zeros(int(places[-1])), np.zeros(at.ARRIVALS + capacity + 1, np.int64), shapes)
    arena.counts[at.PLACES : at.ARRIVALS] = places[:-1]
    _choose(model, state, arena, form)
    _measure(model, state, arena, refresh)
    _fill(state, arena, form)
    return arena


def _choose(model: Model, state: State, arena: Arena, form: int) -> None:
    """Sizes, choices and clocks."""
    assert state.moments is not None
    counts, aside = arena.counts, state.quarantine
    counts[at.K], counts[at.D] = state.moments.mean.shape
    counts[at.GROUPS], counts[at.CELLS] = arena.shapes[at.SCATTER]
    counts[at.PADDED] = arena.shapes[at.MOVED][0]
    counts[at.FORM], counts[at.POLICY] = form, _policy_of(model.forgetting) or 0
    counts[at.AVERAGES] = state.averaged is not None
    counts[at.SHARED] = type(model) is SoftKMeans
    if aside is not None and model.restructuring is not None:
        counts[at.ASIDE] = at.FAR if state.background is None else at.CLAIMED
        counts[at.CAPACITY] = model.restructuring.capacity
        counts[at.EVERY] = model.restructuring.every_rows
    counts[at.BACKGROUND] = state.background is not None
    counts[at.LEARNED], counts[at.TOTAL] = state.learned, state.total_events
    counts[at.FINAL] = state.final_events


def _measure(model: Model, state: State, arena: Arena, refresh: float) -> None:
    """The scalars."""
    assert state.spread is not None and state.frame is not None
    s, D = arena.numbers, len(state.frame.origin)
    s[at.SMALLEST] = model.smallest_window(D)
    if isinstance(model.forgetting, PowerWindow):
        s[at.ALPHA] = model.forgetting.alpha
        if model.forgetting.minimum_rows is not None:
            s[at.SMALLEST] = model.forgetting.minimum_rows
    if isinstance(model.forgetting, HalfLife):
        s[at.EVENTS] = model.forgetting.events
    s[at.BASE], s[at.POWER] = 2.0, POWER
    s[at.MEMORY], s[at.CLIP] = 2.0 ** (-1 / MEMORY_ROWS), CLIP
    if model.restructuring is not None:
        s[at.BAR] = bar_factor(model.restructuring, len(state.identity.slots), model.size)
    if model.background is not None:
        s[at.LEAST_SHARE] = model.background.least_share
    if isinstance(model, GaussianMixture):
        s[at.N0], one = model.prior_covariance(np.ones(D))
        s[at.A0], s[at.SHRINK] = 0.0 if model.prior is None else model.prior.weight, one[0]
    s[at.REFRESH], s[at.DIGITS] = refresh, DIGITS
    s[at.WINDOW], s[at.CLOCK] = state.window.weight, state.window.clock
    s[at.TYPICAL], s[at.TYPICAL_WEIGHT] = state.typical.total, state.typical.weight
    s[at.ALL_STEP] = state.spread.step[0]
    s[at.ALL_OBJECTIVE] = state.spread.objective[0]
    s[at.ALL_SQUARES] = state.spread.squares[0]
    if state.averaged is not None:
        s[at.SINCE] = state.averaged.since
    if state.background is not None:
        s[at.CLAIM_STEP] = state.background.step
        s[at.CLAIM_OBJECTIVE] = state.background.objective


def _fill(state: State, arena: Arena, form: int) -> None:
    """The blocks."""
    assert state.moments is not None and state.clusters is not None
    assert state.spread is not None and state.frame is not None
    _put_tally(arena, at.STEP, state.moments)
    if state.averaged is not None:
        _put_tally(arena, at.AVERAGE_STEP, state.averaged.moments)
    values = {
        at.ALL_MEAN: state.spread.mean,
        at.ALL_SCATTER: state.spread.scatter.values,
        at.ORIGIN: state.frame.origin,
        at.UNIT: state.frame.unit,
        at.OFFSET: np.abs(state.frame.origin / state.frame.unit),
        at.WEIGHTS: state.clusters.weights,
    }
    if form != at.HARD:
        values[at.COVARIANCES] = state.clusters.covariances
        values[at.LOG_DETS] = state.clusters.log_dets
        _put_factors(arena, form, state.clusters.precisions)
    if state.background is not None:
        values[at.LOW], values[at.HIGH] = state.background.low, state.background.high
    for which, value in values.items():
        arena.block(which)[:] = np.reshape(value, arena.shapes[which])
    if state.quarantine is not None:
        put_aside(arena, state.quarantine)


def put_aside(arena: Arena, aside: Quarantine) -> None:
    """Let exactly these rows wait."""
    q = len(aside)
    arena.counts[at.WAITING] = q
    arena.counts[at.ARRIVALS : at.ARRIVALS + q] = aside.arrivals
    arena.block(at.ASIDE_ROWS)[:q] = aside.rows
    arena.block(at.ASIDE_WEIGHTS)[:q, 0] = aside.weights
    arena.block(at.ASIDE_SCORES)[:q, 0] = aside.scores


def _put_tally(arena: Arena, first: int, tally: Moments) -> None:
    parts = (tally.step, tally.objective, tally.squares, tally.mean, tally.scatter.values)
    for which, value in enumerate(parts, first):
        arena.block(which)[:] = value.reshape(arena.shapes[which])


def _put_factors(arena: Arena, form: int, precisions: Array) -> None:
    if form not in (at.FULL, at.TIED):
        arena.block(at.PRECISIONS)[:] = precisions
        return
    groups, D = arena.shapes[at.SCATTER][0], precisions.shape[-1]
    padded = arena.shapes[at.MOVED][0]
    room = arena.block(at.PRECISIONS).reshape(groups, padded, padded)
    room[:, :D, :D] = precisions[:groups]


def moved_out(model: Model, base: State, arena: Arena) -> State:
    """The state as rows have left it; `base` is the one that moved in."""
    assert base.moments is not None and base.clusters is not None and base.spread is not None
    s, counts = arena.numbers, arena.counts
    moments = _tally(arena, at.STEP, base.moments.scatter)
    spread = altered(
        base.spread,
        step=np.array([s[at.ALL_STEP]]),
        objective=np.array([s[at.ALL_OBJECTIVE]]),
        squares=np.array([s[at.ALL_SQUARES]]),
        mean=np.array(arena.block(at.ALL_MEAN)),
        scatter=type(base.spread.scatter)(np.array(arena.block(at.ALL_SCATTER))),  # type: ignore[call-arg]
    )
    averaged = None
    if base.averaged is not None:
        tally = _tally(arena, at.AVERAGE_STEP, base.moments.scatter)
        averaged = Averaged(tally, base.averaged.since)
    return altered(
        base,
        total_events=int(counts[at.TOTAL]),
        final_events=int(counts[at.FINAL]),
        learned=int(counts[at.LEARNED]),
        window=Window(float(s[at.WINDOW]), float(s[at.CLOCK])),
        clusters=_clusters(arena, moments, base.clusters),
        moments=moments,
        spread=spread,
        typical=Typical(float(s[at.TYPICAL]), float(s[at.TYPICAL_WEIGHT])),
        quarantine=None if base.quarantine is None else _aside(arena),
        background=None if base.background is None else _background(arena),
        averaged=averaged,
    )


def _tally(arena: Arena, first: int, form: Scatter) -> Moments:
    step, objective, squares, mean, scatter = (
        np.array(arena.block(which)) for which in range(first, first + 5)
    )
    values = scatter.reshape(form.values.shape)
    return Moments(
        step.ravel(),
        objective.ravel(),
        squares.ravel(),
        mean,
        type(form)(values),  # type: ignore[call-arg]
    )


def _clusters(arena: Arena, moments: Moments, base: Clusters) -> Clusters:
    if arena.counts[at.FORM] == at.HARD:
        return altered(base, weights=shares(moments.objective), means=moments.mean)
    K, D = moments.mean.shape
    precisions = arena.block(at.PRECISIONS)
    if arena.counts[at.FORM] in (at.FULL, at.TIED):
        padded = arena.shapes[at.MOVED][0]
        precisions = precisions.reshape(-1, padded, padded)[:, :D, :D]
        precisions = np.broadcast_to(precisions, (K, D, D))
    return Clusters(
        np.array(arena.block(at.WEIGHTS)).ravel(),
        moments.mean,
        np.array(arena.block(at.COVARIANCES)).reshape(base.covariances.shape),
        np.array(precisions, order="C"),
        np.array(arena.block(at.LOG_DETS)).ravel(),
    )


def _aside(arena: Arena) -> Quarantine:
    q = arena.waiting()
    return Quarantine(
        np.array(arena.block(at.ASIDE_ROWS)[:q]),
        np.array(arena.block(at.ASIDE_WEIGHTS)[:q, 0]),
        np.array(arena.block(at.ASIDE_SCORES)[:q, 0]),
        np.array(arena.counts[at.ARRIVALS : at.ARRIVALS + q]),
    )


def _background(arena: Arena) -> Uniform:
    s = arena.numbers
    return Uniform(
        float(s[at.CLAIM_STEP]),
        float(s[at.CLAIM_OBJECTIVE]),
        np.array(arena.block(at.LOW)).ravel(),
        np.array(arena.block(at.HIGH)).ravel(),
    )
