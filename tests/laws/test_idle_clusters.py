"""A cluster that holds next to nothing any more is free to go where rows are worst described."""

import numpy as np
import pytest

import stream_em as se

CENTRES = np.array([[0.0, 0.0, 0.0], [8.0, 0.0, 0.0], [0.0, 8.0, 0.0]])
each_kind = pytest.mark.parametrize("kind", [se.KMeans, se.SoftKMeans])


def jumping(n, at, by, seed=0):
    draw = np.random.default_rng(seed)
    X = CENTRES[draw.integers(3, size=n)] + draw.normal(size=(n, 3))
    X[at:] += by
    return X


def objectives(model, X, size=100):
    """Mean squared distance before learning, batch after batch."""
    state, found = se.init(model, seed=1), []
    for start in range(0, len(X), size):
        state, info = se.step(model, state, X[start : start + size])
        found.append(info.objective / size)
    return np.array(found)


@each_kind
@pytest.mark.parametrize("by", [5.0, 20.0, 100.0, np.array([20.0, 0.0, 0.0])], ids=str)
def test_after_a_jump_of_everything_clusters_follow(kind, by):
    model = kind(3, forgetting=se.HalfLife(200), seeding=se.Seeding(rows=100))
    found = objectives(model, jumping(8000, at=2000, by=by))
    assert found[-10:].mean() < 1.1 * found[10:20].mean()


def test_a_given_mean_that_no_row_comes_near_is_free_too():
    means = np.array([[0.0, 0.0, 0.0], [8.0, 8.0, 0.0], [1e4, 1e4, 1e4]])
    found = objectives(se.KMeans(3, initial_means=means), jumping(8000, at=8000, by=0.0))
    assert found[-10:].mean() < 3.3


@each_kind
def test_without_moves_they_stay(kind):
    model = kind(3, restructuring=None, forgetting=se.HalfLife(200), seeding=se.Seeding(rows=100))
    assert objectives(model, jumping(8000, at=2000, by=20.0))[-10:].mean() > 20
