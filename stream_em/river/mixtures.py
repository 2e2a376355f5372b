"""Gaussian mixtures as River clusterers."""

from collections.abc import Iterator
from typing import Any, final

from river import base

from stream_em.arrays import Array
from stream_em.models import gaussian
from stream_em.models.covariance import Covariance
from stream_em.models.protocol import Model
from stream_em.models.settings import Background, Learn, Restructuring, Standardise
from stream_em.river.learner import Learner, Policy, by_density, finite_all
from stream_em.river.settings import as_covariance, as_forgetting, as_seeding, as_whole, switched
from stream_em.state import Scores


def mixture(learner: Any, forgetting: Policy) -> Model:
    """The model of a learner with the parameters of a Gaussian mixture."""
    return gaussian.GaussianMixture(
        as_whole(learner.n_components, "n_components"),
        covariance=as_covariance(learner.covariance_type),
        forgetting=as_forgetting(forgetting, gaussian.GaussianMixture.forgetting),
        seeding=as_seeding(learner.seeding_rows),
        restructuring=switched(learner.restructuring, "restructuring", Restructuring()),
        background=switched(learner.background, "background", Background()),
        scaling=switched(learner.standardise, "standardise", Standardise()),
        missing=Learn(),
    )


@final
class GaussianMixture(Learner, base.Clusterer):
    """A mixture of Gaussians learned by online EM, with a uniform background for outliers.

    Covariances are regularised by one pseudo-event scaled to the data, so that no component
    ever degenerates. Where the background claims events, a component is born there, and a
    merge of two others pays for it. `score_one` is -log p in nats, of the whole mixture.

    Parameters
    ----------
    n_components
        Number of components.
    covariance_type
        "full", "tied", "diag" or "spherical"; or a covariance of stream_em.
    forgetting
        None for a window that grows slower than the stream; a number for a half-life in
        events; "keep-all", "keep-nothing" or "power-window"; or a policy of stream_em.
    seeding_rows
        Events held before seeding; None for max(2000, 20 n_components, five for each free
        parameter) or so.
    standardise
        Whether the model works in standard deviations of the seeding events.
    restructuring
        Whether components move where they are needed; or the settings of that.
    background
        Whether outliers have a uniform component of their own; or the settings of that.
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
    >>> from stream_em.river import GaussianMixture
    >>> draw = random.Random(7)
    >>> gmm = GaussianMixture(n_components=2, seeding_rows=100, seed=1)
    >>> for i in range(300):
    ...     gmm.learn_one({"a": draw.gauss(9 * (i % 2), 1), "b": draw.gauss(0, 1)})
    >>> near, far = gmm.predict_one({"a": 0, "b": 0}), gmm.predict_one({"a": 9})
    >>> near != far, round(gmm.centers[far]["a"])
    (True, 9)
    >>> gmm.score_one({"a": 9, "b": 0}) < gmm.score_one({"a": 4.5, "b": 0})
    True

    References
    ----------
    [^1]: Cappé, O. and Moulines, E. (2009). On-line expectation-maximization algorithm for
          latent data models. JRSS B. DOI: 10.1111/j.1467-9868.2009.00698.x
    """

    def __init__(
        self,
        n_components: int = 5,
        covariance_type: str | Covariance = "full",
        forgetting: Policy = None,
        seeding_rows: int | None = None,
        standardise: bool = False,
        restructuring: bool | Restructuring = True,
        background: bool | Background = True,
        refresh: float = 0.01,
        seed: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.seeding_rows = seeding_rows
        self.standardise = standardise
        self.restructuring = restructuring
        self.background = background
        self.seed = seed
        self._begin(seed, forgetting, refresh)

    def _settings(self, forgetting: Policy) -> Model:
        return mixture(self, forgetting)

    def _unusual(self, row: Array) -> float:
        return by_density(self._owned, row)

    def _all_unusual(self, scores: Scores) -> Array:
        return finite_all(-scores.log_likelihood)

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        for word in ("full", "tied", "diag", "spherical"):
            yield {"n_components": 3, "covariance_type": word, "seeding_rows": 50}
