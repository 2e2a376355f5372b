"""Which series there are: names, types and labels of the table, and what is absent."""

import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics

import stream_em as se
from stream_em.errors import SettingsError
from stream_em.metrics import catalogue
from stream_em.metrics.collector import registry
from stream_em.streams import REASONS

# The operations manual's table, as far as the engine knows what to say of it.
TABLE = re.findall(
    r"\w+",
    """
    build_info model_info state events_total batches_total batch_events
    phase_duration_seconds loop_seconds_total queue_events queue_capacity_events
    event_time_delay_seconds last_update_timestamp_seconds records_rejected_total
    dead_letter_records_total input_records_total input_bytes_total input_lag_records
    input_uncommitted_records input_lag_bytes input_last_event_timestamp_seconds
    input_last_poll_timestamp_seconds input_assigned_partitions input_connected
    input_rebalances_total input_rebalance_duration_seconds input_errors_total
    offset_commits_total offset_commit_duration_seconds event_objective objective_per_event
    batch_objective_per_event log_likelihood_nats_per_event
    batch_log_likelihood_nats_per_event free_energy_nats_per_event
    assignment_entropy_nats_per_event clusters features model_version
    model_published_timestamp_seconds model_updates_total step_size_ratio
    numerical_interventions_total cluster_changes_total cluster_weight_ratio
    cluster_effective_events cluster_events_total cluster_displacement_total
    cluster_reference_distance cluster_covariance_log_determinant
    cluster_last_event_timestamp_seconds cluster_created_timestamp_seconds checkpoints_total
    checkpoint_duration_seconds checkpoint_size_bytes
    checkpoint_last_success_timestamp_seconds checkpoint_interval_seconds
    checkpoint_pending_events checkpoint_restores_total log_messages_total
    """,
)
SUMMARIES = {
    "cluster_weight_minimum_ratio",
    "cluster_weight_maximum_ratio",
    "cluster_weight_entropy_nats",
}
RESERVED = re.compile(
    "cluster|stage|environment|region|zone|namespace|pod|container|node|service|endpoint"
    "|instance|job"
)


@pytest.fixture
def promtool():
    path = shutil.which("promtool")
    if path is None and os.environ.get("CI"):
        pytest.fail("promtool is missing, and CI must not go without it; install prometheus")
    if path is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    return path


@pytest.fixture
def make(request, meter_of, lived):
    """A maker of meters: of fresh ones, or of those that have seen everything."""
    return {"fresh": meter_of, "lived": lived}[request.param]


@pytest.mark.parametrize("make", ["fresh", "lived"], indirect=True)
@pytest.mark.parametrize(
    "model",
    [se.GaussianMixture(2, covariance=se.Diagonal()), se.KMeans(2)],
    ids=["mixture", "k-means"],
)
def test_promtool_finds_nothing(promtool, make, model):
    text = generate_latest(registry(make(model)))
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_promtool_does_lint(promtool):
    text = b"# TYPE a_count gauge\na_count 1\n"
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True)
    assert done.returncode != 0


def test_names_are_those_of_the_table():
    assert {f.name for f in catalogue.CATALOGUE} == {*TABLE} | SUMMARIES
    assert len(catalogue.FAMILIES) == len(catalogue.CATALOGUE)


def test_no_label_clashes_with_those_of_targets():
    labels = {label for family in catalogue.CATALOGUE for label in family.labels}
    assert [label for label in labels if RESERVED.fullmatch(label)] == []


@pytest.mark.parametrize("make", ["fresh", "lived"], indirect=True)
def test_every_family_is_declared(make):
    text = generate_latest(registry(make())).decode()
    declared = set(re.findall(r"^# TYPE stream_em_(\w+) ", text, re.MULTILINE))
    assert declared == {family.name for family in catalogue.CATALOGUE}


def test_every_family_has_samples_once_everything_happened(samples, names, lived):
    found = names(samples(lived()))
    bare = {re.sub("_(bucket|sum|count)$", "", name) for name in found}
    assert bare == {family.name for family in catalogue.CATALOGUE}


def test_labels_are_those_declared(samples, lived):
    for key in samples(lived()):
        family = next(
            f for name, f in catalogue.FAMILIES.items() if re.fullmatch(name + "(_[a-z]+)?", key[0])
        )
        assert {label for label, _ in key[1:]} - {"le"} == set(family.labels)


def test_openmetrics_parses(lived):
    families = openmetrics(generate_openmetrics(registry(lived())).decode())
    assert "stream_em_events" in {family.name for family in families}


@pytest.mark.parametrize("wrong", [{"half_life_events": 0.0}, {"cluster_detail": "some"}])
def test_settings_that_make_no_sense(meter_of, wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        meter_of(**wrong)


def test_label_values_exist_before_anything_happened(meter_of, samples):
    found = samples(meter_of())
    expected = {
        ("records_rejected_total", "reason"): REASONS,
        ("phase_duration_seconds_count", "phase"): catalogue.PHASES,
        ("loop_seconds_total", "activity"): catalogue.ACTIVITIES,
        ("batches_total", "outcome"): catalogue.OUTCOMES,
        ("dead_letter_records_total", "outcome"): catalogue.OUTCOMES,
        ("checkpoints_total", "outcome"): catalogue.OUTCOMES,
        ("checkpoint_restores_total", "outcome"): catalogue.OUTCOMES,
        ("numerical_interventions_total", "kind"): catalogue.INTERVENTIONS,
        ("cluster_changes_total", "change"): catalogue.CHANGES,
        ("queue_events", "queue"): catalogue.QUEUES,
        ("log_messages_total", "level"): catalogue.LEVELS,
    }
    of_input = {
        ("input_errors_total", "error"): catalogue.INPUT_ERRORS,
        ("offset_commits_total", "outcome"): catalogue.OUTCOMES,
    }
    for (name, label), values in expected.items():
        assert [found[name, (label, value)] for value in values] == [0.0] * len(values)
    for (name, label), values in of_input.items():
        keys = [(name, *sorted([("source", "input"), (label, value)])) for value in values]
        assert [found[key] for key in keys] == [0.0] * len(values)
    for name in ("input_records_total", "input_rebalances_total"):
        assert found[name, ("source", "input")] == 0.0


def test_what_is_not_known_has_no_sample(meter_of, samples, names):
    absent = {
        "objective_per_event",
        "last_update_timestamp_seconds",
        "checkpoint_last_success_timestamp_seconds",
        "checkpoint_interval_seconds",
        "input_lag_bytes",
        "cluster_weight_ratio",
    }
    assert names(samples(meter_of())) & absent == set()


@pytest.mark.parametrize(
    ("detail", "K", "each", "summary"),
    [
        ("auto", 64, True, True),
        ("auto", 65, False, True),
        ("full", 65, True, True),
        ("summary", 2, False, True),
        ("off", 2, False, False),
    ],
)
def test_cluster_detail(
    meter_of, scores_of, info_of, found_of, samples, names, detail, K, each, summary
):
    meter = meter_of(cluster_detail=detail)
    found = found_of(range(K), np.zeros((K, 2)))
    meter.batch(info_of(scores_of([0], range(K))), None, found, total_events=1)
    seen = names(samples(meter))
    assert ("cluster_weight_ratio" in seen, bool(seen & SUMMARIES)) == (each, summary)
