"""K-means and soft k-means as River clusterers."""

from collections.abc import Iterator
from typing import Any, final

from river import base

from stream_em.arrays import Array
from stream_em.models import kmeans, soft_kmeans
from stream_em.models.protocol import Model
from stream_em.models.settings import Learn, Restructuring, Standardise
from stream_em.river.learner import Learner, Policy, by_density, by_distance, finite_all
from stream_em.river.settings import as_forgetting, as_seeding, as_whole, switched
from stream_em.state import Scores


@final
class KMeans(Learner, base.Clusterer):
    """Online k-means: each event goes to its nearest mean, which moves by 1/N of the way.

    Events are held until there are enough to seed from (k-means++, the best of eight
    seeds); meanwhile provisional clusters answer. Events far from all means wait aside, and
    when a merge of two clusters costs less than they gain, a cluster moves there.
    `score_one` is the squared distance to the nearest mean.

    Parameters
    ----------
    n_clusters
        Number of clusters.
    forgetting
        None for a window that grows slower than the stream; a number for a half-life in
        events; "keep-all", "keep-nothing" or "power-window"; or a policy of stream_em, such
        as `HalfLife(events=1000)`.
    seeding_rows
        Events held before seeding; None for max(2000, 20 n_clusters) or so.
    standardise
        Whether distances are in standard deviations of the seeding events.
    restructuring
        Whether clusters move where they are needed; or the settings of that.
    refresh
        Of no effect on k-means, whose means are never stale.
    seed
        A whole number for answers that can be repeated; None draws one.

    Attributes
    ----------
    centers : dict
        The mean of each cluster by slot.
    model
        The settings, as functions of stream_em take them.
    state
        The state, as functions of stream_em take it.

    Examples
    --------
    >>> from river import stream
    >>> from stream_em.river import KMeans
    >>> X = [[1, 2], [1, 4], [1, 0], [-4, 2], [-4, 4], [-4, 0]]
    >>> k_means = KMeans(n_clusters=2, seed=1)
    >>> for x, _ in stream.iter_array(X):
    ...     k_means.learn_one(x)
    >>> [k_means.predict_one(x) for x, _ in stream.iter_array(X)]
    [0, 0, 0, 1, 1, 1]
    >>> k_means.predict_proba_one({0: 1, 1: 1})
    {0: 1.0, 1: 0.0}

    References
    ----------
    [^1]: Sculley, D. (2010). Web-scale k-means clustering. WWW. DOI: 10.1145/1772690.1772862
    """

    def __init__(
        self,
        n_clusters: int = 5,
        forgetting: Policy = None,
        seeding_rows: int | None = None,
        standardise: bool = False,
        restructuring: bool | Restructuring = True,
        refresh: float = 0.01,
        seed: int | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.seeding_rows = seeding_rows
        self.standardise = standardise
        self.restructuring = restructuring
        self.seed = seed
        self._begin(seed, forgetting, refresh)

    def _settings(self, forgetting: Policy) -> Model:
        return kmeans.KMeans(
            as_whole(self.n_clusters, "n_clusters"),
            forgetting=as_forgetting(forgetting, kmeans.KMeans.forgetting),
            seeding=as_seeding(self.seeding_rows),
            restructuring=switched(self.restructuring, "restructuring", Restructuring()),
            scaling=switched(self.standardise, "standardise", Standardise()),
            missing=Learn(),
        )

    def _unusual(self, row: Array) -> float:
        return by_distance(self._owned, row)

    def _all_unusual(self, scores: Scores) -> Array:
        return finite_all(scores.squared_distance)

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {"n_clusters": 5}
        yield {"n_clusters": 3, "seeding_rows": 50, "forgetting": 100.0}


@final
class SoftKMeans(Learner, base.Clusterer):
    """Online soft k-means: each event belongs to every cluster by softmax(-beta d²).

    The limit of a large `beta` is k-means, and every `beta` is a mixture of Gaussians of
    equal weight and variance 1/(2 beta). `score_one` is -log p in nats.

    Parameters
    ----------
    n_clusters
        Number of clusters.
    beta
        Inverse temperature, in 1/(units of the events)²; None for D Σw/(2J) of the seeding
        events.
    forgetting
        None for a window that grows slower than the stream; a number for a half-life in
        events; "keep-all", "keep-nothing" or "power-window"; or a policy of stream_em.
    seeding_rows
        Events held before seeding; None for max(2000, 20 n_clusters) or so.
    standardise
        Whether distances are in standard deviations of the seeding events.
    restructuring
        Whether clusters move where they are needed; or the settings of that.
    refresh
        Of no effect here: the variance is fixed, and means are never stale.
    seed
        A whole number for answers that can be repeated; None draws one.

    Attributes
    ----------
    centers : dict
        The mean of each cluster by slot.
    model
        The settings, as functions of stream_em take them.
    state
        The state, as functions of stream_em take it.

    Examples
    --------
    >>> from river import stream
    >>> from stream_em.river import SoftKMeans
    >>> X = [[1, 2], [1, 4], [1, 0], [-4, 2], [-4, 4], [-4, 0]]
    >>> soft = SoftKMeans(n_clusters=2, beta=0.2, seed=1)
    >>> for x, _ in stream.iter_array(X):
    ...     soft.learn_one(x)
    >>> {slot: round(p, 2) for slot, p in soft.predict_proba_one({0: -1.0, 1: 2.0}).items()}
    {0: 0.7, 1: 0.3}

    References
    ----------
    [^1]: Rose, K., Gurewitz, E. and Fox, G. (1990). A deterministic annealing approach to
          clustering. Pattern Recognition Letters. DOI: 10.1016/0167-8655(90)90010-Y
    """

    def __init__(
        self,
        n_clusters: int = 5,
        beta: float | None = None,
        forgetting: Policy = None,
        seeding_rows: int | None = None,
        standardise: bool = False,
        restructuring: bool | Restructuring = True,
        refresh: float = 0.01,
        seed: int | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.beta = beta
        self.seeding_rows = seeding_rows
        self.standardise = standardise
        self.restructuring = restructuring
        self.seed = seed
        self._begin(seed, forgetting, refresh)

    def _settings(self, forgetting: Policy) -> Model:
        return soft_kmeans.SoftKMeans(
            as_whole(self.n_clusters, "n_clusters"),
            beta=self.beta,
            forgetting=as_forgetting(forgetting, soft_kmeans.SoftKMeans.forgetting),
            seeding=as_seeding(self.seeding_rows),
            restructuring=switched(self.restructuring, "restructuring", Restructuring()),
            scaling=switched(self.standardise, "standardise", Standardise()),
            missing=Learn(),
        )

    def _unusual(self, row: Array) -> float:
        return by_density(self._owned, row)

    def _all_unusual(self, scores: Scores) -> Array:
        return finite_all(-scores.log_likelihood)

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {"n_clusters": 5}
        yield {"n_clusters": 3, "seeding_rows": 50, "beta": 2.0}
