"""The laws of a step: pure, conserving, independent of the cut, scored before it learns."""

import copy
from dataclasses import fields, is_dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stream_em as se
from stream_em.errors import RowsError

quick = settings(deadline=None, max_examples=15)
FEW = se.Seeding(rows=30, restarts=2)


def blobs(n=100, seed=0):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(n, 2)) + 6 * draw.integers(0, 3, n)[:, None] * [1, -1]


def models(forgetting=None, **options):
    """Every model family under one policy, seeded from 30 held rows unless told."""
    options = {"seeding": FEW, **options}
    if forgetting is not None:
        options["forgetting"] = forgetting
    return [
        se.KMeans(3, **options),
        se.SoftKMeans(3, **options),
        se.GaussianMixture(3, **options),
        se.GaussianMixture(3, covariance=se.Tied(), **options),
        se.GaussianMixture(3, covariance=se.Spherical(), **options),
    ]


def arrays_in(value):
    """Every array that a record reaches."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from arrays_in(item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from arrays_in(getattr(value, field.name))


def counted(model, state):
    """ΣN_obj of the clusters, rows set aside absorbed, and of the background."""
    background = 0.0 if state.background is None else state.background.objective
    return se.clusters(model, state).counts.sum() + background


def fed(model, X, sizes, seed=0):
    """The state after X in batches of cycling sizes, and all infos."""
    state, infos, start = se.init(model, seed=seed), [], 0
    while start < len(X):
        size = sizes[len(infos) % len(sizes)]
        state, info = se.step(model, state, X[start : start + size])
        infos.append(info)
        start += size
    return state, infos


@pytest.mark.parametrize("model", models(), ids=lambda m: m.kind)
def test_a_step_is_pure(model):
    X = blobs()
    rows, weights = X.copy(), np.linspace(0.5, 2, 100)
    state = se.init(model, seed=3)
    for part in np.split(np.arange(100), [20, 50]):
        before = copy.deepcopy(state)
        one = se.step(model, state, X[part], weights=weights[part])
        two = se.step(model, state, X[part], weights=weights[part])
        assert one == two
        assert state == before
        state = one[0]
    assert np.array_equal(X, rows)
    assert np.array_equal(weights, np.linspace(0.5, 2, 100))


@pytest.mark.parametrize("model", models(), ids=lambda m: m.kind)
@pytest.mark.parametrize("n", [10, 100])
def test_no_array_of_a_state_or_info_can_be_written_or_changed_from_outside(model, n):
    X, weights = blobs(n), np.ones(n)
    state, info = se.step(model, se.init(model), X, weights=weights)
    before, told = copy.deepcopy(state), copy.deepcopy(info)
    X += 1e6
    weights *= 3
    assert state == before
    assert info == told
    found = list(arrays_in((state, info, se.clusters(model, state), se.score(model, state, X))))
    assert len(found) > 10
    assert not any(array.flags.writeable for array in found)


@pytest.mark.parametrize("model", models(), ids=lambda m: m.kind)
def test_copies_of_a_state_are_as_immutable(model):
    state, _ = se.step(model, se.init(model), blobs())
    assert not any(array.flags.writeable for array in arrays_in(copy.deepcopy(state)))


@pytest.mark.parametrize("forgetting", [se.KeepAll(), se.PowerWindow(0.6, minimum_rows=20)])
@pytest.mark.parametrize("given_means", [False, True])
def test_every_row_is_counted_once(forgetting, given_means):
    """ΣN (counts) + N_0 + held = Σw of the rows seen."""
    X = blobs()
    w = np.random.default_rng(1).uniform(0, 2, 100)
    options = {"initial_means": X[:3]} if given_means else {}
    for model in models(forgetting, **options):
        state, start = se.init(model), 0
        for size in (5, 1, 0, 30, 64):
            rows = slice(start, start + size)
            state, _ = se.step(model, state, X[rows], weights=w[rows])
            start += size
            held = 0 if state.held is None else state.held.weights.sum()
            tallied = 0 if held else counted(model, state)
            assert tallied + held == pytest.approx(w[:start].sum(), rel=1e-12)
            assert state.total_events == start


@quick
@given(st.integers(1, 120), st.lists(st.integers(1, 50), min_size=1, max_size=6))
def test_held_rows_and_seeding_do_not_depend_on_the_cut(n, sizes):
    """Bit for bit: what is held, provisional clusters, their names, and the seeded clusters."""
    X = blobs(120)[:n]
    for model in models(se.KeepAll())[:3]:
        whole, one = fed(model, X[:30], [1])
        cut, many = fed(model, X, sizes)
        if n <= 30:
            assert whole == fed(model, X[:30], sizes)[0]
        else:
            seeding = next(i for i in many if i.events)
            scores = one[-1].scores
            for name in ("labels", "probability", "squared_distance", "log_likelihood"):
                ours = getattr(seeding.scores, name)[:30]
                assert ours.tobytes() == getattr(scores, name).tobytes()
            assert np.array_equal(whole.identity.uids, cut.identity.uids)
        changes = [c for i in many for c in i.changes]
        assert changes == [c for i in one for c in i.changes]


@pytest.mark.parametrize("size", [1, 7, 33])
def test_under_fixed_responsibilities_any_cut_gives_the_same_state(size):
    X = blobs(seed=size)
    labels = np.random.default_rng(size).integers(0, 3, 100)
    for model in models(se.KeepAll()):
        states = []
        for length in (100, size):
            state = se.init(model)
            for start in range(0, 100, length):
                part = slice(start, start + length)
                state, _ = se.step(model, state, X[part], labels=labels[part])
            states.append(state)
        a, b = (s.moments for s in states)
        np.testing.assert_allclose(a.step, b.step, rtol=1e-12)
        np.testing.assert_allclose(a.mean, b.mean, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(a.scatter.values, b.scatter.values, rtol=1e-10, atol=1e-10)
        assert states[0].total_events == states[1].total_events == 100
        assert states[0].learned == states[1].learned == 100


@pytest.mark.parametrize("model", models(), ids=lambda m: m.kind)
@pytest.mark.parametrize("sizes", [[1], [7], [100], [13, 0, 40]])
def test_scores_cover_every_row_exactly_once_in_order(model, sizes):
    X = blobs()
    state, infos = fed(model, X, sizes)
    state, last = se.finish(model, state)
    at = 0
    for info in [*infos, last]:
        assert info.first == at
        assert info.events == len(info.scores.labels)
        at += info.events
    assert at == state.total_events == 100
    after = [i for i in infos if i.events]
    if sizes == [1]:
        first = after[0]
        again = se.score(model, fed(model, X[:30], [30])[0], X[:30])
        assert len(first.scores.labels) == 30
        assert first.scores == again  # as the clusters stood at seeding


@pytest.mark.parametrize("model", models(), ids=lambda m: m.kind)
def test_sums_are_of_the_rows_before_their_own_update(model):
    X, w = blobs(), np.random.default_rng(2).uniform(0.1, 3, 70)
    state, seeding = se.step(model, se.init(model), X[:30])
    assert (seeding.weight, seeding.objective, seeding.events) == (0, 0, 30)
    before = se.score(model, state, X[30:])
    means = se.clusters(model, state).means
    _, info = se.step(model, state, X[30:], weights=w)
    assert info.scores == before
    nearest = np.square(X[30:, None] - means).sum(axis=2).min(axis=1)
    assert info.weight == pytest.approx(w.sum(), rel=1e-12)
    assert info.objective == pytest.approx(w @ nearest, rel=1e-9)
    if isinstance(model, se.KMeans):
        assert np.isnan([info.log_likelihood, info.entropy, info.free_energy]).all()
        return
    r_0 = before.background[:, None]
    R = np.hstack([(1 - r_0) * before.responsibilities, r_0])
    entropy = -(R * np.log(np.where(R > 0, R, 1))).sum(axis=1)
    assert info.log_likelihood == pytest.approx(w @ before.log_likelihood, rel=1e-12)
    assert info.entropy == pytest.approx(w @ entropy, rel=1e-9, abs=1e-12)
    parts = 3 + (model.background is not None)
    assert 0 <= info.entropy <= w.sum() * np.log(parts)
    assert info.free_energy <= info.log_likelihood + 1e-9 * abs(info.log_likelihood)


def test_rows_learned_in_the_step_that_seeds_enter_its_sums():
    """Held rows enter none of the sums; the rest of their batch does."""
    X = blobs()
    for model in models():
        state, _ = se.step(model, se.init(model), X[:30])
        _, alone = se.step(model, state, X[30:])
        _, together = se.step(model, se.init(model), X)
        assert together.events == 100
        for name in ("weight", "objective", "log_likelihood", "entropy", "free_energy"):
            assert np.array_equal(getattr(together, name), getattr(alone, name), equal_nan=True)


@pytest.mark.parametrize("model", models()[1:], ids=lambda m: m.kind)
def test_given_labels_lower_the_free_energy_strictly(model):
    X = blobs()
    state, _ = se.step(model, se.init(model), X[:50])
    labels = np.random.default_rng(0).integers(0, 3, 50)
    _, info = se.step(model, state, X[50:], labels=labels)
    assert info.free_energy < info.log_likelihood
    assert info.entropy == 0
    _, free = se.step(model, state, X[50:])
    assert info.log_likelihood == free.log_likelihood


def test_step_is_learn_after_tally():
    X = blobs()
    for model in models():
        state = se.init(model)
        for rows in (X[:10], X[10:60], X[60:]):
            part = se.tally(model, state, rows)
            both = se.learn(model, state, part)
            assert both == se.step(model, state, rows)
            state = both[0]


def test_a_tally_of_other_clusters_is_refused():
    """Tallies made under different clusters are never merged."""
    X = blobs()
    for model in models():
        state, _ = se.step(model, se.init(model), X[:40])
        part = se.tally(model, state, X[40:70])
        later, _ = se.step(model, state, X[70:])
        with pytest.raises(RowsError, match="clusters"):
            se.learn(model, later, part)


@pytest.mark.parametrize("model", models(), ids=lambda m: m.kind)
def test_empty_batches_and_empty_states_change_nothing(model):
    state = se.init(model)
    assert se.finish(model, state)[0] == state
    assert len(se.clusters(model, state).uids) == 0
    for rows in (blobs(10), blobs()):
        state, _ = se.step(model, state, rows)
        for empty in (np.zeros((0, 2)), []):
            after, info = se.step(model, state, empty)
            assert after == state
            assert (info.events, info.weight, len(info.scores.labels)) == (0, 0, 0)
    done, _ = se.finish(model, state)
    assert se.finish(model, done)[0] == done


def test_without_any_row_the_answer_is_slot_zero():
    for model in models():
        scores = se.score(model, se.init(model), [[1.0, 2.0]])
        assert scores.slots[scores.labels].tolist() == [0]
        assert scores.probability.tolist() == [1.0]
        assert scores.responsibilities.tolist() == [[1.0]]


def test_under_keep_nothing_the_first_step_seeds_and_makes_no_further_update():
    X = blobs()
    for model in models(se.KeepNothing()):
        state, info = se.step(model, se.init(model), X)
        assert state.held_rows == 0
        assert info.events == 100
        assert info.weight == 0
        assert counted(model, state) == pytest.approx(100)


def test_seeds_matter_and_repeat():
    X = np.random.default_rng(0).uniform(size=(200, 2))
    for model in models():
        a, b = (fed(model, X, [50], seed=7)[0] for _ in range(2))
        other, _ = fed(model, X, [50], seed=8)
        assert a == b
        assert a.seed == 7
        assert not np.array_equal(se.clusters(model, a).means, se.clusters(model, other).means)
