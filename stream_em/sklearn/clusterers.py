"""k-means and soft k-means as scikit-learn clusterers."""

from abc import ABC
from functools import partial
from typing import Any, final

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin

from stream_em.arrays import Array
from stream_em.errors import RowsError, SettingsError
from stream_em.models import kmeans, soft_kmeans
from stream_em.models.protocol import Model
from stream_em.models.settings import Restructuring
from stream_em.sklearn.estimator import DensityLearner, Learner
from stream_em.sklearn.fitting import Run, Start
from stream_em.sklearn.settings import policy, seeding, starting, switched, tolerance, whole
from stream_em.state import Found, Held, Scores


class Centred(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, Learner, ABC):
    """A clusterer with centres: its transform is the distance to each."""

    n_clusters: Any
    init: Any
    cluster_centers_: Array
    labels_: Array
    inertia_: float

    @property
    def _n_features_out(self) -> int:
        return len(self.cluster_centers_)

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Array:
        """Fit, and the labels (n,) of the same rows."""
        return Learner.fit_predict(self, X, y, sample_weight)

    def transform(self, X: Any) -> Array:
        """The distance of each row to each centre, (n, K), in the rows' units."""
        rows = self._rows(X)
        moved = np.empty((len(rows), self._n_features_out))
        for k, centre in enumerate(self.cluster_centers_):
            moved[:, k] = np.linalg.norm(rows - centre, axis=1)
        return moved

    def _start(self, D: int) -> Start:
        K = whole(self.n_clusters, "n_clusters")
        if callable(self.init):
            return Start(choose=partial(_called, self.init, K))
        if not isinstance(self.init, str):
            return Start(starting(self.init, "init", (K, D)))
        if self.init == "random":
            return Start(choose=partial(_at_random, K))
        if self.init != "k-means++":
            raise SettingsError(
                f"init is {self.init!r}, expected 'k-means++', 'random', an array of centres or "
                "a function (X, n_clusters, random_state)"
            )
        return Start()

    def _publish(self, found: Found) -> None:
        self.cluster_centers_ = np.array(found.means)

    def _publish_rows(self, scores: Scores, weights: Array) -> None:
        self.labels_ = np.array(scores.labels)
        self.inertia_ = float(weights @ scores.squared_distance)


def _called(init: Any, K: int, rows: Held, draw: np.random.RandomState) -> Array:
    centres = init(rows.rows.copy(), K, random_state=draw)
    return starting(centres, "what init answers", (K, rows.rows.shape[1]))


def _at_random(K: int, rows: Held, draw: np.random.RandomState) -> Array:
    """K rows, each as likely as its weight."""
    counted = int(np.count_nonzero(rows.weights))
    if counted < K:
        raise RowsError(
            f"init='random' came with {counted} rows with weight, expected at least {K} to choose "
            "from; give more rows at first, or ask for fewer clusters"
        )
    shares = rows.weights / rows.weights.sum()
    return rows.rows[draw.choice(len(rows), size=K, replace=False, p=shares)]


@final
class KMeans(Centred):
    """Hard k-means: Lloyd's iterations over finite data, mini-batches over streams.

    `init` is "k-means++" (the best of eight short runs), "random" rows, centres (K, D) or a
    function (X, n_clusters, random_state) that answers with them. Of `n_init` starts
    ("auto": 10 from random rows or a function, otherwise 1) the least inertia is kept. A
    stream chooses among the rows of its first `partial_fit`. `forgetting` (None: a window
    that grows slower than the stream; or `stream_em.HalfLife` and the like),
    `restructuring` (clusters move to where rows are) and `init_size` (rows held before
    seeding) concern `partial_fit`.

    Fitted: `cluster_centers_` (K, D), `labels_` and `inertia_` (Σ w·squared distance) of
    the rows seen last, `n_iter_`. From "k-means++" K is less than `n_clusters`, with a
    warning, where rows have fewer distinct values; scikit-learn keeps equal centres then.

    >>> import numpy as np
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> found = KMeans(n_clusters=2, random_state=0).fit(X)
    >>> sorted(found.cluster_centers_.tolist()), found.inertia_
    ([[1.0, 2.0], [10.0, 2.0]], 16.0)
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means++",
        n_init: Any = "auto",
        max_iter: int = 300,
        tol: float = 1e-4,
        random_state: Any = None,
        init_size: int | None = None,
        forgetting: Any = None,
        restructuring: Any = True,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.init_size = init_size
        self.forgetting = forgetting
        self.restructuring = restructuring

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """-Σ w·squared distance to the nearest centre; higher is better."""
        rows = self._rows(X)
        weights = self._weights(rows, sample_weight)
        return -float(weights @ self._scored(rows).squared_distance)

    def _settings(self) -> Model:
        return kmeans.KMeans(
            whole(self.n_clusters, "n_clusters"),
            seeding=seeding(self.init_size),
            restructuring=switched(self.restructuring, "restructuring", Restructuring),
            forgetting=policy(self.forgetting, kmeans.KMeans.forgetting),
        )

    def _publish_run(self, run: Run) -> None:
        """All is published with the clusters."""


@final
class SoftKMeans(Centred, DensityLearner):
    """Soft k-means: posteriors ∝ exp(-beta·d²), an equal-weight mixture with σ² = 1/(2 beta).

    `beta=None` takes it from the first fit's starting clusters, σ² = J/(ND), and keeps it.
    Parameters otherwise as for `KMeans`; `tol` is in nats of the mean log-likelihood, by
    which `n_init` starts are compared too.

    Fitted: `cluster_centers_` (K, D), `beta_`, `labels_`, `inertia_` (Σ w·squared distance
    to the likeliest centre) and `lower_bound_` (mean log-likelihood in nats) of the rows
    seen last, `n_iter_`, `converged_`.

    >>> found = SoftKMeans(2, beta=0.5, random_state=0).fit([[0.0], [1.0], [9.0], [10.0]])
    >>> found.predict_proba([[5.0]]).round(6)
    array([[0.5, 0.5]])
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        beta: float | None = None,
        init: Any = "k-means++",
        n_init: Any = "auto",
        max_iter: int = 300,
        tol: float = 1e-4,
        random_state: Any = None,
        init_size: int | None = None,
        forgetting: Any = None,
        restructuring: Any = True,
    ) -> None:
        self.n_clusters = n_clusters
        self.beta = beta
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.init_size = init_size
        self.forgetting = forgetting
        self.restructuring = restructuring

    def _settings(self) -> Model:
        return soft_kmeans.SoftKMeans(
            whole(self.n_clusters, "n_clusters"),
            beta=None if self.beta is None else tolerance(self.beta, "beta"),
            seeding=seeding(self.init_size),
            restructuring=switched(self.restructuring, "restructuring", Restructuring),
            forgetting=policy(self.forgetting, soft_kmeans.SoftKMeans.forgetting),
        )

    def _variance(self) -> float:
        assert self.state_.clusters is not None
        return float(self.state_.clusters.covariances[0])

    def _drawn(self, noise: Array, k: int) -> Array:
        return noise * np.sqrt(self._variance())

    def _publish(self, found: Found) -> None:
        Centred._publish(self, found)
        self.beta_ = 1 / (2 * self._variance())

    def _publish_rows(self, scores: Scores, weights: Array) -> None:
        Centred._publish_rows(self, scores, weights)
        DensityLearner._publish_rows(self, scores, weights)
