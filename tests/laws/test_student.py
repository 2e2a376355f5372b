"""Student's t: the laws of the tally hold with a third weight, and outliers do not pull."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stream_em as se
from stream_em import moments
from stream_em.arrays import Array
from stream_em.errors import SettingsError
from stream_em.kernels import plain
from stream_em.moments import DiagonalScatter, FullScatter, Moments, PooledScatter, Retentions

FORMS = (DiagonalScatter, FullScatter, PooledScatter)
COVARIANCES = (se.Full(), se.Tied(), se.Diagonal(), se.Spherical(), se.Isotropic(1.0))


def some(form: Any, n: int, seed: int) -> tuple[Array, ...]:
    rng = np.random.default_rng(seed)
    R = rng.dirichlet(np.ones(3), size=n)
    return (
        rng.normal(size=(n, 2)),
        rng.uniform(0.1, 2, size=n),
        R,
        rng.uniform(0.01, 3, size=(n, 3)),
    )


def tallied(form: Any, Z: Array, w: Array, R: Array, U: Array) -> Moments:
    return moments.tally(form, plain, Z, w, R, np.zeros((3, 2)), U)


def close(a: Moments, b: Moments) -> None:
    for name in ("step", "objective", "squares", "mean"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(a.scatter.values, b.scatter.values, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(moments.pull(a), moments.pull(b), rtol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_the_laws_of_the_tally(form: Any) -> None:
    rows = some(form, 60, 1)
    a, b, c = (tallied(form, *(part[s] for part in rows)) for s in np.split(np.arange(60), [7, 30]))
    merge, fade = moments.merge, moments.fade
    r, s = Retentions(0.3, 0.7), Retentions(0.5, 0.9)
    close(merge(a, merge(b, c)), merge(merge(a, b), c))
    close(merge(a, b), merge(b, a))
    close(merge(moments.zero(form, 3, 2), a), a)
    close(fade(merge(a, b), r), merge(fade(a, r), fade(b, r)))
    close(fade(fade(a, r), s), fade(a, Retentions(0.15, 0.63)))
    assert fade(a, Retentions(1.0, 1.0)) == a
    close(merge(merge(a, b), c), tallied(form, *rows))


@pytest.mark.parametrize("form", FORMS)
def test_equal_relevance_of_one_is_the_plain_tally(form: Any) -> None:
    Z, w, R, U = some(form, 40, 2)
    plainly = moments.tally(form, plain, Z, w, R, np.zeros((3, 2)))
    close(tallied(form, Z, w, R, np.ones_like(U)), plainly)
    other = tallied(form, *some(form, 9, 3))
    assert moments.merge(plainly, other).relevance is not None
    close(moments.merge(plainly, other), moments.merge(tallied(form, Z, w, R, U * 0 + 1), other))


@pytest.mark.parametrize("form", FORMS)
def test_folding_two_clusters_is_chans_merge_of_their_rows(form: Any) -> None:
    Z, w, R, U = some(form, 50, 4)
    labels = R.argmax(axis=1)
    R = (labels[:, None] == np.arange(3)).astype(np.float64)
    folded = moments.fold(tallied(form, Z, w, R, U), 0, 1)
    own = U[np.arange(50), labels]
    together = np.stack([R[:, 0] + R[:, 1], R[:, 2]], axis=1)
    wanted = moments.tally(
        form, plain, Z, w, together, np.zeros((2, 2)), np.stack([own] * 2, axis=1)
    )
    close(folded, wanted)
    assert folded.objective.sum() == pytest.approx(w.sum(), rel=1e-13)


@pytest.mark.parametrize("form", FORMS)
def test_the_third_weight_travels_with_its_cluster(form: Any) -> None:
    a, b = tallied(form, *some(form, 20, 5)), tallied(form, *some(form, 30, 6))
    joined = moments.join(a, b)
    np.testing.assert_array_equal(moments.pull(joined), [*moments.pull(a), *moments.pull(b)])
    order = np.array([4, 0])
    np.testing.assert_array_equal(
        moments.pull(moments.take(joined, order)), moments.pull(joined)[order]
    )
    there = moments.move(a, np.array([3.0, -1.0]), np.array([2.0, 0.5]))
    back = moments.move(there, np.array([-1.5, 2.0]), np.array([0.5, 2.0]))
    close(moments.permute(moments.permute(back, np.array([1, 0])), np.array([1, 0])), a)


def four(seed: int, reach: float) -> tuple[Array, Array]:
    """Four clusters of sd 1, and 5 % outliers over ±reach."""
    rng = np.random.default_rng(seed)
    centres = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0], [6.0, 6.0]])
    X = centres[rng.integers(4, size=20_000)] + rng.normal(size=(20_000, 2))
    far = rng.random(len(X)) < 0.05
    X[far] = rng.uniform(-reach, reach, size=(far.sum(), 2))
    return X, centres


def learned(model: Any, X: Array, size: int = 500) -> Any:
    state = se.init(model, seed=1)
    for start in range(0, len(X), size):
        state, _ = se.step(model, state, X[start : start + size])
    return state


def worst_error(model: Any, X: Array, centres: Array) -> float:
    means = se.clusters(model, learned(model, X)).means
    return max(float(np.linalg.norm(means - centre, axis=1).min()) for centre in centres)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_outliers_do_not_pull_the_means(seed: int) -> None:
    X, centres = four(seed, 15.0)
    assert worst_error(se.StudentMixture(4), X, centres) <= 0.1
    X, _ = four(seed, 40.0)
    assert worst_error(se.StudentMixture(4, initial_means=centres), X, centres) <= 0.1
    gaussian = se.GaussianMixture(4, initial_means=centres, background=None, restructuring=None)
    assert worst_error(gaussian, X, centres) > 0.2


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_many_degrees_of_freedom_are_a_gaussian_mixture(covariance: Any) -> None:
    X, centres = four(3, 10.0)
    shared = {"covariance": covariance, "initial_means": centres, "scaling": se.Standardise()}
    student = se.StudentMixture(4, degrees_of_freedom=1e9, **shared)
    gaussian = se.GaussianMixture(4, background=None, restructuring=None, **shared)
    a, b = learned(student, X[:3000]), learned(gaussian, X[:3000])
    found, wanted = se.clusters(student, a), se.clusters(gaussian, b)
    np.testing.assert_allclose(found.means, wanted.means, atol=1e-5)
    np.testing.assert_allclose(found.covariances, wanted.covariances, rtol=1e-4)
    np.testing.assert_allclose(
        se.score(student, a, X).log_likelihood, se.score(gaussian, b, X).log_likelihood, atol=1e-3
    )


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_tallies_merge_to_the_tally_of_all_rows(covariance: Any) -> None:
    X, centres = four(4, 15.0)
    model = se.StudentMixture(
        4, covariance=covariance, initial_means=centres, forgetting=se.KeepAll()
    )
    state, _ = se.step(model, se.init(model), X[:500])
    parts = [se.tally(model, state, X[start : start + 300]) for start in (500, 800, 1100)]
    merged = se.merge(model, parts[2], se.merge(model, parts[0], parts[1]))
    one, _ = se.learn(model, state, merged)
    other, _ = se.step(model, state, X[500:1400])
    a, b = se.clusters(model, one), se.clusters(model, other)
    np.testing.assert_allclose(a.means, b.means, atol=1e-12)
    np.testing.assert_allclose(a.covariances, b.covariances, rtol=1e-10)
    assert a.counts.sum() == pytest.approx(1400, abs=1e-9)


def test_states_merge_and_conserve_what_they_counted() -> None:
    X, centres = four(5, 15.0)
    model = se.StudentMixture(4)
    both = se.merge(model, learned(model, X[:8000]), learned(model, X[8000:16_000]))
    found = se.clusters(model, both)
    assert found.counts.sum() == pytest.approx(16_000, abs=1e-6)
    assert max(np.linalg.norm(found.means - c, axis=1).min() for c in centres) < 0.15
    averaged = se.clusters(model, both, averaged=True)
    assert np.isfinite(averaged.covariances).all()


def test_the_tally_keeps_its_third_weight_in_a_checkpoint(tmp_path: Path) -> None:
    X, _ = four(6, 15.0)
    model = se.StudentMixture(4, covariance=se.Diagonal(), degrees_of_freedom=3.0)
    state = learned(model, X[:4000])
    assert state.moments.relevance is not None
    se.save(tmp_path / "state", model, state)
    read_model, read = se.load(tmp_path / "state")
    assert read_model == model
    assert read == state
    assert se.step(read_model, read, X[4000:5000])[0] == se.step(model, state, X[4000:5000])[0]


def test_a_background_may_stand_beside_heavy_tails() -> None:
    X, centres = four(7, 15.0)
    model = se.StudentMixture(4, background=se.Background(), restructuring=se.Restructuring())
    assert worst_error(model, X, centres) <= 0.1
    with pytest.raises(SettingsError, match="background"):
        se.StudentMixture(4, restructuring=se.Restructuring())
    with pytest.raises(SettingsError, match="degrees_of_freedom"):
        se.StudentMixture(4, degrees_of_freedom=0.0)


def test_a_half_life_forgets_the_third_weight_too() -> None:
    X, centres = four(8, 15.0)
    model = se.StudentMixture(4, initial_means=centres, forgetting=se.HalfLife(events=500))
    state = learned(model, np.concatenate([X[:5000], X[5000:10_000] + 1.0]))
    means = se.clusters(model, state).means
    assert np.linalg.norm(means - centres - 1.0, axis=1).max() < 0.4
