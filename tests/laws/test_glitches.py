"""One value far beyond all others is no spread: it moves neither the prior nor the units."""

import numpy as np
import pytest

import stream_em as se

SHAPES = [se.Full(), se.Tied(), se.Diagonal(), se.Spherical()]
CENTRES = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]])
FEW = se.Seeding(rows=500)


def blobs(n, seed=0):
    draw = np.random.default_rng(seed)
    return CENTRES[draw.integers(3, size=n)] + draw.normal(size=(n, 2))


def fed(model, X, size=100):
    state = se.init(model)
    for start in range(0, len(X), size):
        state, _ = se.step(model, state, X[start : start + size])
    return state


def mean_log_likelihood(model, state, T):
    return float(se.score(model, state, T).log_likelihood.mean())


@pytest.mark.parametrize("at", [100, 2000], ids=["among the seeds", "later"])
@pytest.mark.parametrize("far", [1e3, -999_999.0, 1e12])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.kind)
def test_a_mixture_keeps_its_density(shape, far, at):
    X, T = blobs(3000), blobs(2000, seed=1)
    model = se.GaussianMixture(3, shape, seeding=FEW)
    calm = mean_log_likelihood(model, fed(model, X), T)
    X[at, 0] = far
    assert mean_log_likelihood(model, fed(model, X), T) == pytest.approx(calm, abs=0.05)


@pytest.mark.parametrize("kind", [se.KMeans, se.SoftKMeans, se.GaussianMixture])
def test_units_are_those_of_the_bulk(kind):
    X = blobs(1000)
    model = kind(3, scaling=se.Standardise(), seeding=FEW)
    calm = fed(model, X).frame.unit
    X[100, 0] = 1e6
    assert fed(model, X).frame.unit == pytest.approx(calm, rel=0.1)


@pytest.mark.parametrize("scaling", [None, se.Standardise()], ids=["plain", "standardised"])
def test_a_whole_weight_is_a_repetition_far_out_too(scaling):
    X = blobs(300)
    X[[7, 90]] = [[300.0, 5.0], [-70.0, 900.0]]
    w = np.where(np.arange(300) % 9 == 7, 5, 1)
    found = []
    for rows, weights in ((X, w), (np.repeat(X, w, axis=0), None)):
        model = se.GaussianMixture(3, scaling=scaling, seeding=se.Seeding(rows=len(rows)))
        state, _ = se.step(model, se.init(model), rows, weights=weights)
        found.append(state)
    once, often = found
    np.testing.assert_allclose(once.frame.unit, often.frame.unit, rtol=1e-12)
    np.testing.assert_allclose(once.spread.scatter.values, often.spread.scatter.values, rtol=1e-9)


def test_batch_steps_hold_the_variance_of_all_their_rows():
    """Under `KeepNothing` each step would else draw the spread in by that of the step before."""
    X = blobs(300)
    X[7] = 1e3
    model = se.GaussianMixture(3, forgetting=se.KeepNothing(), initial_means=CENTRES)
    state = se.init(model)
    for _ in range(4):
        state, _ = se.step(model, state, X)
        variance = state.spread.scatter.values[0] / state.spread.step[0]
        np.testing.assert_allclose(variance, X.var(axis=0), rtol=1e-9)


@pytest.mark.parametrize("shape", SHAPES[:3], ids=lambda s: s.kind)
def test_rounding_of_a_constant_makes_no_groups(shape):
    draw = np.random.default_rng(0)
    group = draw.integers(2, size=600)
    clock = 1.7e12 + draw.choice([-2e-4, 0.0, 2e-4], 600)
    X = np.column_stack([8.0 * group + draw.normal(size=600), clock])
    model = se.GaussianMixture(2, shape, seeding=se.Seeding(rows=300))
    state, _ = se.step(model, se.init(model), X)
    labels = se.score(model, state, X).labels
    assert max((labels == group).mean(), (labels != group).mean()) > 0.99


def test_the_spread_of_tallies_merges_all_the_same():
    X = blobs(900)
    X[[620, 700, 850]] *= [[1e5], [1e7], [-1e3]]
    model = se.GaussianMixture(3, se.Full(), seeding=FEW)
    state = fed(model, X[:600])
    whole = se.tally(model, state, X[600:])
    parts = [se.tally(model, state, part) for part in np.split(X[600:], 3)]
    merged = se.merge(model, se.merge(model, parts[2], parts[0]), parts[1])
    np.testing.assert_allclose(merged.spread.mean, whole.spread.mean, rtol=1e-12)
    np.testing.assert_allclose(
        merged.spread.scatter.values, whole.spread.scatter.values, rtol=1e-12
    )


def test_a_spread_that_really_grows_is_followed():
    """Ten deviations at a time: a drift to a hundred times the range takes some rows, no more."""
    X = np.concatenate([blobs(1000), 100 * blobs(4000, seed=2)])
    model = se.GaussianMixture(3, seeding=FEW, forgetting=se.HalfLife(500))
    state = fed(model, X)
    deviation = np.sqrt(state.spread.scatter.values[0] / state.spread.step[0])
    assert deviation == pytest.approx(X[1000:].std(axis=0), rel=0.1)
