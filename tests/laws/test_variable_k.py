"""A variable number of components: merges and births that pay for their own description."""

import numpy as np
import pytest

import stream_em as se
from stream_em.errors import SettingsError

FEW = se.Seeding(rows=800, restarts=2)
CENTRES = np.array([[0.0, 0.0], [12.0, 0.0], [0.0, 12.0]])
VARIABLE = se.Restructuring(variable=True)


def rows(n, seed=0, groups=3):
    draw = np.random.default_rng(seed)
    return CENTRES[draw.integers(0, groups, n)] + draw.normal(size=(n, 2))


def fed(model, X, size=250, seed=0):
    state, infos = se.init(model, seed=seed), []
    for start in range(0, len(X), size):
        state, info = se.step(model, state, X[start : start + size])
        infos.append(info)
        assert len(state.identity.slots) <= model.n_components
    return state, infos


@pytest.mark.parametrize("shape", [se.Full(), se.Tied(), se.Diagonal()], ids=lambda s: s.kind)
@pytest.mark.parametrize("seed", [0, 1])
def test_components_that_one_could_describe_become_one(shape, seed):
    X = rows(5000, seed)
    model = se.GaussianMixture(8, shape, seeding=FEW, restructuring=VARIABLE)
    state, infos = fed(model, X, seed=seed)
    found = se.clusters(model, state)
    assert len(found.uids) == 3
    errors = np.linalg.norm(CENTRES[:, None] - found.means, axis=2).min(axis=1)
    assert errors.max() < 0.2
    total = found.counts.sum() + state.background.objective
    assert total == pytest.approx(5000, rel=1e-9)
    merges = [c for info in infos for c in info.changes if c.kind == "merge"]
    assert len(merges) >= 5
    fixed = se.GaussianMixture(8, shape, seeding=FEW)
    assert len(se.clusters(fixed, fed(fixed, X)[0]).uids) == 8


def test_a_new_group_is_born_alone_where_there_is_a_free_slot():
    X = rows(8000)
    draw = np.random.default_rng(3)
    late = np.flatnonzero((np.arange(8000) > 4000) & (draw.random(8000) < 0.2))
    X[late] = np.array([40.0, 40.0]) + draw.normal(size=(len(late), 2))
    model = se.GaussianMixture(6, seeding=FEW, restructuring=VARIABLE)
    state, infos = fed(model, X)
    before = [c for info in infos[:16] for c in info.changes]
    after = [c for info in infos[16:] for c in info.changes]
    assert any(c.kind == "merge" for c in before)
    births = [c for c in after if c.kind == "birth"]
    assert len(births) >= 1
    assert all(c.old_uid is None and c.row > 4000 for c in births)
    found = se.clusters(model, state)
    assert np.linalg.norm(found.means - [40.0, 40.0], axis=1).min() < 0.3
    assert len(found.uids) == 4


def test_the_changes_tell_which_names_live():
    X = rows(4000)
    X[2500:2900] += 60.0
    model = se.GaussianMixture(7, seeding=FEW, restructuring=VARIABLE)
    state, live = se.init(model), {}
    for start in range(0, 4000, 125):
        state, info = se.step(model, state, X[start : start + 125])
        for change in info.changes:
            if change.kind in ("merge", "death"):
                assert live.pop(change.slot) == change.old_uid
            else:
                assert change.slot not in live
                live[change.slot] = change.new_uid
        found = se.clusters(model, state)
        assert live == dict(zip(found.slots.tolist(), found.uids.tolist(), strict=True))
        assert state.recent is None or len(state.recent) <= 1000


def test_a_merge_that_loses_more_than_it_saves_is_refused():
    """Groups that stand apart stay apart for the whole stream."""
    model = se.GaussianMixture(3, seeding=FEW, restructuring=VARIABLE)
    _, infos = fed(model, rows(6000))
    assert [c for info in infos[4:] for c in info.changes] == []


def test_the_rows_kept_for_scoring_are_the_latest():
    X = rows(3000)
    model = se.GaussianMixture(4, seeding=FEW, restructuring=VARIABLE)
    state, _ = fed(model, X)
    np.testing.assert_allclose(state.frame.outward(state.recent), X[-1000:], atol=1e-9)
    fixed = se.GaussianMixture(4, seeding=FEW)
    assert fed(fixed, X)[0].recent is None


def test_variable_is_true_or_false():
    with pytest.raises(SettingsError, match="variable is 'yes'"):
        se.Restructuring(variable="yes")
