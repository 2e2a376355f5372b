"""The union of two states: nothing is lost, every name tells its fate, features find each other."""

import numpy as np
import pandas as pd
import pytest

import stream_em as se
from stream_em.errors import RowsError

FEW = se.Seeding(rows=500, restarts=2)
CENTRES = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 9.0]])


def rows(n, seed=0, shift=0.0, far=0.03):
    draw = np.random.default_rng(seed)
    X = CENTRES[draw.integers(0, 4, n)] + draw.normal(size=(n, 2)) + shift
    out = (np.arange(n) > n // 2) & (draw.random(n) < far)
    X[out] += [60.0, -50.0]
    return X


def models(**options):
    options = {"seeding": FEW, **options}
    return [
        se.KMeans(5, **options),
        se.SoftKMeans(5, **options),
        se.GaussianMixture(5, **options),
        se.GaussianMixture(5, se.Tied(), **options),
        se.GaussianMixture(5, se.Diagonal(), **options),
    ]


each_model = pytest.mark.parametrize("model", models(), ids=lambda m: m.kind)


def fed(model, X, size=150, seed=0, names=None):
    state = se.init(model, seed=seed)
    for start in range(0, len(X), size):
        part = X[start : start + size]
        batch = part if names is None else pd.DataFrame(part, columns=names)
        state, _ = se.step(model, state, batch)
    return state


def accounted(state):
    """Σ N_obj + N_0 + w(Q), the copies of mixtures counted once."""
    if state.background is not None:
        return state.moments.objective.sum() + state.background.objective
    waits = 0.0 if state.quarantine is None else state.quarantine.weights.sum()
    return state.moments.objective.sum() + waits


@each_model
def test_all_weight_is_conserved(model):
    """Clusters, background and waiting rows of both, through the merges down to K."""
    a, b = fed(model, rows(1300)), fed(model, rows(2100, seed=1, shift=3.0), seed=1)
    if model.background is None:
        assert min(len(a.quarantine), len(b.quarantine)) > 0
    both = se.merge(model, a, b)
    assert accounted(both) == pytest.approx(3400, rel=1e-10)
    assert accounted(both) == pytest.approx(accounted(a) + accounted(b), rel=1e-12)
    assert both.total_events == 3400
    assert both.learned == 3400
    assert len(both.identity.slots) == 5
    read = se.clusters(model, both).counts.sum()
    assert read + getattr(both.background, "objective", 0.0) == pytest.approx(3400, rel=1e-10)
    if model.background is not None:
        total = a.background.objective + b.background.objective
        assert both.background.objective == pytest.approx(total, rel=1e-12)
    after, _ = se.step(model, both, rows(600, seed=2))
    assert accounted(after) == pytest.approx(4000, rel=1e-10)


@each_model
def test_the_mean_of_all_rows_is_conserved(model):
    a, b = fed(model, rows(1300, far=0)), fed(model, rows(2100, seed=1, shift=3.0, far=0))
    both = se.merge(model, a, b)

    def total(state):
        place = state.frame.outward(state.spread.mean[0])
        return state.spread.step[0] * place

    np.testing.assert_allclose(total(both), total(a) + total(b), rtol=1e-10)
    mean = np.vstack([rows(1300, far=0), rows(2100, seed=1, shift=3.0, far=0)]).mean(axis=0)
    np.testing.assert_allclose(total(both) / 3400, mean, rtol=1e-9)
    ours, theirs = (s.moments for s in (both, a))
    assert ours.mean.shape == theirs.mean.shape
    assert np.isfinite(se.clusters(model, both).means).all()


@each_model
def test_uids_of_the_second_are_shifted_and_every_fate_is_told(model):
    a, b = fed(model, rows(1300)), fed(model, rows(2100, seed=1, shift=3.0), seed=1)
    both = se.merge(model, a, b)
    offset = a.identity.next_uid
    known = {*a.identity.uids.tolist(), *(b.identity.uids + offset).tolist()}
    assert set(both.identity.uids.tolist()) <= known
    assert both.identity.next_uid == offset + b.identity.next_uid
    merged = [c for c in both.unreported if c.kind == "merge"]
    assert len(merged) == 5
    assert {c.old_uid for c in merged} == known - set(both.identity.uids.tolist())
    for change in merged:
        assert change.new_uid in known
        assert change.reason == "states merged"
    born = {c.new_uid: c.slot for c in both.unreported if c.kind == "birth"}
    names = dict(zip(both.identity.uids.tolist(), both.identity.slots.tolist(), strict=True))
    assert born.items() <= names.items()
    assert both.identity.slots.tolist() == [0, 1, 2, 3, 4]
    _, info = se.step(model, both, rows(10))
    assert info.changes[: len(both.unreported)] == both.unreported


@each_model
def test_features_find_each_other_by_name(model):
    """b's columns in another order: the same union as if they had been in a's order."""
    X, Y = rows(1300), rows(2100, seed=1, shift=3.0)
    a = fed(model, X, names=["x", "y"])
    same = se.merge(model, a, fed(model, Y, names=["x", "y"], seed=1))
    other = se.merge(model, a, fed(model, Y[:, ::-1], names=["y", "x"], seed=1))
    assert same.features == other.features == ("x", "y")
    assert accounted(other) == pytest.approx(3400, rel=1e-10)
    one, two = se.clusters(model, same), se.clusters(model, other)
    order = [np.argsort(np.round(found.means @ [1.0, 3.0], 3)) for found in (one, two)]
    np.testing.assert_allclose(two.means[order[1]], one.means[order[0]], atol=0.3)
    low, high = other.frame.outward(np.zeros(2)), a.frame.origin
    np.testing.assert_allclose(low, high)
    if other.background is not None:
        np.testing.assert_allclose(other.background.low, same.background.low, atol=1e-9)
        np.testing.assert_allclose(other.background.high, same.background.high, atol=1e-9)


@each_model
def test_other_features_are_refused(model):
    a = fed(model, rows(700), names=["x", "y"])
    for names in (["x", "z"], ["u", "v"]):
        with pytest.raises(ValueError, match="other features"):
            se.merge(model, a, fed(model, rows(700), names=names))
    wide = fed(model, np.random.default_rng(0).normal(size=(700, 3)))
    with pytest.raises(ValueError, match="features"):
        se.merge(model, fed(model, rows(700)), wide)


@each_model
def test_held_rows_join_either_way(model):
    held, seeded, empty = fed(model, rows(200)), fed(model, rows(900, seed=1)), se.init(model)
    assert se.merge(model, held, fed(model, rows(100, seed=3))).held_rows == 300
    for both in (se.merge(model, held, seeded), se.merge(model, seeded, held)):
        assert both.held_rows == 0
        assert both.total_events == both.final_events == 1100
        assert accounted(both) == pytest.approx(1100, rel=1e-10)
    for both in (se.merge(model, empty, seeded), se.merge(model, seeded, empty)):
        assert both.moments == seeded.moments
        assert both.total_events == 900


def test_rows_that_wait_are_united_within_the_room_there_is():
    """The largest distances stay, the rest is absorbed, and ages count the other's rows too."""
    settings = se.Restructuring(capacity=60, moves=0)
    model = se.KMeans(4, seeding=FEW, restructuring=settings)
    a, b = fed(model, rows(1600, far=0.2)), fed(model, rows(1500, seed=1, far=0.2), seed=1)
    assert len(a.quarantine) == len(b.quarantine) == 60
    both = se.merge(model, a, b)
    assert len(both.quarantine) == 60
    expected = np.sort(np.concatenate([a.quarantine.scores, b.quarantine.scores]))[-60:]
    np.testing.assert_allclose(np.sort(both.quarantine.scores), expected)
    assert accounted(both) == pytest.approx(3100, rel=1e-10)
    assert (both.learned - both.quarantine.arrivals > 0).all()
    places = {tuple(p) for p in np.round(both.frame.outward(both.quarantine.rows), 6)}
    theirs = {tuple(p) for s in (a, b) for p in np.round(s.frame.outward(s.quarantine.rows), 6)}
    assert places <= theirs


def test_a_union_under_event_time_fades_both_to_the_later_clock():
    policy = se.EventTimeHalfLife(seconds=100, max_ahead_seconds=1e6)
    for model in models(forgetting=policy, seeding=se.Seeding(rows=200, restarts=1)):
        states = []
        for seed, end in ((0, 50.0), (1, 200.0)):
            times = np.linspace(0, end, 400)
            state, _ = se.step(model, se.init(model), rows(400, seed, far=0), times=times)
            states.append(state)
        both = se.merge(model, *states)
        assert both.time == 200.0
        kept = [2 ** (-(200.0 - s.time) / 100) for s in states]
        mass = [s.moments.objective.sum() for s in states]
        assert both.moments.objective.sum() == pytest.approx(
            sum(k * m for k, m in zip(kept, mass, strict=True)), rel=1e-9
        )


def test_averages_are_united_by_their_share_of_the_rows():
    model = se.GaussianMixture(4, seeding=FEW)
    a, b = fed(model, rows(1500, far=0)), fed(model, rows(3000, seed=1, far=0))
    both = se.merge(model, a, b)
    assert both.averaged.moments.objective.sum() == pytest.approx(1.0, rel=1e-9)
    found = se.clusters(model, both, averaged=True)
    errors = np.linalg.norm(CENTRES[:, None] - found.means, axis=2).min(axis=1)
    assert errors.max() < 0.2


def test_only_like_is_merged_with_like():
    model = se.KMeans(5, seeding=FEW)
    state = fed(model, rows(700))
    with pytest.raises(RowsError, match="two states or two tallies"):
        se.merge(model, state, se.tally(model, state, rows(5)))
