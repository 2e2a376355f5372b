"""Averaged statistics: a second model, weighted towards late rows, reported and never fed back."""

import numpy as np
import pytest

import stream_em as se
from stream_em import moments
from stream_em.arrays import altered
from stream_em.averaging import averaged, normalising
from stream_em.errors import RowsError
from stream_em.forgetting import Window
from stream_em.moments import Retentions

FEW = se.Seeding(rows=300, restarts=2)
CENTRES = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])


def rows(n, seed=0):
    draw = np.random.default_rng(seed)
    return CENTRES[draw.integers(0, 3, n)] + draw.normal(size=(n, 2))


def models(**options):
    return [
        se.KMeans(3, seeding=FEW, **options),
        se.SoftKMeans(3, seeding=FEW, **options),
        se.GaussianMixture(3, seeding=FEW, **options),
        se.GaussianMixture(3, se.Tied(), seeding=FEW, **options),
        se.GaussianMixture(3, se.Diagonal(), seeding=FEW, **options),
    ]


each_model = pytest.mark.parametrize("model", models(), ids=lambda m: f"{m.kind}")


def fed(model, X, size):
    state = se.init(model)
    for start in range(0, len(X), size):
        state, _ = se.step(model, state, X[start : start + size])
    return state


def advanced(state, tally, arrived):
    """The state with a tally of our choice, and its average, after `arrived` more rows."""
    window = Window(state.window.weight, state.window.clock + arrived)
    state = altered(state, moments=tally, window=window)
    return altered(state, averaged=averaged(state, arrived))


def other_tally(state, seed):
    """A tally of the same form and weights with other means."""
    held = state.moments
    shift = np.random.default_rng(seed).normal(size=held.mean.shape[1])
    return moments.move(held, shift, np.ones(held.mean.shape[1]))


@each_model
def test_weights_grow_with_the_cube_of_the_rows(model):
    """The weight of a step that ends after n' rows of m is ∝ n'⁴ - (n' - m)⁴ → n'³ m."""
    state = fed(model, rows(300), 300)
    sizes = [10.0, 400.0, 3.0, 55.0, 120.0]
    ends = np.cumsum(sizes)
    share = np.diff(ends**4, prepend=0) / ends[-1] ** 4
    means = []
    for seed, m in enumerate(sizes):
        state = advanced(state, other_tally(state, seed), m)
        means.append(state.moments.mean)
    expected = np.einsum("t,tkd->kd", share, means)
    np.testing.assert_allclose(state.averaged.moments.mean, expected, rtol=1e-10, atol=1e-12)
    weights = moments.fade(state.moments, normalising(state, state.moments))
    np.testing.assert_allclose(state.averaged.moments.step, weights.step, rtol=1e-12)
    np.testing.assert_allclose(state.averaged.moments.objective.sum(), 1.0, rtol=1e-12)


@each_model
def test_the_average_is_exact_for_any_cut(model):
    """At fixed tallies: one step of 100 rows weighs what 100 steps of one row weigh."""
    start = fed(model, rows(300), 300)
    found = []
    for cut in (1, 7, 50):
        state = start
        for seed, m in enumerate((50.0, 150.0, 200.0)):
            tally, pieces = other_tally(start, seed), np.full(cut, m / cut)
            for piece in pieces:
                state = advanced(state, tally, float(piece))
        found.append(state.averaged.moments)
    for other in found[1:]:
        np.testing.assert_allclose(other.mean, found[0].mean, rtol=1e-10)
        np.testing.assert_allclose(other.step, found[0].step, rtol=1e-10)
        np.testing.assert_allclose(other.scatter.values, found[0].scatter.values, rtol=1e-9)


@each_model
def test_averages_are_never_fed_back(model):
    """Clusters, scores and the next steps are the same with the average taken away."""
    X = rows(1500)
    state = fed(model, X[:900], 100)
    bare = altered(state, averaged=None)
    for start in range(900, 1500, 100):
        state, one = se.step(model, state, X[start : start + 100])
        bare, two = se.step(model, bare, X[start : start + 100])
        assert one == two
    assert altered(state, averaged=None) == bare


@each_model
def test_the_averaged_model_is_a_model(model):
    X = rows(3000)
    state = fed(model, X, 100)
    found = se.clusters(model, state, averaged=True)
    now = se.clusters(model, state)
    assert np.array_equal(found.uids, now.uids)
    assert found.weights.sum() == pytest.approx(1)
    assert found.counts.sum() == pytest.approx(now.counts.sum(), rel=0.01)
    assert not np.array_equal(found.means, now.means)
    np.testing.assert_allclose(found.means, now.means, atol=0.2)
    scores = se.score(model, state, X[:100], averaged=True)
    assert np.array_equal(scores.uids, found.uids)
    distance = np.square(X[:100] - found.means[scores.labels]).sum(axis=1)
    np.testing.assert_allclose(scores.squared_distance, distance, rtol=1e-9)


def test_before_seeding_and_at_once_after_it_the_average_is_the_model():
    for model in models():
        state, _ = se.step(model, se.init(model), rows(20))
        found = [se.clusters(model, state, averaged=flag).means for flag in (True, False)]
        assert np.array_equal(*found)
        state = fed(model, rows(300), 300)
        found = [se.clusters(model, state, averaged=flag) for flag in (True, False)]
        np.testing.assert_allclose(found[0].means, found[1].means, rtol=1e-9)
        np.testing.assert_allclose(found[0].covariances, found[1].covariances, rtol=1e-3)


def test_averaging_takes_the_noise_out_of_the_last_iterate():
    """One cluster, nothing to find: the variance of the mean, over 800 features, falls."""
    X = np.random.default_rng(0).normal(size=(12_000, 800))
    model = se.KMeans(1, se.PowerWindow(0.5, minimum_rows=50), FEW, restructuring=None)
    state = fed(model, X, 100)
    last = np.square(se.clusters(model, state).means).mean()
    smooth = np.square(se.clusters(model, state, averaged=True).means).mean()
    assert smooth < 0.5 * last


@pytest.mark.parametrize(
    "policy", [se.HalfLife(100), se.EventTimeHalfLife(10), se.KeepNothing()], ids=lambda f: f.kind
)
def test_averages_mean_nothing_where_events_are_forgotten(policy):
    X = rows(400)
    for model in models(forgetting=policy):
        state, _ = se.step(model, se.init(model), X, times=np.linspace(0, 9, 400))
        assert state.averaged is None
        for read in (
            lambda m=model, s=state: se.clusters(m, s, averaged=True),
            lambda m=model, s=state: se.score(m, s, X, averaged=True),
        ):
            with pytest.raises(RowsError, match="averaged=True"):
                read()


@pytest.mark.parametrize("model", [se.KMeans(5, seeding=FEW), se.GaussianMixture(5, seeding=FEW)])
def test_merges_and_births_are_applied_to_the_average(model):
    """Its clusters stay those of the state, row by row; a new one begins where it was born."""
    draw = np.random.default_rng(5)
    X = rows(5000)
    late = np.flatnonzero((np.arange(5000) > 2000) & (draw.random(5000) < 0.1))
    X[late] = np.array([50.0, -40.0]) + draw.normal(size=(len(late), 2))
    state, moved = se.init(model), 0
    for start in range(0, 5000, 100):
        state, info = se.step(model, state, X[start : start + 100])
        born = [c.new_uid for c in info.changes if c.kind == "relocation"]
        if state.averaged is None or info.first == 0:
            continue
        assert state.averaged.moments.mean.shape == state.moments.mean.shape
        for uid in born:
            at = int(np.flatnonzero(state.identity.uids == uid)[0])
            ours, average = state.moments.mean[at], state.averaged.moments.mean[at]
            np.testing.assert_allclose(average, ours, atol=1e-9)
            moved += 1
    assert moved > 0
    found = se.clusters(model, state, averaged=True)
    assert np.linalg.norm(found.means - [50.0, -40.0], axis=1).min() < 0.5


def test_a_merged_average_is_the_merge_of_averages():
    """Folding two clusters of the average conserves its weight and its mean of all rows."""
    model = se.KMeans(3, seeding=FEW, restructuring=None)
    average = fed(model, rows(2000), 100).averaged.moments
    folded = moments.fold(average, 0, 2)
    for before, after in ((average.step, folded.step), (average.objective, folded.objective)):
        assert after.sum() == pytest.approx(before.sum(), rel=1e-12)
    whole, part = (a.objective @ a.mean for a in (average, folded))
    np.testing.assert_allclose(part, whole, rtol=1e-12)
    assert moments.fade(folded, Retentions(1.0, 1.0)) == folded
