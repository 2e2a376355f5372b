"""Agreement with Lloyd and EM as a textbook writes them, and monotone ascent."""

import warnings

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import stream_em as se

SHAPES = [se.Full(), se.Tied(), se.Diagonal(), se.Spherical()]
NAMES = [shape.kind for shape in SHAPES]
CLASSICAL = {"restructuring": None, "background": None}  # plain Lloyd and EM
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=NAMES)


def overlapping(n=400, K=3, D=3, seed=0):
    """Rows of overlapping correlated groups, and rows of them to start from."""
    draw = np.random.default_rng(seed)
    mixing = draw.normal(size=(K, D, D))
    labels = draw.integers(0, K, n)
    X = draw.normal(size=(K, D))[labels] * 3
    X += np.einsum("nij,nj->ni", mixing[labels], draw.normal(size=(n, D)))
    return X, X[:K]


def lloyd(X, means, w):
    """One iteration: each row to its nearest mean, each mean to the average of its rows."""
    labels = np.array([np.argmin([((x - m) ** 2).sum() for m in means]) for x in X])
    return np.array(
        [
            np.average(X[labels == k], axis=0, weights=w[labels == k])
            if w[labels == k].sum() > 0
            else means[k]
            for k in range(len(means))
        ]
    )


def em(X, pi, means, covariances, w, shape):
    """One iteration with covariances (K, D, D) tied down to a shape; and ℓ before it."""
    K, D = means.shape
    log_joint = np.stack(
        [np.log(pi[k]) + multivariate_normal(means[k], covariances[k]).logpdf(X) for k in range(K)],
        axis=1,
    )
    total = logsumexp(log_joint, axis=1)
    G = np.exp(log_joint - total[:, None]) * w[:, None]
    N = G.sum(axis=0)
    means = G.T @ X / N[:, None]
    scatter = [(G[:, k, None] * (X - means[k])).T @ (X - means[k]) for k in range(K)]
    if isinstance(shape, se.Tied):
        scatter = [sum(scatter) * N[k] / N.sum() for k in range(K)]
    new = np.array([S / n for S, n in zip(scatter, N, strict=True)])
    if isinstance(shape, (se.Diagonal, se.Spherical)):
        new = np.array([np.diag(np.diag(S)) for S in new])
    if isinstance(shape, se.Spherical):
        new = np.array([np.eye(D) * np.trace(S) / D for S in new])
    return N / N.sum(), means, new, float(w @ total)


def as_matrices(shape, covariances, K, D):
    match shape:
        case se.Full():
            return covariances
        case se.Tied():
            return np.repeat(covariances[None], K, axis=0)
        case se.Diagonal():
            return np.array([np.diag(v) for v in covariances])
        case _:
            return np.array([v * np.eye(D) for v in covariances])


def start_of(shape, D, K):
    """Unequal starting covariances in the shape of the model."""
    sizes = 1.0 + np.arange(K)
    match shape:
        case se.Full():
            return sizes[:, None, None] * (np.eye(D) + 0.2)
        case se.Tied():
            return 2 * (np.eye(D) + 0.2)
        case se.Diagonal():
            return np.outer(sizes, 1 + np.arange(D))
        case _:
            return sizes


@pytest.mark.parametrize("weighted", [False, True])
def test_full_batches_are_lloyd_iterations(weighted):
    """P7 to 1e-9, several steps in a row."""
    X, means = overlapping(K=6)
    w = np.random.default_rng(1).uniform(0.1, 3, len(X)) if weighted else np.ones(len(X))
    model = se.KMeans(6, initial_means=means, forgetting=se.KeepNothing())
    state, moved = se.init(model), 0
    for _ in range(6):
        state, _ = se.step(model, state, X, weights=w)
        before, means = means, lloyd(X, means, w)
        np.testing.assert_allclose(se.clusters(model, state).means, means, rtol=1e-9, atol=1e-9)
        moved += np.abs(means - before).max() > 1e-3
    assert moved >= 4


@each_shape
@pytest.mark.parametrize("weighted", [False, True])
def test_full_batches_are_em_iterations(shape, weighted):
    """P7 to 1e-9 from given parameters, several steps in a row, with ℓ before each step."""
    X, means = overlapping()
    K, D = means.shape
    w = np.random.default_rng(1).uniform(0.1, 3, len(X)) if weighted else np.ones(len(X))
    pi, start = np.array([0.2, 0.3, 0.5]), start_of(shape, D, K)
    model = se.GaussianMixture(
        K,
        covariance=shape,
        prior=None,
        forgetting=se.KeepNothing(),
        initial_means=means,
        initial_covariances=start,
        initial_weights=pi,
        **CLASSICAL,
    )
    state, matrices = se.init(model), as_matrices(shape, start, K, D)
    for _ in range(6):
        state, info = se.step(model, state, X, weights=w)
        pi, means, matrices, ell = em(X, pi, means, matrices, w, shape)
        found = se.clusters(model, state)
        assert info.log_likelihood == pytest.approx(ell, rel=1e-9)
        np.testing.assert_allclose(found.weights, pi, rtol=1e-9)
        np.testing.assert_allclose(found.means, means, rtol=1e-9, atol=1e-9)
        ours = as_matrices(shape, found.covariances, K, D)
        np.testing.assert_allclose(ours, matrices, rtol=1e-9, atol=1e-9)


def test_an_empty_cluster_keeps_its_mean_and_covariance():
    X = np.random.default_rng(0).normal(size=(50, 2))
    means = [[0.0, 0.0], [1e6, 1e6]]
    hard = se.KMeans(2, initial_means=means, forgetting=se.KeepNothing())
    soft = se.GaussianMixture(
        2,
        initial_means=means,
        initial_covariances=[np.eye(2)] * 2,
        prior=None,
        forgetting=se.KeepNothing(),
        **CLASSICAL,
    )
    for model in (hard, soft):
        state, _ = se.step(model, se.init(model), X)
        found = se.clusters(model, state)
        np.testing.assert_allclose(found.means[1], [1e6, 1e6], rtol=1e-12)
        np.testing.assert_allclose(found.means[0], X.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(found.covariances[1], np.eye(2), rtol=1e-12)
    np.testing.assert_allclose(found.weights, [1.0, 0.0], atol=1e-12)


def test_repeated_passes_of_lloyd_never_raise_the_objective():
    X, means = overlapping(seed=3)
    model = se.KMeans(3, initial_means=means, forgetting=se.KeepNothing())
    state, before = se.init(model), np.inf
    for _ in range(25):
        state, info = se.step(model, state, X)
        assert info.objective <= before * (1 + 1e-12)
        before = info.objective


def penalty(found, prior_covariance, n0, a0, shape):
    """-½n0 Σ_k [ln|Σ_k| + tr(Σ_k⁻¹Λ)] + a0 Σ ln π_k; the tied one counted once."""
    K, D = found.means.shape
    matrices = as_matrices(shape, found.covariances, K, D)
    if isinstance(shape, se.Tied):
        matrices = matrices[:1]
    logs = np.linalg.slogdet(matrices)[1]
    traces = [np.trace(np.linalg.solve(m, np.diag(prior_covariance))) for m in matrices]
    return -0.5 * n0 * (logs.sum() + sum(traces)) + a0 * np.log(found.weights).sum()


@each_shape
@pytest.mark.parametrize("seed", [0, 1])
def test_batch_em_is_monotone(shape, seed):
    """P12: ℓ without a prior never falls by more than 1e-9 |ℓ|."""
    X, means = overlapping(seed=seed)
    common = {"forgetting": se.KeepNothing(), "initial_means": means, **CLASSICAL}
    model = se.GaussianMixture(3, covariance=shape, prior=None, **common)
    state, path = se.init(model), []
    for _ in range(60):
        state, info = se.step(model, state, X)
        path.append(info.log_likelihood)
    assert np.diff(path).min() >= -1e-9 * abs(path[-1])
    assert path[-1] > path[0] + 1.0


@each_shape
@pytest.mark.parametrize("prior", [se.Prior(), se.Prior(rows=20, scale=1.0, weight=3.0)])
def test_penalised_em_is_monotone(shape, prior):
    """P12 with the prior, v fixed by repeating the same rows."""
    X, means = overlapping(seed=2)
    K, D = means.shape
    common = {"forgetting": se.KeepNothing(), "initial_means": means, **CLASSICAL}
    model = se.GaussianMixture(K, covariance=shape, prior=prior, **common)
    spread = prior.scale * K ** (-2 / D) * X.var(axis=0)
    state, _ = se.step(model, se.init(model), X)
    path = []
    for _ in range(60):
        found = se.clusters(model, state)
        state, info = se.step(model, state, X)
        extra = penalty(found, spread, prior.rows, prior.weight, shape)
        path.append(info.log_likelihood + extra)
    assert np.diff(path).min() >= -1e-9 * abs(path[-1])
    assert path[-1] > path[0]
    if prior.rows > 1:  # the penalised optimum is not that of ℓ alone
        assert abs(penalty(found, spread, prior.rows, prior.weight, shape)) > 1.0


def test_an_additive_regulariser_is_not_monotone():
    """P12, negative control: 1e-4 on the diagonal of data × 1e-2 loses more than a nat."""
    X, means = overlapping(seed=0)
    X, means = X * 1e-2, means * 1e-2
    common = {"prior": None, "forgetting": se.KeepNothing(), **CLASSICAL}
    model = se.GaussianMixture(3, initial_means=means, **common)
    state = se.init(model)
    for _ in range(30):
        state, info = se.step(model, state, X)
    path = [info.log_likelihood]
    for _ in range(5):
        found = se.clusters(model, state)
        model = se.GaussianMixture(
            3,
            initial_means=found.means,
            initial_weights=found.weights,
            initial_covariances=found.covariances + 1e-4 * np.eye(3),
            **common,
        )
        state, info = se.step(model, se.init(model), X)
        path.append(info.log_likelihood)
    assert np.diff(path).min() < -1.0


@each_shape
def test_the_penalised_m_step_is_the_formula(shape):
    """§7: Σ_k = (S_k + n0 Λ)/(N_k + n0), π_k ∝ N_k + a0, Λ = s K^(-2/D) diag(v)."""
    X, means = overlapping()
    K, D = means.shape
    prior = se.Prior(rows=5, scale=0.7, weight=2)
    common = {"forgetting": se.KeepNothing(), "initial_means": means, **CLASSICAL}
    model = se.GaussianMixture(K, covariance=shape, prior=prior, **common)
    R = np.random.default_rng(0).dirichlet(np.ones(K), size=len(X))
    state, _ = se.step(model, se.init(model), X, responsibilities=R)
    found, N = se.clusters(model, state), R.sum(axis=0)
    centres = R.T @ X / N[:, None]
    S = np.einsum("nk,nki,nkj->kij", R, X[:, None] - centres, X[:, None] - centres)
    L = 0.7 * K ** (-2 / D) * np.diag(X.var(axis=0))
    np.testing.assert_allclose(found.weights, (N + 2) / (N.sum() + 2 * K), rtol=1e-10)
    full = (S + 5 * L) / (N + 5)[:, None, None]
    expected = {
        "full": full,
        "tied": (S.sum(axis=0) + 5 * L) / (N.sum() + 5),
        "diagonal": np.einsum("kdd->kd", full),
        "spherical": np.einsum("kdd->k", full) / D,
    }[shape.kind]
    np.testing.assert_allclose(found.covariances, expected, rtol=1e-9, atol=1e-12)


def test_scores_are_the_textbook_posterior():
    X, means = overlapping()
    start = start_of(se.Full(), 3, 3)
    model = se.GaussianMixture(3, initial_means=means, initial_covariances=start)
    scores = se.score(model, se.init(model), X)
    joint = np.stack(
        [
            np.log(1 / 3) + multivariate_normal(m, c).logpdf(X)
            for m, c in zip(means, start, strict=True)
        ],
        axis=1,
    )
    total = logsumexp(joint, axis=1)
    np.testing.assert_allclose(scores.log_likelihood, total, rtol=1e-10)
    np.testing.assert_allclose(scores.responsibilities, np.exp(joint - total[:, None]), atol=1e-12)
    assert np.array_equal(scores.labels, joint.argmax(axis=1))
    mine = scores.responsibilities[np.arange(len(X)), scores.labels]
    np.testing.assert_allclose(scores.probability, mine, rtol=1e-12)
    exact = np.square(X - means[scores.labels]).sum(axis=1)
    np.testing.assert_allclose(scores.squared_distance, exact, rtol=1e-9)


def test_log_sum_exp_far_from_every_cluster():
    """Rows of densities that underflow still get a posterior and a finite log-likelihood."""
    model = se.GaussianMixture(2, initial_means=[[0.0], [1.0]], initial_covariances=[[[1.0]]] * 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = se.score(model, se.init(model), [[1e3], [-1e3], [1e8], [1e100]])
    assert np.isfinite(scores.log_likelihood).all()
    assert scores.log_likelihood[0] == pytest.approx(-0.5 * 999**2 - 0.5 * np.log(8 * np.pi))
    assert scores.labels[:3].tolist() == [1, 0, 1]
    assert np.abs(scores.responsibilities.sum(axis=1) - 1).max() <= 1e-12
