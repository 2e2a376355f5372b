"""Replay: sweep after sweep over finite data, until nothing more is gained."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from stream_em.arrays import altered
from stream_em.errors import SettingsError
from stream_em.models.protocol import Model
from stream_em.models.settings import at_least
from stream_em.replaying.bounds import objective, penalty
from stream_em.replaying.data import Chunk, Survey, chunked, opened, spans, surveyed
from stream_em.replaying.memos import root
from stream_em.replaying.methods import (
    Incremental,
    Method,
    Problem,
    Standing,
    assigned,
    at_rest,
)
from stream_em.replaying.starting import Start, fixed, left, started
from stream_em.state import State


class Visit(NamedTuple):
    """How far a replay is: told after each chunk."""

    sweep: int  # from 1
    chunk: int  # from 1; a method may go through the chunks twice in a sweep
    chunks: int
    bound: float  # penalised F in nats, -J for k-means; NaN in the first sweep


class Sweep(NamedTuple):
    """What the rows look like after a sweep. Sums over all rows, each times its weight."""

    number: int  # from 1
    passes: int  # times that all rows were assigned so far
    weight: float  # Σw behind the sums
    objective: float  # squared distance of rows to the means they are shared between
    free_energy: float  # nats, F = Q + H ≤ log-likelihood; NaN for k-means
    penalty: float  # nats, ln of the prior up to a constant; 0 without one
    gain: float  # nats per weight; share of J for k-means; NaN for the first sweep
    refused: int  # steps that a guard halved or undid so far
    repairs: int  # numerical repairs of covariances so far

    @property
    def bound(self) -> float:
        """What no sweep lowers: free energy and penalty, -J for k-means."""
        still = np.isnan(self.free_energy)
        return -self.objective if still else self.free_energy + self.penalty


class Replayed(NamedTuple):
    """The state after a replay, and every sweep on the way."""

    state: State
    sweeps: tuple[Sweep, ...]


def replay(
    model: Model,
    state: State,
    chunks: Any,
    *,
    sweeps: int = 40,
    tolerance: float = 1e-6,
    method: Method = Incremental(),
    chunk_rows: int | None = None,
    weights: Any = None,
    times: Any = None,
    labels: Any = None,
    responsibilities: Any = None,
    progress: Callable[[Visit], None] | None = None,
    swept: Callable[[Sweep], None] | None = None,
) -> Replayed:
    """Learn finite data by going through it again and again: batch quality, chunk by chunk.

    `chunks` is an array or data frame (n, D), cut into pieces of `chunk_rows` (None: 40 of
    them), or anything that can be read again: a list of arrays, or a function that
    returns a new iterator over arrays or `Chunk`s each time. At least `chunk_rows` rows
    share a memo, so that memory does not grow with the data.

    The first sweep is one batch iteration, each later one goes by the `method`. It ends
    after `sweeps`, or when a sweep gains no more than `tolerance`, in nats per unit of
    weight (k-means: as a share of J). The prior's v is the variance of these rows from
    the start on. The background takes part as one more component; quarantine, births and
    forgetting do not.

    A state without clusters is seeded from evenly spaced rows, and streams through all of
    them once where the model restructures, so that clusters move to rows the seeds missed.
    Any other state lends its clusters; what it had tallied or held before is replaced by
    the rows given here. The state that is returned holds each of them once, faded to the
    policy's window, and can go on with `step`. `progress` is called after each chunk,
    `swept` after each sweep. Raises `RowsError` when the rows change between sweeps.

    >>> import stream_em as se
    >>> model = se.KMeans(n_clusters=2)
    >>> state, sweeps = se.replay(model, se.init(model), [[0.0], [2.0], [10.0], [12.0]])
    >>> sorted(se.clusters(model, state).means.ravel().tolist()), sweeps[-1].objective
    ([1.0, 11.0], 4.0)
    """
    _check(sweeps, tolerance, method, chunk_rows)
    plain = fixed(model)
    beside = Chunk(None, weights, times, labels, responsibilities)
    pieces = opened(plain, state, chunks, beside, chunk_rows)
    survey = surveyed(model, pieces)
    if survey is None:
        return Replayed(state, ())
    start = started(model, altered(state, features=pieces.features), survey, pieces)
    covered = spans(survey.lengths, chunk_rows)
    walk = _Walk(plain, start, survey, len(covered), progress)

    def problem(number: int) -> Problem:
        return walk.problem(number, lambda: chunked(pieces, survey.lengths, covered))

    told: list[Sweep] = []
    standing = at_rest(start.state, start.passes)
    while len(told) < sweeps and not (told and told[-1].gain <= tolerance):
        number, before = len(told) + 1, standing.bound
        step = method.sweep if told else assigned
        standing = step(problem(number), standing)
        told.append(walk.told(number, standing, before))
        if swept is not None:
            swept(told[-1])
    typical = told[-1].objective / survey.weight
    return Replayed(left(model, standing.state, survey, root(standing.tree), typical), tuple(told))


class _Walk(NamedTuple):
    model: Model
    start: Start
    survey: Survey
    chunks: int
    progress: Callable[[Visit], None] | None

    def problem(self, number: int, chunks: Callable[[], Any]) -> Problem:
        """The problem as sweep `number` is told of it."""

        def tell(chunk: int, bound: float) -> None:
            if self.progress is not None:
                self.progress(Visit(number, chunk + 1, self.chunks, bound))

        return Problem(self.model, self.start.spread, self.start.columns, chunks, tell)

    def told(self, number: int, standing: Standing, before: float) -> Sweep:
        """What there is to tell of a sweep; `before` is the bound of the one before."""
        whole, weight, v = root(standing.tree), self.survey.weight, self.start.spread
        clusters = standing.state.clusters
        assert clusters is not None
        prior = penalty(self.model, clusters, whole.moments, v)
        soft = self.model.has_density
        scale = weight if soft else max(-before, 1e-300)
        return Sweep(
            number=number,
            passes=standing.passes,
            weight=weight,
            objective=objective(standing.state, whole),
            free_energy=standing.bound - prior if soft else np.nan,
            penalty=prior,
            gain=(standing.bound - before) / scale,
            refused=standing.refused,
            repairs=standing.repairs,
        )


def _check(sweeps: int, tolerance: float, method: Method, chunk_rows: int | None) -> None:
    at_least(sweeps, 1, "sweeps", whole=True)
    at_least(tolerance, 0, "tolerance")
    if chunk_rows is not None:
        at_least(chunk_rows, 1, "chunk_rows", whole=True)
    if not isinstance(method, Method):
        raise SettingsError(
            f"method is {method!r}, expected Incremental() or VarianceReduced(rho=0.5)"
        )
