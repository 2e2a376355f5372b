"""Replay: the free energy of finite data never falls, and ends where batch EM ends."""

import numpy as np
import pytest
from scipy.special import logsumexp, xlogy
from scipy.stats import multivariate_normal

import stream_em as se
from stream_em import moments, replaying
from stream_em.kernels import plain
from stream_em.models.covariance import Covariance
from stream_em.replaying.memos import Memo, placed, planted, root

quiet = pytest.mark.filterwarnings("ignore::stream_em.StreamEmWarning")
FAMILY = [se.Full(), se.Tied(), se.Diagonal(), se.Spherical(), se.Isotropic(0.7)]
family = pytest.mark.parametrize("covariance", FAMILY, ids=lambda c: c.kind)
PLAIN = {"prior": None, "background": None, "restructuring": None}
POOR = se.Seeding(rows=200, restarts=1, lloyd_steps=0, em_steps=1)  # leaves something to do


def blobs(n=900, K=3, D=2, seed=0):
    """Rows in K overlapping groups of different widths, and the group of each."""
    draw = np.random.default_rng(seed)
    groups = draw.integers(0, K, n)
    return 2.5 * np.eye(K, D)[groups] + draw.normal(size=(n, D)) * (0.5 + groups[:, None]), groups


def slow5(n, seed):
    """Five strongly overlapping Gaussians: EM loses 95 % of its information here."""
    draw = np.random.default_rng(seed)
    means = np.array([[0, 0], [2.2, 0], [0, 2.2], [2.4, 2.4], [1.1, -2.0]])
    a = [1, 0.6, 1.2, 0.8, 0.5], [0.3, -0.2, 0, 0.2, 0], [0.8, 1, 0.5, 0.8, 0.9]
    covariances = np.array([[[x, xy], [xy, y]] for x, xy, y in zip(*a, strict=True)])
    z = draw.choice(5, n, p=[0.3, 0.2, 0.2, 0.15, 0.15])
    roots = np.linalg.cholesky(covariances)[z]
    return means[z] + np.einsum("nij,nj->ni", roots, draw.normal(size=(n, 2)))


def walked(model, X, sweeps=12, **asked):
    """State, sweeps, and the bound after every visit since the first sweep."""
    visits: list[replaying.Visit] = []
    begin = se.init(model, seed=3)
    state, told = se.replay(
        model, begin, X, sweeps=sweeps, tolerance=0.0, progress=visits.append, **asked
    )
    return state, told, np.array([v.bound for v in visits if v.sweep > 1])


def assert_never_falls(bounds):
    assert len(bounds) > 10
    assert np.diff(bounds).min() >= -1e-9 * np.abs(bounds).max()
    assert bounds[-1] > bounds[0]


def likelihood(model, state, X, weights=None):
    scores = se.score(model, state, X).log_likelihood
    return float(scores.sum() if weights is None else weights @ scores)


@quiet
@family
@pytest.mark.parametrize("guarded", [True, False], ids=["background and prior", "plain"])
def test_free_energy_never_falls_and_stays_below_the_likelihood(covariance, guarded):
    """P13: worst decrease 1e-9·|F| over all visits; F ≤ LL."""
    X, _ = blobs()
    X[:20] *= 5  # outliers, so that the background has a part
    rest = {} if guarded else PLAIN
    model = se.GaussianMixture(3, covariance=covariance, seeding=POOR, **rest)
    weights = np.random.default_rng(1).uniform(0, 2, len(X))
    for sweeps in (1, 2, 12):
        state, told, bounds = walked(model, X, sweeps, chunk_rows=100, weights=weights)
        above = likelihood(model, state, X, weights)
        assert told[-1].free_energy <= above + 1e-9 * abs(above)
    assert_never_falls(bounds)
    assert told[-1].bound == pytest.approx(bounds[-1], rel=1e-12)
    assert told[-1].refused == told[-1].repairs == 0


@quiet
@pytest.mark.parametrize("offset", [0.0, 1e7])
def test_it_never_falls_far_from_the_origin_either(offset):
    X, _ = blobs(D=3)
    model = se.GaussianMixture(3, seeding=POOR)
    near, far = walked(model, X, chunk_rows=90), walked(model, X + offset, chunk_rows=90)
    assert_never_falls(far[2])
    assert far[1][-1].free_energy == pytest.approx(near[1][-1].free_energy, rel=1e-6)


@family
def test_the_free_energy_is_the_one_that_rows_give(covariance: Covariance):
    """F = Σ R log p(x, k) - Σ R log R with R of the old clusters and p of the new ones."""
    X, groups = blobs()
    means = np.array([X[groups == k].mean(axis=0) for k in range(3)]) + 0.3
    model = se.GaussianMixture(3, covariance=covariance, initial_means=means, **PLAIN)
    begin = se.init(model)
    first = se.step(model, begin, X)[1].scores.responsibilities
    state, (sweep,) = se.replay(model, begin, X, sweeps=1)
    found = se.clusters(model, state)
    joint = np.stack(
        [
            np.log(found.weights[k]) + multivariate_normal(m, spread).logpdf(X)
            for k, m, spread in zip(range(3), found.means, matrices(found), strict=True)
        ],
        axis=1,
    )
    expected = (first * joint).sum() - xlogy(first, first).sum()
    assert sweep.free_energy == pytest.approx(expected, rel=1e-10)
    distances = np.square(X[:, None] - found.means).sum(axis=2)
    assert sweep.objective == pytest.approx((first * distances).sum(), rel=1e-10)


def matrices(found):
    K, D = found.means.shape
    shapes = {(D, D): lambda c: np.tile(c, (K, 1, 1)), (K, D, D): lambda c: c}
    shapes[(K, D)] = lambda c: c[:, :, None] * np.eye(D)
    shapes[(K,)] = lambda c: c[:, None, None] * np.eye(D)
    return shapes[found.covariances.shape](found.covariances)


def textbook_em(X, weights, means, covariances, iterations):
    """Bishop, Pattern Recognition and Machine Learning, §9.2.2; the mean log-likelihood."""
    for _ in range(iterations + 1):
        pairs = zip(means, covariances, strict=True)
        density = np.stack([multivariate_normal(m, c).logpdf(X) for m, c in pairs], axis=1)
        joint = density + np.log(weights)
        total = logsumexp(joint, axis=1)
        R = np.exp(joint - total[:, None])
        N = R.sum(axis=0)
        weights, means = N / len(X), R.T @ X / N[:, None]
        moved = X[:, None] - means
        covariances = np.einsum("nk,nki,nkj->kij", R, moved, moved) / N[:, None, None]
    return total.sum()


def test_it_ends_where_batch_em_ends():
    """P13: the same limit within 1e-6·|LL| after 40 sweeps."""
    X, groups = blobs(n=2000, D=3, seed=4)
    X += 2 * np.eye(3)[groups]
    means = np.array([X[groups == k].mean(axis=0) for k in range(3)]) + 0.2
    model = se.GaussianMixture(3, initial_means=means, **PLAIN)
    state, told, _ = walked(model, X, 40, chunk_rows=100)
    start = np.tile(3 ** (-2 / 3) * np.diag(X.var(axis=0)), (3, 1, 1))
    limit = textbook_em(X, np.full(3, 1 / 3), means, start, 200)
    assert likelihood(model, state, X) == pytest.approx(limit, rel=1e-6)
    assert told[-1].free_energy == pytest.approx(limit, rel=1e-6)


MODELS = {
    "kmeans": lambda **rest: se.KMeans(3, **rest),
    "soft": lambda **rest: se.SoftKMeans(3, beta=0.4, **rest),
    "mixture": lambda **rest: se.GaussianMixture(3, background=None, **rest),
    "diagonal": lambda **rest: se.GaussianMixture(
        3, covariance=se.Diagonal(), background=None, **rest
    ),
}
kinds = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


@kinds
def test_sweeps_over_one_chunk_are_batch_iterations(make):
    X, _ = blobs()
    rest = {"initial_means": X[:3], "restructuring": None}
    batch, model = make(forgetting=se.KeepNothing(), **rest), make(**rest)
    state = se.init(batch)
    for _ in range(5):
        state, _ = se.step(batch, state, X)
    replayed = se.replay(model, se.init(model), X, sweeps=5, tolerance=0.0, chunk_rows=900).state
    a, b = se.clusters(batch, state), se.clusters(model, replayed)
    for name in ("weights", "means", "covariances", "counts"):
        np.testing.assert_allclose(getattr(b, name), getattr(a, name), rtol=1e-9, atol=1e-12)


@kinds
def test_whole_weights_are_repetitions(make):
    X, _ = blobs(n=300)
    w = np.random.default_rng(0).integers(0, 4, 300)
    model = make(initial_means=X[:3])
    once, _, _ = walked(model, X, 4, weights=w, chunk_rows=300)
    often, _, _ = walked(model, np.repeat(X, w, axis=0), 4, chunk_rows=1000)
    a, b = se.clusters(model, once), se.clusters(model, often)
    for name in ("weights", "means", "covariances", "counts"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-9, atol=1e-12)


def test_j_of_kmeans_never_rises_and_ends_in_a_fixed_point_of_lloyd():
    X, _ = blobs(n=3000, K=6, D=4)
    model = se.KMeans(12, seeding=POOR)
    state, told, bounds = walked(model, X, 100)
    assert np.diff(bounds).min() >= -1e-12 * np.abs(bounds).max()
    assert told[-1].objective < 0.98 * told[0].objective
    assert len(told) < 100 and told[-1].gain == 0
    means = se.clusters(model, state).means
    labels = se.score(model, state, X).labels
    lloyd = np.array([X[labels == k].mean(axis=0) for k in range(12)])
    np.testing.assert_allclose(means, lloyd, atol=1e-12)
    assert told[-1].objective == pytest.approx(np.square(X - means[labels]).sum(), rel=1e-12)
    assert np.isnan(told[-1].free_energy)


@quiet
@pytest.mark.parametrize("covariance", FAMILY[:4], ids=lambda c: c.kind)
def test_heavy_tails_never_lower_it_either(covariance):
    X, _ = blobs(n=400)
    X[:20] *= 5
    model = se.StudentMixture(3, covariance=covariance, seeding=POOR, background=se.Background())
    state, told, bounds = walked(model, X, 25, chunk_rows=50)
    assert_never_falls(bounds)
    above = likelihood(model, state, X)
    assert told[-1].free_energy <= above + 1e-9 * abs(above)
    assert told[-1].free_energy == pytest.approx(above, rel=1e-4)
    _, fast, _ = walked(model, X, 9, chunk_rows=50, method=se.VarianceReduced())
    assert np.diff([sweep.bound for sweep in fast]).min() >= 0
    assert fast[-1].bound == pytest.approx(told[-1].bound, rel=1e-3)


@pytest.mark.parametrize("make", [se.SphericalKMeans, se.VonMisesFisher])
def test_directions_never_lower_it_either(make):
    X, _ = blobs(n=1000, D=4)
    model = make(5, seeding=POOR)
    state, told, bounds = walked(model, X, 60, chunk_rows=50)
    assert_never_falls(bounds)
    if model.has_density:
        assert told[-1].free_energy == pytest.approx(likelihood(model, state, X), rel=1e-4)
    else:
        distance = se.score(model, state, X).squared_distance.sum()
        assert told[-1].objective == pytest.approx(distance, rel=1e-9)


def test_given_labels_are_kept():
    X, groups = blobs()
    model = se.GaussianMixture(3, seeding=POOR)
    labels = np.where(np.arange(len(X)) % 2, groups, -1)
    _, _, bounds = walked(model, X, 6, labels=labels, chunk_rows=60)
    assert_never_falls(bounds)
    state, _, _ = walked(model, X, 3, labels=groups)
    means = np.array([X[groups == k].mean(axis=0) for k in range(3)])
    np.testing.assert_allclose(se.clusters(model, state).means, means, atol=1e-12)


def test_rows_with_missing_values_never_lower_it():
    X, _ = blobs(n=400, D=3)
    X[np.random.default_rng(2).random(X.shape) < 0.2] = np.nan
    for covariance in (se.Full(), se.Tied(), se.Diagonal()):
        model = se.GaussianMixture(3, covariance=covariance, missing=se.Learn(), seeding=POOR)
        state, told, bounds = walked(model, X, 5, chunk_rows=100)
        assert_never_falls(bounds)
        assert told[-1].free_energy <= likelihood(model, state, X) + 1e-6


@pytest.mark.parametrize("n", [1, 2, 3, 7, 40])
def test_the_root_of_the_tree_is_the_tally_of_all_leaves(n):
    draw = np.random.default_rng(n)
    memos = []
    for _ in range(3 * n):
        R, Z = draw.dirichlet(np.ones(2), 20), draw.normal(size=(20, 2))
        tally = moments.tally(moments.FullScatter, plain, Z, np.ones(20), R, Z[:2])
        memos.append(Memo(tally, draw.random(), draw.random(), 20.0))
    tree = planted(memos[:n])
    for memo, leaf in zip(memos[n:], draw.permutation(2 * n) % n, strict=True):
        tree, memos[leaf] = placed(tree, leaf, memo), memo
    fresh = root(planted(memos[:n]))
    assert root(tree) == fresh
    assert fresh.entropy == pytest.approx(sum(m.entropy for m in memos[:n]))
    assert fresh.moments.step.sum() == pytest.approx(20 * n, rel=1e-12)


def gap_after(model, begin, X, best, passes, **asked):
    sweeps = passes if "method" not in asked else (passes - 1) // 2 + 1
    state, told = se.replay(model, begin, X, sweeps=sweeps, tolerance=0.0, **asked)
    assert told[-1].passes == passes
    return best - likelihood(model, state, X) / len(X)


@quiet
def test_incremental_em_needs_half_the_passes_of_batch_em():
    """Q12, and the variance-reduced variant far ahead of both."""
    X = slow5(20_000, seed=5)
    model = se.GaussianMixture(5, seeding=se.Seeding(rows=2000, restarts=1), **PLAIN)
    begin, _ = se.step(model, se.init(model, seed=1), X[:2000])
    fast = se.VarianceReduced(0.5)
    best = likelihood(model, se.replay(model, begin, X, sweeps=15, method=fast).state, X)
    best /= len(X)
    batch = gap_after(model, begin, X, best, 40, chunk_rows=len(X))
    assert gap_after(model, begin, X, best, 25) <= batch
    assert gap_after(model, begin, X, best, 9, method=fast) <= 0.5 * batch


@quiet
@pytest.mark.parametrize("kind", ["mixture", "kmeans", "soft"])
def test_variance_reduction_is_guarded(kind):
    """Steps over few rows lead to negative weights: these are halved, and F still rises."""
    X, _ = blobs(n=400, K=4, D=3)
    model = MODELS[kind](seeding=POOR)
    _, told, _ = walked(model, X, 8, chunk_rows=5, method=se.VarianceReduced(1.0))
    bounds = np.array([sweep.bound for sweep in told])
    assert np.diff(bounds).min() >= -1e-9 * np.abs(bounds).max()
    assert told[-1].refused > 0
