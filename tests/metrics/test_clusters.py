"""Series of single clusters: they come and go, wander and weigh."""

import numpy as np
import pytest

import stream_em as se
from stream_em.metrics.meter import Meter
from stream_em.state import Change


def test_log_determinants_are_of_the_models_units(meter_of, scores_of, info_of, found_of, samples):
    covariances = np.array([[[4.0, 1.0], [1.0, 9.0]], [[1.0, 0.0], [0.0, 1.0]]])
    meter, unit = meter_of(se.GaussianMixture(2)), np.array([2.0, 5.0])
    found = found_of([0, 1], [[0, 0], [3, 4]], covariances=covariances)
    meter.batch(info_of(scores_of([0], [0, 1])), None, found, total_events=1, unit=unit)
    expected = np.log(np.linalg.det(covariances / np.outer(unit, unit)))
    seen = samples(meter)
    values = [
        seen["cluster_covariance_log_determinant", ("cluster_id", str(slot))] for slot in (0, 1)
    ]
    assert values == pytest.approx(expected)


def test_dead_slots_lose_their_series_and_new_clusters_start_anew(
    two, scores_of, info_of, found_of, samples
):
    clock = _Clock(100.0)
    meter = Meter(two, clock=clock)
    found = found_of([0, 1, 2], [[0, 0], [3, 4], [9, 9]])
    meter.batch(info_of(scores_of([0, 1, 2, 2], [0, 1, 2])), None, found, total_events=4)
    clock.now = 200.0
    change = Change("relocation", 2, 2, 3, 5, "empty", (0.0, 0.0))
    found = found_of([0, 3], [[0, 2], [8, 8]], slots=[0, 2])  # slot 1 died, slot 2 was reused
    info = info_of(scores_of([0, 2, 1], [0, 1, 2]), changes=(change,))
    meter.batch(info, None, found, total_events=7)
    seen = samples(meter)

    def of(name):
        return {k[1][1]: v for k, v in seen.items() if k[0] == name}

    assert of("cluster_events_total") == {"0": 2.0, "2": 0.0}
    assert of("cluster_created_timestamp_seconds") == {"0": 100.0, "2": 200.0}
    assert of("cluster_displacement_total") == {"0": 2.0, "2": 0.0}
    assert seen["clusters",] == 2
    assert seen["cluster_changes_total", ("change", "relocation")] == 1


def test_displacement_is_the_path_and_reference_distance_the_way_back(
    meter_of, scores_of, info_of, found_of, samples
):
    meter, unit = meter_of(), np.array([1.0, 2.0])
    for y in (0.0, 4.0, 2.0):
        found = found_of([0, 1], [[0, y], [9, 9]])
        info = info_of(scores_of([0], [0, 1]))
        meter.batch(info, None, found, total_events=1, unit=unit)
    found = samples(meter)
    assert found["cluster_displacement_total", ("cluster_id", "0")] == 3.0
    assert found["cluster_reference_distance", ("cluster_id", "0")] == 1.0
    assert found["cluster_displacement_total", ("cluster_id", "1")] == 0.0


def test_summary_of_the_weights(samples, lived):
    seen = samples(lived(cluster_detail="summary"))
    assert seen["cluster_weight_minimum_ratio",] == seen["cluster_weight_maximum_ratio",] == 0.5
    assert seen["cluster_weight_entropy_nats",] == pytest.approx(np.log(2))


class _Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now
