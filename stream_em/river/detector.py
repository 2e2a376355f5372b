"""A Gaussian mixture as a River anomaly detector."""

from collections.abc import Iterator
from typing import Any, final

import numpy as np
from river import base

from stream_em.arrays import Array
from stream_em.models.covariance import Covariance
from stream_em.models.protocol import Model
from stream_em.models.settings import Background, Restructuring
from stream_em.river.learner import Learner, Policy, by_density, finite_all
from stream_em.river.mixtures import mixture
from stream_em.river.settings import as_whole
from stream_em.state import Scores


@final
class GaussianMixtureDetector(Learner, base.AnomalyDetector):
    """Scores events by how little a Gaussian mixture expects them: -log p in nats.

    The mixture learns every event it is given, so anomalies that make a cluster of their
    own become ordinary: few components, no moves of clusters, and `anomaly.QuantileFilter`
    around the detector guard against that. Events that lack features are scored by those
    they have, in which they can surprise less. `metrics.RollingROCAUC` takes such scores;
    `metrics.ROCAUC` wants probabilities.

    Parameters
    ----------
    n_components
        Number of components of what is ordinary.
    covariance_type
        "full", "tied", "diag" or "spherical"; or a covariance of stream_em.
    forgetting
        None for a window that grows slower than the stream; a number for a half-life in
        events; "keep-all", "keep-nothing" or "power-window"; or a policy of stream_em.
    seeding_rows
        Events held before seeding; None for max(2000, 20 n_components, five for each free
        parameter) or so. Until then provisional components answer.
    standardise
        Whether the model works in standard deviations of the seeding events.
    restructuring
        Whether components move where they are needed; or the settings of that.
    background
        Whether outliers have a uniform component of their own; or the settings of that. They
        then no longer widen the others, but far ones all score alike.
    grace_period
        Events before which the score is 0; None for twice the free parameters.
    refresh
        The share of a component's weight that may arrive before the factors of its
        covariance are made anew; 0 makes them after every event.
    seed
        A whole number for answers that can be repeated; None draws one.

    Attributes
    ----------
    centers : dict
        The mean of each component by slot.
    model
        The settings, as functions of stream_em take them.
    state
        The state, as functions of stream_em take it.

    Examples
    --------
    >>> import random
    >>> from river import anomaly
    >>> from stream_em.river import GaussianMixtureDetector
    >>> draw = random.Random(7)
    >>> detector = anomaly.QuantileFilter(GaussianMixtureDetector(seeding_rows=100, seed=1), q=0.99)
    >>> for i in range(500):
    ...     detector.learn_one({"a": draw.gauss(0, 1), "b": draw.gauss(0, 1)})
    >>> [detector.classify(detector.score_one({"a": a, "b": 0})) for a in (0, 1, 6)]
    [False, False, True]
    """

    def __init__(
        self,
        n_components: int = 1,
        covariance_type: str | Covariance = "full",
        forgetting: Policy = None,
        seeding_rows: int | None = None,
        standardise: bool = False,
        restructuring: bool | Restructuring = False,
        background: bool | Background = False,
        grace_period: int | None = None,
        refresh: float = 0.01,
        seed: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.seeding_rows = seeding_rows
        self.standardise = standardise
        self.restructuring = restructuring
        self.background = background
        self.grace_period = grace_period
        self.seed = seed
        self._begin(seed, forgetting, refresh)

    def _settings(self, forgetting: Policy) -> Model:
        if self.grace_period is not None:
            as_whole(self.grace_period, "grace_period", least=0)
        return mixture(self, forgetting)

    def _unusual(self, row: Array) -> float:
        return 0.0 if self._is_early(len(row)) else by_density(self._owned, row)

    def _all_unusual(self, scores: Scores) -> Array:
        if self._is_early(len(self._features.names)):
            return np.zeros(len(scores.labels))
        return finite_all(-scores.log_likelihood)

    def _is_early(self, D: int) -> bool:
        grace = self.grace_period
        return self._events < (2 * self._model.n_parameters(D) if grace is None else grace)

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {"n_components": 2, "seeding_rows": 50}
