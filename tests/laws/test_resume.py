"""P21: a state kept at any batch boundary and taken up again is the uninterrupted run."""

import copy
import pickle
import warnings

import numpy as np
import pytest

import stream_em as se

FEW = se.Seeding(rows=25, restarts=2)
MEANS = [[0.0, 0.0], [6.0, -6.0], [12.0, -12.0]]
MODELS = [
    se.KMeans(3, seeding=FEW),
    se.KMeans(3, seeding=FEW, scaling=se.Standardise(), forgetting=se.HalfLife(40)),
    se.KMeans(3, initial_means=MEANS, forgetting=se.KeepAll()),
    se.SoftKMeans(3, seeding=FEW),
    se.SoftKMeans(3, beta=0.3, initial_means=MEANS),
    se.GaussianMixture(3, seeding=FEW),
    se.GaussianMixture(3, covariance=se.Tied(), seeding=FEW, prior=se.Prior(scale=1.0)),
    se.GaussianMixture(3, covariance=se.Diagonal(), prior=None, seeding=FEW),
    se.GaussianMixture(3, covariance=se.Spherical(), forgetting=se.KeepNothing()),
    se.GaussianMixture(3, covariance=se.Isotropic(2.0), initial_means=MEANS),
    se.GaussianMixture(
        3, seeding=FEW, forgetting=se.EventTimeHalfLife(seconds=20, max_ahead_seconds=1e3)
    ),
]
each_model = pytest.mark.parametrize("model", MODELS, ids=lambda m: f"{m.kind}-{m.forgetting.kind}")


def by_pickle(model, state, folder):
    return pickle.loads(pickle.dumps((model, state)))


def by_copy(model, state, folder):
    return copy.deepcopy(model), copy.deepcopy(state)


def by_checkpoint(model, state, folder):
    se.save(folder / "state.ckpt", model, state)
    return se.load(folder / "state.ckpt")


def batches():
    """Batches that hold, hold on, seed, and learn; with weights, times and labels."""
    draw = np.random.default_rng(12)
    X = draw.normal(size=(90, 2)) + 6 * draw.integers(0, 3, 90)[:, None] * [1, -1]
    w, times = draw.uniform(0, 2, 90), np.sort(draw.uniform(0, 100, 90))
    labels = np.where(draw.uniform(size=90) < 0.2, draw.integers(0, 3, 90), -1)
    for part in np.split(np.arange(90), [7, 8, 31, 31, 60]):
        yield {"X": X[part], "weights": w[part], "times": times[part], "labels": labels[part]}


@each_model
@pytest.mark.parametrize("keep", [by_pickle, by_copy, by_checkpoint])
@pytest.mark.filterwarnings("ignore::stream_em.StreamEmWarning")
def test_interrupted_at_any_boundary(model, keep, tmp_path):
    whole, resumed = se.init(model, seed=5), keep(model, se.init(model, seed=5), tmp_path)
    for batch in batches():
        assert resumed == (model, whole)
        whole, info = se.step(model, whole, **batch)
        state, again = se.step(*resumed, **batch)
        assert info == again
        resumed = keep(resumed[0], state, tmp_path)
    ended, last = se.finish(model, whole)
    assert (ended, last) == se.finish(*resumed)
    X = next(batches())["X"]
    assert se.score(model, ended, X) == se.score(*keep(model, ended, tmp_path), X)
    assert se.clusters(model, ended) == se.clusters(*keep(model, ended, tmp_path))


@each_model
def test_a_state_remembers_names_and_takes_frames_up_again(model, tmp_path):
    import pandas as pd

    frames = [pd.DataFrame(b["X"], columns=["a", "b"]) for b in batches()]
    times = [b["times"] for b in batches()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", se.StreamEmWarning)
        state, _ = se.step(model, se.init(model), frames[0], times=times[0])
        kept = by_checkpoint(model, state, tmp_path)[1]
        assert kept.features == ("a", "b")
        assert se.step(model, kept, frames[4][["b", "a"]], times=times[4]) == se.step(
            model, state, frames[4], times=times[4]
        )
