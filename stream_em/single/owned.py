"""A state in the hands of one learner, who changes it row by row.

Everything else in this house is a pure function of values. A learner that takes single
events cannot afford a new state for each, so it owns one; `state` hands out the value.
"""

import math
from typing import Any, final

import numpy as np

from stream_em.arrays import Array, altered
from stream_em.kernels import arena as at
from stream_em.kernels.full_row import label_full, learn_full
from stream_em.kernels.hard_row import label_hard, learn_hard
from stream_em.kernels.row_parts import DECLINED, TICK
from stream_em.kernels.soft_row import label_soft, learn_soft
from stream_em.learning import restructured, step
from stream_em.models.protocol import Model
from stream_em.reading import score
from stream_em.single.arena import Arena, fits, moved_in, moved_out, put_aside
from stream_em.state import Info, Scores, State


def _declined(numbers: Array, counts: Array, row: Array, weight: float) -> int:
    """What learns for a state that is not laid out for single rows."""
    return DECLINED


def _unread(numbers: Array, counts: Array, row: Array) -> int:
    """What reads for such a state."""
    return -1


LEARNERS = (learn_hard, learn_soft, learn_soft, learn_soft, learn_full, learn_full, _declined)
READERS = (label_hard, label_soft, label_soft, label_soft, label_full, label_full, _unread)
PLAIN = -1  # the last of them: for states that are not laid out for single rows


@final
class Owned:
    """A model's state that one learner owns: single rows change it in place.

    n calls of `learn` are n steps of one row, bit for bit where `refresh` is 0. Otherwise
    the factors of a component's covariance wait until more than that share of its weight
    has arrived since they were made.

    >>> import stream_em as se
    >>> model = se.KMeans(n_clusters=2, initial_means=[[0.0], [10.0]])
    >>> owned = Owned(model, se.init(model))
    >>> for value in (1.0, 9.0, 11.0):
    ...     owned.learn(np.array([value]))
    >>> owned.label(np.array([8.0]))
    1
    >>> se.clusters(model, owned.state).means
    array([[ 1.],
           [10.]])
    """

    __slots__ = (
        "_arena",
        "_base",
        "_counts",
        "_form",
        "_model",
        "_numbers",
        "_refresh",
        "_state",
    )

    def __init__(self, model: Model, state: State, refresh: float = 0.01) -> None:
        self._model, self._refresh = model, refresh
        self._own(state)

    def __reduce__(self) -> tuple[Any, ...]:
        arrived = None if self._arena is None else np.array(self._arena.block(at.ARRIVED))
        return _restored, (self._model, self.state, self._refresh, arrived)

    def _own(self, state: State) -> None:
        """Take a state over; laid out for single rows where they can be learned in place."""
        self._base = state
        self._state: State | None = state
        self._arena: Arena | None = None
        self._numbers = self._counts = np.zeros(0)
        self._form = PLAIN  # not the kernels: what a learner holds is measured and copied
        if fits(self._model, state):
            self._arena = moved_in(self._model, state, self._refresh)
            self._numbers, self._counts = self._arena.numbers, self._arena.counts
            self._form = int(self._counts[at.FORM])

    @property
    def state(self) -> State:
        """The state as a value, on which nothing that is learned later has any effect."""
        if self._state is None:
            assert self._arena is not None
            self._state = moved_out(self._model, self._base, self._arena)
        return self._state

    def learn(self, row: Array, weight: float = 1.0) -> None:
        """Learn one row (D,) float64, NaN where missing; raises `RowsError` as `step` does."""
        said = LEARNERS[self._form](self._numbers, self._counts, row, float(weight))
        if said == DECLINED:
            self.step(row[None], weights=np.array([weight]))
            return
        self._state = None
        if said == TICK:
            self._tick()

    def _tick(self) -> None:
        """Let clusters move to where rows wait, as after a step."""
        before = self.state
        after, _ = restructured(self._model, before, before.learned - 1)
        if after.moments is not before.moments or after.background is not before.background:
            self._own(altered(after, unreported=()))
            return
        self._base = self._state = after
        if self._arena is not None and after.quarantine is not None:
            put_aside(self._arena, after.quarantine)

    def step(self, X: Any, *, weights: Any = None, times: Any = None) -> Info:
        """Learn a batch, exactly as `learning.step`; single rows go on from it."""
        state, info = step(self._model, self.state, X, weights=weights, times=times)
        self._own(state)
        return info

    @property
    def slots(self) -> Array:
        """The slots (K,) of the clusters, in the order of `responsibilities`."""
        return self._base.identity.slots

    def _read(self, row: Array) -> int:
        label: int = READERS[self._form](self._numbers, self._counts, row)
        return label

    def label(self, row: Array) -> int:
        """The row of `means` of the most probable cluster of a row (D,); 0 without clusters."""
        label = self._read(row)
        return label if label >= 0 else int(self._scores(row).labels[0])

    def slot(self, row: Array) -> int:
        """The slot of that cluster; 0 without clusters."""
        label = self._read(row)
        if label >= 0:
            return int(self._base.identity.slots[label])
        scores = self._scores(row)
        return int(scores.slots[scores.labels[0]])

    def responsibilities(self, row: Array) -> Array:
        """Posterior (K,) over the clusters, given not background."""
        label = self._read(row)
        if label < 0 or self._arena is None:
            return np.array(self._scores(row).responsibilities[0])
        if self._model.has_density:
            return np.array(self._arena.block(at.POSTERIOR).ravel())
        return (np.arange(self._counts[at.K]) == label).astype(np.float64)

    def log_likelihood(self, row: Array) -> float:
        """log p of a row (D,) in nats; NaN without a density."""
        if self._read(row) < 0:
            return float(self._scores(row).log_likelihood[0])
        return float(self._numbers[at.LOG_LIKELIHOOD]) if self._model.has_density else math.nan

    def squared_distance(self, row: Array) -> float:
        """Squared distance to the mean at `label`, in the model's units; NaN without clusters."""
        if self._read(row) < 0:
            return float(self._scores(row).squared_distance[0])
        return float(self._numbers[at.DISTANCE])

    def _scores(self, row: Array) -> Scores:
        return score(self._model, self.state, row[None])

    def _resume(self, arrived: Array) -> None:
        """Let factors wait on, for as long as those of the original would."""
        if self._arena is not None:
            self._arena.block(at.ARRIVED)[:] = arrived


def _restored(model: Model, state: State, refresh: float, arrived: Array | None) -> Owned:
    """A copy: its own state, and the weight (K, 1) that arrived since each factor was made."""
    owned = Owned(model, state, refresh)
    if arrived is not None:
        owned._resume(arrived)
    return owned
