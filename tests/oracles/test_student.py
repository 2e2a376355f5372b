"""Student's t beside SciPy's density and an EM loop straight from Peel & McLachlan (2000)."""

from typing import NamedTuple

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

import stream_em as se
from stream_em.arrays import Array


class Mixture(NamedTuple):
    weights: Array
    means: Array
    scales: Array


def joint(theta: Mixture, X: Array, v: float) -> Array:
    """log π_k t(x; k), (n, K)."""
    return np.stack(
        [
            np.log(weight) + np.atleast_1d(stats.multivariate_t(mean, scale, df=v).logpdf(X))
            for weight, mean, scale in zip(*theta, strict=True)
        ],
        axis=1,
    )


def em_step(theta: Mixture, X: Array, v: float) -> tuple[Mixture, float]:
    """One EM iteration, and the log-likelihood before it."""
    n, D = X.shape
    log_joint = joint(theta, X, v)
    total = logsumexp(log_joint, axis=1)
    G = np.exp(log_joint - total[:, None])
    means, scales = [], []
    for k in range(len(theta.weights)):
        moved = X - theta.means[k]
        squared = np.einsum("nd,nd->n", moved @ np.linalg.inv(theta.scales[k]), moved)
        pull = G[:, k] * (v + D) / (v + squared)
        mean = pull @ X / pull.sum()
        moved = X - mean
        means.append(mean)
        scales.append((pull[:, None] * moved).T @ moved / G[:, k].sum())
    return Mixture(G.sum(axis=0) / n, np.array(means), np.array(scales)), float(total.sum())


def rows(seed: int) -> Array:
    rng = np.random.default_rng(seed)
    near = rng.normal(size=(400, 2)) @ [[1.0, 0.5], [0.0, 0.7]] + 5 * rng.integers(2, size=(400, 1))
    return np.concatenate([near, rng.uniform(-20, 20, size=(20, 2))])


@pytest.mark.parametrize("v", [1.0, 4.0, 30.0])
def test_full_steps_are_the_textbook_em(v: float) -> None:
    X = rows(1)
    theta = Mixture(
        np.array([0.4, 0.6]), np.array([[0.0, 1.0], [4.0, 4.0]]), np.stack([np.eye(2)] * 2)
    )
    model = se.StudentMixture(
        2,
        degrees_of_freedom=v,
        prior=None,
        forgetting=se.KeepNothing(),
        initial_means=theta.means,
        initial_covariances=theta.scales,
        initial_weights=theta.weights,
    )
    state, likelihoods = se.init(model), []
    for _ in range(40):
        theta, wanted = em_step(theta, X, v)
        state, info = se.step(model, state, X)
        assert info.log_likelihood == pytest.approx(wanted, abs=1e-8)
        assert info.free_energy == pytest.approx(wanted, abs=1e-8)
        likelihoods.append(wanted)
        found = se.clusters(model, state)
        np.testing.assert_allclose(found.weights, theta.weights, atol=1e-8)
        np.testing.assert_allclose(found.means, theta.means, atol=1e-8)
        np.testing.assert_allclose(found.covariances, theta.scales, atol=1e-8)
    assert np.diff(likelihoods).min() >= -1e-9


def test_missing_features_leave_the_marginal_density() -> None:
    model = se.StudentMixture(
        2,
        missing=se.Learn(),
        initial_means=[[0.0, 1.0, 2.0], [3.0, 3.0, 0.0]],
        initial_covariances=[np.diag([1.0, 2.0, 3.0]) + 0.5] * 2,
    )
    state, _ = se.step(model, se.init(model), np.zeros((1, 3)))
    found = se.clusters(model, state)
    X = np.array([[1.0, 2.0, np.nan], [np.nan, 0.5, np.nan], [0.3, np.nan, 4.0]])
    for row, scored in zip(X, se.score(model, state, X).log_likelihood, strict=True):
        seen = ~np.isnan(row)
        cut = [matrix[np.ix_(seen, seen)] for matrix in found.covariances]
        theta = Mixture(found.weights, found.means[:, seen], cut)  # type: ignore[arg-type]
        assert scored == pytest.approx(
            float(logsumexp(joint(theta, row[None, seen], 4.0))), abs=1e-12
        )


def test_em_with_missing_features_is_monotone() -> None:
    rng = np.random.default_rng(2)
    X = rows(3)
    X[rng.random(X.shape) < 0.25] = np.nan
    model = se.StudentMixture(
        2,
        prior=None,
        forgetting=se.KeepNothing(),
        missing=se.Learn(),
        initial_means=[[0.0, 1.0], [4.0, 4.0]],
    )
    state, likelihoods = se.init(model), []
    for _ in range(40):
        state, info = se.step(model, state, X)
        likelihoods.append(info.log_likelihood)
    assert np.diff(likelihoods).min() >= -1e-9
    assert likelihoods[-1] > likelihoods[0] + 10
