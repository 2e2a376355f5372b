"""What is measured: J of means, held-out log-likelihoods, the recovery ratio R."""

from collections.abc import Sequence

import numpy as np
from data import Mixture
from scipy.optimize import linear_sum_assignment
from sklearn.mixture import GaussianMixture

import stream_em as se


def objective(X: np.ndarray, means: np.ndarray) -> float:
    """J = Σ min_k |x - μ_k|² of rows X (n, D)."""
    total = 0.0
    for part in np.array_split(X, max(1, len(X) // 4000)):
        products = part @ means.T
        squares = np.square(part).sum(axis=1)[:, None] + np.square(means).sum(axis=1)
        total += np.maximum(squares - 2 * products, 0.0).min(axis=1).sum()
    return float(total)


def as_sklearn(mixture: Mixture, kind: str = "full") -> GaussianMixture:
    """The mixture as a fitted estimator of scikit-learn, to score rows with."""
    covariances = mixture.covariances
    out = GaussianMixture(len(mixture.weights), covariance_type=kind)
    out.weights_, out.means_, out.covariances_ = mixture.weights, mixture.means, covariances
    if kind == "full":
        out.precisions_cholesky_ = np.linalg.inv(np.linalg.cholesky(covariances)).swapaxes(1, 2)
    else:
        out.precisions_cholesky_ = 1 / np.sqrt(covariances)
    return out


def log_likelihood(mixture: Mixture, X: np.ndarray) -> float:
    """Mean log-likelihood in nats of rows X (n, D)."""
    return float(as_sklearn(mixture).score(X))


def one_gaussian(X: np.ndarray, T: np.ndarray) -> float:
    """Mean log-likelihood of rows T under the one full Gaussian that fits X."""
    return log_likelihood(Mixture(np.ones(1), X.mean(0)[None], np.atleast_2d(np.cov(X.T))[None]), T)


def held_out(model: se.GaussianMixture, state: object, T: np.ndarray, **how: bool) -> float:
    """Mean log-likelihood in nats of rows T as the clusters stand, the background included."""
    return float(se.score(model, state, T, **how).log_likelihood.mean())


def recovery(found: float, single: float, batch: float) -> float:
    """R = (found - single)/(batch - single): 0 is one Gaussian, 1 is batch EM; affine invariant."""
    return (found - single) / (batch - single)


def matched_error(means: np.ndarray, true: np.ndarray) -> float:
    """The largest distance between matched means (K, D)."""
    distance = np.sqrt(np.square(means[:, None] - true).sum(axis=2))
    return float(distance[linear_sum_assignment(np.square(distance))].max())


def blocks(values: np.ndarray, size: int = 500) -> np.ndarray:
    """Means of consecutive blocks of rows; the rest is left out."""
    return values[: len(values) // size * size].reshape(-1, size).mean(axis=1)


def spread(values: Sequence[float], digits: int = 3, low: bool = False) -> str:
    """mean (worst) ± standard error; the worst is the lowest where low is bad."""
    worst = min(values) if low else max(values)
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return f"{np.mean(values):.{digits}f} ({worst:.{digits}f}) ± {error:.{digits}f}"
