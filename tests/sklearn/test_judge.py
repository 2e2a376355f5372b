"""scikit-learn as judge: equal data, starts and iterations give equal results, to 1e-8."""

import warnings

import numpy as np
import pytest
import sklearn.cluster
import sklearn.datasets
import sklearn.mixture
from sklearn.exceptions import ConvergenceWarning

from stream_em.sklearn import GaussianMixture, KMeans, SoftKMeans

KINDS = ("full", "tied", "diag", "spherical")


def close(ours, theirs, names, tolerance=1e-8):
    for name in names:
        a, b = np.asarray(getattr(ours, name)), np.asarray(getattr(theirs, name))
        assert a.shape == b.shape, name
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=name)


def mixtures(kind, K, means, precisions, **settings):
    """Ours and theirs, from the same start, without regularisation."""
    start = {"means_init": means, "weights_init": np.arange(1, K + 1) / (K * (K + 1) / 2)}
    shared = {"covariance_type": kind, "precisions_init": precisions, **start, **settings}
    return (
        GaussianMixture(K, prior=False, **shared),
        sklearn.mixture.GaussianMixture(K, reg_covar=0, **shared),
    )


def test_no_prior_is_said_in_three_ways(overlapping):
    X, _ = overlapping(seed=6)
    without = [{"prior": False}, {"prior": None}, {"reg_covar": 0}]
    first, *others = (GaussianMixture(3, random_state=0, **said).fit(X) for said in without)
    for other in others:
        close(other, first, PARAMETERS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ridge", [0.0, 1e-6, 0.25])
def test_a_ridge_on_the_covariances(overlapping, precisions, kind, ridge):
    X, means = overlapping(seed=3)
    shared = {"covariance_type": kind, "means_init": means, "tol": 0, "max_iter": 6}
    start = {"weights_init": np.full(4, 0.25), "precisions_init": precisions(kind, 4, 3)}
    ours = fitted(GaussianMixture(4, reg_covar=ridge, **shared, **start), X)
    theirs = fitted(sklearn.mixture.GaussianMixture(4, reg_covar=ridge, **shared, **start), X)
    close(ours, theirs, [*PARAMETERS, "lower_bounds_"])
    np.testing.assert_allclose(ours.score(X), theirs.score(X), rtol=1e-8)


def fitted(estimator, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(*args, **kwargs)


PRECISIONS = ("precisions_", "precisions_cholesky_")
PARAMETERS = ("weights_", "means_", "covariances_", *PRECISIONS, "lower_bound_")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("iterations", [1, 2, 7])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_mixture_after_some_iterations(overlapping, precisions, kind, iterations, seed):
    X, means = overlapping(seed=seed)
    ours, theirs = mixtures(kind, 4, means, precisions(kind, 4, 3), tol=0, max_iter=iterations)
    fitted(ours, X), fitted(theirs, X)
    close(ours, theirs, [*PARAMETERS, "lower_bounds_"])
    assert (ours.n_iter_, ours.converged_) == (theirs.n_iter_, theirs.converged_)
    fresh, _ = overlapping(seed=seed + 10)
    np.testing.assert_allclose(ours.score(fresh), theirs.score(fresh), rtol=1e-8)
    np.testing.assert_allclose(ours.score_samples(fresh), theirs.score_samples(fresh), rtol=1e-8)
    np.testing.assert_allclose(ours.predict_proba(fresh), theirs.predict_proba(fresh), atol=1e-8)
    np.testing.assert_allclose(ours.bic(fresh), theirs.bic(fresh), rtol=1e-8)
    np.testing.assert_allclose(ours.aic(fresh), theirs.aic(fresh), rtol=1e-8)
    assert np.array_equal(ours.predict(fresh), theirs.predict(fresh))


@pytest.mark.parametrize("kind", KINDS)
def test_a_mixture_stops_at_the_same_iteration(overlapping, precisions, kind):
    X, means = overlapping(seed=4)
    ours, theirs = mixtures(kind, 4, means, precisions(kind, 4, 3), tol=1e-4, max_iter=500)
    labels = ours.fit_predict(X)
    assert np.array_equal(labels, theirs.fit_predict(X))
    assert ours.n_iter_ == theirs.n_iter_ > 3
    assert ours.converged_ is theirs.converged_ is True
    close(ours, theirs, [*PARAMETERS, "lower_bounds_"])


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("tol", [0, 1e-2])
def test_k_means_from_given_centres(overlapping, seed, tol):
    X, centres = overlapping(n=900, seed=seed)
    ours = KMeans(4, init=centres, tol=tol).fit(X)
    theirs = sklearn.cluster.KMeans(4, init=centres, n_init=1, tol=tol, algorithm="lloyd").fit(X)
    close(ours, theirs, ["cluster_centers_", "inertia_", "labels_"])
    assert ours.n_iter_ == theirs.n_iter_ > 2
    fresh, _ = overlapping(seed=seed + 10)
    assert np.array_equal(ours.predict(fresh), theirs.predict(fresh))
    np.testing.assert_allclose(ours.transform(fresh), theirs.transform(fresh), rtol=1e-8)
    np.testing.assert_allclose(ours.score(fresh), theirs.score(fresh), rtol=1e-8)


def test_k_means_stops_alike_beside_a_glitch(overlapping):
    """`tol` is a share of the variance of all rows, however far one of them lies."""
    X, centres = overlapping(n=900, seed=4)
    X[7] = 300.0
    ours = KMeans(4, init=centres).fit(X)
    theirs = sklearn.cluster.KMeans(4, init=centres, n_init=1, algorithm="lloyd").fit(X)
    close(ours, theirs, ["cluster_centers_", "inertia_", "labels_", "n_iter_"])


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_k_means_after_some_iterations(overlapping, iterations):
    X, centres = overlapping(seed=7)
    settings = {"init": centres, "n_init": 1, "tol": 0, "max_iter": iterations}
    ours, theirs = KMeans(4, **settings).fit(X), sklearn.cluster.KMeans(4, **settings)
    close(ours, fitted(theirs, X), ["cluster_centers_", "inertia_", "labels_", "n_iter_"])


def test_k_means_with_weights(overlapping):
    X, centres = overlapping(seed=2)
    weights = np.random.default_rng(0).uniform(0, 3, len(X))
    ours = KMeans(4, init=centres, tol=0).fit(X, sample_weight=weights)
    theirs = sklearn.cluster.KMeans(4, init=centres, n_init=1, tol=0)
    theirs.fit(X, sample_weight=weights)
    close(ours, theirs, ["cluster_centers_", "inertia_", "labels_", "n_iter_"])
    np.testing.assert_allclose(
        ours.score(X, sample_weight=weights), theirs.score(X, sample_weight=weights), rtol=1e-8
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("iterations", [1, 2, 300])
@pytest.mark.parametrize("far", [1, 3])
def test_k_means_whose_centres_go_empty(weighted, iterations, far):
    draw = np.random.default_rng(0)
    X = draw.normal(size=(100, 2)) + np.repeat([[0, 0], [10, 0]], 50, axis=0)
    centres = np.r_[[[0.0, 0.0]], 100.0 * np.arange(1, far + 1)[:, None] * [[1, -1]]]
    weights = draw.uniform(0.1, 3, len(X)) if weighted else None
    settings = {"init": centres, "n_init": 1, "tol": 0, "max_iter": iterations}
    ours = fitted(KMeans(1 + far, **settings), X, sample_weight=weights)
    theirs = fitted(sklearn.cluster.KMeans(1 + far, **settings), X, sample_weight=weights)
    close(ours, theirs, ["cluster_centers_", "inertia_", "labels_", "n_iter_"])
    if iterations == 300:  # the tally that a stream goes on from is that of the labels
        counts = np.bincount(ours.labels_, weights)
        np.testing.assert_allclose(ours.state_.moments.step, counts)


def test_rows_of_weight_zero_draw_no_empty_centre():
    X = np.array([[0.0], [1.0], [5.0], [6.0], [1000.0]])
    settings = {"n_clusters": 2, "init": np.array([[2.0], [-900.0]])}
    ours = KMeans(**settings).fit(X, sample_weight=[1, 1, 1, 1, 0])
    close(ours, KMeans(**settings).fit(X[:4]), ["cluster_centers_", "inertia_", "n_iter_"])


def test_equal_rows_move_no_empty_centre():
    found = KMeans(2, init=[[3.0], [9.0]]).fit(np.full((4, 1), 3.0))
    assert found.cluster_centers_.tolist() == [[3.0], [9.0]]


def test_weights_by_place_or_by_name(overlapping):
    X, centres = overlapping(seed=2)
    weights = np.random.default_rng(0).uniform(0, 3, len(X))
    for kind in (KMeans, sklearn.cluster.KMeans):
        estimator = kind(4, init=centres, n_init=1)
        by_name = estimator.fit_predict(X, sample_weight=weights)
        assert np.array_equal(estimator.fit_predict(X, None, weights), by_name)
        assert np.array_equal(estimator.fit(X, sample_weight=weights).labels_, by_name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_weighted_mixture_is_that_of_repeated_rows(overlapping, precisions, kind):
    """scikit-learn's mixture takes no weights; repeated rows are its judgement of ours."""
    X, means = overlapping(seed=3)
    weights = np.random.default_rng(1).integers(0, 4, len(X))
    repeated = X.repeat(weights, axis=0)
    ours, theirs = mixtures(kind, 4, means, precisions(kind, 4, 3), tol=1e-3)
    ours.fit(X, sample_weight=weights), theirs.fit(repeated)
    close(ours, theirs, [*PARAMETERS, "n_iter_"])
    np.testing.assert_allclose(ours.score(X, None, weights), theirs.score(repeated), rtol=1e-8)
    np.testing.assert_allclose(ours.bic(X, weights), theirs.bic(repeated), rtol=1e-8)
    np.testing.assert_allclose(ours.aic(X, weights), theirs.aic(repeated), rtol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mixture_far_from_the_origin_is_the_same_mixture(overlapping, precisions, kind):
    """scikit-learn's own loses all digits of the last three types there, so ours is judged
    by its result near the origin."""
    offset = 2.0**27
    X, means = overlapping(seed=5)
    X, means = np.round(X, 6), np.round(means, 6)
    far = X + offset
    X, means_far = far - offset, means + offset  # both sides hold the same digits
    start = precisions(kind, 4, 3)
    ours, _ = mixtures(kind, 4, means_far, start, tol=0, max_iter=5)
    _, theirs = mixtures(kind, 4, means_far - offset, start, tol=0, max_iter=5)
    fitted(ours, far), fitted(theirs, X)
    np.testing.assert_allclose(ours.means_ - offset, theirs.means_, rtol=0, atol=1e-7)
    close(ours, theirs, ["weights_", "covariances_", "lower_bound_"], 1e-7)
    np.testing.assert_allclose(ours.score(far), theirs.score(X), rtol=1e-7)


def test_k_means_far_from_the_origin(overlapping):
    X, centres = overlapping(seed=6)
    far = X + 2.0**27
    ours = KMeans(4, init=centres + 2.0**27, tol=0).fit(far)
    near = sklearn.cluster.KMeans(4, init=centres, n_init=1, tol=0).fit(far - 2.0**27)
    np.testing.assert_allclose(ours.cluster_centers_ - 2.0**27, near.cluster_centers_, atol=1e-6)
    np.testing.assert_allclose(ours.inertia_, near.inertia_, rtol=1e-7)
    np.testing.assert_allclose(ours.transform(far), near.transform(far - 2.0**27), atol=1e-6)


def test_soft_k_means_is_a_mixture_of_fixed_equal_variances(overlapping):
    """One iteration by scikit-learn from the same start gives the same means."""
    X, centres = overlapping(seed=8)
    ours = fitted(SoftKMeans(4, beta=0.5, init=centres, max_iter=1), X)
    theirs = sklearn.mixture.GaussianMixture(
        4, covariance_type="spherical", means_init=centres, weights_init=np.full(4, 0.25),
        precisions_init=np.ones(4), max_iter=1, reg_covar=0,
    )  # fmt: skip
    np.testing.assert_allclose(ours.cluster_centers_, fitted(theirs, X).means_, rtol=1e-8)
    np.testing.assert_allclose(ours.lower_bounds_, theirs.lower_bounds_, rtol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_defaults_are_as_good(kind):
    """Of eight short starts the best; likelihoods within the prior's pull of theirs, or above."""
    X = sklearn.datasets.load_iris().data
    ours = GaussianMixture(3, covariance_type=kind, random_state=0).fit(X)
    theirs = sklearn.mixture.GaussianMixture(3, covariance_type=kind, random_state=0).fit(X)
    assert ours.score(X) >= theirs.score(X) - 0.02


def test_default_k_means_is_as_good():
    X = sklearn.datasets.load_digits().data
    for seed in range(3):
        ours = KMeans(10, random_state=seed).fit(X)
        theirs = sklearn.cluster.KMeans(10, random_state=seed).fit(X)
        assert ours.inertia_ <= 1.005 * theirs.inertia_
