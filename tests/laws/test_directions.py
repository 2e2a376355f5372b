"""Directions: lengths do not matter, J falls, tallies merge, and zero rows are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stream_em as se
from stream_em.arrays import Array
from stream_em.errors import RowsError, SettingsError
from stream_em.intake import refusals
from stream_em.memory import MemorySink, MemorySource
from stream_em.models import directions
from stream_em.models.bessel import concentration, mean_length

MODELS = (se.SphericalKMeans, se.VonMisesFisher)


def drawn(n: int, D: int, K: int, noise: float, seed: int) -> tuple[Array, Array]:
    """Rows of any length around K directions, and which one each belongs to."""
    rng = np.random.default_rng(seed)
    centres = directions.unit_rows(rng.normal(size=(K, D)))
    labels = rng.integers(K, size=n)
    rows = centres[labels] + noise * rng.normal(size=(n, D)) / np.sqrt(D)
    return rows * np.exp(rng.normal(size=(n, 1))), labels


def learned(model: Any, X: Array, size: int = 500, seed: int = 0) -> Any:
    state = se.init(model, seed=seed)
    for start in range(0, len(X), size):
        state, _ = se.step(model, state, X[start : start + size])
    return se.finish(model, state)[0]


@pytest.mark.parametrize("kind", MODELS)
def test_lengths_of_rows_do_not_matter(kind: Any) -> None:
    X, _ = drawn(3000, 5, 4, 0.5, seed=1)
    model = kind(4)
    found = [
        se.clusters(model, learned(model, Y))
        for Y in (X, X * np.random.default_rng(2).uniform(0.01, 1e6, size=(len(X), 1)))
    ]
    # Of two starts that end alike but for their order, rounding may choose either.
    order = (found[0].means @ found[1].means.T).argmax(axis=1)
    np.testing.assert_allclose(found[0].means, found[1].means[order], atol=1e-12)
    np.testing.assert_allclose(found[0].counts, found[1].counts[order])
    np.testing.assert_allclose(np.linalg.norm(found[0].means, axis=1), 1.0, atol=1e-14)


def test_rows_of_extreme_length_keep_their_direction() -> None:
    X = np.array([[3e-300, 4e-300], [3e99, 4e99], [3.0, 4.0]])
    np.testing.assert_allclose(directions.unit_rows(X), [[0.6, 0.8]] * 3, rtol=1e-15)


@pytest.mark.parametrize("kind", MODELS)
def test_a_row_of_zeros_is_refused_everywhere(kind: Any) -> None:
    model = kind(2, initial_means=[[1.0, 0.0], [0.0, 1.0]])
    state = se.init(model)
    X = np.array([[1.0, 2.0], [0.0, 0.0], [-0.0, 0.0]])
    for verb in (se.step, se.score):
        with pytest.raises(RowsError, match=r"row 1: .* no direction"):
            verb(model, state, X)
    assert [refusal.row for refusal in refusals(model, state, None, X)] == [1, 2]


def test_the_engine_sends_rows_of_zeros_to_the_dead_letters() -> None:
    X, _ = drawn(60, 3, 2, 0.3, seed=3)
    X[17] = 0.0
    rejected = MemorySink()
    source = MemorySource([X], features=["a", "b", "c"], batch_size=10)
    summary = se.run(source, se.SphericalKMeans(2), dead_letters=rejected)
    assert (summary.events, summary.rejected) == (59, 1)


@pytest.mark.parametrize("kind", MODELS)
def test_settings_that_have_no_meaning_are_refused(kind: Any) -> None:
    for wrong in (
        {"scaling": se.Standardise()},
        {"missing": se.Learn()},
        {"background": se.Background()},
        {"initial_means": [[1.0, 0.0], [0.0, 0.0]]},
    ):
        with pytest.raises(SettingsError):
            kind(2, **wrong)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("D", [3, 300])
def test_every_full_step_improves_the_objective(kind: Any, D: int) -> None:
    X, _ = drawn(600, D, 5, 1.5, seed=4)
    model = kind(5, initial_means=X[:5], prior=None, forgetting=se.KeepNothing())
    state, values = se.init(model), []
    for _ in range(25):
        state, info = se.step(model, state, X)
        values.append(info.log_likelihood if model.has_density else -info.objective)
    assert np.diff(values).min() >= -1e-9 * abs(values[-1])
    assert values[-1] > values[0]


def test_free_energy_equals_the_log_likelihood_after_an_exact_e_step() -> None:
    X, _ = drawn(900, 4, 3, 0.8, seed=5)
    model = se.VonMisesFisher(3, initial_means=X[:3])
    _, info = se.step(model, se.init(model), X)
    assert info.free_energy == pytest.approx(info.log_likelihood, rel=1e-12)


def test_the_objective_and_its_growth_are_read_off_the_tally() -> None:
    rng = np.random.default_rng(6)
    Z = directions.unit_rows(rng.normal(size=(200, 6)) + 1.0)
    groups, w = rng.integers(3, size=200), rng.uniform(0.1, 3.0, size=200)
    o = np.bincount(groups, w)
    means = np.stack([w[groups == k] @ Z[groups == k] / o[k] for k in range(3)])

    def spent(rows: Array, weights: Array) -> float:
        centre = directions.centres((weights @ rows / weights.sum())[None], None)
        return float(weights @ np.square(rows - centre).sum(axis=1))

    apart = [spent(Z[groups == k], w[groups == k]) for k in range(3)]
    assert directions.distortion(o, means) == pytest.approx(sum(apart), rel=1e-12)
    costs = directions.ward(o, means)
    for p, q in ((0, 1), (0, 2), (1, 2)):
        pair = (groups == p) | (groups == q)
        growth = spent(Z[pair], w[pair]) - apart[p] - apart[q]
        assert costs[p, q] == pytest.approx(growth, rel=1e-9)


@pytest.mark.parametrize("kind", MODELS)
def test_tallies_merge_to_the_tally_of_all_rows(kind: Any) -> None:
    X, _ = drawn(1000, 4, 3, 0.6, seed=7)
    model = kind(3, initial_means=X[:3], forgetting=se.KeepAll(), restructuring=None)
    state, _ = se.step(model, se.init(model), X[:400])
    parts = [se.tally(model, state, X[start : start + 200]) for start in (400, 600, 800)]
    left = se.merge(model, se.merge(model, parts[0], parts[1]), parts[2])
    right = se.merge(model, parts[2], se.merge(model, parts[1], parts[0]))
    whole = se.tally(model, state, X[400:])
    for part in (left, right):
        one, other = se.learn(model, state, part)[0], se.learn(model, state, whole)[0]
        found, wanted = se.clusters(model, one), se.clusters(model, other)
        np.testing.assert_allclose(found.means, wanted.means, atol=1e-14)
        np.testing.assert_allclose(found.covariances, wanted.covariances, rtol=1e-9)
        assert found.counts.sum() == pytest.approx(1000, abs=1e-9)


@pytest.mark.parametrize("kind", MODELS)
def test_states_merge_to_the_clusters_of_both(kind: Any) -> None:
    X, labels = drawn(6000, 8, 4, 0.5, seed=8)
    model = kind(4)
    a, b = learned(model, X[:3000]), learned(model, X[3000:], seed=1)
    both = se.merge(model, a, b)
    found = se.clusters(model, both)
    assert len(found.means) == 4
    assert found.counts.sum() == pytest.approx(6000, abs=1e-8)
    np.testing.assert_allclose(np.linalg.norm(found.means, axis=1), 1.0, atol=1e-14)
    assert _agreement(labels, se.score(model, both, X).labels) > 0.99
    _, info = se.step(model, both, X[:1])
    assert all(
        np.linalg.norm(change.position) == pytest.approx(1, abs=1e-12) for change in info.changes
    )


def _agreement(truth: Array, labels: Array) -> float:
    """Share of rows in the most frequent true group of their cluster."""
    return sum(np.bincount(truth[labels == k]).max() for k in np.unique(labels)) / len(truth)


def test_clusters_move_to_rare_directions_that_appear_late() -> None:
    X, labels = drawn(20_000, 10, 12, 0.4, seed=9)
    late = (labels >= 9) & ((np.arange(len(X)) < 3000) | (np.arange(len(X)) % 10 > 0))
    X = X[~late]
    spent, kinds = [], set()
    for restructuring in (None, se.Restructuring()):
        model = se.SphericalKMeans(12, restructuring=restructuring)
        state = se.init(model, seed=3)
        for start in range(0, len(X), 500):
            state, info = se.step(model, state, X[start : start + 500])
            kinds |= {change.kind for change in info.changes}
        spent.append(se.score(model, state, X).squared_distance.mean())
        assert se.clusters(model, state).counts.sum() == pytest.approx(len(X), abs=1e-6)
    assert "relocation" in kinds
    assert spent[1] < 0.9 * spent[0]


def test_components_move_to_new_directions_when_asked_to() -> None:
    X, labels = drawn(12_000, 10, 12, 0.3, seed=1)
    order = np.argsort(labels // 3, kind="stable")
    right = []
    for restructuring in (None, se.Restructuring()):
        model = se.VonMisesFisher(12, restructuring=restructuring)
        state = learned(model, X[order])
        assert se.clusters(model, state).counts.sum() == pytest.approx(len(X), abs=1e-6)
        right.append(_agreement(labels, se.score(model, state, X).labels))
    assert right[1] > right[0] + 0.2


@pytest.mark.parametrize("kind", MODELS)
def test_a_whole_weight_is_a_repetition(kind: Any) -> None:
    X, _ = drawn(200, 3, 2, 0.5, seed=10)
    w = np.random.default_rng(11).integers(1, 4, size=200)
    model = kind(2, initial_means=X[:2], forgetting=se.KeepAll())
    one, _ = se.step(model, se.init(model), X, weights=w)
    other, _ = se.step(model, se.init(model), np.repeat(X, w, axis=0))
    a, b = se.clusters(model, one), se.clusters(model, other)
    np.testing.assert_allclose(a.means, b.means, atol=1e-14)
    np.testing.assert_allclose(a.covariances, b.covariances, rtol=1e-10)


@pytest.mark.parametrize("kind", MODELS)
def test_given_labels_are_taken_as_they_are(kind: Any) -> None:
    X, labels = drawn(400, 3, 2, 0.3, seed=12)
    model = kind(2, initial_means=X[:2], prior=None, forgetting=se.KeepNothing())
    state, _ = se.step(model, se.init(model), X, labels=labels)
    Z = directions.unit_rows(X)
    sums = np.stack([Z[labels == k].sum(axis=0) for k in range(2)])
    found = se.clusters(model, state)
    np.testing.assert_allclose(found.means, directions.unit_rows(sums), atol=1e-13)
    np.testing.assert_allclose(found.counts, np.bincount(labels))
    if model.has_density:
        r = np.linalg.norm(sums, axis=1) / np.bincount(labels)
        np.testing.assert_allclose(mean_length(3, 1 / found.covariances), r, rtol=1e-10)


def test_a_half_life_follows_a_turning_direction() -> None:
    rng = np.random.default_rng(13)
    model = se.SphericalKMeans(1, initial_means=[[1.0, 0.0]], forgetting=se.HalfLife(events=100))
    state = se.init(model)
    for angle in np.linspace(0, np.pi, 60):
        turned = np.array([np.cos(angle), np.sin(angle)])
        state, _ = se.step(model, state, turned + 0.05 * rng.normal(size=(50, 2)))
    assert se.clusters(model, state).means[0] @ turned > 0.97


def test_concentrations_are_found_again() -> None:
    rng = np.random.default_rng(14)
    kappas, n = np.array([2.0, 50.0]), 4000
    w = (
        1
        + np.log(
            rng.random((2, n)) * -np.expm1(-2 * kappas[:, None]) + np.exp(-2 * kappas[:, None])
        )
        / kappas[:, None]
    )
    angle = rng.uniform(0, 2 * np.pi, size=(2, n))
    flat = np.sqrt(1 - w**2)
    X = np.stack([flat * np.cos(angle), flat * np.sin(angle), w], axis=2)
    X[1, :, 2] *= -1
    rows = rng.permutation(X.reshape(-1, 3))
    model = se.VonMisesFisher(2)
    found = se.clusters(model, learned(model, rows, size=1000))
    np.testing.assert_allclose(np.sort(1 / found.covariances), kappas, rtol=0.1)


def test_identical_rows_leave_a_finite_density() -> None:
    model = se.VonMisesFisher(2)
    state, _ = se.step(model, se.init(model), np.tile([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]], (40, 1)))
    state, _ = se.finish(model, state)
    found = se.clusters(model, state)
    assert np.isfinite(found.covariances).all()
    assert np.isfinite(se.score(model, state, [[1.0, 1.0, 1.0]]).log_likelihood).all()


def test_rows_that_cancel_keep_their_centre() -> None:
    model = se.SphericalKMeans(1, initial_means=[[0.0, 1.0]], forgetting=se.KeepNothing())
    state, _ = se.step(model, se.init(model), [[3.0, 0.0], [-2.0, 0.0]])
    np.testing.assert_array_equal(se.clusters(model, state).means, [[0.0, 1.0]])


@pytest.mark.parametrize("D", [2, 3, 50, 768])
def test_concentration_inverts_the_mean_length(D: int) -> None:
    kappas = np.logspace(-3, 4.9, 40)
    np.testing.assert_allclose(concentration(D, 1 - mean_length(D, kappas)), kappas, rtol=1e-7)


@pytest.mark.parametrize("kind", MODELS)
def test_a_saved_state_goes_on_bit_for_bit(kind: Any, tmp_path: Path) -> None:
    X, _ = drawn(4000, 4, 3, 0.5, seed=15)
    model = kind(3)
    state = learned(model, X[:3000])
    se.save(tmp_path / "state", model, state)
    read_model, read = se.load(tmp_path / "state")
    assert read_model == model
    assert read == state
    assert se.step(read_model, read, X[3000:])[0] == se.step(model, state, X[3000:])[0]
