"""Shared by the tests of the exporter: meters, what they are told, and what they say."""

from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

import stream_em as se
from stream_em.metrics import catalogue
from stream_em.metrics.collector import registry
from stream_em.metrics.meter import Meter
from stream_em.state import Found, Info, Scores
from stream_em.streams import Batch, InputStatus, Origins, Positions, Rejected


@pytest.fixture(scope="session")
def now():
    """What the clock of a meter says, in seconds."""
    return 1_800_000_000.0


@pytest.fixture(scope="session")
def two():
    """A model of two clusters."""
    return se.GaussianMixture(2, covariance=se.Diagonal())


@pytest.fixture(scope="session")
def meter_of(now, two):
    """`meter_of(model=two, ...)`: a meter to which nothing has happened."""

    def made(model=two, **settings):
        return Meter(model, clock=lambda: now, **settings)

    return made


@pytest.fixture(scope="session")
def scores_of():
    """`scores_of(labels, uids, slots=None)`: rows and the clusters to which they belong."""

    def made(labels, uids, slots=None):
        n, nothing = len(labels), np.full(len(labels), np.nan)
        slots = uids if slots is None else slots
        ids = np.array(slots, dtype=np.int64), np.array(uids, dtype=np.int64)
        labels = np.array(labels, dtype=np.int64)
        return Scores(labels, np.ones(n), nothing, nothing, np.zeros(n), *ids, None)

    return made


@pytest.fixture(scope="session")
def info_of():
    """`info_of(scores, ...)`: what a step tells of a batch of such scores."""

    def made(scores, **given):
        n = len(scores.labels)
        plain = Info(
            n, float(n), 2.0 * n, -3.0 * n, 0.1 * n, -3.5 * n, 0.9, 0.1, (), scores, 0, 0, ()
        )
        return replace(plain, **given)

    return made


@pytest.fixture(scope="session")
def found_of():
    """`found_of(uids, means, slots=None, covariances=None)`: clusters."""

    def made(uids, means, slots=None, covariances=None):
        K, means = len(uids), np.array(means, dtype=np.float64)
        slots = np.array(uids if slots is None else slots, dtype=np.int64)
        covariances = np.ones(means.shape) if covariances is None else covariances
        weights, counts = np.full(K, 1 / K), np.full(K, 7.0)
        return Found(np.array(uids, dtype=np.int64), slots, weights, means, covariances, counts)

    return made


@pytest.fixture(scope="session")
def batch_of():
    """`batch_of(n, times=None, rejected=(), partition=None)`: rows as a source gives them."""

    def made(n, times=None, rejected=(), partition=None):
        zeros = np.zeros(n, dtype=np.int32)
        partition = zeros if partition is None else np.array(partition, dtype=np.int32)
        origins = Origins(("a.csv",), zeros, partition, np.arange(n), None, times)
        return Batch(np.zeros((n, 2)), None, origins, rejected, Positions({}), 100 * n)

    return made


@pytest.fixture(scope="session")
def refused():
    """`refused(reason)`: a record that makes no row."""

    def made(reason):
        return Rejected("a.csv", 0, 0, reason, None, "", b"")

    return made


@pytest.fixture(scope="session")
def one_batch(scores_of, found_of, batch_of, info_of):
    """`one_batch(meter, labels=(0, 1, 1), ...)`: a meter is told of a batch, and its snapshot."""

    def made(meter, labels=(0, 1, 1), **given):
        scores = scores_of(labels, [0, 1])
        total = meter.snapshot.published.version + len(labels)
        found = found_of([0, 1], [[0, 0], [3, 4]])
        batch = batch_of(len(labels))
        return meter.batch(info_of(scores, **given), batch, found, total_events=total)

    return made


@pytest.fixture(scope="session")
def samples():
    """`samples(meter)`: sample name and labels -> value, of everything that bears our prefix."""

    def sampled(meter):
        text = generate_latest(registry(meter)).decode()
        return {
            (s.name.removeprefix("stream_em_"), *sorted(s.labels.items())): s.value
            for family in text_string_to_metric_families(text)
            for s in family.samples
            if s.name.startswith("stream_em_")
        }

    return sampled


@pytest.fixture(scope="session")
def names():
    """`names(found)`: the names among samples, without their labels."""

    def named(found):
        return {key[0] for key in found}

    return named


@pytest.fixture(scope="session")
def lived(now, two, meter_of, batch_of, refused, found_of, info_of, scores_of):
    """`lived(model=two, ...)`: a meter that has seen everything there is to see."""

    def made(model=two, **settings):
        meter = meter_of(model, name="demo", checkpoint_interval_seconds=30.0, **settings)
        meter.restored(10)
        place = ("a.csv", 0)
        status = InputStatus(
            True, {place: 4}, {place: 9}, {}, 1, 1, 0.2, {"transport": 1}, 2, 1, 0.3
        )
        meter.input(connected=True, last_poll=now, lag_bytes=5, status=status)
        meter.state("running")
        times = np.array([now - 5, now - 1, np.nan])
        batch = batch_of(3, times, (refused("late"),))
        found = found_of([0, 1], [[0, 0], [3, 4]])
        info = info_of(scores_of([0, 1, 1], [0, 1]))
        phases = dict.fromkeys(catalogue.PHASES, 0.003)
        meter.batch(info, batch, found, total_events=13, times=times, phases=phases)
        meter.checkpoint_written(0.2, 4096, 13)
        return meter

    return made
