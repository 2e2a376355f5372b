"""Second moments far from the origin, where sums of squares lose every digit."""

import numpy as np
import pytest

import stream_em as se

COVARIANCES = [se.Full(), se.Tied(), se.Diagonal(), se.Spherical()]
CLASSICAL = {"restructuring": None, "background": None}  # plain Lloyd and EM
NAMES = ["full", "tied", "diagonal", "spherical"]


def shaped(covariance, matrix):
    """One matrix (D, D) in the shape in which a single component reports it."""
    match covariance:
        case se.Full():
            return matrix[None]
        case se.Tied():
            return matrix
        case se.Diagonal():
            return np.diag(matrix)[None]
        case _:
            return np.array([np.trace(matrix) / len(matrix)])


def exact_covariance(X):
    """The covariance of rows as they are stored, in long double."""
    wide = X.astype(np.longdouble)
    moved = wide - wide.mean(axis=0)
    return (moved.T @ moved / len(X)).astype(np.float64)


def raw_sums_covariance(X, dtype):
    """The mutant: Σx and Σxxᵀ."""
    n, first, second = 0, np.zeros(X.shape[1], dtype), np.zeros((X.shape[1],) * 2, dtype)
    for rows in np.split(X.astype(dtype), len(X) // 1000):
        n, first, second = n + len(rows), first + rows.sum(axis=0), second + rows.T @ rows
    mean = first / dtype(n)
    return second / dtype(n) - np.outer(mean, mean)


def relative_error(found, exact):
    return np.linalg.norm(found - exact) / np.linalg.norm(exact)


def rows_at(offset, dtype=np.float64):
    draw = np.random.default_rng(8)
    mixing = np.array([[1.0, 0.3, 0.0], [0.0, 0.8, 0.2], [0.0, 0.0, 1.3]])
    return (draw.normal(size=(8_000, 3)) @ mixing + offset).astype(dtype)


def streamed_covariance(X, covariance):
    model = se.GaussianMixture(1, covariance, se.KeepAll(), prior=None, **CLASSICAL)
    state = se.init(model)
    for rows in np.split(X, len(X) // 1000):
        state, _ = se.step(model, state, rows)
    return se.clusters(model, state).covariances


@pytest.mark.parametrize("covariance", COVARIANCES, ids=NAMES)
def test_covariance_at_offset_1e8(covariance):
    """P3: relative error at most 1e-8 and positive definite, where raw sums fail."""
    X = rows_at(1e8)
    exact = exact_covariance(X)
    found = streamed_covariance(X, covariance)
    assert found.shape == shaped(covariance, exact).shape
    assert relative_error(found, shaped(covariance, exact)) <= 1e-8
    if isinstance(covariance, (se.Full, se.Tied)):
        assert np.linalg.eigvalsh(found).min() > 0
    mutant = raw_sums_covariance(X, np.float64)
    assert relative_error(shaped(covariance, mutant), shaped(covariance, exact)) > 1e-8


def test_the_reference_vector_keeps_every_digit():
    """About r nothing is lost at offset 1e8; centred moments about 0 would lose six digits."""
    X = rows_at(1e8)
    for covariance in COVARIANCES:
        exact = shaped(covariance, exact_covariance(X))
        assert relative_error(streamed_covariance(X, covariance), exact) <= 1e-13


@pytest.mark.parametrize("covariance", COVARIANCES, ids=NAMES)
def test_covariance_of_single_precision_rows_at_offset_1e4(covariance):
    """P3: at most 1e-5, where raw sums in single precision fail."""
    X = rows_at(1e4, np.float32)
    exact = exact_covariance(X)
    found = streamed_covariance(X, covariance)
    assert relative_error(found, shaped(covariance, exact)) <= 1e-5
    mutant = raw_sums_covariance(X, np.float32)
    assert relative_error(shaped(covariance, mutant), shaped(covariance, exact)) > 1e-5


def test_a_tight_cluster_far_from_the_reference():
    """P4: Δ/s = 1e6, at most 1e-9; sums about one common reference fail."""
    draw = np.random.default_rng(2)
    tight = draw.normal(size=(3000, 2)) * 1e-3 + [1000.0, -500.0]
    wide = draw.normal(size=(3000, 2)) * 10 - [1000.0, 0.0]
    X, labels = np.concatenate([tight, wide]), np.repeat([0, 1], 3000)
    order = draw.permutation(6000)
    seeding = se.Seeding(rows=500)
    model = se.GaussianMixture(2, se.Full(), se.KeepAll(), seeding, prior=None, **CLASSICAL)
    state = se.init(model)
    for part in np.split(order, 12):
        state, _ = se.step(model, state, X[part], labels=labels[part])
    found = se.clusters(model, state)
    exact = exact_covariance(tight)
    assert relative_error(found.covariances[0], exact) <= 1e-9
    moved = tight - X.mean(axis=0)
    about_reference = moved.T @ moved / 3000 - np.outer(moved.mean(axis=0), moved.mean(axis=0))
    assert relative_error(about_reference, exact) > 1e-9


def test_the_first_step_from_means_that_are_far_away():
    """The scatter is summed again about the new mean, so that nothing cancels."""
    X = np.random.default_rng(4).normal(size=(2000, 2)) * 1e-3
    common = {"forgetting": se.KeepNothing(), "initial_means": [[1e5, 1e5]], **CLASSICAL}
    for model in (se.GaussianMixture(1, prior=None, **common), se.KMeans(1, **common)):
        state, _ = se.step(model, se.init(model), X)
        found = se.clusters(model, state).covariances[0]
        exact = exact_covariance(X)
        assert relative_error(found, exact if found.ndim == 2 else np.diag(exact)) <= 1e-7


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e8])
def test_kmeans_labels_do_not_depend_on_the_offset(offset):
    """Distances come from differences: no argmin flips far from the origin."""
    draw = np.random.default_rng(6)
    X = np.round(draw.normal(size=(500, 2)) * 8) / 8  # exact at every offset
    means = np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    model = se.KMeans(3, initial_means=means + offset, forgetting=se.KeepNothing())
    _, info = se.step(model, se.init(model), X + offset)
    plain = np.square(X[:, None] - means).sum(axis=2)
    chosen = plain[np.arange(500), info.scores.labels]
    np.testing.assert_allclose(chosen, plain.min(axis=1), rtol=1e-6)
