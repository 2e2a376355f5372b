"""River's pipelines, metrics, filters and progressive validation, on its bundled streams."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from river import anomaly, compose, datasets, evaluate, metrics, preprocessing, stream

from stream_em.river import GaussianMixture, GaussianMixtureDetector, KMeans, SoftKMeans

CLUSTERERS = {
    "kmeans": lambda: KMeans(3, seeding_rows=60, seed=1),
    "soft": lambda: SoftKMeans(3, seeding_rows=60, seed=1),
    "mixture": lambda: GaussianMixture(3, "diag", seeding_rows=60, seed=1),
}


@pytest.fixture(params=CLUSTERERS.values(), ids=CLUSTERERS.keys())
def clusterer(request: pytest.FixtureRequest):
    """One of each clusterer."""
    return request.param()


@pytest.mark.parametrize(
    "name", ["phishing", "bananas", "chick-weights", "segments", "trump-approval", "shuttle"]
)
def test_progressive_validation_in_a_pipeline(clusterer, stream, name: str) -> None:
    model = preprocessing.StandardScaler() | clusterer
    metric = metrics.Silhouette()
    steps = list(evaluate.iter_progressive_val_score(stream(name, 150), model, metric, step=50))
    assert [step["Step"] for step in steps] == [50, 100, 150]
    assert 0 < metric.get() < 1
    assert clusterer.state.total_events == 150


def test_external_metrics_see_slots(clusterer) -> None:
    model = preprocessing.StandardScaler() | clusterer
    score = evaluate.progressive_val_score(
        datasets.ImageSegments().take(300), model, metrics.AdjustedRand() + metrics.VBeta()
    )
    assert score[0].get() > 0.1


def test_weights_of_a_stream_reach_the_learner(phishing) -> None:
    learner = KMeans(3, seeding_rows=1000, seed=1)
    events = [(x, None, {"w": 2.0}) for x in phishing]
    evaluate.progressive_val_score(events, learner, metrics.Silhouette())
    assert learner.state.held.weights.tolist() == [2.0] * len(phishing)


def test_the_detector_in_progressive_validation() -> None:
    model = preprocessing.StandardScaler() | GaussianMixtureDetector(
        covariance_type="diag", seeding_rows=200, seed=1
    )
    score = evaluate.progressive_val_score(
        datasets.Shuttle().take(1500), model, metrics.RollingROCAUC(window_size=1500)
    )
    assert score.get() > 0.8


def test_the_detector_inside_a_filter(stream) -> None:
    filtered = anomaly.QuantileFilter(GaussianMixtureDetector(seeding_rows=100, seed=1), q=0.99)
    model = preprocessing.StandardScaler() | filtered | KMeans(3, seeding_rows=50, seed=1)
    events = [x for x, _ in stream("bananas", 400)]
    for x in events:
        model.learn_one(x)
    far = dict.fromkeys(events[0], 60.0)
    assert filtered.classify(filtered.score_one(far))
    assert not filtered.classify(filtered.score_one(dict.fromkeys(events[0], 0.0)))
    learned = model["KMeans"].state.total_events
    assert 300 < learned <= 400
    model.learn_one(far)
    assert model["KMeans"].state.total_events == learned


def test_every_answer_passes_through_a_pipeline(clusterer, stream) -> None:
    model = compose.Pipeline(preprocessing.MinMaxScaler(), clusterer)
    for x, _ in stream("bananas", 100):
        model.learn_one(x)
    z = model["MinMaxScaler"].transform_one(x)
    assert model.predict_one(x) == clusterer.predict_one(z)
    assert model.predict_proba_one(x) == clusterer.predict_proba_one(z)
    assert model.score_one(x) == clusterer.score_one(z)


def test_mini_batches_pass_through_a_pipeline(clusterer, phishing) -> None:
    model = preprocessing.StandardScaler() | clusterer
    X = pd.DataFrame(phishing)
    for cut in range(0, len(X), 20):
        model.learn_many(X[cut : cut + 20], w=np.full(20, 0.5))
    assert model.predict_many(X).index.equals(X.index)
    np.testing.assert_allclose(model.predict_proba_many(X).sum(axis=1), 1.0)


def test_silhouette_finds_better_clusters_better(stream) -> None:
    """Three blobs: the right clusters beat those of one moved far off."""
    draw = np.random.default_rng(1)
    X = np.array([[0, 0], [20, 0], [0, 20]])[draw.integers(3, size=300)] + draw.normal(
        size=(300, 2)
    )
    learner, metric = KMeans(3, seeding_rows=60, seed=1), metrics.Silhouette()
    for row in X.tolist():
        x = dict(enumerate(row))
        learner.learn_one(x)
        metric.update(x, learner.predict_one(x), learner.centers)
    assert metric.get() < 0.15


def test_arrays_and_array_streams_are_the_same_events() -> None:
    X = np.random.default_rng(0).normal(size=(40, 3))
    one, many = KMeans(2, seed=1), KMeans(2, seed=1)
    for x, _ in stream.iter_array(X):
        one.learn_one(x)
    many.learn_many(X)
    assert one.state.held == many.state.held
    assert list(one.centers[0]) == [0, 1, 2]


@pytest.mark.parametrize("params", [{"n_clusters": [2, 3]}, {"forgetting": [50.0, None]}])
def test_grids_of_parameters(params, phishing) -> None:
    from river import utils

    for model in utils.expand_param_grid(KMeans(seeding_rows=30, seed=1), params):
        for x in itertools.islice(phishing, 40):
            model.learn_one(x)
        assert math.isfinite(model.score_one(x))
