"""Standardise: the model works in units of the seeding rows, results come in the original."""

import numpy as np
import pytest

import stream_em as se


def rows(n, seed=0):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(n, 2)) + 6 * draw.integers(0, 3, n)[:, None] * [1, -1]


@pytest.mark.parametrize("given_means", [False, True])
def test_standardised_results_are_in_the_original_units(given_means):
    X = rows(400) * [1e-3, 50.0] + [7.0, -1e4]
    apart = X[np.argsort(X[:, 0])[[50, 200, 350]]]
    options = {"initial_means": apart} if given_means else {"seeding": se.Seeding(rows=100)}
    for shape in (se.Full(), se.Tied(), se.Diagonal()):
        model = se.GaussianMixture(
            3, covariance=shape, scaling=se.Standardise(), forgetting=se.KeepAll(), **options
        )
        state = se.init(model)
        for part in np.split(X, [100, 300]):
            state, _ = se.step(model, state, part)
        found, labels = se.clusters(model, state), se.score(model, state, X).labels
        for k in range(3):
            mine = X[labels == k]
            size = X.std(axis=0)
            assert (np.abs(found.means[k] - mine.mean(axis=0)) < 0.5 * size).all()
        if isinstance(shape, se.Full):
            within = (found.weights[:, None] * np.einsum("kdd->kd", found.covariances)).sum(axis=0)
            between = found.weights @ np.square(found.means - found.weights @ found.means)
            np.testing.assert_allclose(within + between, X.var(axis=0), rtol=0.05)


def test_standardised_distances_are_in_the_models_units():
    """Mean and deviation of the seeding rows, then frozen."""
    X = rows(100) * [1e-3, 50.0] + [7.0, -1e4]
    model = se.KMeans(2, scaling=se.Standardise(), seeding=se.Seeding(rows=60))
    state, _ = se.step(model, se.init(model), X[:60])
    unit, means = X[:60].std(axis=0), se.clusters(model, state).means
    scores = se.score(model, state, X)
    exact = np.square((X[:, None] - means) / unit).sum(axis=2).min(axis=1)
    np.testing.assert_allclose(scores.squared_distance, exact, rtol=1e-9)
    later, _ = se.step(model, state, X[60:] * 7)
    exact = np.square((X[:, None] - se.clusters(model, later).means) / unit).sum(axis=2).min(axis=1)
    np.testing.assert_allclose(se.score(model, later, X).squared_distance, exact, rtol=1e-9)


def test_covariances_of_every_shape_are_in_the_original_units():
    """Labelled rows, no prior: the covariances are those of the rows as they came."""
    X, labels = rows(200) * [1e-2, 50.0], np.tile([0, 1], 100)
    unit = X.std(axis=0)
    parts = [X[labels == k] - X[labels == k].mean(axis=0) for k in (0, 1)]
    full = np.array([part.T @ part / 100 for part in parts])
    diagonal = np.einsum("kdd->kd", full)
    shared = (diagonal / unit**2).mean(axis=1) * np.square(unit).mean()
    common = {"scaling": se.Standardise(), "forgetting": se.KeepNothing()}
    for model, expected in (
        (se.KMeans(2, **common), diagonal),
        (se.GaussianMixture(2, prior=None, **common), full),
        (se.GaussianMixture(2, covariance=se.Tied(), prior=None, **common), full.mean(axis=0)),
        (se.GaussianMixture(2, covariance=se.Diagonal(), prior=None, **common), diagonal),
        (se.GaussianMixture(2, covariance=se.Spherical(), prior=None, **common), shared),
    ):
        state, _ = se.step(model, se.init(model), X, labels=labels)
        np.testing.assert_allclose(se.clusters(model, state).covariances, expected, rtol=1e-9)
