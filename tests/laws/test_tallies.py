"""The sentence of the house: tallies made under fixed clusters merge in any order."""

from functools import reduce

import numpy as np
import pytest

import stream_em as se
from stream_em.errors import RowsError

MEANS = ((0.0, 0.0), (6.0, -6.0), (12.0, -12.0))
# HalfLife counts rows: there the order of rows, and so of tallies, has a meaning
POLICIES = [
    se.KeepAll(),
    se.KeepNothing(),
    se.PowerWindow(0.7, minimum_rows=20),
    se.EventTimeHalfLife(seconds=20, max_ahead_seconds=1e3),
]
SHAPES = [se.Full(), se.Tied(), se.Diagonal(), se.Spherical(), se.Isotropic(1.0)]


def models(forgetting):
    common = {"initial_means": MEANS, "forgetting": forgetting}
    yield se.KMeans(3, **common)
    yield se.SoftKMeans(3, **common)
    for shape in SHAPES:
        yield se.GaussianMixture(3, covariance=shape, **common)


def rows(n=120):
    draw = np.random.default_rng(6)
    X = draw.normal(size=(n, 2)) + 6 * draw.integers(0, 3, n)[:, None] * [1, -1]
    return X, draw.uniform(0.2, 2, n), draw.uniform(0, 60, n)


def assert_same_state(model, a, b):
    one, two = se.clusters(model, a), se.clusters(model, b)
    for name in ("weights", "means", "covariances", "counts"):
        np.testing.assert_allclose(getattr(one, name), getattr(two, name), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(a.moments.step, b.moments.step, rtol=1e-12)
    assert a.window.weight == pytest.approx(b.window.weight, rel=1e-12)
    assert (a.time, a.total_events, a.learned) == (b.time, b.total_events, b.learned)


@pytest.mark.parametrize("forgetting", POLICIES, ids=lambda f: f.kind)
def test_tallies_merge_in_any_order_to_one_step(forgetting):
    X, w, times = rows()
    for model in models(forgetting):
        state, _ = se.step(model, se.init(model), X[:60], weights=w[:60], times=times[:60])
        cuts = np.split(np.arange(60, 120), [7, 8, 40])
        parts = [se.tally(model, state, X[c], weights=w[c], times=times[c]) for c in cuts]
        whole, told = se.step(model, state, X[60:], weights=w[60:], times=times[60:])
        for order in ([0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0]):
            merged = reduce(lambda a, b: se.merge(model, a, b), [parts[i] for i in order])
            other, info = se.learn(model, state, merged)
            assert_same_state(model, other, whole)
            for name in ("events", "weight", "objective", "log_likelihood", "free_energy"):
                ours, theirs = getattr(info, name), getattr(told, name)
                assert ours == pytest.approx(theirs, rel=1e-9, nan_ok=True)
        left = se.merge(model, se.merge(model, parts[0], parts[1]), parts[2])
        right = se.merge(model, parts[0], se.merge(model, parts[1], parts[2]))
        assert_same_state(model, *(se.learn(model, state, part)[0] for part in (left, right)))


def test_scores_of_merged_tallies_follow_the_order_of_merging():
    X, _, _ = rows()
    for model in models(se.KeepAll()):
        state, _ = se.step(model, se.init(model), X[:60])
        a, b = se.tally(model, state, X[60:70]), se.tally(model, state, X[70:])
        _, info = se.learn(model, state, se.merge(model, b, a))
        expected = np.concatenate([b.scores.labels, a.scores.labels])
        assert np.array_equal(info.scores.labels, expected)
        assert info.events == 60


def test_the_first_step_of_kmeans_may_be_tallied_in_parts():
    X, _, _ = rows()
    model = se.KMeans(3, initial_means=MEANS)
    empty = se.init(model)
    parts = [se.tally(model, empty, X[c]) for c in (slice(0, 50), slice(50, 120))]
    state, _ = se.learn(model, empty, se.merge(model, parts[1], parts[0]))
    assert_same_state(model, state, se.step(model, empty, X)[0])


def test_tallies_under_other_clusters_do_not_merge():
    X, _, _ = rows()
    for model in models(se.KeepAll()):
        state, _ = se.step(model, se.init(model), X[:60])
        later, _ = se.step(model, state, X[60:90])
        a, b = se.tally(model, state, X[90:]), se.tally(model, later, X[90:])
        with pytest.raises(RowsError, match="clusters"):
            se.merge(model, a, b)


def test_an_empty_tally_is_the_zero_of_merging():
    X, _, _ = rows()
    for model in models(se.KeepAll()):
        state, _ = se.step(model, se.init(model), X[:60])
        part, nothing = se.tally(model, state, X[60:]), se.tally(model, state, X[:0])
        expected = se.step(model, state, X[60:])[0]
        for pair in ((part, nothing), (nothing, part)):
            assert_same_state(model, se.learn(model, state, se.merge(model, *pair))[0], expected)
