"""Replay as a verb: what it takes, what it tells, and the state it leaves."""

import dataclasses

import numpy as np
import pytest

import stream_em as se
from stream_em.replaying import Sweep

POOR = se.Seeding(rows=200, restarts=1, lloyd_steps=0, em_steps=1)  # leaves something to do


def blobs(n=900):
    """Rows in three overlapping groups of different widths, and the group of each."""
    draw = np.random.default_rng(0)
    groups = draw.integers(0, 3, n)
    return 2.5 * np.eye(3, 2)[groups] + draw.normal(size=(n, 2)) * (0.5 + groups[:, None]), groups


def replayed(model, chunks, sweeps=3, **asked):
    begin = se.init(model, seed=3)
    return se.replay(model, begin, chunks, sweeps=sweeps, tolerance=0.0, **asked).state


@pytest.mark.parametrize(
    "model",
    [se.GaussianMixture(3), se.GaussianMixture(3, forgetting=se.KeepAll()), se.KMeans(3)],
    ids=["window", "all", "kmeans"],
)
def test_every_row_counts_once_and_learning_goes_on(model):
    X, _ = blobs(n=4000)
    weights = np.random.default_rng(0).uniform(0, 2, len(X)) * (np.arange(len(X)) % 7 > 0)
    state = replayed(model, X, weights=weights)
    assert conserved(model, state) == pytest.approx(weights.sum(), rel=1e-12)
    assert state.total_events == state.final_events == len(X)
    assert state.learned == np.count_nonzero(weights)
    assert state.window.clock == pytest.approx(weights.sum())
    wanted = model.forgetting.settled(weights.sum(), model.smallest_window(2)) * weights.sum()
    assert state.window.weight == pytest.approx(wanted)
    again, info = se.step(model, state, X[:100])
    assert info.first == len(X)
    assert conserved(model, se.finish(model, again)[0]) == pytest.approx(weights.sum() + 100)


def conserved(model, state):
    background = 0.0 if state.background is None else state.background.objective
    return se.clusters(model, state).counts.sum() + background


def test_a_learned_state_lends_its_clusters_and_their_names():
    X, _ = blobs(n=4000)
    model = se.KMeans(3)
    state, _ = se.step(model, se.init(model), X)
    replayed, told = se.replay(model, state, X)
    assert np.array_equal(replayed.identity.uids, state.identity.uids)
    before = np.square(X[:, None] - se.clusters(model, state).means).sum(axis=2).min(axis=1)
    assert told[-1].objective <= before.sum()
    assert conserved(model, replayed) == pytest.approx(len(X))


def test_data_may_come_in_any_form_that_can_be_read_again():
    X, groups = blobs()
    model = se.GaussianMixture(3)
    cuts = [slice(i, i + 100) for i in range(0, 900, 100)]
    forms = (X, [X[c] for c in cuts], lambda: (se.Chunk(X[c]) for c in cuts))
    states = [replayed(model, form, chunk_rows=100) for form in forms]
    assert states[0] == states[1] == states[2]
    labelled = [se.Chunk(X[c], labels=groups[c], weights=np.ones(100)) for c in cuts]
    beside = replayed(model, X, chunk_rows=100, labels=groups)
    assert replayed(model, labelled, chunk_rows=100) == beside
    with pytest.raises(se.StreamEmError, match="only once"):
        se.replay(model, se.init(model), (X[c] for c in cuts))
    with pytest.raises(se.StreamEmError, match="belong to each"):
        se.replay(model, se.init(model), forms[1], labels=groups)


def test_rows_that_change_between_sweeps_are_refused():
    X, _ = blobs()
    readings = iter(range(100))
    model = se.KMeans(3)
    with pytest.raises(se.StreamEmError, match="same rows in each sweep"):
        se.replay(model, se.init(model), lambda: [X[: 500 + next(readings)]])


def test_no_rows_change_nothing():
    model = se.GaussianMixture(3)
    begin = se.init(model)
    assert se.replay(model, begin, np.zeros((0, 2))) == (begin, ())
    assert se.replay(model, begin, np.ones((5, 2)), weights=np.zeros(5)) == (begin, ())
    assert se.replay(model, begin, lambda: iter(())) == (begin, ())


def test_it_stops_when_little_is_gained_and_tells_of_every_sweep():
    X, _ = blobs()
    model = se.GaussianMixture(3, seeding=POOR)
    told: list[Sweep] = []
    _, sweeps = se.replay(model, se.init(model), X, tolerance=1e-3, sweeps=99, swept=told.append)
    assert tuple(told) == sweeps and 2 < len(sweeps) < 99
    assert np.isnan(sweeps[0].gain)
    assert all(s.gain > 1e-3 for s in sweeps[1:-1]) and sweeps[-1].gain <= 1e-3
    assert [s.passes for s in sweeps] == [s.number + 1 for s in sweeps]  # streamed once before


def test_clusters_move_to_rare_far_rows_that_the_seeds_missed():
    X, _ = blobs(n=6000)
    for k in range(6):  # 30 rows in six far groups, none of them in the sample
        X[1 + 200 * k :: 1200] += 100 * np.array([np.cos(k), np.sin(k)])
    model = se.KMeans(9, seeding=se.Seeding(rows=100))
    state, sweeps = se.replay(model, se.init(model), X)
    _, without = se.replay(dataclasses.replace(model, restructuring=None), se.init(model), X)
    assert sweeps[-1].objective < 0.5 * without[-1].objective
    told = se.step(model, state, X[:1])[1].changes
    assert {"birth", "relocation"} <= {change.kind for change in told}


def test_settings_that_make_no_sense_are_refused():
    model = se.KMeans(2)
    for asked in ({"sweeps": 0}, {"tolerance": -1}, {"method": "fast"}, {"chunk_rows": 0}):
        with pytest.raises(se.StreamEmError):
            se.replay(model, se.init(model), np.zeros((4, 1)), **asked)
    for rho in (0, 1.5, -1):
        with pytest.raises(se.StreamEmError):
            se.VarianceReduced(rho)
