"""Across to scikit-learn and back: clusters and scores survive, and learning goes on."""

import numpy as np
import pytest
import sklearn.cluster
import sklearn.datasets
import sklearn.mixture
from sklearn.exceptions import NotFittedError

import stream_em as se
from stream_em.errors import SettingsError
from stream_em.sklearn import GaussianMixture, KMeans, SoftKMeans, from_sklearn, to_sklearn

KINDS = ("full", "tied", "diag", "spherical")
PARAMETERS = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")


def same(a, b, names):
    for name in names:
        left, right = getattr(a, name), getattr(b, name)
        np.testing.assert_allclose(left, right, rtol=1e-8, atol=1e-8, err_msg=name)


def same_mixture(a, b, X):
    same(a, b, PARAMETERS)
    np.testing.assert_allclose(a.score_samples(X), b.score_samples(X), rtol=1e-8)
    np.testing.assert_allclose(a.score(X), b.score(X), rtol=1e-8)
    np.testing.assert_allclose(a.predict_proba(X), b.predict_proba(X), atol=1e-8)
    np.testing.assert_allclose(a.bic(X), b.bic(X), rtol=1e-8)
    assert np.array_equal(a.predict(X), b.predict(X))
    assert a.n_features_in_ == b.n_features_in_


def same_centres(a, b, X):
    same(a, b, ("cluster_centers_", "inertia_"))
    np.testing.assert_allclose(a.score(X), b.score(X), rtol=1e-8)
    np.testing.assert_allclose(a.transform(X), b.transform(X), rtol=1e-8, atol=1e-8)
    assert np.array_equal(a.predict(X), b.predict(X))
    assert np.array_equal(a.labels_, b.labels_)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mixture_of_theirs(overlapping, kind):
    X, _ = overlapping()
    theirs = sklearn.mixture.GaussianMixture(4, covariance_type=kind, random_state=0).fit(X)
    ours = from_sklearn(theirs)
    same_mixture(ours, theirs, X)
    assert (ours.n_iter_, ours.converged_) == (theirs.n_iter_, theirs.converged_)
    same_mixture(to_sklearn(ours), theirs, X)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_mixture_of_ours(overlapping, kind, streamed):
    X, _ = overlapping(n=2500)
    ours = GaussianMixture(4, covariance_type=kind, random_state=0)
    for rows in np.split(X, 5):
        ours = ours.partial_fit(rows) if streamed else ours.fit(X)
    theirs = to_sklearn(ours)
    assert type(theirs) is sklearn.mixture.GaussianMixture
    same_mixture(ours, theirs, X)
    same_mixture(from_sklearn(theirs), ours, X)
    assert theirs.sample(5)[0].shape == (5, 3)
    assert theirs.fit(X).converged_  # and it can be fitted anew


@pytest.mark.parametrize("kind", [sklearn.cluster.KMeans, sklearn.cluster.MiniBatchKMeans])
def test_k_means_of_theirs(overlapping, kind):
    X, _ = overlapping(n=1500)
    theirs = kind(5, random_state=0).fit(X)
    ours = from_sklearn(theirs)
    same_centres(ours, theirs, X)
    same_centres(to_sklearn(ours), ours, X)


def test_mini_batches_of_theirs(overlapping):
    X, _ = overlapping(n=1500)
    theirs = sklearn.cluster.MiniBatchKMeans(5, random_state=0)
    for rows in np.split(X, 10):
        theirs.partial_fit(rows)
    ours = from_sklearn(theirs)
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, rtol=1e-8)
    assert (ours.n_iter_, ours.converged_) == (0, False)
    assert ours.state_.learned == 1500  # all batches count, not only the last
    np.testing.assert_allclose(ours.score(X), theirs.score(X), rtol=1e-8)


@pytest.mark.parametrize("streamed", [False, True])
def test_k_means_of_ours(overlapping, streamed):
    X, _ = overlapping(n=2500)
    ours = KMeans(4, random_state=0)
    for rows in np.split(X, 5):
        ours = ours.partial_fit(rows) if streamed else ours.fit(X)
    theirs = to_sklearn(ours)
    assert type(theirs) is sklearn.cluster.KMeans
    same_centres(ours, theirs, X)
    assert theirs.fit(X).n_iter_ >= 1


def test_soft_k_means_is_a_spherical_mixture(overlapping):
    X, _ = overlapping()
    ours = SoftKMeans(4, random_state=0).fit(X)
    theirs = to_sklearn(ours)
    np.testing.assert_allclose(ours.score_samples(X), theirs.score_samples(X), rtol=1e-8)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-8)
    np.testing.assert_allclose(ours.bic(X) - theirs.bic(X), -7 * np.log(len(X)), rtol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_the_background_lies_where_the_rows_were(overlapping, kind):
    X, _ = overlapping(n=2000)
    theirs = sklearn.mixture.GaussianMixture(4, covariance_type=kind, random_state=0).fit(X)
    state = from_sklearn(theirs).state_
    low, high = map(state.frame.outward, (state.background.low, state.background.high))
    assert np.isclose(np.clip(X, low, high), X).mean() > 0.999
    assert (high - low < 3 * (X.max(axis=0) - X.min(axis=0))).all()
    variance = state.spread.scatter.values[0] / state.spread.step[0]
    np.testing.assert_allclose(variance.sum(), X.var(axis=0).sum(), rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_their_mixture_goes_on_with_our_stream(overlapping, kind):
    """Rows of the same mixture leave it where it is, rows that moved take it with them."""
    X, _ = overlapping(n=6000, seed=1)
    theirs = sklearn.mixture.GaussianMixture(4, covariance_type=kind, random_state=0).fit(X)
    ours = from_sklearn(theirs, rows=len(X), forgetting=se.HalfLife(events=500))
    still = ours.partial_fit(X[:200]).score(X)
    np.testing.assert_allclose(still, theirs.score(X), atol=0.1)
    for rows in np.split(X + 1.5, 20):
        ours.partial_fit(rows)
    assert ours.score(X + 1.5) > theirs.score(X + 1.5) + 0.1
    np.testing.assert_allclose(ours.score(X + 1.5), theirs.score(X), atol=0.3)


def test_their_k_means_goes_on_with_our_stream(overlapping):
    X, _ = overlapping(n=1500)
    theirs = sklearn.cluster.KMeans(4, random_state=0).fit(X)
    ours = from_sklearn(theirs, forgetting=se.KeepAll(), restructuring=False)
    ours.partial_fit(X)
    assert ours.state_.total_events == 3000
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, atol=0.05)
    counts = se.clusters(ours.model_, ours.state_).counts
    np.testing.assert_allclose(counts.sum(), 3000)


def test_feature_names_come_along(overlapping):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(overlapping()[0], columns=["a", "b", "c"])
    theirs = sklearn.cluster.KMeans(2, n_init=1).fit(frame)
    ours = from_sklearn(theirs)
    assert ours.feature_names_in_.tolist() == ["a", "b", "c"]
    assert to_sklearn(ours).feature_names_in_.tolist() == ["a", "b", "c"]
    with pytest.raises(ValueError, match="feature names"):
        ours.predict(frame.rename(columns={"a": "z"}))


def test_what_cannot_cross_is_told():
    with pytest.raises(TypeError, match="came with a Birch, expected scikit-learn's KMeans"):
        from_sklearn(sklearn.cluster.Birch())
    with pytest.raises(TypeError, match=r"came with a KMeans, expected .*stream_em\.sklearn"):
        to_sklearn(sklearn.cluster.KMeans())
    for unfitted in (sklearn.cluster.KMeans(), sklearn.mixture.GaussianMixture()):
        with pytest.raises(NotFittedError):
            from_sklearn(unfitted)
    fitted = sklearn.cluster.KMeans(1, n_init=1).fit([[0.0], [1.0]])
    with pytest.raises(se.StreamEmError, match="rows is 0, expected a number > 0"):
        from_sklearn(fitted, rows=0)
    with pytest.raises(TypeError, match="pace"):
        from_sklearn(fitted, pace=1)
    for unfitted in (KMeans(), SoftKMeans(), GaussianMixture()):
        with pytest.raises(NotFittedError):
            to_sklearn(unfitted)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("offset", "ridge"), [(1e6, 1e-6), (0.0, 1e-12)])
def test_nearly_singular_mixtures_score_with_their_own_factors(kind, offset, ridge):
    X = sklearn.datasets.load_iris().data + offset
    if offset == 0:
        X = np.c_[X, X[:, 0] + 1e-5 * np.random.default_rng(0).normal(size=len(X))]
    theirs = sklearn.mixture.GaussianMixture(
        6, covariance_type=kind, reg_covar=ridge, random_state=0
    )
    ours = from_sklearn(theirs.fit(X))
    assert np.array_equal(ours.precisions_cholesky_, theirs.precisions_cholesky_)
    if kind in ("full", "tied"):  # far from the origin theirs loses digits of the other two
        np.testing.assert_allclose(ours.score(X), theirs.score(X), rtol=1e-7)


@pytest.mark.parametrize("computed", [True, False])
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("K", [1, 3])
def test_mini_batches_that_kept_no_labels(overlapping, computed, streamed, K):
    X, _ = overlapping(n=1500)
    theirs = sklearn.cluster.MiniBatchKMeans(K, random_state=0, compute_labels=computed)
    theirs = theirs.partial_fit(X) if streamed else theirs.fit(X)
    ours = from_sklearn(theirs)
    assert len(ours.labels_) == (1500 if computed else 0)
    assert np.isnan(ours.inertia_) == (streamed and not computed)
    np.testing.assert_allclose(ours.score(X), theirs.score(X), rtol=1e-8)
    distance = ours.state_.typical.total / ours.state_.typical.weight
    if K > 1 or computed or not streamed:
        assert 0.3 < distance / (-theirs.score(X) / 1500) < 3
    np.testing.assert_allclose(to_sklearn(ours).cluster_centers_, theirs.cluster_centers_)
    assert ours.partial_fit(X).cluster_centers_.shape == (K, 3)


def test_other_clusters_than_were_fitted_are_refused(overlapping):
    X, _ = overlapping()
    mixture = sklearn.mixture.GaussianMixture(3, random_state=0).fit(X)
    means = sklearn.cluster.KMeans(3, random_state=0).fit(X)
    assert from_sklearn(mixture, n_components=3, covariance_type="full").n_components == 3
    with pytest.raises(SettingsError, match=r"n_components is 4, .* has 3.*leave it out"):
        from_sklearn(mixture, n_components=4)
    with pytest.raises(SettingsError, match=r"covariance_type is 'tied', .* has 'full'"):
        from_sklearn(mixture, covariance_type="tied")
    with pytest.raises(SettingsError, match=r"n_clusters is 2, .* has 3"):
        from_sklearn(means, n_clusters=2)
