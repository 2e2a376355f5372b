"""Weights, units, and complete data: what rows count for, and what is known of them."""

import warnings

import numpy as np
import pytest

import stream_em as se

SHAPES = [se.Full(), se.Tied(), se.Diagonal(), se.Spherical(), se.Isotropic(0.5)]
# HalfLife is not among them: there a repeated row is older than its repetition
POLICIES = [se.KeepAll(), se.KeepNothing(), se.PowerWindow(0.7, minimum_rows=20)]


def rows(n=60, D=2, seed=0):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(n, D)) + 5 * draw.integers(0, 2, n)[:, None]


def family(means, forgetting, **options):
    """Every model with given means, so that the first clusters are fixed."""
    K = len(means)
    common = {"initial_means": means, "forgetting": forgetting, **options}
    yield se.KMeans(K, **common)
    yield se.SoftKMeans(K, beta=2.0, **common)
    for shape in SHAPES:
        yield se.GaussianMixture(K, covariance=shape, **common)


def assert_same_clusters(a, b, rtol=1e-12):
    for name in ("weights", "means", "covariances", "counts"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=rtol, atol=1e-12)


@pytest.mark.parametrize("forgetting", POLICIES, ids=lambda f: f.kind)
def test_a_whole_weight_is_a_repetition(forgetting):
    """P19 at fixed clusters: state, sums and step sizes to 1e-12."""
    X, labels = rows(), np.tile([1, 0], 30)
    w = np.random.default_rng(4).integers(0, 4, 60)
    again, names = np.repeat(X, w, axis=0), np.repeat(labels, w)
    for model in family(X[:2], forgetting):
        fresh = se.init(model)
        used, _ = se.step(model, fresh, X[::-1])
        for state in (fresh, used):
            a, weighted = se.step(model, state, X, weights=w, labels=labels)
            b, repeated = se.step(model, state, again, labels=names)
            for name in ("weight", "objective", "log_likelihood", "entropy", "free_energy"):
                one, two = getattr(weighted, name), getattr(repeated, name)
                assert one == pytest.approx(two, rel=1e-12, abs=1e-9, nan_ok=True)
            assert weighted.retention == pytest.approx(repeated.retention, rel=1e-12)
            assert weighted.step_size == pytest.approx(repeated.step_size, rel=1e-12)
            for name in ("step", "objective", "mean"):
                one, two = getattr(a.moments, name), getattr(b.moments, name)
                np.testing.assert_allclose(one, two, rtol=1e-12, atol=1e-12)
            one, two = a.moments.scatter.values, b.moments.scatter.values
            np.testing.assert_allclose(one, two, rtol=1e-11, atol=1e-11)
            assert a.window.weight == pytest.approx(b.window.weight, rel=1e-12)


def test_whole_weights_repeat_rows_in_event_time_too():
    X, w = rows(), np.random.default_rng(4).integers(0, 4, 60)
    times = np.random.default_rng(5).uniform(0, 30, 60)
    model = se.KMeans(2, initial_means=X[:2], forgetting=se.EventTimeHalfLife(7, 100))
    a, _ = se.step(model, se.init(model), X, weights=w, times=times)
    again = np.repeat(X, w, axis=0)
    b, _ = se.step(model, se.init(model), again, times=np.repeat(times, w))
    assert_same_clusters(se.clusters(model, a), se.clusters(model, b))


@pytest.mark.parametrize("policy", [*POLICIES, se.HalfLife(10)], ids=lambda f: f.kind)
def test_weight_zero_is_a_no_op_with_an_answer(policy):
    X = rows()
    for model in family(X[:2], policy):
        fresh = se.init(model)
        used, _ = se.step(model, fresh, X)
        for state in (fresh, used):
            after, info = se.step(model, state, X[:7] * 1e9, weights=np.zeros(7))
            assert after.total_events == state.total_events + 7
            assert len(info.scores.labels) == info.events == 7
            assert info.weight == info.step_size == 0
            assert info.retention == 1
            for name in ("moments", "spread", "window", "learned", "clusters", "frame", "time"):
                assert getattr(after, name) == getattr(state, name)


def test_rows_of_weight_zero_among_others_change_nothing():
    """Neither the tally, nor the clocks, nor what is seeded."""
    X, junk = np.random.default_rng(1).uniform(size=(60, 2)), 1e6 + rows(60, seed=3)
    at = np.arange(0, 60, 3)
    mixed, w = np.insert(X, at, junk[at], axis=0), np.insert(np.ones(60), at, 0.0)
    few = se.Seeding(rows=40, restarts=1)
    for given in (None, X[:4]):
        for model in (
            se.KMeans(4, initial_means=given, seeding=few),
            se.SoftKMeans(4, initial_means=given, seeding=few),
            se.GaussianMixture(4, initial_means=given, seeding=few),
        ):
            for seed in range(3):
                a, b = se.init(model, seed=seed), se.init(model, seed=seed)
                a, _ = se.step(model, a, X)
                b, info = se.step(model, b, mixed, weights=w)
                assert info.events == len(mixed)
                assert_same_clusters(se.clusters(model, a), se.clusters(model, b), rtol=1e-8)
                assert a.learned == b.learned == 60


def test_weight_zero_does_not_move_event_time():
    model = se.KMeans(1, initial_means=[[0.0]], forgetting=se.EventTimeHalfLife(10, 1000))
    state, _ = se.step(model, se.init(model), [[1.0]], times=[0.0])
    state, info = se.step(model, state, [[2.0], [3.0]], weights=[0.0, 1.0], times=[50.0, 10.0])
    assert state.time == 10.0
    assert info.retention == 0.5


def rescaled(shape, values, factor):
    match shape:
        case se.Full() | se.Tied():
            return values * np.outer(factor, factor)
        case _:
            return values * factor**2


@pytest.mark.parametrize(
    "factor", [np.array([1e-2, 1.0, 1e3]), np.array([1e-7, 1.0, 3e4])], ids=["alike", "unlike"]
)
@pytest.mark.parametrize("shape", SHAPES[:3], ids=lambda s: s.kind)
def test_a_change_of_units_changes_nothing_but_units(shape, factor):
    """P19: x → Ax + b transforms the clusters and leaves γ within 1e-8, prior included."""
    X, shift = rows(200, D=3), 3e2 * factor
    found, R = [], []
    for A, b in ((np.ones(3), np.zeros(3)), (factor, shift)):
        model = se.GaussianMixture(
            2, covariance=shape, forgetting=se.KeepAll(), initial_means=X[:2] * A + b
        )
        state = se.init(model)
        for part in np.split(X, 4):
            state, _ = se.step(model, state, part * A + b)
        found.append(se.clusters(model, state))
        R.append(se.score(model, state, X * A + b).responsibilities)
    assert np.abs(R[0] - R[1]).max() <= 1e-8
    np.testing.assert_allclose(found[1].weights, found[0].weights, rtol=1e-8)
    np.testing.assert_allclose((found[1].means - shift) / factor, found[0].means, atol=1e-6)
    expected = rescaled(shape, found[0].covariances, factor)
    size = rescaled(shape, np.ones_like(found[0].covariances), factor)
    np.testing.assert_allclose(found[1].covariances / size, expected / size, atol=1e-6)


def test_an_additive_regulariser_would_depend_on_units():
    """Negative control of the law above: 1e-6 on the diagonal is something else in other units."""
    X = rows(200, D=3)
    R = []
    for A in (1.0, 1e-4):
        common = {"covariance": se.Full(), "prior": None, "forgetting": se.KeepNothing()}
        model = se.GaussianMixture(2, initial_means=X[:2] * A, **common)
        for _ in range(3):
            state, _ = se.step(model, se.init(model), X * A)
            found = se.clusters(model, state)
            model = se.GaussianMixture(
                2,
                initial_means=found.means,
                initial_weights=found.weights,
                initial_covariances=found.covariances + 1e-6 * np.eye(3),
                **common,
            )
        R.append(se.score(model, se.init(model), X * A).responsibilities)
    assert np.abs(R[0] - R[1]).max() > 1e-3


def per_label(X, labels, w):
    """Complete-data maximum likelihood: shares, means and covariances of each label."""
    shares, means, covariances = [], [], []
    for k in range(labels.max() + 1):
        mine = labels == k
        mean = np.average(X[mine], axis=0, weights=w[mine])
        moved = X[mine] - mean
        shares.append(w[mine].sum())
        means.append(mean)
        covariances.append((moved.T * w[mine]) @ moved / w[mine].sum())
    return np.array(shares) / w.sum(), np.array(means), np.array(covariances)


def shaped(shape, shares, covariances):
    diagonals = np.einsum("kdd->kd", covariances)
    match shape:
        case se.Full():
            return covariances
        case se.Tied():
            return np.einsum("k,kij->ij", shares, covariances)
        case se.Diagonal():
            return diagonals
        case se.Spherical():
            return diagonals.mean(axis=1)
        case _:
            return np.full(len(shares), 0.5)


@pytest.mark.parametrize("forgetting", [se.KeepAll(), se.KeepNothing()], ids=lambda f: f.kind)
@pytest.mark.parametrize("n", [60, 2600])
def test_all_rows_labelled_gives_the_complete_data_maximum_likelihood(forgetting, n):
    draw = np.random.default_rng(n)
    X, labels, w = rows(n), draw.integers(0, 3, n), draw.uniform(0.5, 2, n)
    shares, means, covariances = per_label(X, labels, w)
    common = {"forgetting": forgetting, "restructuring": None, "background": None}
    models = [se.KMeans(3, **common)]
    for shape in SHAPES:
        models.append(se.GaussianMixture(3, covariance=shape, prior=None, **common))
    cuts = [7, 40] if isinstance(forgetting, se.KeepAll) else []
    for model in models:
        state = se.init(model)
        for part in np.split(np.arange(n), cuts):
            state, _ = se.step(model, state, X[part], weights=w[part], labels=labels[part])
        state, _ = se.finish(model, state)
        found = se.clusters(model, state)
        np.testing.assert_allclose(found.means, means, rtol=1e-10)
        np.testing.assert_allclose(found.weights, shares, rtol=1e-10)
        np.testing.assert_allclose(found.counts, shares * w.sum(), rtol=1e-10)
        if not isinstance(model, se.KMeans):
            exact = shaped(model.covariance, shares, covariances)
            np.testing.assert_allclose(found.covariances, exact, rtol=1e-8)


def test_given_responsibilities_enter_the_tally_as_they_are():
    X, draw = rows(50), np.random.default_rng(0)
    R = draw.dirichlet(np.ones(2), size=50)
    for forgetting in (se.KeepAll(), se.KeepNothing()):
        for model in (
            se.SoftKMeans(2, beta=1.0, forgetting=forgetting),
            se.GaussianMixture(2, prior=None, background=None, forgetting=forgetting),
            se.GaussianMixture(2, prior=None, forgetting=forgetting, initial_means=X[:2]),
        ):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", se.StreamEmWarning)
                state, _ = se.step(model, se.init(model), X, responsibilities=R)
                state, _ = se.finish(model, state)
            found = se.clusters(model, state)
            np.testing.assert_allclose(found.counts, R.sum(axis=0), rtol=1e-12)
            np.testing.assert_allclose(found.means, R.T @ X / R.sum(axis=0)[:, None], rtol=1e-10)


def test_known_and_unknown_labels_mix():
    """A labelled row stays in its cluster, whatever the model thinks; others are assigned."""
    X = np.array([[0.0], [0.2], [10.0], [10.2], [0.1]])
    labels = np.array([1, -1, 0, -1, 0])
    model = se.KMeans(2, initial_means=[[10.0], [0.0]], forgetting=se.KeepNothing())
    state, info = se.step(model, se.init(model), X, labels=labels)
    np.testing.assert_allclose(se.clusters(model, state).means[:, 0], [20.3 / 3, 0.1])
    assert info.scores.labels.tolist() == [1, 1, 0, 0, 1]  # scores are the model's own opinion
    R = np.full((5, 2), np.nan)
    R[[0, 2, 4]] = np.eye(2)[[1, 0, 0]]
    other, _ = se.step(model, se.init(model), X, responsibilities=R)
    assert_same_clusters(se.clusters(model, state), se.clusters(model, other))


def test_labels_name_clusters_in_seeding():
    """Label k is row k of the means, even when only one row of it is known."""
    X = np.concatenate([rows(40) * 0.01, rows(40) * 0.01 + [50, 0], rows(40) * 0.01 + [0, 50]])
    labels = np.full(120, -1)
    labels[[3, 50, 90]] = [2, 0, 1]
    for model in (se.KMeans(3), se.SoftKMeans(3), se.GaussianMixture(3)):
        state, _ = se.step(model, se.init(model), X, labels=labels)
        state, _ = se.finish(model, state)
        found = se.clusters(model, state).means
        np.testing.assert_allclose(found, [[50, 0], [0, 50], [0, 0]], atol=0.2)
