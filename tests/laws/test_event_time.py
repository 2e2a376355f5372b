"""Event time: forward decay, late rows, shards with their own clocks, and the future."""

import numpy as np
import pytest

import stream_em as se
from stream_em import moments
from stream_em.errors import RowsError
from stream_em.forgetting import Arrival
from stream_em.intake import refusals


def frozen(forgetting, K=2, D=2):
    """A mixture whose clusters stay as given for its first rows, so that they are fixed."""
    means = np.arange(K * D, dtype=float).reshape(K, D)
    return se.GaussianMixture(
        K, forgetting=forgetting, initial_means=means, restructuring=None, background=None
    )


def fed(model, X, cuts, **columns):
    """The state after X in batches that end at `cuts`."""
    state = se.init(model)
    for rows in np.split(np.arange(len(X)), cuts):
        part = {name: values[rows] for name, values in columns.items()}
        state, _ = se.step(model, state, X[rows], **part)
    return state


def assert_same_tally(a, b, rtol=1e-12):
    for name in ("step", "objective", "squares"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=rtol)
    np.testing.assert_allclose(a.mean, b.mean, rtol=rtol, atol=1e-12)
    np.testing.assert_allclose(a.scatter.values, b.scatter.values, rtol=rtol, atol=1e-12)


def timed(n=80, seed=5):
    draw = np.random.default_rng(seed)
    times = draw.uniform(1.7e9, 1.7e9 + 100, n)
    return draw.normal(size=(n, 2)), times, draw.integers(0, 2, n), draw.uniform(0.5, 2, n)


def test_forward_decay_does_not_depend_on_the_order_of_arrival():
    """P18: permuted arrival changes the state by at most 1e-12."""
    X, times, labels, w = timed()
    model = frozen(se.EventTimeHalfLife(seconds=20, max_ahead_seconds=1000))
    exact = np.bincount(labels, w * 2 ** ((times - times.max()) / 20))
    first = fed(model, X, [10, 50], times=times, labels=labels, weights=w)
    for seed in range(10):
        draw = np.random.default_rng(seed)
        at = draw.permutation(80)
        cuts = np.sort(draw.integers(0, 80, 4))
        other = fed(model, X[at], cuts, times=times[at], labels=labels[at], weights=w[at])
        assert_same_tally(other.moments, first.moments)
        np.testing.assert_allclose(se.clusters(model, other).counts, exact, rtol=1e-12)
        assert other.time == times.max()


def test_shards_with_different_clocks_merge_to_the_single_stream():
    """P18: both tallies fade to the later reference, then merge."""
    X, times, labels, w = timed()
    policy = se.EventTimeHalfLife(seconds=20, max_ahead_seconds=1000)
    model = frozen(policy)
    early = times < 1.7e9 + 60
    shards = [
        fed(model, X[part], [10], times=times[part], labels=labels[part], weights=w[part])
        for part in (early, ~early)
    ]
    latest = max(shard.time for shard in shards)
    faded = [
        moments.fade(s.moments, policy(s.window, Arrival(0.0, latest - s.time, 500.0)))
        for s in shards
    ]
    whole = fed(model, X, [33], times=times, labels=labels, weights=w)
    assert shards[0].time < shards[1].time == whole.time
    assert_same_tally(moments.merge(*faded), whole.moments)


def test_late_rows_weigh_less_and_do_not_turn_the_clock_back():
    model = frozen(se.EventTimeHalfLife(seconds=10))
    state, _ = se.step(model, se.init(model), [[0.0, 0.0]], times=[100.0])
    state, info = se.step(model, state, [[0.0, 1.0]], times=[80.0])
    assert state.time == 100.0
    assert info.retention == 1.0
    assert se.clusters(model, state).counts.sum() == pytest.approx(1.25)
    assert info.weight == 1.0  # the sums of a step are of the rows as they came


def test_the_clock_may_stand_still_and_takes_datetimes():
    model = frozen(se.EventTimeHalfLife(seconds=60))
    at = np.array(["2026-01-01T00:00:00", "2026-01-01T00:01:00"], dtype="datetime64[s]")
    state, _ = se.step(model, se.init(model), np.zeros((2, 2)), times=at)
    assert state.time == at[1].astype(np.int64)
    assert se.clusters(model, state).counts.sum() == pytest.approx(1.5)
    state, info = se.step(model, state, np.zeros((3, 2)), times=at[[1, 1, 1]])
    assert info.retention == 1.0
    assert se.clusters(model, state).counts.sum() == pytest.approx(4.5)


def test_a_row_from_the_future_is_refused_and_named():
    model = frozen(se.EventTimeHalfLife(seconds=10, max_ahead_seconds=60))
    state, _ = se.step(model, se.init(model), np.zeros((2, 2)), times=[0.0, 50.0])
    times = np.array([100.0, 111.0, 1e6, 165.0])
    assert [(r.row, r.reason) for r in refusals(model, state, times)] == [(2, "future")]
    with pytest.raises(RowsError, match="row 2"):
        se.step(model, state, np.zeros((4, 2)), times=times)
    assert state.time == 50.0
    state, _ = se.step(model, state, np.zeros((3, 2)), times=times[[0, 1, 3]])
    assert state.time == 165.0


def test_late_rows_of_a_batch_do_not_turn_the_guard_back():
    model = frozen(se.EventTimeHalfLife(seconds=10, max_ahead_seconds=60))
    assert refusals(model, se.init(model), np.array([100.0, 0.0, 155.0, 161.0])) == ()
    late = refusals(model, se.init(model), np.array([100.0, 0.0, 161.0]))
    assert [r.row for r in late] == [2]


@pytest.mark.parametrize("cuts", [[], [1], [3], [1, 2, 3, 4]])
def test_the_guard_stands_while_rows_are_held(cuts):
    """The clock is the largest time seen, held rows included, however they were cut."""
    model = se.KMeans(2, forgetting=se.EventTimeHalfLife(seconds=10, max_ahead_seconds=60))
    X, times = np.arange(5.0)[:, None], np.array([0.0, 10.0, 20.0, 1e6, 30.0])
    with pytest.raises(RowsError, match="ahead"):
        fed(model, X, cuts, times=times)


def test_rows_without_usable_times_are_refused():
    model = frozen(se.EventTimeHalfLife(seconds=10))
    with pytest.raises(RowsError, match="times="):
        se.step(model, se.init(model), np.zeros((2, 2)))
    for bad in (np.nan, np.inf, -np.inf):
        times = np.array([0.0, bad])
        assert [(r.row, r.reason) for r in refusals(model, se.init(model), times)] == [
            (1, "schema")
        ]
        with pytest.raises(RowsError, match="row 1"):
            se.step(model, se.init(model), np.zeros((2, 2)), times=times)
