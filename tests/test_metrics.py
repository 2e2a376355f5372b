"""The exporter: names and types, one batch per scrape, exact sums, series that come and go."""

import logging
import os
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

import stream_em as se
from stream_em.errors import SettingsError
from stream_em.metrics import catalogue
from stream_em.metrics.collector import registry
from stream_em.metrics.meter import Meter
from stream_em.state import Change, Found, Info, Scores
from stream_em.streams import REASONS, Batch, InputStatus, Origins, Positions, Rejected

NOW = 1_800_000_000.0
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
TWO = se.GaussianMixture(2, covariance=se.Diagonal())


def meter_of(model=TWO, **settings):
    return Meter(model, clock=lambda: NOW, **settings)


def scores_of(labels, uids, slots=None):
    n, nothing = len(labels), np.full(len(labels), np.nan)
    slots = uids if slots is None else slots
    ids = np.array(slots, dtype=np.int64), np.array(uids, dtype=np.int64)
    labels = np.array(labels, dtype=np.int64)
    return Scores(labels, np.ones(n), nothing, nothing, np.zeros(n), *ids, None)


def info_of(scores, **given):
    n = len(scores.labels)
    plain = Info(n, float(n), 2.0 * n, -3.0 * n, 0.1 * n, -3.5 * n, 0.9, 0.1, (), scores, 0, 0, ())
    return replace(plain, **given)


def found_of(uids, means, slots=None, covariances=None):
    K, means = len(uids), np.array(means, dtype=np.float64)
    slots = np.array(uids if slots is None else slots, dtype=np.int64)
    covariances = np.ones(means.shape) if covariances is None else covariances
    weights, counts = np.full(K, 1 / K), np.full(K, 7.0)
    return Found(np.array(uids, dtype=np.int64), slots, weights, means, covariances, counts)


def batch_of(n, times=None, rejected=(), partition=None):
    zeros = np.zeros(n, dtype=np.int32)
    partition = zeros if partition is None else np.array(partition, dtype=np.int32)
    origins = Origins(("a.csv",), zeros, partition, np.arange(n), None, times)
    return Batch(np.zeros((n, 2)), None, origins, rejected, Positions({}), 100 * n)


def refused(reason):
    return Rejected("a.csv", 0, 0, reason, None, "", b"")


def one_batch(meter, labels=(0, 1, 1), **given):
    scores = scores_of(labels, [0, 1])
    total = meter.snapshot.published.version + len(labels)
    found = found_of([0, 1], [[0, 0], [3, 4]])
    batch = batch_of(len(labels))
    return meter.batch(info_of(scores, **given), batch, found, total_events=total)


def samples(meter):
    """Sample name and labels -> value, of everything that bears our prefix."""
    text = generate_latest(registry(meter)).decode()
    return {
        (s.name.removeprefix("stream_em_"), *sorted(s.labels.items())): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
        if s.name.startswith("stream_em_")
    }


def names(found):
    return {key[0] for key in found}


def lived(model=TWO, **settings):
    """A meter that has seen everything there is to see."""
    meter = meter_of(model, name="demo", checkpoint_interval_seconds=30.0, **settings)
    meter.restored(10)
    place = ("a.csv", 0)
    status = InputStatus(True, {place: 4}, {place: 9}, {}, 1, 1, 0.2, {"transport": 1}, 2, 1, 0.3)
    meter.input(connected=True, last_poll=NOW, lag_bytes=5, status=status)
    meter.state("running")
    times = np.array([NOW - 5, NOW - 1, np.nan])
    batch = batch_of(3, times, (refused("late"),))
    found = found_of([0, 1], [[0, 0], [3, 4]])
    info = info_of(scores_of([0, 1, 1], [0, 1]))
    phases = dict.fromkeys(catalogue.PHASES, 0.003)
    meter.batch(info, batch, found, total_events=13, times=times, phases=phases)
    meter.checkpoint_written(0.2, 4096, 13)
    return meter


@pytest.fixture
def promtool():
    path = shutil.which("promtool")
    if path is None and os.environ.get("CI"):
        pytest.fail("promtool is missing, and CI must not go without it; install prometheus")
    if path is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    return path


@pytest.mark.parametrize("make", [meter_of, lived], ids=["fresh", "lived"])
@pytest.mark.parametrize("model", [TWO, se.KMeans(2)], ids=["mixture", "k-means"])
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


@pytest.mark.parametrize("make", [meter_of, lived], ids=["fresh", "lived"])
def test_every_family_is_declared(make):
    text = generate_latest(registry(make())).decode()
    declared = set(re.findall(r"^# TYPE stream_em_(\w+) ", text, re.MULTILINE))
    assert declared == {family.name for family in catalogue.CATALOGUE}


def test_every_family_has_samples_once_everything_happened():
    found = names(samples(lived()))
    bare = {re.sub("_(bucket|sum|count)$", "", name) for name in found}
    assert bare == {family.name for family in catalogue.CATALOGUE}


def test_labels_are_those_declared():
    for key in samples(lived()):
        family = next(
            f for name, f in catalogue.FAMILIES.items() if re.fullmatch(name + "(_[a-z]+)?", key[0])
        )
        assert {label for label, _ in key[1:]} - {"le"} == set(family.labels)


def test_openmetrics_parses():
    families = openmetrics(generate_openmetrics(registry(lived())).decode())
    assert "stream_em_events" in {family.name for family in families}


@pytest.mark.parametrize("wrong", [{"half_life_events": 0.0}, {"cluster_detail": "some"}])
def test_settings_that_make_no_sense(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        meter_of(**wrong)


def test_label_values_exist_before_anything_happened():
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


def test_what_is_not_known_has_no_sample():
    absent = {
        "objective_per_event",
        "last_update_timestamp_seconds",
        "checkpoint_last_success_timestamp_seconds",
        "checkpoint_interval_seconds",
        "input_lag_bytes",
        "cluster_weight_ratio",
    }
    assert names(samples(meter_of())) & absent == set()


def test_state_is_exactly_one():
    meter = meter_of()
    for state in catalogue.STATES:
        meter.state(state)
        found = samples(meter)
        ones = [s for s in catalogue.STATES if found["state", ("stream_em_state", s)] == 1.0]
        assert ones == [state]
    with pytest.raises(SettingsError, match="'resting'"):
        meter.state("resting")


def test_objective_is_an_exact_summary():
    meter, weights, sums = meter_of(half_life_events=5.0), [3.0, 0.5, 0.0, 2.0], [7.0, 1.0, 0.0, 4]
    for weight, total in zip(weights, sums, strict=True):
        one_batch(meter, weight=weight, objective=total)
    found = samples(meter)
    assert found["event_objective_count",] == 5.5
    assert found["event_objective_sum",] == 12.0
    assert found["batch_objective_per_event",] == 2.0


def test_averages_have_the_half_life_they_declare():
    meter = meter_of(half_life_events=3.0)
    one_batch(meter, log_likelihood=-3.0)  # -1 per event, three events ago at the end
    one_batch(meter, log_likelihood=-9.0)  # -3 per event
    found = samples(meter)
    assert found["log_likelihood_nats_per_event",] == pytest.approx((-3 / 2 - 9) / (3 / 2 + 3))
    assert found["batch_log_likelihood_nats_per_event",] == -3.0
    assert "half-life of 3 events" in generate_latest(registry(meter)).decode()


def test_averages_do_not_depend_on_how_a_stream_is_cut():
    whole, halves = meter_of(half_life_events=1e12), meter_of(half_life_events=1e12)
    one_batch(whole, (0, 1, 1, 0), log_likelihood=-10.0)
    one_batch(halves, (0, 1), log_likelihood=-4.0)
    one_batch(halves, (1, 0), log_likelihood=-6.0)
    name = ("log_likelihood_nats_per_event",)
    assert samples(whole)[name] == pytest.approx(samples(halves)[name], rel=1e-9)


def test_a_sum_that_is_no_number_does_not_stay():
    meter = meter_of()
    one_batch(meter, log_likelihood=float("-inf"), objective=float("nan"))
    one_batch(meter)
    found = samples(meter)
    assert found["log_likelihood_nats_per_event",] == -3.0
    assert found["event_objective_sum",] / found["event_objective_count",] == 2.0


def test_k_means_has_no_likelihood():
    meter = meter_of(se.KMeans(2))
    nothing = float("nan")
    one_batch(meter, log_likelihood=nothing, entropy=nothing, free_energy=nothing)
    found = names(samples(meter))
    assert "objective_per_event" in found
    assert "cluster_covariance_log_determinant" not in found
    assert not [name for name in found if "nats_per_event" in name]


def test_a_real_model_adds_up():
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


def test_log_determinants_are_of_the_models_units():
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


def test_dead_slots_lose_their_series_and_new_clusters_start_anew():
    clock = _Clock(100.0)
    meter = Meter(TWO, clock=clock)
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


def test_displacement_is_the_path_and_reference_distance_the_way_back():
    meter, unit = meter_of(), np.array([1.0, 2.0])
    for y in (0.0, 4.0, 2.0):
        found = found_of([0, 1], [[0, y], [9, 9]])
        info = info_of(scores_of([0], [0, 1]))
        meter.batch(info, None, found, total_events=1, unit=unit)
    found = samples(meter)
    assert found["cluster_displacement_total", ("cluster_id", "0")] == 3.0
    assert found["cluster_reference_distance", ("cluster_id", "0")] == 1.0
    assert found["cluster_displacement_total", ("cluster_id", "1")] == 0.0


def test_event_times_reach_inputs_clusters_and_delays():
    meter = meter_of(source="readings*.csv")
    times = np.array([NOW - 2, NOW - 100, np.nan, NOW + 50])
    batch = batch_of(4, times, partition=[0, 1, 1, 0])
    info = info_of(scores_of([0, 0, 1, 0], [0, 1]))
    found = found_of([0, 1], [[0, 0], [3, 4]])
    meter.batch(info, batch, found, total_events=4, times=times)
    seen, source = samples(meter), ("source", "readings*.csv")
    newest = "input_last_event_timestamp_seconds"
    assert seen[newest, ("partition", "0"), source] == NOW + 50
    assert seen[newest, ("partition", "1"), source] == NOW - 100
    assert seen["cluster_last_event_timestamp_seconds", ("cluster_id", "0")] == NOW + 50
    assert ("cluster_last_event_timestamp_seconds", ("cluster_id", "1")) not in seen
    assert seen["event_time_delay_seconds_sum",] == 102.0  # the future counts as no delay
    assert seen["event_time_delay_seconds_count",] == 3
    assert seen["event_time_delay_seconds_bucket", ("le", "0.05")] == 1
    assert seen["event_time_delay_seconds_bucket", ("le", "2.5")] == 2


def test_records_in_are_rows_and_rejected():
    meter = meter_of()
    batch = batch_of(2, rejected=(refused("late"), refused("late"), refused("schema")))
    found = found_of([0, 1], [[0, 0], [3, 4]])
    meter.batch(info_of(scores_of([0, 1], [0, 1])), batch, found, total_events=2)
    meter.rejected({"future": 1})
    meter.idle(0.5)
    seen, source = samples(meter), ("source", "input")
    assert seen["input_records_total", source] == 5
    assert seen["input_bytes_total", source] == 200
    assert seen["records_rejected_total", ("reason", "late")] == 2
    assert seen["records_rejected_total", ("reason", "future")] == 1
    assert seen["loop_seconds_total", ("activity", "idle")] == 0.5
    assert seen["batch_events_bucket", ("le", "4")] == 1
    assert seen["batch_events_bucket", ("le", "1")] == 0
    assert seen["batches_total", ("outcome", "success")] == 1


def test_pending_events_count_from_what_is_durable():
    meter = meter_of()
    meter.restored(100)
    one_batch(meter)
    assert samples(meter)["checkpoint_pending_events",] == 3
    meter.checkpoint_written(0.3, 2048, 102)
    meter.checkpoint_failed()
    seen = samples(meter)
    assert seen["checkpoint_pending_events",] == 1
    assert seen["checkpoint_last_success_timestamp_seconds",] == NOW
    assert seen["checkpoint_size_bytes",] == 2048
    assert seen["checkpoint_duration_seconds_sum",] == 0.3
    assert seen["phase_duration_seconds_count", ("phase", "checkpoint")] == 1
    assert seen["checkpoints_total", ("outcome", "failure")] == 1
    assert seen["checkpoint_restores_total", ("outcome", "success")] == 1


def test_an_idle_input_keeps_its_lag():
    meter = meter_of()
    meter.input(connected=True, lag_bytes=70)
    meter.input(connected=False)
    meter.idle(0.1)
    assert samples(meter)["input_lag_bytes", ("source", "input")] == 70
    assert samples(meter)["input_connected", ("source", "input")] == 0


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
def test_cluster_detail(detail, K, each, summary):
    meter = meter_of(cluster_detail=detail)
    found = found_of(range(K), np.zeros((K, 2)))
    meter.batch(info_of(scores_of([0], range(K))), None, found, total_events=1)
    seen = names(samples(meter))
    assert ("cluster_weight_ratio" in seen, bool(seen & SUMMARIES)) == (each, summary)


def test_summary_of_the_weights():
    seen = samples(lived(cluster_detail="summary"))
    assert seen["cluster_weight_minimum_ratio",] == seen["cluster_weight_maximum_ratio",] == 0.5
    assert seen["cluster_weight_entropy_nats",] == pytest.approx(np.log(2))


def test_log_records_are_counted_by_level():
    meter, log = meter_of(), logging.getLogger("test_metrics")
    log.addHandler(meter.logs)
    try:
        log.warning("one")
        log.error("two")
        log.critical("three")
    finally:
        log.removeHandler(meter.logs)
    seen = samples(meter)
    counts = [seen["log_messages_total", ("level", level)] for level in catalogue.LEVELS]
    assert counts == [0, 0, 1, 2]


def test_a_snapshot_stays_what_it_was():
    meter = meter_of()
    before = one_batch(meter)
    text = repr(before)
    for _ in range(3):
        one_batch(meter, (1, 1, 1, 1))
    meter.rejected({"late": 5})
    meter.state("draining")
    assert repr(before) == text
    arrays = (before.published.tracks.events, before.throughput.batch_events.counts)
    assert [array.flags.writeable for array in arrays] == [False, False]


@pytest.fixture
def restless():
    """Threads take turns after microseconds, so that a scrape meets many batches."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
def test_all_samples_of_a_scrape_belong_to_one_batch():
    """Every batch moves ten numbers in step; a scrape in between two would see them apart."""
    meter, stop = meter_of(), threading.Event()
    work = threading.Thread(target=_keep_going, args=(meter, stop))
    work.start()
    try:
        seen = [samples(meter) for _ in range(30)]
    finally:
        stop.set()
        work.join()
    for found in seen:
        batches = found["batches_total", ("outcome", "success")]
        events = [found["cluster_events_total", ("cluster_id", k)] for k in "01"] if batches else []
        assert found["events_total",] == found["model_version",] == 3 * batches
        assert found["batch_events_count",] == found["model_updates_total",] == batches
        assert found["event_objective_sum",] == 2 * found["event_objective_count",] == 6 * batches
        assert events in ([], [batches, 2 * batches])
    assert len({found["events_total",] for found in seen}) > 1


def _keep_going(meter, stop):
    while not stop.is_set():
        one_batch(meter)


class _Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now
