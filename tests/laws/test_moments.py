"""The laws of the tally: a commutative monoid with fading, stable far from the origin."""

from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stream_em as se
from stream_em import moments
from stream_em.kernels import plain
from stream_em.kernels.plain import ward
from stream_em.moments import DiagonalScatter, FullScatter, PooledScatter, Retentions

FORMS = [FullScatter, DiagonalScatter, PooledScatter]
quick = settings(deadline=None, max_examples=40)
shares = st.floats(0.0, 1.0)


@st.composite
def rows_under_clusters(draw, parts=3):
    """Some sets of (Z, weights, R), and the centres (K, D) all were assigned under."""
    K, D = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    number = st.floats(-100, 100, allow_nan=False, width=32)
    weight = st.one_of(st.just(0.0), st.floats(0.01, 10))
    sets = []
    for _ in range(parts):
        n = draw(st.integers(0, 5))
        Z = draw(st.lists(st.lists(number, min_size=D, max_size=D), min_size=n, max_size=n))
        w = draw(st.lists(weight, min_size=n, max_size=n))
        logits = draw(st.lists(st.lists(number, min_size=K, max_size=K), min_size=n, max_size=n))
        R = np.exp(np.array(logits).reshape(n, K) / 50)
        R /= R.sum(axis=1, keepdims=True)
        sets.append((np.array(Z).reshape(n, D), np.array(w), R))
    centres = draw(st.lists(st.lists(number, min_size=D, max_size=D), min_size=K, max_size=K))
    return sets, np.array(centres)


def tally(form, part, centres):
    Z, weights, R = part
    return moments.tally(form, plain, Z, weights, R, centres)


def union(*parts):
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))


def assert_same(a, b, rel=1e-12, size=100.0):
    """Equal weights to `rel`, means and scatters to 1e-10 of the size of the rows."""
    assert type(a.scatter) is type(b.scatter)
    for name in ("step", "objective", "squares"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=rel, atol=1e-300)
    live = a.step > 0
    np.testing.assert_allclose(a.mean[live], b.mean[live], rtol=0, atol=1e-11 * size)
    atol = 1e-13 * size**2 * max(a.step.sum(), 1.0)
    np.testing.assert_allclose(a.scatter.values, b.scatter.values, rtol=1e-11, atol=atol)


def total_scatter(a):
    """Per-feature scatter (D,) of all rows about their common mean, by the parallel axis."""
    values = a.scatter.values
    if isinstance(a.scatter, FullScatter):
        within = np.einsum("kdd->d", values)
    else:
        within = np.diag(values) if isinstance(a.scatter, PooledScatter) else values.sum(axis=0)
    centre = a.step @ a.mean / a.step.sum()
    return within + a.step @ np.square(a.mean - centre)


@pytest.mark.parametrize("form", FORMS)
@quick
@given(rows_under_clusters())
def test_merge_is_associative_and_commutative_with_a_zero(form, case):
    sets, centres = case
    a, b, c = (tally(form, part, centres) for part in sets)
    merge = moments.merge
    assert_same(merge(a, merge(b, c)), merge(merge(a, b), c))
    assert_same(merge(a, b), merge(b, a))
    nothing = moments.zero(form, *centres.shape)
    assert_same(merge(nothing, a), a, rel=0)
    assert_same(merge(a, nothing), a, rel=0)


@pytest.mark.parametrize("form", FORMS)
@quick
@given(rows_under_clusters(parts=2))
def test_tallies_of_parts_merge_to_the_tally_of_all_rows(form, case):
    """P1."""
    sets, centres = case
    merged = reduce(moments.merge, (tally(form, part, centres) for part in sets))
    assert_same(merged, tally(form, union(*sets), centres))


@pytest.mark.parametrize("form", FORMS)
@quick
@given(rows_under_clusters(parts=2), shares, shares, shares, shares)
def test_fading_commutes_with_merging_and_composes(form, case, r, s, t, u):
    """P5, exact to 1e-14."""
    sets, centres = case
    a, b = (tally(form, part, centres) for part in sets)
    one, two, fade = Retentions(r, t), Retentions(s, u), moments.fade
    both = fade(moments.merge(a, b), one)
    apart = moments.merge(fade(a, one), fade(b, one))
    if r > 1e-100:  # below, a faded weight has no digits left to divide by
        assert_same(both, apart, rel=1e-14)
    twice, once = fade(fade(a, one), two), fade(a, Retentions(r * s, t * u))
    if r * s > 1e-100:
        assert_same(twice, once, rel=1e-14)
    assert fade(a, Retentions(1.0, 1.0)) == a


@pytest.mark.parametrize("form", FORMS)
def test_two_retentions_fade_what_they_name(form):
    draw = np.random.default_rng(3)
    Z, weights = draw.normal(size=(9, 2)), draw.uniform(0.5, 2, 9)
    a = moments.tally(form, plain, Z, weights, np.full((9, 2), 0.5), np.zeros((2, 2)))
    faded = moments.fade(a, Retentions(0.5, 0.25))
    np.testing.assert_allclose(faded.step, 0.5 * a.step)
    np.testing.assert_allclose(faded.objective, 0.25 * a.objective)
    np.testing.assert_allclose(faded.squares, 0.25 * a.squares)  # λ²
    np.testing.assert_allclose(faded.scatter.values, 0.5 * a.scatter.values)
    assert np.array_equal(faded.mean, a.mean)


@pytest.mark.parametrize("form", FORMS)
@quick
@given(rows_under_clusters(parts=2), st.data())
def test_fold_conserves_weight_and_total_scatter(form, case, data):
    """Structural merge; N_step proportional to N_obj, so it is the parallel axis."""
    sets, centres = case
    a = tally(form, union(*sets), centres)
    K = len(centres)
    if K < 2 or a.step.sum() == 0:
        return
    p, q = data.draw(st.permutations(range(K)))[:2]
    folded = moments.fold(a, p, q)
    assert len(folded.step) == K - 1
    for name in ("step", "objective", "squares"):
        np.testing.assert_allclose(getattr(folded, name).sum(), getattr(a, name).sum(), rtol=1e-12)
    np.testing.assert_allclose(
        total_scatter(folded), total_scatter(a), rtol=1e-10, atol=1e-8 * a.step.sum()
    )


def test_fold_weighs_means_by_events_and_scatter_by_steps():
    """N_step not proportional to N_obj: μ by N_obj, S about that μ with the step weights."""
    draw = np.random.default_rng(5)
    Z, one = draw.normal(size=(30, 2)) * [1, 5], np.ones((10, 1))
    parts = [np.zeros((10, 2)), np.zeros((10, 2)), np.zeros((10, 2))]
    for part, k in zip(parts, (0, 0, 1), strict=True):
        part[:, k] = 1
    first = moments.tally(FullScatter, plain, Z[:10], one[:, 0], parts[0], np.zeros((2, 2)))
    first = moments.fade(first, Retentions(0.25, 1.0))
    for rows, R in ((Z[10:20], parts[1]), (Z[20:], parts[2])):
        first = moments.merge(
            first, moments.tally(FullScatter, plain, rows, one[:, 0], R, np.zeros((2, 2)))
        )
    folded = moments.fold(first, 0, 1)
    weights = np.repeat([0.25, 1.0, 1.0], 10)
    inner = (weights[:20] @ Z[:20]) / weights[:20].sum()
    mean = (20 * inner + 10 * Z[20:].mean(axis=0)) / 30
    moved = Z - mean
    np.testing.assert_allclose(folded.step, [22.5])
    np.testing.assert_allclose(folded.objective, [30.0])
    np.testing.assert_allclose(folded.mean[0], mean, rtol=1e-12)
    np.testing.assert_allclose(folded.scatter.values[0], (moved.T * weights) @ moved, rtol=1e-12)


def test_fold_of_two_clusters_without_events_weighs_by_steps():
    a = moments.tally(
        DiagonalScatter,
        plain,
        np.array([[0.0], [4.0]]),
        np.array([3.0, 1.0]),
        np.eye(2),
        np.zeros((2, 1)),
    )
    folded = moments.fold(moments.fade(a, Retentions(1.0, 0.0)), 0, 1)
    np.testing.assert_allclose(folded.mean, [[1.0]])
    np.testing.assert_allclose(folded.scatter.values, [[12.0]])


@pytest.mark.parametrize("form", FORMS)
@quick
@given(rows_under_clusters(parts=2), st.floats(-50, 50), st.floats(0.1, 10))
def test_join_take_and_move(form, case, shift, factor):
    sets, centres = case
    a, b = (tally(form, part, centres) for part in sets)
    K, D = centres.shape
    both = moments.join(a, b)
    assert np.array_equal(both.step, np.concatenate([a.step, b.step]))
    assert np.array_equal(both.mean, np.concatenate([a.mean, b.mean]))
    if form is not PooledScatter:  # the pooled scatter belongs to no single cluster
        assert moments.take(both, np.arange(K)) == a
        assert moments.take(both, np.arange(K, 2 * K)) == b
    else:
        assert np.array_equal(both.scatter.values, a.scatter.values + b.scatter.values)
    shifts, factors = np.full(D, shift), factor * np.arange(1, D + 1)
    Z, weights, R = sets[0]
    there = tally(form, (Z * factors + shifts, weights, R), centres * factors + shifts)
    moved = moments.move(a, shifts, factors)
    assert_same(moved, there, size=100.0 * 30 + 50)


@pytest.mark.parametrize("form", FORMS)
def test_any_merge_tree_gives_the_same_tally_far_from_the_origin(form):
    """P2: 300 random trees of 64 parts at offset 1e7, reference set: scatter to 1e-12."""
    draw = np.random.default_rng(11)
    X = draw.normal(size=(64, 5, 3)) + 1e7
    reference = X.reshape(-1, 3).mean(axis=0)
    R = draw.dirichlet(np.ones(2), size=(64, 5))
    centres, one = np.zeros((2, 3)), np.ones(5)
    leaves = [tally(form, (x - reference, one, r), centres) for x, r in zip(X, R, strict=True)]
    first = reduce(moments.merge, leaves)
    for _ in range(300):
        parts = [leaves[i] for i in draw.permutation(64)]
        while len(parts) > 1:
            at = int(draw.integers(len(parts) - 1))
            parts[at : at + 2] = [moments.merge(parts[at], parts[at + 1])]
        error = np.abs(parts[0].scatter.values - first.scatter.values).max()
        assert error <= 1e-12 * np.abs(first.scatter.values).max()
        np.testing.assert_allclose(parts[0].step, first.step, rtol=1e-12)
        np.testing.assert_allclose(parts[0].mean, first.mean, rtol=0, atol=1e-10)


@quick
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(2, 5))
def test_ward_is_the_exact_growth_of_the_objective(seed, D, K):
    """P15: J(A∪B) = J_A + J_B + Ward to 1e-12; tr S is Σd² at the means to 1e-10."""
    draw = np.random.default_rng(seed)
    Z, weights = draw.normal(size=(8 * K, D)) * 3, draw.uniform(0.1, 3, 8 * K)
    labels = np.repeat(np.arange(K), 8)
    a = moments.hard_tally(plain, Z, weights, labels, Z[::8])
    at_means = weights @ np.square(Z - a.mean[labels]).sum(axis=1)
    np.testing.assert_allclose(a.scatter.values.sum(), at_means, rtol=1e-10)
    costs = ward(a.objective, a.mean)
    for p in range(K):
        for q in range(p + 1, K):
            joined = moments.fold(a, p, q).scatter.values.sum()
            np.testing.assert_allclose(joined, a.scatter.values.sum() + costs[p, q], rtol=1e-12)
    assert np.isinf(costs[np.tril_indices(K)]).all()


def test_effective_size_is_kishs():
    weights = np.array([1.0, 2.0, 3.0])
    a = moments.of_rows(np.zeros((3, 1)), weights)
    np.testing.assert_allclose(moments.effective_size(a), [36 / 14])
    assert moments.effective_size(moments.zero(DiagonalScatter, 2, 1)).tolist() == [0.0, 0.0]


def test_the_front_door_keeps_the_tally_it_describes():
    """The sentence: tallies of one state, made under fixed clusters, merge in any order."""
    draw = np.random.default_rng(0)
    X = draw.normal(size=(40, 2))
    model = se.GaussianMixture(2, initial_means=[[-1.0, 0], [1.0, 0]], forgetting=se.KeepAll())
    state, _ = se.step(model, se.init(model), X)
    one, two, both = (se.tally(model, state, rows).moments for rows in (X[:9], X[9:], X))
    assert_same(moments.merge(one, two), both, size=5.0)
    assert_same(moments.merge(two, one), both, size=5.0)
