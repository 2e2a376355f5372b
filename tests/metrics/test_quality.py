"""Objective, likelihood and free energy: exact sums, and averages that fade."""

import numpy as np
import pytest
from prometheus_client import generate_latest

import stream_em as se
from stream_em.metrics.collector import registry


def test_objective_is_an_exact_summary(meter_of, one_batch, samples):
    meter, weights, sums = meter_of(half_life_events=5.0), [3.0, 0.5, 0.0, 2.0], [7.0, 1.0, 0.0, 4]
    for weight, total in zip(weights, sums, strict=True):
        one_batch(meter, weight=weight, objective=total)
    found = samples(meter)
    assert found["event_objective_count",] == 5.5
    assert found["event_objective_sum",] == 12.0
    assert found["batch_objective_per_event",] == 2.0


def test_averages_have_the_half_life_they_declare(meter_of, one_batch, samples):
    meter = meter_of(half_life_events=3.0)
    one_batch(meter, log_likelihood=-3.0)  # -1 per event, three events ago at the end
    one_batch(meter, log_likelihood=-9.0)  # -3 per event
    found = samples(meter)
    assert found["log_likelihood_nats_per_event",] == pytest.approx((-3 / 2 - 9) / (3 / 2 + 3))
    assert found["batch_log_likelihood_nats_per_event",] == -3.0
    assert "half-life of 3 events" in generate_latest(registry(meter)).decode()


def test_averages_do_not_depend_on_how_a_stream_is_cut(meter_of, one_batch, samples):
    whole, halves = meter_of(half_life_events=1e12), meter_of(half_life_events=1e12)
    one_batch(whole, (0, 1, 1, 0), log_likelihood=-10.0)
    one_batch(halves, (0, 1), log_likelihood=-4.0)
    one_batch(halves, (1, 0), log_likelihood=-6.0)
    name = ("log_likelihood_nats_per_event",)
    assert samples(whole)[name] == pytest.approx(samples(halves)[name], rel=1e-9)


def test_a_sum_that_is_no_number_does_not_stay(meter_of, one_batch, samples):
    meter = meter_of()
    one_batch(meter, log_likelihood=float("-inf"), objective=float("nan"))
    one_batch(meter)
    found = samples(meter)
    assert found["log_likelihood_nats_per_event",] == -3.0
    assert found["event_objective_sum",] / found["event_objective_count",] == 2.0


def test_k_means_has_no_likelihood(meter_of, one_batch, samples, names):
    meter = meter_of(se.KMeans(2))
    nothing = float("nan")
    one_batch(meter, log_likelihood=nothing, entropy=nothing, free_energy=nothing)
    found = names(samples(meter))
    assert "objective_per_event" in found
    assert "cluster_covariance_log_determinant" not in found
    assert not [name for name in found if "nats_per_event" in name]


def test_a_real_model_adds_up(meter_of, batch_of, samples):
    rng = np.random.default_rng(3)
    model = se.GaussianMixture(3, seeding=se.Seeding(rows=100))
    state, meter, objective = se.init(model, seed=1), meter_of(model), 0.0
    for _ in range(5):
        state, info = se.step(model, state, rng.normal(size=(60, 2)))
        objective += info.objective
        meter.batch(
            info,
            batch_of(60),
            se.clusters(model, state),
            total_events=state.total_events,
            held=state.held_rows,
        )
    found = samples(meter)
    assert found["events_total",] == found["model_version",] == 300
    assert sum(v for k, v in found.items() if k[0] == "cluster_events_total") == 300
    assert found["event_objective_sum",] == pytest.approx(objective, rel=1e-12)
    assert found["free_energy_nats_per_event",] <= found["log_likelihood_nats_per_event",] + 1e-9
    assert found["clusters",] == 3
