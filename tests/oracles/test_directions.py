"""Directions beside SciPy's von Mises-Fisher law and a textbook spherical k-means."""

import numpy as np
import pytest
from scipy import special, stats

import stream_em as se
from stream_em.arrays import Array
from stream_em.models import directions
from stream_em.models.bessel import log_bessel, log_normaliser, mean_length
from stream_em.seeding import Material, lloyd


def unit(X: Array) -> Array:
    return X / np.linalg.norm(X, axis=1, keepdims=True)


@pytest.mark.parametrize("order", [-0.5, 0.0, 0.5, 1.0, 3.5, 14.5, 15.0, 99.0, 383.0])
def test_log_bessel_is_scipys(order: float) -> None:
    x = np.logspace(-3, 6, 200)
    with np.errstate(divide="ignore"):
        wanted = np.log(special.ive(order, x))
    known = wanted > -600  # SciPy underflows below
    found = log_bessel(order, x) + order * np.log(x)
    np.testing.assert_allclose(found[known], wanted[known], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("D", [2, 3, 10, 768])
def test_mean_length_is_the_ratio_of_bessels(D: int) -> None:
    kappa = np.logspace(1, 5, 100)
    upper, lower = special.ive(D / 2, kappa), special.ive(D / 2 - 1, kappa)
    known = upper > 1e-280
    assert known.any()
    np.testing.assert_allclose(
        mean_length(D, kappa)[known], upper[known] / lower[known], rtol=1e-12
    )


@pytest.mark.parametrize("D", [2, 3, 768])
def test_without_concentration_the_density_is_uniform(D: int) -> None:
    area = np.log(2) + 0.5 * D * np.log(np.pi) - special.gammaln(D / 2)
    assert log_normaliser(D, np.array(0.0)) == pytest.approx(-area, rel=1e-13)


@pytest.mark.parametrize("D", [2, 3, 10, 200])
def test_densities_are_scipys(D: int) -> None:
    rng = np.random.default_rng(D)
    X = unit(rng.normal(size=(300, D)) + 2 * np.eye(D)[rng.integers(2, size=300)])
    model = se.VonMisesFisher(2, initial_means=np.eye(D)[:2], forgetting=se.KeepAll())
    state, _ = se.step(model, se.init(model), X)
    found = se.clusters(model, state)
    parts = [
        np.log(weight) + stats.vonmises_fisher(mean, 1 / inverse).logpdf(X)
        for weight, mean, inverse in zip(found.weights, found.means, found.covariances, strict=True)
    ]
    scores = se.score(model, state, 7.0 * X)
    np.testing.assert_allclose(scores.log_likelihood, np.logaddexp(*parts), rtol=1e-9)


def test_seeding_iterates_on_the_sphere() -> None:
    rng = np.random.default_rng(2)
    Z = unit(rng.normal(size=(300, 4)) + np.eye(4)[rng.integers(3, size=300)])
    material = Material(Z, np.ones(300), None, np.ones(4), np.zeros(4))
    found, labels = lloyd(material, Z[:3], 40, lambda means: directions.centres(means, None))
    centres = Z[:3]
    for _ in range(40):
        before = (Z @ centres.T).argmax(axis=1)
        centres = unit(np.stack([Z[before == k].sum(axis=0) for k in range(3)]))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-14)
    np.testing.assert_array_equal(labels, (Z @ centres.T).argmax(axis=1))


def test_full_steps_are_textbook_spherical_k_means() -> None:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(500, 6)) + 2 * np.eye(6)[rng.integers(4, size=500)]
    Z = unit(X)
    centres = Z[:4]
    model = se.SphericalKMeans(4, initial_means=X[:4], forgetting=se.KeepNothing())
    state = se.init(model)
    for _ in range(12):
        cosines = Z @ centres.T
        labels = cosines.argmax(axis=1)
        state, info = se.step(model, state, X)
        assert info.objective == pytest.approx((2 - 2 * cosines.max(axis=1)).sum(), rel=1e-12)
        centres = unit(np.stack([Z[labels == k].sum(axis=0) for k in range(4)]))
        np.testing.assert_allclose(se.clusters(model, state).means, centres, atol=1e-13)
    np.testing.assert_array_equal(se.score(model, state, X).labels, (Z @ centres.T).argmax(axis=1))
