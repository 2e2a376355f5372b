"""Models begun from given means: no held rows, and a mixture that waits."""

import numpy as np
import pytest

import stream_em as se


def rows(n, seed=0):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(n, 2)) + 6 * draw.integers(0, 3, n)[:, None] * [1, -1]


def models(K=3, **options):
    options.setdefault("seeding", se.Seeding(restarts=2))
    return [
        se.KMeans(K, **options),
        se.SoftKMeans(K, **options),
        se.GaussianMixture(K, **options),
        se.GaussianMixture(K, covariance=se.Diagonal(), **options),
        se.GaussianMixture(K, covariance=se.Tied(), **options),
        se.GaussianMixture(K, covariance=se.Spherical(), **options),
        se.GaussianMixture(K, covariance=se.Isotropic(1.0), **options),
    ]


def test_given_means_hold_no_rows_and_keep_their_order():
    X = rows(30)
    for model in models(initial_means=X[[5, 1, 9]], forgetting=se.KeepNothing()):
        start = se.clusters(model, se.init(model))
        np.testing.assert_allclose(start.means, X[[5, 1, 9]], rtol=1e-12)
        assert start.counts.tolist() == [0, 0, 0]
        assert start.slots.tolist() == start.uids.tolist() == [0, 1, 2]
        state, info = se.step(model, se.init(model), X[:1])
        assert (state.held_rows, info.events, info.changes) == (0, 1, ())


def test_covariances_of_given_means_come_from_the_first_rows():
    """Σ = K^(-2/D)·diag(variance of the first step's rows), weights equal."""
    X, D = rows(100) * [1, 10], 2
    model = se.GaussianMixture(3, initial_means=X[:3])
    state, _ = se.step(model, se.init(model), X[:20])
    found = se.clusters(model, state)
    expected = 3 ** (-2 / D) * np.diag(X[:20].var(axis=0))
    np.testing.assert_allclose(found.covariances, np.tile(expected, (3, 1, 1)), rtol=1e-9)
    np.testing.assert_allclose(found.weights, 1 / 3)


def test_a_mixture_from_given_means_waits_before_its_first_update():
    """Frozen until n ≥ min(5P, 2000); never under KeepAll or KeepNothing, nor for k-means."""
    X = rows(400)
    for policy, waits in ((se.PowerWindow(), True), (se.HalfLife(50), True), (se.KeepAll(), False)):
        model = se.GaussianMixture(2, initial_means=X[:2], forgetting=policy)
        P = 1 + 2 * 2 + 2 * 3
        state, _ = se.step(model, se.init(model), X[: 5 * P - 1])
        frozen = np.allclose(se.clusters(model, state).means, X[:2], rtol=1e-12)
        assert frozen is waits
        state, _ = se.step(model, state, X[5 * P - 1 : 5 * P])
        assert not np.allclose(se.clusters(model, state).means, X[:2], rtol=1e-3)
    hard = se.KMeans(2, initial_means=X[:2])
    state, _ = se.step(hard, se.init(hard), X[:10])
    assert not np.allclose(se.clusters(hard, state).means, X[:2])


def test_the_variance_of_a_constant_feature_has_a_floor():
    """v is floored by 1e-12 of the largest, so the prior never vanishes."""
    X = np.column_stack([rows(200), np.full(200, 3.0)])
    common = {"forgetting": se.KeepNothing(), "initial_means": [[0.0, 0.0, 3.0]]}
    model = se.GaussianMixture(1, se.Diagonal(), background=None, **common)
    state, _ = se.step(model, se.init(model), X)
    expected = 0.1 * 1e-12 * X.var(axis=0).max() / 201
    assert se.clusters(model, state).covariances[0, 2] == pytest.approx(expected, rel=1e-9, abs=0)
