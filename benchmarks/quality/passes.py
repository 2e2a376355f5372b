"""One pass of a model over rows in batches, with what it told on the way."""

from typing import NamedTuple

import numpy as np
from sklearn.cluster import MiniBatchKMeans

import stream_em as se
from stream_em.forgetting import Arrival, Forgetting, PowerWindow, Retentions, Window
from stream_em.models.protocol import Model
from stream_em.state import State


class Passed(NamedTuple):
    """A pass that has ended, and the rows after seeding as they were scored before learning."""

    model: Model
    state: State
    objective: float  # prequential Σd²
    weight: float  # rows behind it
    log_likelihoods: np.ndarray  # (n,) prequential
    moves: int  # relocations and births after seeding

    @property
    def means(self) -> np.ndarray:
        """Means (K, D) as read at the end."""
        return se.clusters(self.model, self.state).means

    @property
    def background(self) -> float:
        """The background's share of the rows."""
        uniform, counts = self.state.background, se.clusters(self.model, self.state).counts
        return float(uniform.objective / (uniform.objective + counts.sum()))


def one_pass(model: Model, X: np.ndarray, m: int, seed: int = 0) -> Passed:
    """Learn rows X (n, D) in batches of m, in order, once, and finish."""
    state, objective, weight, moves = se.init(model, seed=seed), 0.0, 0.0, 0
    likelihoods = []
    for start in range(0, len(X), m):
        seeded = state.moments is not None
        state, info = se.step(model, state, X[start : start + m])
        if info.weight > 0:
            objective, weight = objective + info.objective, weight + info.weight
            likelihoods.append(info.scores.log_likelihood[-int(info.weight) :])
        if seeded:
            moves += sum(change.kind in ("relocation", "birth") for change in info.changes)
    state, _ = se.finish(model, state)
    told = np.concatenate(likelihoods) if likelihoods else np.zeros(0)
    return Passed(model, state, objective, weight, told, moves)


class Unaveraged(Forgetting):
    """A power window without averaged statistics, so that their cost can be seen."""

    kind = "unaveraged-power-window"

    def __init__(self, alpha: float) -> None:
        self.window = PowerWindow(alpha)

    def __call__(self, held: Window, arriving: Arrival) -> Retentions:
        return self.window(held, arriving)

    def settled(self, weight: float, smallest: float) -> float:
        return self.window.settled(weight, smallest)


def plain_mixture(K: int, forgetting: Forgetting, **settings: object) -> se.GaussianMixture:
    """Online EM as in the textbooks: no background, no births."""
    return se.GaussianMixture(
        K, forgetting=forgetting, background=None, restructuring=None, **settings
    )


def partially_fitted(X: np.ndarray, K: int, seed: int) -> MiniBatchKMeans:
    """The peer: scikit-learn's mini-batch k-means, one pass in batches of 500."""
    model = MiniBatchKMeans(K, batch_size=500, n_init=1, random_state=seed)
    for start in range(0, len(X), 500):
        model.partial_fit(X[start : start + 500])
    return model
