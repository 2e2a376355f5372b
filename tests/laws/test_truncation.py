"""P14: posteriors cut to the C likeliest clusters still bound the likelihood from below."""

import numpy as np
import pytest

import stream_em as se

K, D = 8, 4


def data():
    draw = np.random.default_rng(4)
    centres = 2.5 * draw.normal(size=(K, D))
    return centres[draw.integers(K, size=3000)] + draw.normal(size=(3000, D)), centres


def cut(R, C):
    """The C largest responsibilities of each row, as a posterior of their own."""
    least = np.sort(R, axis=1)[:, -C][:, None]
    kept = np.where(least <= R, R, 0.0)
    return kept / kept.sum(axis=1, keepdims=True)


def classical(centres):
    return se.GaussianMixture(
        K,
        forgetting=se.KeepNothing(),
        prior=None,
        background=None,
        restructuring=None,
        initial_means=centres + 0.5,
    )


def bounds(C, steps):
    """F and log-likelihood of truncated EM, step by step."""
    X, centres = data()
    model = classical(centres)
    state, found = se.init(model), []
    state, _ = se.step(model, state, X)  # a full step first, which completes the covariances
    for _ in range(steps):
        R = cut(se.score(model, state, X).responsibilities, C)
        state, info = se.step(model, state, X, responsibilities=R)
        found.append((info.free_energy, info.log_likelihood))
    return np.array(found)


@pytest.mark.parametrize("C", [1, 2, 4])
def test_truncated_em_raises_a_lower_bound(C):
    F, likelihood = bounds(C, 15).T
    slack = 1e-9 * np.abs(likelihood)
    assert (likelihood + slack >= F).all()
    assert (F[:2] < likelihood[:2] - 1e-3).all()
    assert (np.diff(F) >= -1e-9 * np.abs(F[1:])).all()


def test_the_bound_closes_as_more_clusters_are_kept():
    gaps = [np.subtract(*bounds(C, 1)[0][::-1]) for C in range(1, K + 1)]
    assert (np.diff(gaps) <= 1e-9 * abs(gaps[0])).all()
    assert gaps[0] > 1
    assert abs(gaps[-1]) <= 1e-7
