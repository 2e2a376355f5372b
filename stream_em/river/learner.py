"""What River's learners have in common: events in, answers out, over a state they own."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import Any

import numpy as np

from stream_em.arrays import Array, altered, as_weights
from stream_em.forgetting import Forgetting
from stream_em.learning import init
from stream_em.models.protocol import Model
from stream_em.reading import clusters, score
from stream_em.river.features import Event, Features, with_value
from stream_em.river.frames import Table, as_table
from stream_em.river.settings import as_refresh, as_seed
from stream_em.river.widening import Watch, held_wider, newcomer, wider
from stream_em.single import Owned
from stream_em.state import Scores, State

Policy = Forgetting | float | str | None


class Learner(ABC):
    """A learner of single events and mini-batches.

    A class below it stores its parameters under their own names, as River wants, and says
    in `_settings` which model they stand for; then it calls `_begin`.
    """

    _forgetting: Policy
    _refresh: float

    @abstractmethod
    def _settings(self, forgetting: Policy) -> Model:
        """The model that the parameters stand for, under a forgetting; raises `SettingsError`."""

    def _begin(self, seed: int | None, forgetting: Policy, refresh: float) -> None:
        self._forgetting, self._refresh = forgetting, as_refresh(refresh)
        self._model = self._settings(forgetting)
        self._features, self._watch, self._events = Features(), Watch(), 0
        self._owned = Owned(self._model, init(self._model, as_seed(seed)), self._refresh)

    @property
    def forgetting(self) -> Policy:
        """How old events fade; `mutate` may change it, for what is learned from then on."""
        return self._forgetting

    @forgetting.setter
    def forgetting(self, value: Policy) -> None:
        self._model = self._settings(value)
        self._forgetting = value
        self._own(self._owned.state)

    @property
    def refresh(self) -> float:
        """The share of a component's weight that may arrive before its factors are remade."""
        return self._refresh

    @refresh.setter
    def refresh(self, value: float) -> None:
        self._refresh = as_refresh(value)
        self._owned = Owned(self._model, self._owned.state, self._refresh)

    @property
    def _mutable_attributes(self) -> set[str]:
        return {"forgetting", "refresh"}

    @property
    def model(self) -> Model:
        """The settings, as every function of stream_em takes them."""
        return self._model

    @property
    def state(self) -> State:
        """The state as a value, on which nothing that is learned later has any effect."""
        return self._owned.state

    @property
    def centers(self) -> dict[int, dict[Hashable, float]]:
        """The mean of each cluster by slot, in the events' units; empty before any event."""
        found = clusters(self._model, self._owned.state)
        names = self._features.names
        return {
            slot: dict(zip(names, mean, strict=True))
            for slot, mean in zip(found.slots.tolist(), found.means.tolist(), strict=True)
        }

    def learn_one(self, x: Event, w: float = 1.0) -> None:
        """Learn one event of weight `w` ≥ 0; one of weight 0 teaches nothing, not even names.

        Absent keys, None and NaN are missing values. Raises `RowsError` for values and
        weights that are no finite numbers, and has then learned nothing.
        """
        row = self._features.exact(x)
        if row is not None:
            self._owned.learn(row, w)
            self._events += 1
        else:
            self._learn_other(x, w)

    def _learn_other(self, x: Event, w: float) -> None:
        """Learn an event whose keys are not those of all before it."""
        new = self._features.new(with_value(x))
        if not as_weights([w], 1)[0]:
            new = ()
        if new and self._owned.state.moments is None:
            self._widen_held(new)
            new = ()
        if not self._features.names:
            return
        row = self._features.row(x)
        for name in new:
            self._watch.see(name, self._owned.slot(row), float(x[name]))
        self._owned.learn(row, w)
        self._events += 1
        self._admit()

    def learn_many(self, X: Any, w: Any = None) -> None:
        """Learn a mini-batch as one step, with weights `w` (n,), one for all, or None.

        X is a data frame, whose columns are matched by name, or an array (n, D), whose
        columns are the features 0, 1, ...: one step of n rows is quicker than n events, and
        the same but for the order in which clusters are read off.
        """
        table = as_table(X)
        n = len(table.values)
        weights = np.full(n, w) if np.ndim(w) == 0 and w is not None else w
        weights = as_weights(weights, n)
        seen = np.flatnonzero(~np.isnan(table.values[weights > 0]).all(axis=0))
        new = self._features.new(table.columns[place] for place in seen)
        if new and self._owned.state.moments is None:
            self._widen_held(new)
            new = ()
        if not self._features.names or n == 0:
            return
        rows = self._features.placed(table.columns, table.values)
        if new:
            self._see_columns(new, table, rows, weights)
        self._owned.step(rows, weights=weights)
        self._events += n
        self._admit()

    def _see_columns(
        self, new: tuple[Hashable, ...], table: Table, rows: Array, weights: Array
    ) -> None:
        scores = score(self._model, self._owned.state, rows)
        slots = scores.slots[scores.labels]
        for name in new:
            values = table.values[:, table.columns.index(name)]
            here = (weights > 0) & ~np.isnan(values)
            for slot, value in zip(slots[here].tolist(), values[here].tolist(), strict=True):
                self._watch.see(name, slot, value)

    def _widen_held(self, new: tuple[Hashable, ...]) -> None:
        """Take new features in while rows are held."""
        state = held_wider(self._model, self._owned.state, len(new))
        self._features = self._features.wider(new)
        self._own(state)

    def _admit(self) -> None:
        """Take in the new features that have been seen often enough."""
        ready = self._watch.ready()
        if not ready:
            return
        state = self._owned.state
        for name, seen in ready.items():
            state = wider(self._model, state, newcomer(seen, state.identity.slots))
            self._features = self._features.wider([name])
        self._own(state)

    def _own(self, state: State) -> None:
        names = tuple(map(str, self._features.names)) or None
        self._owned = Owned(self._model, altered(state, features=names), self._refresh)

    def predict_one(self, x: Event) -> int:
        """The slot of the most probable cluster; 0 before any event."""
        features = self._features
        return self._owned.slot(features.row(x)) if features.names else 0

    def predict_proba_one(self, x: Event) -> dict[int, float]:
        """The probability of each cluster by slot, given that it is no outlier; sums to 1."""
        features = self._features
        if not features.names:
            return {0: 1.0}
        shares = self._owned.responsibilities(features.row(x)).tolist()
        slots = self._owned.slots.tolist() or [0]
        return dict(zip(slots, shares, strict=True))

    def score_one(self, x: Event) -> float:
        """How unusual an event is, the higher the more; finite, and 0 before any event."""
        features = self._features
        return self._unusual(features.row(x)) if features.names else 0.0

    @abstractmethod
    def _unusual(self, row: Array) -> float:
        """The score of one row (D,)."""

    @abstractmethod
    def _all_unusual(self, scores: Scores) -> Array:
        """The same for many rows (n,)."""

    def predict_many(self, X: Any) -> Any:
        """The slot of each row, as a series of X's kind or an array (n,)."""
        table = as_table(X, self._features.names)
        scores = self._scores(table)
        return table.one_each(scores.slots[scores.labels], "cluster")

    def predict_proba_many(self, X: Any) -> Any:
        """The probability of each cluster (n, K), columns named by slot, in X's kind."""
        table = as_table(X, self._features.names)
        scores = self._scores(table)
        return table.some_each(scores.responsibilities, scores.slots.tolist())

    def score_many(self, X: Any) -> Any:
        """How unusual each row is, as a series of X's kind or an array (n,)."""
        table = as_table(X, self._features.names)
        return table.one_each(self._all_unusual(self._scores(table)), "score")

    def _scores(self, table: Table) -> Scores:
        rows = self._features.placed(table.columns, table.values)
        if not self._features.names:
            rows = np.zeros((len(table.values), 1))
        return score(self._model, self._owned.state, rows)


def by_distance(owned: Owned, row: Array) -> float:
    """The squared distance of a row (D,) to its cluster's mean, 0 without clusters."""
    return finite(owned.squared_distance(row))


def by_density(owned: Owned, row: Array) -> float:
    """The surprise -log p of a row (D,) in nats, 0 without clusters."""
    return finite(-owned.log_likelihood(row))


def finite(value: float) -> float:
    """0 for NaN, and the largest number of its sign for an infinity."""
    if value != value:
        return 0.0
    return max(min(value, sys.float_info.max), -sys.float_info.max)


def finite_all(values: Array) -> Array:
    """The same for an array."""
    return np.nan_to_num(values)
