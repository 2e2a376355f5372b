"""Agreement with scikit-learn: k-means and the EM of mixtures, step by step."""

import warnings

import numpy as np
import pytest
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import silhouette_score
from sklearn.mixture import GaussianMixture as SklearnMixture

import stream_em as se

SHAPES = {
    "full": se.Full(),
    "tied": se.Tied(),
    "diag": se.Diagonal(),
    "spherical": se.Spherical(),
}


def overlapping(n=500, K=4, D=3, seed=0):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, K, n)
    X = draw.normal(size=(K, D))[labels] * 2.5 + draw.normal(size=(n, D))
    return X @ (np.eye(D) + 0.3 * draw.normal(size=(D, D))), draw.permutation(n)[:K]


def starts(kind, D, K):
    """Unequal covariances in scikit-learn's shapes, and their inverses."""
    sizes = 1.0 + 0.5 * np.arange(K)
    matrix = np.eye(D) + 0.3
    if kind == "full":
        covariances = sizes[:, None, None] * matrix
        return covariances, np.linalg.inv(covariances)
    if kind == "tied":
        return matrix, np.linalg.inv(matrix)
    if kind == "diag":
        covariances = np.outer(sizes, 1 + np.arange(D))
        return covariances, 1 / covariances
    return sizes, 1 / sizes


def after(iterations, kind, X, weights, means, precisions):
    """scikit-learn's mixture after some EM iterations from given parameters."""
    mixture = SklearnMixture(
        len(means),
        covariance_type=kind,
        tol=0,
        reg_covar=0,
        max_iter=iterations,
        weights_init=weights,
        means_init=means,
        precisions_init=precisions,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(X)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_full_batch_steps_are_scikit_learns_em(kind, seed):
    """Weights, means and covariances to 1e-8 after each of several steps."""
    X, chosen = overlapping(seed=seed)
    means, pi = X[chosen], np.array([0.1, 0.2, 0.3, 0.4])
    covariances, precisions = starts(kind, 3, 4)
    model = se.GaussianMixture(
        4,
        covariance=SHAPES[kind],
        prior=None,
        forgetting=se.KeepNothing(),
        initial_means=means,
        initial_covariances=covariances,
        initial_weights=pi,
        restructuring=None,
        background=None,
    )
    state = se.init(model)
    for iterations in range(1, 8):
        state, _ = se.step(model, state, X)
        found = se.clusters(model, state)
        peer = after(iterations, kind, X, pi, means, precisions)
        assert found.covariances.shape == peer.covariances_.shape
        np.testing.assert_allclose(found.weights, peer.weights_, rtol=1e-8)
        np.testing.assert_allclose(found.means, peer.means_, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(found.covariances, peer.covariances_, rtol=1e-8, atol=1e-8)
    scores = se.score(model, state, X)
    np.testing.assert_allclose(scores.responsibilities, peer.predict_proba(X), atol=1e-8)
    np.testing.assert_allclose(scores.log_likelihood, peer.score_samples(X), rtol=1e-8)
    assert np.array_equal(scores.labels, peer.predict(X))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_full_batch_steps_are_scikit_learns_lloyd(seed):
    X, chosen = overlapping(seed=seed)
    model = se.KMeans(4, initial_means=X[chosen], forgetting=se.KeepNothing())
    state = se.init(model)
    for iterations in range(1, 6):
        state, _ = se.step(model, state, X)
        peer = SklearnKMeans(
            4, init=X[chosen], n_init=1, max_iter=iterations, tol=0, algorithm="lloyd"
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            peer.fit(X)
        if peer.n_iter_ < iterations:
            break
        np.testing.assert_allclose(
            se.clusters(model, state).means, peer.cluster_centers_, rtol=1e-9, atol=1e-9
        )
        assert np.array_equal(se.score(model, state, X).labels, peer.predict(X))
    assert iterations > 2


@pytest.mark.parametrize("kind", SHAPES)
def test_parameters_counted_as_scikit_learn_counts(kind):
    X, chosen = overlapping()
    precisions = starts(kind, 3, 4)[1]
    peer = after(1, kind, X, np.full(4, 0.25), X[chosen], precisions)
    assert se.GaussianMixture(4, covariance=SHAPES[kind]).n_parameters(3) == peer._n_parameters()


def test_the_default_stream_is_as_good_as_a_batch_fit():
    """One pass with defaults ends within a percent of scikit-learn's best of several fits."""
    draw = np.random.default_rng(5)
    centres = draw.normal(size=(5, 4)) * 5
    X = centres[draw.integers(0, 5, 8000)] + draw.normal(size=(8000, 4))
    model = se.KMeans(5)
    state = se.init(model)
    for rows in np.split(X, 16):
        state, _ = se.step(model, state, rows)
    ours = se.score(model, state, X)
    peer = SklearnKMeans(5, n_init=3, random_state=0).fit(X)
    assert ours.squared_distance.sum() <= 1.01 * peer.inertia_
    assert silhouette_score(X[:1000], ours.labels[:1000]) > 0.4
    mixture = se.GaussianMixture(5)
    state = se.init(mixture)
    for rows in np.split(X, 16):
        state, _ = se.step(mixture, state, rows)
    batch = SklearnMixture(5, n_init=2, random_state=0).fit(X)
    assert se.score(mixture, state, X).log_likelihood.mean() >= batch.score(X) - 0.01
