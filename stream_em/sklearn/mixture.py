"""Gaussian mixtures as scikit-learn's density estimators."""

import warnings
from typing import Any, final

import numpy as np
from sklearn.base import DensityMixin
from sklearn.exceptions import ConvergenceWarning

from stream_em.arrays import Array
from stream_em.errors import SettingsError
from stream_em.models import gaussian
from stream_em.models.protocol import Model
from stream_em.models.settings import Background, Prior, Restructuring
from stream_em.sklearn.estimator import DensityLearner
from stream_em.sklearn.fitting import Run, Start
from stream_em.sklearn.settings import policy, seeding, starting, switched, tolerance, whole
from stream_em.sklearn.shapes import Shape, covariances_of, shape_like, shape_of
from stream_em.state import Found


@final
class GaussianMixture(DensityMixin, DensityLearner):
    """A mixture of Gaussians: EM over finite data, online EM over streams.

    `covariance_type` is "full", "tied", "diag" or "spherical". By the `prior` each covariance
    sees one pseudo-row, scaled to the data, so results do not depend on units; False is
    maximum likelihood. `reg_covar`, if given, takes its place in `fit` as in scikit-learn: a
    constant on every variance, in the units of the data; 0 is maximum likelihood, too. Of
    `n_init` starts, each the best of eight short ones, the highest likelihood is kept;
    `weights_init`, `means_init` and `precisions_init` replace what a start would find.

    `forgetting` (None: a window that grows slower than the stream; or `stream_em.HalfLife`
    and the like), `background` (a uniform component that keeps outliers from the others),
    `restructuring` (components move to where outliers gather) and `init_size` (rows held
    before seeding) concern `partial_fit`. The background is no part of the mixture that
    the attributes and all methods describe.

    Fitted: `weights_` (K,), `means_` (K, D), `covariances_`, `precisions_` and
    `precisions_cholesky_` in the shape of their type; `lower_bound_` (mean log-likelihood,
    nats) and `labels_` of the rows seen last; `lower_bounds_`, `n_iter_`, `converged_`.

    >>> import numpy as np
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> found = GaussianMixture(n_components=2, random_state=0).fit(X)
    >>> sorted(found.means_.round(6).tolist())
    [[1.0, 2.0], [10.0, 2.0]]
    """

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        tol: float = 1e-3,
        prior: Any = True,
        reg_covar: float | None = None,
        max_iter: int = 100,
        n_init: int = 1,
        weights_init: Any = None,
        means_init: Any = None,
        precisions_init: Any = None,
        random_state: Any = None,
        init_size: int | None = None,
        forgetting: Any = None,
        restructuring: Any = True,
        background: Any = True,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.prior = prior
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state
        self.init_size = init_size
        self.forgetting = forgetting
        self.restructuring = restructuring
        self.background = background

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """The mean log-likelihood of rows, in nats; higher is better."""
        return DensityLearner.score(self, X, y, sample_weight)

    def _settings(self) -> Model:
        return gaussian.GaussianMixture(
            whole(self.n_components, "n_components"),
            covariance=shape_of(self.covariance_type).covariance,
            seeding=seeding(self.init_size),
            prior=switched(self.prior, "prior", Prior),
            restructuring=switched(self.restructuring, "restructuring", Restructuring),
            background=switched(self.background, "background", Background),
            forgetting=policy(self.forgetting, gaussian.GaussianMixture.forgetting),
        )

    def _ridge(self) -> float | None:
        return None if self.reg_covar is None else tolerance(self.reg_covar, "reg_covar")

    def _start(self, D: int) -> Start:
        K = whole(self.n_components, "n_components")
        means = weights = covariances = None
        if self.means_init is not None:
            means = starting(self.means_init, "means_init", (K, D))
        if self.weights_init is not None:
            weights = starting(self.weights_init, "weights_init", (K,))
            if weights.min() < 0 or abs(weights.sum() - 1) > 1e-6:
                raise SettingsError(
                    f"weights_init are {weights.tolist()}, expected numbers >= 0 that sum to 1; "
                    "divide them by their sum"
                )
        if self.precisions_init is not None:
            shape = shape_of(self.covariance_type)
            covariances = covariances_of(self.precisions_init, shape, K, D)
        return Start(means, weights, covariances)

    def _shape(self) -> Shape:
        """The shape of what was fitted, whatever the parameters say by now."""
        assert isinstance(self.model_, gaussian.GaussianMixture)
        return shape_like(self.model_.covariance)

    def _drawn(self, noise: Array, k: int) -> Array:
        return self._shape().moved(noise, self.covariances_, k)

    def _publish(self, found: Found) -> None:
        assert self.state_.clusters is not None
        shape = self._shape()
        self.weights_ = np.array(found.weights)
        self.means_ = np.array(found.means)
        self.covariances_ = np.array(found.covariances)
        self.precisions_cholesky_ = shape.cholesky(self.state_.clusters.precisions)
        self.precisions_ = shape.squared(self.precisions_cholesky_)

    def _publish_run(self, run: Run) -> None:
        self.lower_bound_, self.lower_bounds_ = run.bounds[-1], list(run.bounds)
        if not run.converged:
            warnings.warn(
                f"the best of n_init={self.n_init} starts had not converged after "
                f"max_iter={self.max_iter} iterations; increase max_iter or tol",
                ConvergenceWarning,
                stacklevel=3,
            )
