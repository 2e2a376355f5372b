"""The background: a uniform component that keeps outliers out of the clusters, and births."""

import numpy as np
import pytest

import stream_em as se
from stream_em.background import log_ranges
from stream_em.state import Uniform

FEW = se.Seeding(rows=500, restarts=2)
CENTRES = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
SHAPES = [se.Full(), se.Tied(), se.Diagonal(), se.Spherical()]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.kind)


def blobs(n, seed=0, share=0.0, reach=40.0):
    """Four groups of unit deviation, and a share of rows uniform in ±reach."""
    draw = np.random.default_rng(seed)
    X = CENTRES[draw.integers(0, 4, n)] + draw.normal(size=(n, 2))
    out = draw.random(n) < share
    X[out] = draw.uniform(-reach, reach, (out.sum(), 2))
    return X, out


def fed(model, X, size, seed=0, weights=None):
    state, infos = se.init(model, seed=seed), []
    for start in range(0, len(X), size):
        part = slice(start, start + size)
        w = None if weights is None else weights[part]
        state, info = se.step(model, state, X[part], weights=w)
        infos.append(info)
    return state, infos


def share_of(state):
    uniform = state.background.step
    return uniform / (uniform + state.moments.step.sum())


def worst_error(model, state):
    means = se.clusters(model, state).means
    return np.linalg.norm(CENTRES[:, None] - means, axis=2).min(axis=1).max()


def test_the_density_is_that_of_clusters_and_a_box():
    """p(x) = (1 - w0) Σ π_k N_k + w0/V over the ranges seen, in model coordinates."""
    X, _ = blobs(3000, share=0.05)
    draw = np.random.default_rng(1)
    rows = np.vstack([X[:50], draw.uniform(-60, 60, (50, 2))])
    for scaling in (None, se.Standardise()):
        model = se.GaussianMixture(4, seeding=FEW, scaling=scaling)
        state, _ = fed(model, X, 500)
        unit = state.frame.unit
        found = se.clusters(model, state)
        moved = (rows[:, None] - found.means) / unit
        covariances = found.covariances / np.outer(unit, unit)
        squared = np.einsum("nkd,kde,nke->nk", moved, np.linalg.inv(covariances), moved)
        logs = -0.5 * (squared + np.linalg.slogdet(covariances)[1] + 2 * np.log(2 * np.pi))
        w0, box = share_of(state), np.ptp(X / unit, axis=0).prod()
        inside = (1 - w0) * (found.weights * np.exp(logs)).sum(axis=1)
        scores = se.score(model, state, rows)
        np.testing.assert_allclose(scores.log_likelihood, np.log(inside + w0 / box), rtol=1e-9)
        np.testing.assert_allclose(scores.background, w0 / box / (inside + w0 / box), rtol=1e-7)
        assert np.abs(scores.responsibilities.sum(axis=1) - 1).max() <= 1e-12


@each_shape
@pytest.mark.parametrize("size", [1, 70, 1500])
def test_mass_is_conserved(shape, size):
    """ΣN_k + N_0 = Σw in both weights, from seeding on, through births."""
    n = 1500 if size > 1 else 700
    X, _ = blobs(n, share=0.1)
    w = np.random.default_rng(2).uniform(0.2, 2, n)
    model = se.GaussianMixture(4, shape, se.KeepAll(), FEW)
    state, at, seen = se.init(model), 0, np.cumsum(w)
    while at < n:
        state, _ = se.step(model, state, X[at : at + size], weights=w[at : at + size])
        at = min(at + size, n)
        if state.moments is None:
            continue
        for weight in ("step", "objective"):
            total = getattr(state.moments, weight).sum() + getattr(state.background, weight)
            assert total == pytest.approx(seen[at - 1], rel=1e-12)
        assert state.background.objective > 0


def test_the_share_has_a_floor():
    model = se.GaussianMixture(2, initial_means=[[0.0], [4.0]], background=se.Background(0.02))
    X = np.random.default_rng(0).normal(size=(50, 1)) * 0.1
    state, _ = se.step(model, se.init(model), X, labels=np.zeros(50, dtype=int))
    assert share_of(state) == 0
    far = se.score(model, state, [[1e6]])
    assert far.background[0] == pytest.approx(1.0)
    assert far.log_likelihood[0] == pytest.approx(np.log(0.02 / np.ptp(X)), rel=1e-9)


def test_labelled_rows_belong_to_their_clusters_alone():
    X, _ = blobs(600)
    model = se.GaussianMixture(4, seeding=FEW)
    state, _ = se.step(model, se.init(model), X)
    after, _ = se.step(model, state, [[500.0, 500.0]], labels=[1])
    assert after.background.objective == state.background.objective
    assert after.moments.objective[1] == pytest.approx(state.moments.objective[1] + 1)
    assert len(after.quarantine) == len(state.quarantine)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_outliers_stay_out_of_the_clusters(seed):
    """Q7: 5 % uniform in ±40; centres within .1 sd and w0 in [.04, .06], without it > 1 sd off."""
    X, out = blobs(12_000, seed, share=0.05)
    model = se.GaussianMixture(4, seeding=se.Seeding(rows=1000, restarts=3))
    state, infos = fed(model, X, 500, seed)
    assert worst_error(model, state) <= 0.1
    assert 0.04 <= share_of(state) <= 0.06
    flagged = np.concatenate([info.scores.background for info in infos]) > 0.5
    near = np.linalg.norm(X[:, None] - CENTRES, axis=2).min(axis=1) < 4
    assert flagged[6000:][out[6000:] & ~near[6000:]].mean() > 0.95
    assert flagged[6000:][~out[6000:]].mean() < 0.01


def test_without_a_background_outliers_pull_clusters_away():
    """Q7, control."""
    errors = []
    for seed in range(3):
        X, _ = blobs(12_000, seed, share=0.05)
        model = se.GaussianMixture(
            4, seeding=se.Seeding(rows=1000, restarts=3), background=None, restructuring=None
        )
        errors.append(worst_error(model, fed(model, X, 500, seed)[0]))
    assert min(errors) > 1.0


@each_shape
def test_a_new_group_is_answered_by_a_birth_that_a_merge_pays_for(shape):
    X, _ = blobs(6000)
    late = np.flatnonzero((np.arange(6000) > 2500) & (np.random.default_rng(3).random(6000) < 0.2))
    X[late] = np.array([-30.0, 40.0]) + np.random.default_rng(4).normal(size=(len(late), 2))
    model = se.GaussianMixture(5, shape, seeding=FEW)
    state, infos = fed(model, X, 250)
    changes = [c for info in infos[10:] for c in info.changes]
    kinds = [c.kind for c in changes]
    assert kinds.count("merge") == kinds.count("relocation") >= 1
    assert min(c.row for c in changes) > 2500
    found = se.clusters(model, state)
    assert np.linalg.norm(found.means - [-30.0, 40.0], axis=1).min() < 0.3
    newest = int(found.uids.argmax())
    assert 0.8 * len(late) < found.counts[newest] < 1.01 * len(late)
    assert worst_error(model, state) < 1.5


@pytest.mark.parametrize("seed", range(4))
def test_stationary_streams_see_no_births(seed):
    """Q6: and the background costs next to nothing on clean rows."""
    X, _ = blobs(9000, seed)
    model = se.GaussianMixture(4, seeding=FEW)
    state, infos = fed(model, X[:8000], 500, seed)
    assert [c for info in infos[1:] for c in info.changes] == []
    without = se.GaussianMixture(4, seeding=FEW, background=None)
    other, _ = fed(without, X[:8000], 500, seed)
    ours, theirs = (
        se.score(m, s, X[8000:]).log_likelihood.mean()
        for m, s in ((model, state), (without, other))
    )
    assert ours > theirs - 1e-3
    assert share_of(state) < 0.005


def test_copies_wait_no_longer_than_the_background_claims_them():
    X, _ = blobs(4000, share=0.03)
    settings = se.Restructuring(capacity=20, max_age_rows=1000, moves=0)
    model = se.GaussianMixture(4, seeding=FEW, restructuring=settings)
    state, most = se.init(model), 0
    for start in range(0, 4000, 500):
        state, _ = se.step(model, state, X[start : start + 500])
        aside = state.quarantine
        most = max(most, len(aside))
        scores = se.score(model, state, state.frame.outward(aside.rows)) if len(aside) else None
        if scores is not None:
            assert (state.learned - aside.arrivals <= 1000).all()
            assert (scores.background >= 0.5).all()
    assert most == 20


def test_ranges_only_grow_and_ignore_rows_of_weight_zero():
    X, _ = blobs(600)
    model = se.GaussianMixture(4, seeding=FEW)
    state, _ = se.step(model, se.init(model), X)
    rows = np.array([[1e3, -1e3], [1.0, 1.0]])
    same, _ = se.step(model, state, rows, weights=[0.0, 1.0])
    assert np.array_equal(same.background.low, state.background.low)
    assert np.array_equal(same.background.high, state.background.high)
    wider, info = se.step(model, state, rows)
    assert info.scores.background[0] == pytest.approx(1.0)
    origin, unit = state.frame.origin, state.frame.unit
    np.testing.assert_allclose(wider.background.high[0] * unit[0] + origin[0], 1e3)
    np.testing.assert_allclose(wider.background.low[1] * unit[1] + origin[1], -1e3)


def test_a_feature_that_never_moved_has_the_widest_deviation_for_a_range():
    box = Uniform(1.0, 1.0, np.array([-2.0, 7.0]), np.array([3.0, 7.0]))
    np.testing.assert_allclose(
        log_ranges(box, np.array([4.0, 0.0]), np.zeros(2)), np.log([5.0, 2.0])
    )
    np.testing.assert_allclose(
        log_ranges(Uniform(1.0, 1.0, np.ones(2), np.ones(2)), np.zeros(2), np.zeros(2)), 0.0
    )


def test_a_feature_that_begins_to_move_is_claimed_then_learned():
    """As on real streams: constant for long, then a regime of its own."""
    draw = np.random.default_rng(6)
    X = np.column_stack([blobs(6000, 5)[0], np.full(6000, 0.5)])
    X[3000:, 2] += draw.normal(size=3000)
    model = se.GaussianMixture(5, seeding=FEW)
    _, infos = fed(model, X, 250)
    before, at, after = (infos[i].log_likelihood / 250 for i in (11, 12, 23))
    assert infos[12].scores.background.mean() > 0.9
    assert infos[11].scores.background.mean() < 0.1
    assert np.isfinite([before, at, after]).all()
    assert at > -30
    assert infos[23].scores.background.mean() < 0.5
    assert any(c.kind == "relocation" for info in infos[12:] for c in info.changes)
