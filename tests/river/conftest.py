"""Learners in several settings, and the streams that River's wheel carries."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from river import datasets

from stream_em.forgetting import HalfLife
from stream_em.river import GaussianMixture, GaussianMixtureDetector, KMeans, SoftKMeans

Events = list[tuple[dict[Any, Any], Any]]

SETTINGS = {
    "kmeans": lambda: KMeans(n_clusters=3, seeding_rows=40, seed=1),
    "kmeans-holding": lambda: KMeans(seed=1),
    "kmeans-half-life": lambda: KMeans(4, forgetting=50.0, seeding_rows=30, seed=2),
    "kmeans-standardised": lambda: KMeans(3, standardise=True, seeding_rows=40, seed=3),
    "kmeans-fixed": lambda: KMeans(3, "keep-all", 40, restructuring=False, seed=4),
    "soft": lambda: SoftKMeans(n_clusters=3, seeding_rows=40, seed=1),
    "soft-policy": lambda: SoftKMeans(3, forgetting=HalfLife(80), seeding_rows=30, seed=2),
    "full": lambda: GaussianMixture(3, seeding_rows=40, seed=1),
    "tied": lambda: GaussianMixture(3, "tied", seeding_rows=40, seed=1),
    "diag": lambda: GaussianMixture(3, "diag", 60.0, 40, seed=1),
    "spherical": lambda: GaussianMixture(3, "spherical", seeding_rows=40, refresh=0.0, seed=1),
    "bare": lambda: GaussianMixture(3, seeding_rows=40, background=False, seed=1),
    "mixture-holding": lambda: GaussianMixture(seed=1),
    "detector": lambda: GaussianMixtureDetector(seeding_rows=40, seed=1),
    "detector-background": lambda: GaussianMixtureDetector(2, background=True, grace_period=5),
}

STREAMS: dict[str, Callable[[], Any]] = {
    "phishing": datasets.Phishing,
    "bananas": datasets.Bananas,
    "chick-weights": datasets.ChickWeights,
    "segments": datasets.ImageSegments,
    "trump-approval": datasets.TrumpApproval,
    "shuttle": datasets.Shuttle,
}


@pytest.fixture(params=SETTINGS.values(), ids=SETTINGS.keys())
def learner(request: pytest.FixtureRequest) -> Any:
    """A learner that has learned nothing yet, in each of several settings."""
    return request.param()


@pytest.fixture(scope="session")
def stream() -> Callable[..., Events]:
    """The first events of a bundled stream, as a list of (x, y)."""

    def taken(name: str, n: int) -> Events:
        return list(itertools.islice(STREAMS[name](), n))

    return taken


@pytest.fixture(params=["phishing", "trump-approval"])
def events(request: pytest.FixtureRequest, stream: Callable[..., Events]) -> Events:
    """70 events of a stream whose features have like scales, and of one where they have not."""
    return stream(request.param, 70)


@pytest.fixture
def phishing(stream: Callable[..., Events]) -> list[dict[Any, Any]]:
    """100 events of nine features, without their targets."""
    return [x for x, _ in stream("phishing", 100)]


@pytest.fixture(scope="session")
def answers() -> Callable[[Any, Any], tuple[Any, ...]]:
    """All that a learner says of an event."""

    def of(learner: Any, x: Any) -> tuple[Any, ...]:
        return learner.predict_one(x), learner.predict_proba_one(x), learner.score_one(x)

    return of
