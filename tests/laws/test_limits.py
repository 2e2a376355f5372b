"""Free energy, its sandwiches, and hard k-means as the limit σ → 0 of a mixture."""

import math
import warnings

import numpy as np
import pytest

import stream_em as se

once = pytest.mark.filterwarnings("ignore::stream_em.StreamEmWarning")
SPREADS = [1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6]  # σ²
BETAS = [0.1, 1.0, 10.0, 1e3]
FAMILY = [se.Full(), se.Tied(), se.Diagonal(), se.Spherical(), se.Isotropic(0.7)]
CLASSICAL = {"restructuring": None, "background": None}  # plain Lloyd and EM
family = pytest.mark.parametrize("covariance", FAMILY, ids=lambda c: c.kind)


def blobs(n=600, K=4, D=3, seed=0):
    """Rows of unit deviation in K separate groups, and a mean near each group."""
    draw = np.random.default_rng(seed)
    centres = 10 * np.eye(K, D) - 10 * (np.arange(K) == K - 1)[:, None]
    X = centres[draw.integers(0, K, n)] + draw.normal(size=(n, D))
    means = centres + draw.normal(size=(K, D))
    return (X - X.mean(axis=0)) / X.std(axis=0), (means - X.mean(axis=0)) / X.std(axis=0)


def once_tallied(model, X, weights=None):
    """Info of the rows under the given clusters, and the clusters' responsibilities."""
    state = se.init(model)
    _, info = se.step(model, state, X, weights=weights)
    return info, info.scores.responsibilities


def squared_distances(X, means):
    return np.square(X[:, None] - means).sum(axis=2)


def fixed(variance, means, weights=None):
    return se.GaussianMixture(
        len(means),
        covariance=se.Isotropic(variance),
        prior=None,
        forgetting=se.KeepNothing(),
        initial_means=means,
        initial_weights=weights,
        **CLASSICAL,
    )


def soft(beta, means):
    K = len(means)
    return se.SoftKMeans(K, beta=beta, forgetting=se.KeepNothing(), initial_means=means)


@once
@pytest.mark.parametrize("beta", BETAS)
def test_soft_kmeans_is_an_equal_weight_mixture(beta):
    """P8: γ = softmax(-β d²) to 1e-12, rows sum to 1, σ² = 1/(2β)."""
    X, means = blobs()
    a, R = once_tallied(soft(beta, means), X)
    b, S = once_tallied(fixed(1 / (2 * beta), means), X)
    exponents = -beta * squared_distances(X, means)
    G = np.exp(exponents - exponents.max(axis=1, keepdims=True))
    G /= G.sum(axis=1, keepdims=True)
    assert np.abs(R - S).max() <= 1e-12
    assert np.abs(R - G).max() <= 1e-12
    assert np.abs(R.sum(axis=1) - 1).max() <= 1e-12
    for name in ("objective", "log_likelihood", "entropy", "free_energy"):
        assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-12)


@once
def test_soft_kmeans_steps_like_the_mixture():
    X, means = blobs()
    a, b = soft(2.0, means), fixed(0.25, means)
    state, other = se.init(a), se.init(b)
    for _ in range(5):
        state, _ = se.step(a, state, X)
        other, _ = se.step(b, other, X)
        weighted = se.clusters(b, other)
        # the mixture would learn weights; soft k-means keeps them equal
        b = fixed(0.25, weighted.means)
        other = se.init(b)
        np.testing.assert_allclose(se.clusters(a, state).means, weighted.means, atol=1e-12)
        np.testing.assert_allclose(se.clusters(a, state).weights, 1 / len(means))


def test_corrected_free_energy_tends_to_the_objective():
    """P9: -2σ²[Q + (ND/2) ln 2πσ² - Σγ ln π]/J - 1 at most 1e-4 at σ² = .01, shrinking with σ."""
    X, means = blobs()
    pi = np.array([0.1, 0.2, 0.3, 0.4])
    N, D = X.shape
    J = squared_distances(X, means).min(axis=1).sum()
    excess = []
    for variance in SPREADS[:5]:
        info, R = once_tallied(fixed(variance, means, pi), X)
        Q = info.free_energy - info.entropy
        inner = Q + N * D / 2 * math.log(2 * math.pi * variance) - (R @ np.log(pi)).sum()
        excess.append(-2 * variance * inner / J - 1)
    assert -1e-12 <= excess[2] <= 1e-4
    assert excess[0] > 1e-3
    assert (np.diff(excess) <= 1e-12).all()


@once
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("weighted", [False, True])
def test_helmholtz_free_energy_is_sandwiched(beta, weighted):
    """P10 and §10.4: J - (N/β) ln K ≤ F_β ≤ J, and LL = -βF_β - N ln K - (ND/2) ln 2πσ²."""
    X, means = blobs()
    K, D = means.shape
    w = np.random.default_rng(1).uniform(0.2, 3, len(X)) if weighted else np.ones(len(X))
    info, R = once_tallied(soft(beta, means), X, w)
    J, N = w @ squared_distances(X, means).min(axis=1), w.sum()
    logs = np.log(np.where(R > 0, R, 1.0))
    F = w @ ((R * squared_distances(X, means)).sum(axis=1) + (R * logs).sum(axis=1) / beta)
    slack = 1e-9 * abs(J)
    assert info.objective == pytest.approx(J, rel=1e-12)
    assert J - N / beta * math.log(K) - slack <= F <= J + slack
    constant = N * math.log(K) + N * D / 2 * math.log(math.pi / beta)
    assert info.log_likelihood == pytest.approx(-beta * F - constant, rel=1e-9)
    assert info.weight == pytest.approx(N, rel=1e-12)


@pytest.mark.parametrize("variance", SPREADS)
@pytest.mark.parametrize("weighted", [False, True])
def test_log_likelihood_is_sandwiched_by_the_objective(variance, weighted):
    """P10: J ≤ -2σ²[LL + (ND/2) ln 2πσ²] ≤ J + 2σ²N ln(1/π_min)."""
    X, means = blobs()
    pi = np.array([0.02, 0.18, 0.3, 0.5])
    w = np.random.default_rng(1).uniform(0.2, 3, len(X)) if weighted else np.ones(len(X))
    info, _ = once_tallied(fixed(variance, means, pi), X, w)
    J, N = w @ squared_distances(X, means).min(axis=1), w.sum()
    inner = info.log_likelihood + N * X.shape[1] / 2 * math.log(2 * math.pi * variance)
    slack = 1e-9 * J
    top = J + 2 * variance * N * math.log(1 / pi.min())
    assert J - slack <= -2 * variance * inner <= top + slack


def mixture(covariance, means, forgetting=None):
    return se.GaussianMixture(
        len(means),
        covariance=covariance,
        prior=None,
        forgetting=forgetting or se.KeepNothing(),
        initial_means=means,
        **CLASSICAL,
    )


@family
def test_free_energy_is_the_log_likelihood_after_an_exact_e_step(covariance):
    """P11: |F - LL| ≤ 1e-9 |LL|; no E-step and no M-step lowers F."""
    X, means = blobs()
    model = mixture(covariance, means)
    state = se.init(model)
    before = -math.inf
    for _ in range(8):
        part = se.tally(model, state, X)
        F, LL = part.sums.free_energy, part.sums.log_likelihood
        slack = 1e-9 * abs(LL)
        assert abs(F - LL) <= slack
        assert before - slack <= F  # E-step: from F(q, θ) to F(q', θ)
        state, _ = se.learn(model, state, part)
        q = part.scores.responsibilities
        before = se.tally(model, state, X, responsibilities=q).sums.free_energy
        assert before >= F - slack  # M-step: from F(q, θ) to F(q, θ')


@family
def test_any_other_assignment_has_less_free_energy(covariance):
    """F(q, θ) < LL(θ) strictly for q other than the posterior, and F = Q + H."""
    X, means = blobs(n=80)
    model = mixture(covariance, means)
    draw = np.random.default_rng(3)
    q = draw.dirichlet(np.ones(4), size=80)
    part = se.tally(model, se.init(model), X, responsibilities=q)
    entropy = -(q * np.log(q)).sum()
    assert part.sums.free_energy < part.sums.log_likelihood - 1.0
    assert part.sums.entropy == pytest.approx(entropy, rel=1e-12)


@once
def test_responsibilities_become_hard_as_the_variance_shrinks():
    """§10.7: where the gap to the second mean exceeds 80 σ², γ is one-hot to 1e-17."""
    X, means = blobs()
    ordered = np.sort(squared_distances(X, means), axis=1)
    _, R = once_tallied(fixed(1e-3, means), X)
    hard = se.KMeans(4, initial_means=means, forgetting=se.KeepNothing())
    _, H = once_tallied(hard, X)
    clear = ordered[:, 1] - ordered[:, 0] > 2 * 1e-3 * 40
    assert clear.sum() > 500
    assert np.abs(R - H)[clear].max() < 1e-17


@pytest.mark.parametrize("forgetting", [se.KeepNothing(), se.KeepAll()], ids=lambda f: f.kind)
def test_kmeans_is_the_limit_of_a_mixture(forgetting):
    """σ → 0: from the same means both end in the same means and the same labels."""
    X, means = blobs()
    K = len(means)
    common = {"initial_means": means, "forgetting": forgetting, **CLASSICAL}
    hard = se.KMeans(K, **common)
    limit = se.GaussianMixture(K, covariance=se.Isotropic(1e-8), prior=None, **common)
    a, b = se.init(hard), se.init(limit)
    for _ in range(20):
        for rows in np.split(X, 3 if forgetting == se.KeepAll() else 1):
            a, one = se.step(hard, a, rows)
            b, two = se.step(limit, b, rows)
            assert np.array_equal(one.scores.labels, two.scores.labels)
            assert one.objective == pytest.approx(two.objective, rel=1e-9)
    found = se.clusters(hard, a)
    assert np.abs(found.means - means).max() > 0.1
    np.testing.assert_allclose(found.means, se.clusters(limit, b).means, atol=1e-9)
    np.testing.assert_allclose(found.counts, se.clusters(limit, b).counts, rtol=1e-9)


@pytest.mark.parametrize("forgetting", [se.PowerWindow(0.8), se.HalfLife(200)])
def test_kmeans_is_the_limit_of_soft_kmeans_on_a_stream(forgetting):
    """After seeding, β → ∞ learns what hard k-means learns, under any forgetting."""
    X, _ = blobs(n=3000)
    seeding = se.Seeding(rows=600)
    hard = se.KMeans(4, forgetting=forgetting, seeding=seeding)
    limit = se.SoftKMeans(4, beta=1e7, forgetting=forgetting, seeding=seeding)
    a, b = se.init(hard, seed=1), se.init(limit, seed=1)
    for rows in np.split(X, 30):
        a, _ = se.step(hard, a, rows)
        b, _ = se.step(limit, b, rows)
    means, others = se.clusters(hard, a).means, se.clusters(limit, b).means
    np.testing.assert_allclose(np.sort(means, axis=0), np.sort(others, axis=0), atol=0.05)


def critical_beta(X):
    moved = X - X.mean(axis=0)
    return 1 / (2 * np.linalg.eigvalsh(moved.T @ moved / len(X))[-1])


@pytest.mark.parametrize(("factor", "collapses"), [(0.8, True), (0.95, True), (1.05, False)])
def test_all_means_collapse_below_the_critical_beta(factor, collapses):
    """P16, both sides of β_c = 1/(2 λ_max)."""
    draw = np.random.default_rng(9)
    X = draw.normal(size=(40, 2)) * [2.0, 0.7]
    means = X[[0, 10, 20]] + 0.1
    model = soft(factor * critical_beta(X), means)
    state = se.init(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", se.StreamEmWarning)
        for _ in range(3000):
            state, _ = se.step(model, state, X)
    found = se.clusters(model, state).means
    spread = np.linalg.norm(found[:, None] - found, axis=2).max()
    assert spread < 1e-6 * X.std() if collapses else spread > 0.1 * X.std()


def test_a_beta_below_the_critical_one_is_warned_of():
    X, means = blobs()
    beta = critical_beta(X)
    low, high = se.SoftKMeans(4, beta=0.99 * beta), se.SoftKMeans(4, beta=1.01 * beta)
    given = soft(0.99 * beta, means)
    with pytest.warns(se.StreamEmWarning, match="critical"):
        se.step(given, se.init(given), X)
    with pytest.warns(se.StreamEmWarning, match="critical"):
        se.finish(low, se.step(low, se.init(low), X)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        se.finish(high, se.step(high, se.init(high), X)[0])


def test_the_default_beta_comes_from_the_first_rows_and_stays():
    """β = D·Σw/(2J), so σ² = J/(ND) of the first rows under the given means."""
    X, means = blobs()
    model = soft(None, means)
    state = se.init(model)
    J = squared_distances(X, means).min(axis=1).sum()
    for _ in range(3):
        state, _ = se.step(model, state, X)
        np.testing.assert_allclose(
            se.clusters(model, state).covariances, J / (len(X) * X.shape[1]), rtol=1e-12
        )
    state, _ = se.step(model, state, 100 * X)
    np.testing.assert_allclose(se.clusters(model, state).covariances, J / X.size, rtol=1e-12)


def test_the_default_beta_of_equal_rows_is_finite():
    model = se.SoftKMeans(1)
    state, _ = se.finish(model, se.step(model, se.init(model), np.ones((5, 2)))[0])
    assert (se.clusters(model, state).covariances > 0).all()
    assert np.isfinite(se.score(model, state, [[1.0, 2.0]]).log_likelihood).all()


def test_the_default_beta_of_seeded_clusters_is_that_of_their_hard_clustering():
    """σ² = J/(ND), J of the seeding rows as k-means leaves them."""
    X, _ = blobs()
    once = se.Seeding(rows=600, restarts=1)
    hard, model = se.KMeans(4, seeding=once), se.SoftKMeans(4, seeding=once)
    J = se.step(hard, se.init(hard), X)[0].moments.scatter.values.sum()
    rate = J / X.size / se.PowerWindow(0.8).settled(600, 500)
    found = se.clusters(model, se.step(model, se.init(model), X)[0])
    np.testing.assert_allclose(found.covariances, rate, rtol=1e-9)
