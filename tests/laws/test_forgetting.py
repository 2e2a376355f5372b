"""The laws of forgetting: one pair of retentions serves every schedule."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stream_em as se
from stream_em import moments
from stream_em.forgetting import Arrival, Window
from stream_em.kernels import plain

quick = settings(deadline=None, max_examples=30)
weights = st.floats(1e-3, 1e6)
alphas = st.floats(0.05, 1.0)


def frozen(forgetting, K=2, D=2):
    """A mixture whose clusters stay as given for its first rows, so that they are fixed."""
    means = np.arange(K * D, dtype=float).reshape(K, D)
    return se.GaussianMixture(
        K, forgetting=forgetting, initial_means=means, restructuring=None, background=None
    )


def fed(model, X, cuts, **columns):
    """The state after X in batches that end at `cuts`."""
    state = se.init(model)
    for rows in np.split(np.arange(len(X)), cuts):
        part = {name: values[rows] for name, values in columns.items()}
        state, _ = se.step(model, state, X[rows], **part)
    return state


def assert_same_tally(a, b, rtol=1e-12):
    for name in ("step", "objective", "squares"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=rtol)
    np.testing.assert_allclose(a.mean, b.mean, rtol=rtol, atol=1e-12)
    np.testing.assert_allclose(a.scatter.values, b.scatter.values, rtol=rtol, atol=1e-12)


@quick
@given(st.lists(weights, min_size=1, max_size=30), alphas, st.floats(1, 1e4))
def test_retentions_are_shares(arrivals, alpha, smallest):
    policies = (
        se.KeepAll(),
        se.KeepNothing(),
        se.PowerWindow(alpha),
        se.PowerWindow(alpha, minimum_rows=smallest),
        se.HalfLife(events=smallest),
        se.EventTimeHalfLife(seconds=smallest),
    )
    for policy in policies:
        window = Window(0.0, 0.0)
        for m in arrivals:
            kept = policy(window, Arrival(m, m / 2, smallest))
            assert 0 <= kept.step <= 1
            assert 0 <= kept.objective <= 1
            window = Window(kept.step * window.weight + m, window.clock + m)


def test_policies_keep_the_pairs_they_name():
    arrival, window = Arrival(100.0, 30.0, 500.0), Window(5000.0, 5000.0)
    assert tuple(se.KeepAll()(window, arrival)) == (1, 1)
    assert tuple(se.KeepNothing()(window, arrival)) == (0, 0)
    kept = se.PowerWindow(0.5)(window, arrival)
    assert kept.objective == 1
    assert kept.step == pytest.approx((500 * math.sqrt(5100 / 500) - 100) / 5000, rel=1e-12)
    assert tuple(se.HalfLife(events=50)(window, arrival)) == (0.25, 0.25)
    assert tuple(se.EventTimeHalfLife(seconds=10)(window, arrival)) == (0.125, 0.125)


@quick
@given(st.lists(weights, min_size=2, max_size=40), alphas)
def test_no_step_of_a_power_window_after_the_first_takes_more_than_half(arrivals, alpha):
    """Half of what there is to take: while the window still grows, nothing is faded at all."""
    policy, window = se.PowerWindow(alpha), Window(0.0, 0.0)
    for index, m in enumerate(arrivals):
        kept = policy(window, Arrival(m, 0.0, 500.0)).step
        after = kept * window.weight + m
        if index:
            assert m / after <= 0.5 + 1e-12 or kept == 1.0
        window = Window(after, window.clock + m)


@quick
@given(st.floats(500, 1e6), st.floats(1, 250), alphas)
def test_a_power_window_reaches_its_target_whatever_the_cut(n, m, alpha):
    """In small steps W_t is W(n) = W_min (n/W_min)^α of the rows, not of the number of steps."""
    policy = se.PowerWindow(alpha)
    target = 500 * ((n + m) / 500) ** alpha
    held = 500 * (n / 500) ** alpha
    kept = policy(Window(held, n), Arrival(m, 0.0, 500.0)).step
    assert kept * held + m == pytest.approx(max(target, 2 * m), rel=1e-9)


def test_step_sizes_are_retentions():
    """P6: both recursions of online EM agree to 1e-12 over 200 steps of any γ."""
    draw = np.random.default_rng(1)
    faded = moments.zero(moments.FullScatter, 2, 2)
    weight, mixed = 0.0, None
    for t in range(200):
        Z, w = draw.normal(size=(6, 2)), draw.uniform(0.5, 2, 6)
        R = draw.dirichlet(np.ones(2), size=6)
        m = w.sum()
        gamma = 1.0 if t == 0 else float(draw.uniform(0.01, 0.99))
        kept = m * (1 - gamma) / (gamma * weight) if t else 1.0
        G = R * w[:, None] / m
        fresh = (G.sum(axis=0), G.T @ Z, np.einsum("nk,ni,nj->kij", G, Z, Z))
        mixed = (
            fresh
            if mixed is None
            else tuple((1 - gamma) * s + gamma * b for s, b in zip(mixed, fresh, strict=True))
        )
        part = moments.tally(moments.FullScatter, plain, Z, w, R, np.zeros((2, 2)))
        faded = moments.merge(moments.fade(faded, moments.Retentions(kept, kept)), part)
        weight = kept * weight + m
        N, first, second = mixed
        mean = first / N[:, None]
        scatter = second - N[:, None, None] * np.einsum("ki,kj->kij", mean, mean)
        np.testing.assert_allclose(faded.step / weight, N, rtol=1e-12)
        np.testing.assert_allclose(faded.mean, mean, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(faded.scatter.values / weight, scatter, rtol=1e-12, atol=1e-12)


def test_a_step_reports_its_step_size_and_retention():
    """s_t = (1-γ) s_{t-1} + γ b_t with the reported γ, under the model's own schedule."""
    draw = np.random.default_rng(2)
    policy = se.PowerWindow(0.6, minimum_rows=20)
    model = se.KMeans(2, initial_means=[[-1.0], [1.0]], forgetting=policy)
    state, info = se.step(model, se.init(model), draw.normal(size=(10, 1)))
    assert info.step_size == 1.0
    share, weight = state.moments.step / 10, 10.0
    for size in (5, 30, 1, 100, 7):
        X = draw.normal(size=(size, 1))
        arrived = np.bincount(se.score(model, state, X).labels, minlength=2) / size
        state, info = se.step(model, state, X)
        gamma, weight = info.step_size, info.retention * weight + size
        assert gamma == pytest.approx(size / weight, rel=1e-12)
        share = (1 - gamma) * share + gamma * arrived
        np.testing.assert_allclose(state.moments.step / state.moments.step.sum(), share, rtol=1e-12)


@quick
@given(st.lists(st.integers(0, 60), max_size=6), st.floats(5, 500), st.integers(0, 9))
def test_half_life_is_exact_for_any_cut(cuts, events, seed):
    draw = np.random.default_rng(seed)
    X, w = draw.normal(size=(60, 2)), draw.uniform(0, 2, 60)
    model = frozen(se.HalfLife(events=events))
    labels = draw.integers(0, 2, 60)
    cut = fed(model, X, sorted(cuts), weights=w, labels=labels)
    one_by_one = fed(model, X, np.arange(1, 60), weights=w, labels=labels)
    assert_same_tally(cut.moments, one_by_one.moments, rtol=1e-10)
    after = w.sum() - np.cumsum(w)
    exact = np.bincount(labels, w * 2 ** (-after / events), minlength=2)
    np.testing.assert_allclose(cut.moments.step, exact, rtol=1e-10)
    np.testing.assert_allclose(se.clusters(model, cut).counts, exact, rtol=1e-10)


def test_half_life_is_exact_across_seeding():
    """The rows held before seeding fade like all others."""
    X = np.random.default_rng(0).normal(size=(50, 1))
    model = se.KMeans(1, forgetting=se.HalfLife(events=10), seeding=se.Seeding(rows=20))
    exact = (2 ** (-np.arange(50) / 10)).sum()
    for cuts in ([], [1, 5, 20, 30], [19, 21], np.arange(1, 50)):
        counts = se.clusters(model, fed(model, X, cuts)).counts
        np.testing.assert_allclose(counts, [exact], rtol=1e-12)


def test_effective_sample_size_under_constant_decay():
    """P17: λ = .99 has ESS (1+λ)/(1-λ) = 199 ± .01, and the variance that belongs to it."""
    draw = np.random.default_rng(17)
    D, half_life = 10_000, math.log(2) / -math.log(0.99)
    model = se.KMeans(1, initial_means=np.zeros((1, D)), forgetting=se.HalfLife(half_life))
    state = se.init(model)
    for _ in range(20):
        state, _ = se.step(model, state, draw.normal(size=(75, D)))
    size = moments.effective_size(state.moments)[0]
    assert size == pytest.approx(199, abs=0.01)
    assert state.moments.step[0] == pytest.approx(100, abs=1e-3)
    variance = np.square(se.clusters(model, state).means[0]).mean()
    assert 0.95 <= variance * size <= 1.05


def test_two_weights_under_a_schedule_one_under_a_half_life():
    """D3b: a schedule is no forgetting, so N_obj counts every row; a half-life fades both."""
    X = np.random.default_rng(0).normal(size=(3000, 1))
    cuts = np.arange(100, 3000, 100)
    kept = fed(se.KMeans(1, se.PowerWindow(0.5), restructuring=None), X, cuts).moments
    assert kept.objective.tolist() == [3000.0]
    assert kept.step[0] == pytest.approx(500 * math.sqrt(6), rel=1e-9)
    faded = fed(se.KMeans(1, se.HalfLife(100), restructuring=None), X, cuts).moments
    np.testing.assert_allclose(faded.objective, faded.step, rtol=1e-12)


def test_a_seeding_tally_is_faded_to_the_window():
    """After seeding N_step and S stand at W(n0), N_obj at n0."""
    X = np.random.default_rng(0).normal(size=(2000, 1))
    for model in (
        se.KMeans(1, forgetting=se.PowerWindow(0.5)),
        se.GaussianMixture(1, forgetting=se.PowerWindow(0.5), prior=None, background=None),
    ):
        state, _ = se.step(model, se.init(model), X)
        assert state.moments.step[0] == pytest.approx(1000, rel=1e-12)  # 500 (2000/500)^½
        assert state.moments.objective.tolist() == [2000]
        assert state.window.weight == pytest.approx(1000, rel=1e-12)
        covariances = se.clusters(model, state).covariances
        np.testing.assert_allclose(covariances.ravel(), X.var(axis=0), rtol=1e-9)


def test_the_running_variance_forgets_only_what_half_lives_forget():
    """v of the prior is of all rows under a schedule, whatever the schedule fades."""
    draw = np.random.default_rng(3)
    X = draw.normal(size=(600, 1)) * np.repeat([1.0, 2.0], 300)[:, None]
    prior = se.Prior(rows=50, scale=1.0)
    for policy, w in (
        (se.PowerWindow(0.5, minimum_rows=20), np.ones(600)),
        (se.HalfLife(100), 2 ** (-np.arange(600)[::-1] / 100)),
    ):
        model = se.GaussianMixture(1, prior=prior, forgetting=policy, initial_means=[[0.0]])
        state = fed(model, X, np.arange(50, 600, 50))
        N, S = state.moments.step[0], state.moments.scatter.values[0, 0, 0]
        found = se.clusters(model, state).covariances[0, 0, 0]
        v = np.average(np.square(X[:, 0] - np.average(X[:, 0], weights=w)), weights=w)
        assert (found * (N + 50) - S) / 50 == pytest.approx(v, rel=1e-9)


def test_weights_of_kmeans_count_events():
    """Shares are of N_obj: a schedule is no forgetting."""
    X = np.repeat([[0.0], [9.0]], [900, 300], axis=0)
    model = se.KMeans(2, initial_means=[[0.0], [9.0]], forgetting=se.PowerWindow(0.5, 50))
    found = se.clusters(model, fed(model, X, np.arange(100, 1200, 100)))
    assert found.counts.tolist() == [900, 300]
    np.testing.assert_allclose(found.weights, [0.75, 0.25], rtol=1e-12)
