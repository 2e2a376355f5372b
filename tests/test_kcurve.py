"""How many clusters: the merge path of one state, scored on rows that were not learned."""

import math

import numpy as np
import pytest

import stream_em as se
from stream_em.errors import RowsError
from stream_em.kcurve import KCurve

FEW = se.Seeding(rows=1000, restarts=2)


def mixture_rows(n, K, D, sep, seed):
    """Rows of a random mixture of K correlated Gaussians."""
    draw = np.random.default_rng(seed)
    means = draw.normal(size=(K, D)) * sep
    mixing = draw.normal(size=(K, D, D)) / 2
    lower = np.linalg.cholesky(mixing @ mixing.transpose(0, 2, 1) + 0.3 * np.eye(D))
    labels = draw.choice(K, n, p=draw.dirichlet(np.full(K, 5.0)))
    return means[labels] + np.einsum("nij,nj->ni", lower[labels], draw.normal(size=(n, D)))


def streamed(model, X, size=500, seed=0):
    state = se.init(model, seed=seed)
    for start in range(0, len(X), size):
        state, _ = se.step(model, state, X[start : start + size])
    return state


def separate(n=4000, K=4, seed=0):
    draw = np.random.default_rng(seed)
    centres = 12 * np.array([[0, 0], [1, 0], [0, 1], [1, 1]])[:K]
    return centres[draw.integers(0, K, n)] + draw.normal(size=(n, 2))


def test_five_of_twelve_streams_are_counted_right():
    """Q10 in a small form: true K = 5 in D = 4, found exactly in at least 7 of 12."""
    found = []
    for seed in range(12):
        X = mixture_rows(8000, 5, 4, (1.2, 1.8, 2.5)[seed % 3], seed)
        model = se.GaussianMixture(10, seeding=se.Seeding(rows=2000, restarts=3))
        found.append(se.k_curve(model, streamed(model, X[:6500], seed=seed), X[6500:]).best)
    assert sum(k == 5 for k in found) >= 7, found
    assert all(3 <= k <= 7 for k in found), found


@pytest.mark.parametrize(
    "model",
    [
        se.GaussianMixture(7, seeding=FEW),
        se.GaussianMixture(7, se.Tied(), seeding=FEW),
        se.GaussianMixture(7, se.Diagonal(), seeding=FEW, background=None),
        se.GaussianMixture(7, se.Spherical(), seeding=FEW),
        se.SoftKMeans(7, seeding=FEW),
        se.KMeans(7, seeding=FEW),
    ],
    ids=lambda m: m.kind,
)
def test_a_curve_goes_from_all_clusters_to_one(model):
    X = separate()
    state = streamed(model, X[:3000])
    curve = se.k_curve(model, state, X[3000:])
    assert isinstance(curve, KCurve)
    assert curve.k.tolist() == [7, 6, 5, 4, 3, 2, 1]
    for values in (curve.objective, curve.log_likelihood, curve.bic, curve.merge_cost):
        assert values.shape == (7,)
    assert np.isfinite(curve.objective).all()
    assert curve.merge_cost[0] == 0
    assert (curve.merge_cost[1:] >= 0).all()
    assert curve.objective[-1] > 5 * curve.objective[3]
    assert np.isnan(curve.log_likelihood).all() == (not model.has_density)
    if isinstance(model, se.GaussianMixture):
        assert curve.best == 4
        assert curve.merge_cost[4] > 10 * curve.merge_cost[3]
        assert curve.log_likelihood[3] > curve.log_likelihood[4] + 0.1


def test_the_first_point_is_the_state_itself():
    X = separate()
    for model in (se.KMeans(5, seeding=FEW), se.GaussianMixture(5, seeding=FEW)):
        state = streamed(model, X[:3000])
        curve = se.k_curve(model, state, X[3000:])
        scores = se.score(model, state, X[3000:])
        means = se.clusters(model, state).means
        nearest = np.square(X[3000:, None] - means).sum(axis=2).min(axis=1)
        assert curve.objective[0] == pytest.approx(nearest.mean(), rel=1e-9)
        if model.has_density:
            mean = scores.log_likelihood.mean()
            assert curve.log_likelihood[0] == pytest.approx(mean, rel=1e-6)
            P = model.n_parameters(2) + 1  # the background's weight
            bic = -2 * curve.events * mean + P * math.log(curve.events)
            assert curve.bic[0] == pytest.approx(bic, rel=1e-6)
            assert curve.events == pytest.approx(3000, rel=1e-9)


def test_the_elbow_of_kmeans_is_where_groups_begin_to_be_united():
    """Ward's cost of the path is the exact growth of J on rows tallied."""
    X = separate(K=4)
    model = se.KMeans(9, se.KeepAll(), FEW, restructuring=None)
    state = streamed(model, X[:3000])
    curve = se.k_curve(model, state, X[3000:])
    assert curve.best == 4
    assert (np.diff(curve.merge_cost[1:]) > 0).all()
    assert curve.merge_cost[6] > 20 * curve.merge_cost[5]
    J = state.moments.scatter.values.sum() + curve.merge_cost.sum()
    of_one = np.square(X[:3000] - X[:3000].mean(axis=0)).sum()
    assert pytest.approx(of_one, rel=1e-9) == J


def test_half_lives_leave_fewer_events():
    X = separate()
    model = se.GaussianMixture(6, se.Diagonal(), se.HalfLife(200), FEW)
    curve = se.k_curve(model, streamed(model, X[:3000]), X[3000:])
    kept = 2 ** (-1 / 200)
    assert curve.events == pytest.approx((1 + kept) / (1 - kept), rel=1e-3)
    assert curve.best == 4


def test_weights_of_the_window_count():
    X = separate()
    model = se.GaussianMixture(5, seeding=FEW)
    state = streamed(model, X[:3000])
    w = np.random.default_rng(0).integers(0, 4, 1000)
    one = se.k_curve(model, state, X[3000:], weights=w)
    two = se.k_curve(model, state, np.repeat(X[3000:], w, axis=0))
    np.testing.assert_allclose(one.objective, two.objective, rtol=1e-12)
    np.testing.assert_allclose(one.bic, two.bic, rtol=1e-12)


def test_a_curve_needs_clusters_and_rows():
    X = separate()
    model = se.GaussianMixture(5, seeding=FEW)
    with pytest.raises(RowsError, match="no clusters yet"):
        se.k_curve(model, se.init(model), X)
    state = streamed(model, X[:1500])
    with pytest.raises(RowsError, match="no rows"):
        se.k_curve(model, state, X[:0])
    before = streamed(model, X[:1500])
    se.k_curve(model, state, X[3000:])
    assert state == before


def test_rows_that_wait_are_in_the_curve():
    X = separate()
    X[2700:2760] += 300.0
    model = se.KMeans(6, seeding=FEW, restructuring=se.Restructuring(every_rows=1000))
    state = streamed(model, X[:2900], size=100)
    assert len(state.quarantine) >= 60
    done, _ = se.finish(model, state)
    assert se.k_curve(model, state, X[3000:]) == se.k_curve(model, done, X[3000:])
