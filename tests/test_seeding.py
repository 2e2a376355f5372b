"""Before there are clusters: held rows, provisional answers, and too few rows."""

import warnings

import numpy as np
import pytest

import stream_em as se


def rows(n, seed=0):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(n, 2)) + 6 * draw.integers(0, 3, n)[:, None] * [1, -1]


def models(K=3, **options):
    options.setdefault("seeding", se.Seeding(restarts=2))
    return [
        se.KMeans(K, **options),
        se.SoftKMeans(K, **options),
        se.GaussianMixture(K, **options),
        se.GaussianMixture(K, covariance=se.Diagonal(), **options),
        se.GaussianMixture(K, covariance=se.Tied(), **options),
        se.GaussianMixture(K, covariance=se.Spherical(), **options),
        se.GaussianMixture(K, covariance=se.Isotropic(1.0), **options),
    ]


def ended(model, X, **columns):
    """State and warnings of a finite stream of one batch."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        state, _ = se.step(model, se.init(model), X, **columns)
        state, _ = se.finish(model, state)
    return state, [w for w in caught if issubclass(w.category, se.StreamEmWarning)]


def counted(model, state):
    """ΣN_obj of the clusters, rows set aside absorbed, and of the background."""
    background = 0.0 if state.background is None else state.background.objective
    return se.clusters(model, state).counts.sum() + background


def assert_sound(model, state, X):
    """Finite clusters that answer for their own rows."""
    found, scores = se.clusters(model, state), se.score(model, state, X)
    for values in (found.weights, found.means, found.covariances, found.counts):
        assert np.isfinite(values).all()
    assert found.weights.sum() == pytest.approx(1)
    assert np.isfinite(scores.squared_distance).all()
    assert np.isfinite(scores.responsibilities).all()
    if not isinstance(model, se.KMeans):
        assert np.isfinite(scores.log_likelihood).all()


@pytest.mark.parametrize(
    ("model", "D", "held"),
    [
        (se.KMeans(3), 2, 2000),
        (se.KMeans(150), 2, 3000),
        (se.KMeans(30_000), 1, 600_000),
        (se.GaussianMixture(8), 5, 2000),
        (se.GaussianMixture(20), 10, 5 * (19 + 200 + 20 * 55)),
        (se.GaussianMixture(20, covariance=se.Tied()), 30, 5 * (19 + 600 + 465)),
        (se.GaussianMixture(10), 200, 20_200),
        (se.KMeans(3), 100_000, 335),
    ],
)
def test_as_many_rows_are_held_as_the_rule_says(model, D, held):
    """D8: n0 = max(2K, min(max(2000, 20K, 5P), 20 000 + 20K, 256 MiB/8D)), P = 0 for k-means."""
    assert model.rows_to_hold(D) == held


@pytest.mark.parametrize("model", models(seeding=se.Seeding(rows=20)), ids=lambda m: m.kind)
def test_exactly_the_rows_asked_for_seed(model):
    X = rows(50)
    state, info = se.step(model, se.init(model), X[:19])
    assert (state.held_rows, info.events, state.total_events) == (19, 0, 19)
    state, info = se.step(model, state, X[19:])
    assert (state.held_rows, info.events, state.total_events) == (0, 50, 50)
    assert info.weight == 30
    assert counted(model, state) == pytest.approx(50)


@pytest.mark.parametrize("model", models(seeding=se.Seeding(rows=20)), ids=lambda m: m.kind)
def test_provisional_clusters_answer_from_the_first_row_on(model):
    X, state, announced = rows(19), se.init(model), []
    for row in X:
        state, info = se.step(model, state, row[None])
        announced += [(c.kind, c.row, c.new_uid) for c in info.changes if c.kind == "birth"]
        scores = se.score(model, state, X)
        assert len(scores.labels) == 19
        assert np.isfinite(scores.probability).all()
        assert np.isfinite(scores.squared_distance).all()
        assert (info.events, len(info.scores.labels)) == (0, 0)
    assert [row for _, row, _ in announced] == [1, 2, 2, 4, 4, 4, 8, 8, 8, 16, 16, 16]
    uids = [uid for _, _, uid in announced]
    assert uids == list(range(12))  # never used again
    assert se.clusters(model, state).uids.tolist() == uids[-3:]


def test_every_birth_and_death_is_announced_once():
    """The live names can be told from the changes alone."""
    for model in models(seeding=se.Seeding(rows=20)):
        state, live = se.init(model), {}
        for part in np.split(rows(60), [3, 4, 9, 25, 26]):
            state, info = se.step(model, state, part)
            for change in info.changes:
                if change.kind == "death":
                    assert live.pop(change.old_uid) == change.slot
                else:
                    assert change.new_uid not in live
                    live[change.new_uid] = change.slot
                assert change.reason
                assert len(change.position) == 2
            found = se.clusters(model, state)
            assert live == dict(zip(found.uids.tolist(), found.slots.tolist(), strict=True))


def test_provisional_clusters_are_made_before_the_last_held_row_only():
    """At 1, 2, 4, ... < n0 rows: what seeds at n0 = 8 is not announced twice."""
    model = se.KMeans(2, seeding=se.Seeding(rows=8))
    _, info = se.step(model, se.init(model), rows(8))
    assert sorted({(c.row, c.reason) for c in info.changes if c.kind == "birth"}) == [
        (1, "provisional"),
        (2, "provisional"),
        (4, "provisional"),
        (8, "seeding"),
    ]


def test_no_warning_comes_from_provisional_clusters():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for model in models(5):
            se.step(model, se.init(model), rows(2))


@pytest.mark.parametrize("model", models(5), ids=lambda m: m.kind)
@pytest.mark.parametrize("n", [1, 2, 4])
def test_more_clusters_than_rows(model, n):
    state, caught = ended(model, rows(n))
    assert len(se.clusters(model, state).uids) == n
    assert len(caught) == 1
    assert f"found {n} clusters, asked for 5" in str(caught[0].message)
    assert_sound(model, state, rows(n))


@pytest.mark.parametrize("model", models(4), ids=lambda m: m.kind)
def test_fewer_distinct_rows_than_clusters(model):
    X = np.repeat([[0.0, 0.0], [1.0, 3.0]], 20, axis=0)
    state, caught = ended(model, X)
    assert len(se.clusters(model, state).uids) == 2
    assert len(caught) == 1
    assert_sound(model, state, X)
    after, _ = se.step(model, state, rows(200))
    assert_sound(model, after, rows(200))
    assert counted(model, after) == pytest.approx(240)


@pytest.mark.parametrize("model", models(4), ids=lambda m: m.kind)
@pytest.mark.parametrize("value", [0.0, 1.0, -1e8, 0.1, 1e90])
def test_all_rows_equal(model, value):
    X = np.full((50, 2), value)
    state, caught = ended(model, X)
    assert len(se.clusters(model, state).uids) == 1
    assert len(caught) == 1
    np.testing.assert_allclose(se.clusters(model, state).means, X[:1], rtol=1e-12)
    assert_sound(model, state, X)


@pytest.mark.parametrize("prior", [se.Prior(), None], ids=["prior", "no prior"])
@pytest.mark.parametrize("value", [0.0, 5.0, 1e8 / 3])
def test_constant_features(prior, value):
    """A feature that never moves neither breaks a factorisation nor decides anything."""
    X = np.column_stack([rows(300), np.full(300, value)])
    options = {"seeding": se.Seeding(rows=100, restarts=2)}
    for shape in (se.Full(), se.Tied(), se.Diagonal(), se.Spherical()):
        model = se.GaussianMixture(3, covariance=shape, prior=prior, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            state = se.init(model)
            for part in np.split(X, 6):
                state, info = se.step(model, state, part)
            assert_sound(model, state, X)
        if prior is None and not isinstance(shape, se.Spherical):
            assert info.interventions
        np.testing.assert_allclose(se.clusters(model, state).means[:, 2], value, rtol=1e-9)


def test_numerical_repairs_are_counted_never_silent():
    X = np.column_stack([rows(100), np.zeros(100)])
    model = se.GaussianMixture(1, prior=None, forgetting=se.KeepNothing())
    _, info = se.step(model, se.init(model), X)
    assert set(info.interventions) == {"cholesky_retry"}
    flat = se.GaussianMixture(1, covariance=se.Diagonal(), prior=None, forgetting=se.KeepNothing())
    _, info = se.step(flat, se.init(flat), X)
    assert set(info.interventions) == {"covariance_floor"}


def test_a_stream_of_weight_zero_ends_without_clusters():
    for model in models():
        state, first = se.step(model, se.init(model), rows(10), weights=np.zeros(10))
        state, last = se.finish(model, state)
        assert first.events + last.events == 10
        assert len(last.scores.labels) == last.events
        assert (state.total_events, state.held_rows) == (10, 0)
        assert len(se.clusters(model, state).uids) == 0


def test_rows_of_weight_zero_do_not_seed():
    """They are answered for, but n0 counts rows that are learned."""
    X, w = rows(40), np.tile([1.0, 0.0], 20)
    model = se.KMeans(3, seeding=se.Seeding(rows=15))
    state, _ = se.step(model, se.init(model), X[:28], weights=w[:28])
    assert state.held_rows == 28
    state, info = se.step(model, state, X[28:], weights=w[28:])
    assert info.events == 40
    assert se.clusters(model, state).counts.sum() == 20


def test_the_best_of_several_seeds_is_kept():
    """More restarts never end worse on the held rows."""
    X = np.random.default_rng(3).normal(size=(200, 2)) * [1, 5]
    for build, better in (
        (se.KMeans, lambda m, s: -se.score(m, s, X).squared_distance.sum()),
        (se.GaussianMixture, lambda m, s: se.score(m, s, X).log_likelihood.sum()),
    ):
        quality = []
        for restarts in (1, 4, 16):
            model = build(6, seeding=se.Seeding(restarts=restarts))
            state, _ = ended(model, X)
            quality.append(better(model, state))
        assert quality[0] <= quality[1] + 1.0
        assert quality[1] <= quality[2] + 1.0
        assert quality[0] < quality[2]


@pytest.mark.parametrize("model", models(), ids=lambda m: m.kind)
def test_seeding_recovers_separate_groups(model):
    draw = np.random.default_rng(1)
    centres = np.array([[0.0, 0.0], [30.0, 0.0], [0.0, 30.0]])
    X = centres[draw.integers(0, 3, 300)] + draw.normal(size=(300, 2))
    state, caught = ended(model, X)
    found = se.clusters(model, state).means
    assert not caught
    order = np.argsort(found @ [1.0, 2.0])
    np.testing.assert_allclose(found[order], centres, atol=0.5)
    assert se.clusters(model, state).slots.tolist() == [0, 1, 2]


def plain_plus_plus(X, K, draw):
    """k-means++ without trials: J after each row has gone to its nearest seed."""
    closest, chosen = np.ones(len(X)), []
    for _ in range(K):
        chosen.append(X[draw.choice(len(X), p=closest / closest.sum())])
        closest = np.square(X[:, None] - np.array(chosen)).sum(axis=2).min(axis=1)
    return np.square(X[:, None] - np.array(chosen)).sum(axis=2).argmin(axis=1)


def test_greedy_trials_beat_plain_seeding():
    """Before any Lloyd iteration, on average over seeds."""
    draw = np.random.default_rng(0)
    X = draw.normal(size=(12, 3))[draw.integers(0, 12, 300)] * 10 + draw.normal(size=(300, 3))
    model = se.KMeans(12, seeding=se.Seeding(restarts=1, lloyd_steps=0))
    greedy, plain = [], []
    for seed in range(30):
        state, _ = se.finish(model, se.step(model, se.init(model, seed=seed), X)[0])
        labels = plain_plus_plus(X, 12, draw)
        means = np.array([X[labels == k].mean(axis=0) for k in range(12)])
        plain.append(np.square(X - means[labels]).sum())
        greedy.append(state.moments.scatter.values.sum())
    assert np.mean(greedy) < 0.8 * np.mean(plain)


@pytest.mark.parametrize("shape", [se.Full(), se.Tied(), se.Diagonal()], ids=lambda s: s.kind)
@pytest.mark.parametrize("factor", [1e-9, 1.0, 1e9])
def test_mixtures_find_groups_in_any_feature_whatever_its_unit(shape, factor):
    """Distances between a share and a number of bytes tell of the bytes alone."""
    draw = np.random.default_rng(0)
    group = draw.integers(2, size=600)
    X = np.column_stack([0.2 + 0.6 * group + 0.05 * draw.normal(size=600), draw.normal(size=600)])
    X[:, 1] *= factor
    model = se.GaussianMixture(2, shape, seeding=se.Seeding(rows=300))
    state, _ = se.step(model, se.init(model), X)
    labels = se.score(model, state, X).labels
    assert max((labels == group).mean(), (labels != group).mean()) > 0.99
