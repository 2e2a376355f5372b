"""Missing values: exact EM for every covariance, per-feature counts, and negative controls."""

import warnings

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import stream_em as se
from stream_em.errors import RowsError
from stream_em.incomplete import expecting

CLASSICAL = {"restructuring": None, "background": None}  # plain Lloyd and EM
SHAPES = [se.Full(), se.Tied(), se.Diagonal(), se.Spherical()]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.kind)
CENTRES = np.array([[0.0, 0, 0, 0], [4, 4, 0, 3], [-4, 0, 5, 4]])


def correlated(n=600, seed=0, share=0.3):
    """Rows of three correlated groups, complete and with a share of cells missing at random."""
    draw = np.random.default_rng(seed)
    mixing = np.eye(4) + 0.5 * draw.normal(size=(3, 4, 4))
    labels = draw.integers(0, 3, n)
    X = CENTRES[labels] + np.einsum("nij,nj->ni", mixing[labels], draw.normal(size=(n, 4)))
    return X, np.where(draw.random(X.shape) < share, np.nan, X)


def mixture(shape, **options):
    options = {"forgetting": se.KeepNothing(), "initial_means": CENTRES, **CLASSICAL, **options}
    return se.GaussianMixture(3, covariance=shape, prior=None, missing=se.Learn(), **options)


def path(model, X, steps):
    """Log-likelihood before each step, and the state after the last."""
    state, found = se.init(model), []
    for _ in range(steps):
        state, info = se.step(model, state, X)
        found.append(info.log_likelihood)
    return np.array(found), state


def as_matrices(shape, covariances):
    match shape:
        case se.Full():
            return covariances
        case se.Tied():
            return np.repeat(covariances[None], 3, axis=0)
        case se.Diagonal():
            return np.array([np.diag(v) for v in covariances])
        case _:
            return np.array([v * np.eye(4) for v in covariances])


@each_shape
@pytest.mark.parametrize("seed", [0, 1])
def test_em_with_missing_values_is_monotone(shape, seed):
    """P20: ℓ of the observed cells never falls by more than 1e-9 |ℓ|."""
    _, X = correlated(seed=seed)
    found, _ = path(mixture(shape), X, 25)
    assert np.diff(found).min() >= -1e-9 * abs(found[-1])
    assert found[-1] > found[0] + 10


@pytest.mark.parametrize("shape", [se.Full(), se.Tied()], ids=lambda s: s.kind)
def test_without_the_conditional_covariance_em_is_not_monotone(shape, monkeypatch):
    """P20, negative control: x̂ alone shrinks the covariances."""
    _, X = correlated()
    exact, _ = path(mixture(shape), X, 40)
    monkeypatch.setattr(expecting, "_semidefinite", np.zeros_like)
    found, _ = path(mixture(shape), X, 40)
    assert np.diff(found).min() < -1.0
    assert found[-1] < exact[-1] - 10


def test_filling_in_means_is_no_substitute():
    """P20, negative control: held-out ℓ falls behind the exact one by tenths of a nat a row."""
    whole, X = correlated(2000)
    filled = np.where(np.isnan(X), np.nanmean(X, axis=0), X)
    held_out, _ = correlated(2000, share=0.0, seed=0)
    model = mixture(se.Full())
    ours, theirs, best = (
        se.score(model, path(model, rows, 25)[1], held_out).log_likelihood.mean()
        for rows in (X, filled, whole)
    )
    assert ours > theirs + 0.2
    assert ours > best - 0.1


@each_shape
def test_scores_are_those_of_the_observed_part(shape):
    """log p(z_o) and posterior by scipy, pattern by pattern."""
    _, X = correlated(60)
    model = mixture(shape)
    _, state = path(model, X, 3)
    found = se.clusters(model, state)
    matrices = as_matrices(shape, found.covariances)
    scores = se.score(model, state, X)
    for row, values in enumerate(X):
        o = ~np.isnan(values)
        logs = np.log(found.weights) + [
            multivariate_normal(m[o], c[np.ix_(o, o)]).logpdf(values[o]) if o.any() else 0.0
            for m, c in zip(found.means, matrices, strict=True)
        ]
        assert scores.log_likelihood[row] == pytest.approx(logsumexp(logs), rel=1e-9, abs=1e-9)
        R = np.exp(logs - logsumexp(logs))
        np.testing.assert_allclose(scores.responsibilities[row], R, atol=1e-9)


def per_feature_em(X, pi, means, variances):
    """One EM step of a diagonal mixture that ignores missing cells and counts features."""
    seen = ~np.isnan(X)
    filled = np.where(seen, X, 0.0)
    logs = -0.5 * (np.square(filled[:, None] - means) / variances + np.log(2 * np.pi * variances))
    joint = np.log(pi) + (logs * seen[:, None]).sum(axis=2)
    G = np.exp(joint - logsumexp(joint, axis=1)[:, None])
    counts = G.T @ seen
    means = G.T @ filled / counts
    moved = np.square(filled[:, None] - means) * seen[:, None]
    return G.mean(axis=0), means, np.einsum("nk,nkd->kd", G, moved) / counts


def test_diagonal_em_has_the_fixpoint_of_per_feature_counts():
    """P20: to 1e-8, though a step by expectation and a step by counts differ."""
    X = correlated(300)[1][:, [0, 1, 3]]
    model = mixture(se.Diagonal(), initial_means=CENTRES[:, [0, 1, 3]])
    _, state = path(model, X, 150)
    pi, means = np.full(3, 1 / 3), CENTRES[:, [0, 1, 3]]
    variances = np.tile(np.nanvar(X, axis=0), (3, 1))
    for _ in range(150):
        before = means
        pi, means, variances = per_feature_em(X, pi, means, variances)
    assert np.abs(means - before).max() < 1e-11
    found = se.clusters(model, state)
    np.testing.assert_allclose(found.weights, pi, atol=1e-8)
    np.testing.assert_allclose(found.means, means, atol=1e-8)
    np.testing.assert_allclose(found.covariances, variances, rtol=1e-8)


FAMILY = [
    (se.KMeans, {}),
    (se.SoftKMeans, {}),
    *((se.GaussianMixture, {"covariance": shape}) for shape in SHAPES),
]


@pytest.mark.parametrize(("build", "options"), FAMILY)
def test_without_missing_values_nothing_differs(build, options):
    """P20: bit for bit the ordinary path, seeding, moves and background included."""
    X, _ = correlated(1500)
    X[1200:1230] += 60
    common = {"seeding": se.Seeding(rows=500, restarts=2), **options}
    runs = []
    for model in (build(4, **common), build(4, missing=se.Learn(), **common)):
        state, infos = se.init(model, seed=2), []
        for start in range(0, 1500, 100):
            state, info = se.step(model, state, X[start : start + 100])
            infos.append(info)
        runs.append((state, infos, se.score(model, state, X), se.clusters(model, state)))
    assert runs[0] == runs[1]


@each_shape
def test_a_row_without_any_value_counts_in_the_weights_only(shape):
    """γ = π; at the fixpoint means and covariances stay, and so do the ratios of N."""
    X = correlated(share=0.1)[1][:, [0, 1, 3]]
    model = mixture(shape, initial_means=CENTRES[:, [0, 1, 3]])
    _, state = path(model, X, 150)
    empty = np.full((40, 3), np.nan)
    found, scores = se.clusters(model, state), se.score(model, state, empty)
    np.testing.assert_allclose(scores.responsibilities, np.tile(found.weights, (40, 1)))
    np.testing.assert_allclose(scores.log_likelihood, 0.0, atol=1e-12)
    state, _ = se.step(model, state, np.vstack([X, empty]))
    after = se.clusters(model, state)
    assert after.counts.sum() == pytest.approx(640, rel=1e-12)
    np.testing.assert_allclose(after.counts / 640, found.counts / 600, rtol=1e-6)
    np.testing.assert_allclose(after.means, found.means, atol=1e-6)
    np.testing.assert_allclose(after.covariances, found.covariances, atol=1e-6)


def test_kmeans_measures_over_the_observed_features():
    """A heuristic: d² over o times D/|o|; missing cells count as the mean of their cluster."""
    means = np.array([[0.0, 0.0, 0.0], [10.0, 10.0, 10.0]])
    X = np.array([[1.0, np.nan, np.nan], [np.nan, 9.0, 7.0], [np.nan] * 3, [1.0, 2.0, 3.0]])
    options = {"initial_means": means, "forgetting": se.KeepNothing(), "missing": se.Learn()}
    model = se.KMeans(2, **options)
    state, info = se.step(model, se.init(model), X)
    assert info.scores.labels[[0, 1, 3]].tolist() == [0, 1, 0]
    np.testing.assert_allclose(info.scores.squared_distance, [3.0, 15.0, 0.0, 14.0], atol=1e-9)
    k = int(info.scores.labels[2])
    rows = [[[1.0, 0.0, 0.0], [1.0, 2.0, 3.0]], [[10.0, 9.0, 7.0]]]
    rows[k].append(means[k])
    expected = [np.mean(group, axis=0) for group in rows]
    np.testing.assert_allclose(se.clusters(model, state).means, expected, atol=1e-9)


@pytest.mark.parametrize(("build", "options"), FAMILY)
def test_a_stream_with_gaps_is_learned_by_default_settings(build, options):
    """Held, seeded and streamed with a fifth of the cells missing, in any cut alike."""
    draw = np.random.default_rng(3)
    whole = 2 * CENTRES[draw.integers(0, 3, 3000)] + draw.normal(size=(3000, 4))
    X = np.where(draw.random(whole.shape) < 0.2, np.nan, whole)
    model = build(3, missing=se.Learn(), seeding=se.Seeding(rows=500, restarts=2), **options)
    for size in (250, 3000):
        state = se.init(model)
        for start in range(0, 3000, size):
            state, _ = se.step(model, state, X[start : start + size])
        found = se.clusters(model, state)
        errors = np.linalg.norm(2 * CENTRES[:, None] - found.means, axis=2).min(axis=1)
        assert errors.max() < 0.25
        total = found.counts.sum() + getattr(state.background, "objective", 0.0)
        assert total == pytest.approx(3000, rel=1e-9)


def test_gaps_are_refused_without_the_setting():
    _, X = correlated(20)
    for model in (se.KMeans(2), se.GaussianMixture(2)):
        with pytest.raises(RowsError, match="row"):
            se.step(model, se.init(model), X)


def test_a_feature_that_has_no_value_yet_is_waited_for():
    X, _ = correlated(1200)
    X[:600, 3] = np.nan
    for model in (
        se.KMeans(3, missing=se.Learn(), seeding=se.Seeding(rows=300, restarts=2)),
        se.GaussianMixture(3, missing=se.Learn(), seeding=se.Seeding(rows=300, restarts=2)),
    ):
        state = se.init(model)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for start in range(0, 1200, 100):
                state, info = se.step(model, state, X[start : start + 100])
        found = se.clusters(model, state)
        assert np.isfinite(found.means).all()
        assert np.isfinite(info.objective)
