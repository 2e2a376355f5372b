"""The contract of every model, under every covariance and every way of forgetting."""

import copy
import itertools
import pickle
import warnings

import numpy as np
import pytest

import stream_em as se
from stream_em.errors import RowsError
from stream_em.models.kinds import construct, describe

K, D, N0 = 3, 2, 24
FEW = se.Seeding(rows=N0, restarts=2, em_steps=3)
MEANS = ((0.0, 0.0), (6.0, -6.0), (12.0, -12.0))
POLICIES = [
    se.KeepAll(),
    se.KeepNothing(),
    se.PowerWindow(0.7, minimum_rows=30),
    se.HalfLife(events=50),
    se.EventTimeHalfLife(seconds=30, max_ahead_seconds=1e3),
]
SHAPES = [se.Full(), se.Tied(), se.Diagonal(), se.Spherical(), se.Isotropic(1.0)]
BUILDERS = {
    "kmeans": lambda **options: se.KMeans(K, **options),
    "soft-kmeans": lambda **options: se.SoftKMeans(K, **options),
    **{
        f"mixture-{shape.kind}": lambda shape=shape, **options: se.GaussianMixture(
            K, covariance=shape, **options
        )
        for shape in SHAPES
    },
}
COVARIANCES = {
    "kmeans": (K, D),
    "soft-kmeans": (K,),
    "mixture-full": (K, D, D),
    "mixture-tied": (D, D),
    "mixture-diagonal": (K, D),
    "mixture-spherical": (K,),
    "mixture-isotropic": (K,),
}
CASES = list(itertools.product(BUILDERS, POLICIES, ["seeded", "given"]))


pytestmark = pytest.mark.filterwarnings("ignore:seeding found:stream_em.StreamEmWarning")


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1].kind}-{case[2]}")
def case(request):
    return request.param


@pytest.fixture
def model(case):
    name, policy, begin = case
    options = {"seeding": FEW} if begin == "seeded" else {"initial_means": MEANS}
    return BUILDERS[name](forgetting=policy, **options)


@pytest.fixture(scope="module")
def data():
    """Rows, weights and event times of three groups."""
    draw = np.random.default_rng(4)
    X = draw.normal(size=(120, D)) + 6 * draw.integers(0, K, 120)[:, None] * [1, -1]
    return X, draw.uniform(0.2, 2, 120), np.sort(draw.uniform(0, 60, 120))


def run(model, data, cuts=(10, 40, 70, 71), state=None):
    """The state and infos after all rows, cut at `cuts`, and the end of the stream."""
    X, w, times = data
    state, infos = se.init(model, seed=2) if state is None else state, []
    for part in np.split(np.arange(len(X)), cuts):
        state, info = se.step(model, state, X[part], weights=w[part], times=times[part])
        infos.append(info)
    state, info = se.finish(model, state)
    return state, [*infos, info]


def test_clusters_are_sound(model, case, data):
    state, _ = run(model, data)
    found = se.clusters(model, state)
    assert found.covariances.shape == COVARIANCES[case[0]]
    assert found.means.shape == (K, D)
    assert found.weights.sum() == pytest.approx(1, abs=1e-12)
    assert (found.weights >= 0).all()
    assert (found.counts >= 0).all()
    assert (np.diff(found.slots) > 0).all()
    assert len(set(found.uids.tolist())) == K
    assert np.isfinite(found.means).all()
    if case[0] != "kmeans":
        values = found.covariances
        full = case[0] in ("mixture-full", "mixture-tied")
        assert ((np.linalg.eigvalsh(values) if full else values) > 0).all()


def test_scores_are_sound(model, case, data):
    X, _, _ = data
    state, _ = run(model, data)
    scores, found = se.score(model, state, X), se.clusters(model, state)
    R = scores.responsibilities
    assert R.shape == (120, K)
    assert np.abs(R.sum(axis=1) - 1).max() <= 1e-12
    assert (R >= 0).all()
    assert np.array_equal(scores.labels, R.argmax(axis=1))
    assert np.array_equal(scores.probability, R.max(axis=1))
    exact = np.square(X - found.means[scores.labels]).sum(axis=1)
    np.testing.assert_allclose(scores.squared_distance, exact, rtol=1e-9)
    assert np.array_equal(scores.uids, found.uids)
    assert np.array_equal(scores.slots, found.slots)
    background = scores.background
    assert ((background >= 0) & (background <= 1)).all()
    assert (background > 0).any() == (model.background is not None)
    assert np.isnan(scores.log_likelihood).all() == (case[0] == "kmeans")
    assert len(se.score(model, state, X[:0]).labels) == 0


def test_rows_are_scored_one_by_one_as_together(model, data):
    """No row's score depends on its neighbours."""
    X, _, _ = data
    state, _ = run(model, data)
    together = se.score(model, state, X[:9])
    for i in range(9):
        alone = se.score(model, state, X[i : i + 1])
        assert alone.labels[0] == together.labels[i]
        np.testing.assert_allclose(alone.responsibilities[0], together.responsibilities[i])


def test_infos_add_up(model, case, data):
    w = data[1]
    state, infos = run(model, data)
    assert sum(info.events for info in infos) == state.total_events == 120
    held = 0 if case[2] == "given" else 10 if case[1] == se.KeepNothing() else N0
    assert sum(info.weight for info in infos) == pytest.approx(w[held:].sum(), rel=1e-12)
    for info in infos:
        assert 0 <= info.retention <= 1
        assert 0 <= info.step_size <= 1
        assert info.objective >= 0
        assert info.events == len(info.scores.labels)
        if case[0] == "kmeans":
            assert np.isnan([info.log_likelihood, info.entropy, info.free_energy]).all()
        else:
            slack = 1e-9 * abs(info.log_likelihood)
            parts = K + (model.background is not None)
            assert -1e-9 <= info.entropy <= info.weight * np.log(parts) + 1e-9
            assert abs(info.free_energy - info.log_likelihood) <= slack


def test_counts_obey_the_policy(model, case, data):
    """ΣN_obj + N_0 = Σw, faded as the policy says; rows set aside count with the clusters."""
    _, w, times = data
    state, _ = run(model, data)
    counts = se.clusters(model, state).counts.sum()
    if state.background is not None:
        counts += state.background.objective
    match case[1]:
        case se.KeepAll() | se.PowerWindow():
            expected = w.sum()
        case se.KeepNothing():
            expected = w[71:].sum()
        case se.HalfLife():
            expected = (w * 2 ** (-(w.sum() - np.cumsum(w)) / 50)).sum()
        case _:
            expected = (w * 2 ** ((times - times.max()) / 30)).sum()
    assert counts == pytest.approx(expected, rel=1e-10)


def test_steps_are_pure_and_repeat(model, data):
    X, w, times = (values.copy() for values in data)
    one, two = run(model, data), run(model, (X, w, times), cuts=(10, 40, 70, 71))
    assert one == two
    before = copy.deepcopy(one[0])
    run(model, data, state=one[0])
    assert one[0] == before
    assert all(np.array_equal(a, b) for a, b in zip(data, (X, w, times), strict=True))


def test_interrupted_runs_go_on_bit_for_bit(model, data):
    whole, _ = run(model, data)
    X, w, times = data
    state = se.init(model, seed=2)
    for part in np.split(np.arange(120), (10, 40, 70, 71)):
        restored, kept = pickle.loads(pickle.dumps((model, state)))
        assert restored == model
        state, _ = se.step(restored, kept, X[part], weights=w[part], times=times[part])
    assert se.finish(model, state)[0] == whole


def test_weight_zero_and_empty_batches_are_no_ops(model, data):
    X, _, times = data
    state, _ = run(model, data)
    after, info = se.step(model, state, X[:5] + 1e6, weights=np.zeros(5), times=times[-5:])
    assert after.moments == state.moments
    assert after.clusters == state.clusters
    assert after.window == state.window
    assert (info.events, info.weight, info.retention, info.step_size) == (5, 0, 1, 0)
    assert se.step(model, state, X[:0], times=times[:0])[0] == state
    assert se.finish(model, state)[0] == state


def test_bad_rows_change_nothing(model, data):
    X, _, times = data
    state, _ = run(model, data)
    before = copy.deepcopy(state)
    for bad in (np.nan, np.inf, 1e308):
        rows = X[:4].copy()
        rows[2, 1] = bad
        with pytest.raises(RowsError, match="row 2"):
            se.step(model, state, rows, times=times[-4:])
    with pytest.raises(RowsError):
        se.step(model, state, X[:4], weights=[1, -1, 1, 1], times=times[-4:])
    assert state == before


def test_batches_of_one_are_steps_like_any_other(model, data):
    """And each row gets its score exactly once."""
    state, infos = run(model, data, cuts=np.arange(1, 120))
    assert state.total_events == 120
    at = 0
    for info in infos:
        assert info.first == at
        at += info.events
    assert at == 120
    assert np.isfinite(se.clusters(model, state).means).all()


def test_groups_are_found(model, case, data):
    """Three groups 8.5 deviations apart: the labels are theirs after 120 rows."""
    X, _, _ = data
    state, _ = run(model, data, cuts=(60,))
    labels, groups = se.score(model, state, X).labels, np.round(X[:, 0] / 6 - X[:, 1] / 6)
    groups = np.clip(np.round(groups / 2), 0, 2).astype(int)
    table = np.zeros((K, K))
    np.add.at(table, (labels, groups), 1)
    assert table.max(axis=0).sum() >= 116


def test_settings_travel(model):
    assert construct("model", describe(model)) == model
    assert pickle.loads(pickle.dumps(model)) == model
    names = {name: getattr(se, name) for name in se.__all__ if name[0].isupper()}
    assert eval(repr(model), names) == model


def test_standardised_models_are_indifferent_to_units(case, data):
    """Labels and probabilities of the same rows in other units agree."""
    name, policy, begin = case
    X, w, times = data
    unit, shift = np.array([1e-3, 1e4]), np.array([5.0, -1e5])
    found = []
    for A, b in ((np.ones(D), np.zeros(D)), (unit, shift)):
        means = {"initial_means": np.asarray(MEANS) * A + b} if begin == "given" else {}
        once = se.Seeding(rows=N0, restarts=1)  # of several, rounding may choose another
        model = BUILDERS[name](forgetting=policy, seeding=once, scaling=se.Standardise(), **means)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", se.StreamEmWarning)
            state, _ = run(model, (X * A + b, w, times), cuts=(60,))
        found.append((se.score(model, state, X * A + b), se.clusters(model, state)))
    assert np.array_equal(found[0][0].labels, found[1][0].labels)
    ours, theirs = (scores.responsibilities for scores, _ in found)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    np.testing.assert_allclose(found[1][1].means, found[0][1].means * unit + shift, rtol=1e-6)
