"""What the three estimators share: rows in, fits and steps, labels out."""

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from stream_em.arrays import Array, altered
from stream_em.errors import RowsError
from stream_em.learning import init, step
from stream_em.models.protocol import Model
from stream_em.reading import clusters, score
from stream_em.sklearn.fitting import Effort, Run, Start, best_run, lent, resumed, seen
from stream_em.sklearn.settings import tolerance, whole
from stream_em.state import Found, Held, Scores, State

LARGEST_SEED = np.iinfo(np.int32).max


class Learner(BaseEstimator, ABC):
    """An estimator over a model and a state.

    Fitted it has `model_` and `state_`, `labels_` (n,) of the rows seen last, `n_iter_`,
    `n_steps_` (calls of `partial_fit`), `converged_`, and what its kind publishes.
    """

    n_init: Any
    max_iter: Any
    tol: Any
    random_state: Any
    model_: Model
    state_: State

    @abstractmethod
    def _settings(self) -> Model:
        """The parameters as a model."""

    @abstractmethod
    def _start(self, D: int) -> Start:
        """The given starting values, checked."""

    @abstractmethod
    def _publish(self, found: Found) -> None:
        """Set the fitted attributes that tell of the clusters."""

    @abstractmethod
    def _publish_rows(self, scores: Scores, weights: Array) -> None:
        """Set those that tell of the rows seen last, with weights (n,)."""

    @abstractmethod
    def _publish_run(self, run: Run) -> None:
        """Set the attributes that only a fit has."""

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Go through finite data again and again until the clusters stand still.

        X (n, D) rows as an array, nested list or data frame; `sample_weight` (n,) ≥ 0, and
        weight 2 is the same as a row twice. What was fitted before is forgotten; y is
        ignored. Raises `ValueError` for fewer rows than clusters.
        """
        rows = self._arrived(X, sample_weight, first=True)
        model, start = self._settings(), self._start(rows.rows.shape[1])
        if len(rows) < model.size:
            raise RowsError(
                f"n_samples={len(rows)} should be >= {model.size} clusters; "
                "ask for fewer, or let rows gather with partial_fit"
            )
        effort = Effort(tolerance(self.tol), whole(self.max_iter, "max_iter"), self._ridge())
        run = best_run(model, start, rows, effort, self._seeds(start))
        self.model_ = model
        self.state_ = resumed(model, run.state, seen(rows, run.scores), rows.rows)
        self.n_iter_, self.n_steps_, self.converged_ = len(run.bounds), 0, run.converged
        self._publish(clusters(model, run.state))
        self._publish_rows(run.scores, rows.weights)
        self._publish_run(run)
        return self

    def _ridge(self) -> float | None:
        """What is added to variances instead of the prior; None where the prior is in force."""
        return None

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Learn one batch of a stream, of any size; arguments as for `fit`.

        The first rows are held until there are enough to seed from (`init_size`), and
        provisional clusters answer meanwhile. After a `fit` learning goes on from there.
        Settings are those of the first call. Raises `ValueError` for other features.
        """
        first = not self.__sklearn_is_fitted__()
        rows = self._arrived(X, sample_weight, first=first)
        if first:
            start = self._start(rows.rows.shape[1])
            seed = self._seeds()[0]
            model = lent(self._settings(), start.chosen(rows, seed))
            self.model_, self.state_ = model, init(model, seed)
            self.n_iter_, self.n_steps_, self.converged_ = 0, 0, False
        self.state_, _ = step(self.model_, self.state_, rows.rows, weights=rows.weights)
        self.n_steps_ += 1
        self._publish(clusters(self.model_, self.state_))
        self._publish_rows(self._scored(rows.rows), rows.weights)
        return self

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Array:
        """Fit, and the labels (n,) of the same rows."""
        return self.fit(X, y, sample_weight).labels_

    def predict(self, X: Any) -> Array:
        """The most likely cluster of each row, (n,) int64, a row of the fitted means."""
        return np.array(self._scores(X).labels)

    def __sklearn_is_fitted__(self) -> bool:
        return "state_" in vars(self)

    def _arrived(self, X: Any, sample_weight: Any, first: bool) -> Held:
        """Rows and weights as scikit-learn checks them; views, for records seal what they hold."""
        X = validate_data(self, X, dtype=np.float64, order="C", reset=first)
        return Held(X.view(), self._weights(X, sample_weight), None, None)

    def _weights(self, X: Any, sample_weight: Any) -> Array:
        checked: Array = _check_sample_weight(
            sample_weight, X, dtype=np.float64, ensure_non_negative=True
        )
        if not checked.any():
            raise RowsError("sample weights are all zero; give at least one above zero")
        return checked.view()

    def _seeds(self, start: Start = Start()) -> list[int]:
        """A seed for each run: as many as scikit-learn makes from such a start."""
        draw, auto = check_random_state(self.random_state), 1 if start.choose is None else 10
        runs = auto if self.n_init == "auto" else whole(self.n_init, "n_init")
        return [int(seed) for seed in draw.randint(LARGEST_SEED, size=runs)]

    def _rows(self, X: Any) -> Array:
        check_is_fitted(self)
        return validate_data(self, X, dtype=np.float64, order="C", reset=False).view()

    def _scores(self, X: Any) -> Scores:
        return self._scored(self._rows(X))

    def _scored(self, X: Array) -> Scores:
        """Rows under the clusters that the fitted attributes describe, which leave out the
        background and what waits with it."""
        state = self.state_
        if state.background is not None:
            state = altered(state, background=None, quarantine=None)
        return score(self.model_, state, X)


class DensityLearner(Learner):
    """An estimator whose model has a density: the mixture that its attributes describe."""

    labels_: Array
    lower_bound_: float
    lower_bounds_: list[float]

    @abstractmethod
    def _drawn(self, noise: Array, k: int) -> Array:
        """Standard normal rows (n, D) as rows of cluster k about its mean."""

    def predict_proba(self, X: Any) -> Array:
        """The posterior of each cluster, (n, K), rows sum to 1."""
        return np.array(self._scores(X).responsibilities)

    def score_samples(self, X: Any) -> Array:
        """The log-likelihood of each row, (n,) nats."""
        return np.array(self._scores(X).log_likelihood)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """The mean log-likelihood of rows, in nats; higher is better."""
        return _mean(self, X, sample_weight)[0]

    def bic(self, X: Any, sample_weight: Any = None) -> float:
        """Bayesian information criterion of rows, -2ℓ + P ln Σw; lower is better."""
        mean, weight = _mean(self, X, sample_weight)
        return -2 * mean * weight + self._parameters() * float(np.log(weight))

    def aic(self, X: Any, sample_weight: Any = None) -> float:
        """Akaike information criterion of rows, -2ℓ + 2P; lower is better."""
        mean, weight = _mean(self, X, sample_weight)
        return -2 * mean * weight + 2 * self._parameters()

    def sample(self, n_samples: int = 1) -> tuple[Array, Array]:
        """Rows (n, D) drawn from the mixture, and their clusters (n,), in order of clusters."""
        check_is_fitted(self)
        n = whole(n_samples, "n_samples")
        found, draw = clusters(self.model_, self.state_), check_random_state(self.random_state)
        counts = draw.multinomial(n, found.weights)
        noise = np.split(draw.normal(size=(n, found.means.shape[1])), np.cumsum(counts)[:-1])
        rows = [found.means[k] + self._drawn(noise[k], k) for k in range(len(counts))]
        return np.concatenate(rows), np.repeat(np.arange(len(counts)), counts)

    def _parameters(self) -> int:
        """P of the clusters there are."""
        K = len(self.state_.identity.slots)
        return self.model_.n_parameters(int(self.n_features_in_), K)

    def _publish_run(self, run: Run) -> None:
        self.lower_bounds_ = list(run.bounds)

    def _publish_rows(self, scores: Scores, weights: Array) -> None:
        self.labels_ = np.array(scores.labels)
        self.lower_bound_ = float(weights @ scores.log_likelihood / weights.sum())


def _mean(learner: DensityLearner, X: Any, sample_weight: Any) -> tuple[float, float]:
    """Weighted mean log-likelihood, and Σw."""
    rows = learner._rows(X)
    weights = learner._weights(rows, sample_weight)
    total = float(weights.sum())
    return float(weights @ learner._scored(rows).log_likelihood) / total, total
