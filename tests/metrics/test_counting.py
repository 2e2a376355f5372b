"""What happens to a run is counted: event times, records, checkpoints, states and log lines."""

import logging

import numpy as np
import pytest

from stream_em.errors import SettingsError
from stream_em.metrics import catalogue


def test_state_is_exactly_one(meter_of, samples):
    meter = meter_of()
    for state in catalogue.STATES:
        meter.state(state)
        found = samples(meter)
        ones = [s for s in catalogue.STATES if found["state", ("stream_em_state", s)] == 1.0]
        assert ones == [state]
    with pytest.raises(SettingsError, match="'resting'"):
        meter.state("resting")


def test_event_times_reach_inputs_clusters_and_delays(
    now, meter_of, scores_of, info_of, found_of, batch_of, samples
):
    meter = meter_of(source="readings*.csv")
    times = np.array([now - 2, now - 100, np.nan, now + 50])
    batch = batch_of(4, times, partition=[0, 1, 1, 0])
    info = info_of(scores_of([0, 0, 1, 0], [0, 1]))
    found = found_of([0, 1], [[0, 0], [3, 4]])
    meter.batch(info, batch, found, total_events=4, times=times)
    seen, source = samples(meter), ("source", "readings*.csv")
    newest = "input_last_event_timestamp_seconds"
    assert seen[newest, ("partition", "0"), source] == now + 50
    assert seen[newest, ("partition", "1"), source] == now - 100
    assert seen["cluster_last_event_timestamp_seconds", ("cluster_id", "0")] == now + 50
    assert ("cluster_last_event_timestamp_seconds", ("cluster_id", "1")) not in seen
    assert seen["event_time_delay_seconds_sum",] == 102.0  # the future counts as no delay
    assert seen["event_time_delay_seconds_count",] == 3
    assert seen["event_time_delay_seconds_bucket", ("le", "0.05")] == 1
    assert seen["event_time_delay_seconds_bucket", ("le", "2.5")] == 2


def test_records_in_are_rows_and_rejected(
    meter_of, scores_of, info_of, found_of, batch_of, refused, samples
):
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


def test_pending_events_count_from_what_is_durable(now, meter_of, one_batch, samples):
    meter = meter_of()
    meter.restored(100)
    one_batch(meter)
    assert samples(meter)["checkpoint_pending_events",] == 3
    meter.checkpoint_written(0.3, 2048, 102)
    meter.checkpoint_failed()
    seen = samples(meter)
    assert seen["checkpoint_pending_events",] == 1
    assert seen["checkpoint_last_success_timestamp_seconds",] == now
    assert seen["checkpoint_size_bytes",] == 2048
    assert seen["checkpoint_duration_seconds_sum",] == 0.3
    assert seen["phase_duration_seconds_count", ("phase", "checkpoint")] == 1
    assert seen["checkpoints_total", ("outcome", "failure")] == 1
    assert seen["checkpoint_restores_total", ("outcome", "success")] == 1


def test_an_idle_input_keeps_its_lag(meter_of, samples):
    meter = meter_of()
    meter.input(connected=True, lag_bytes=70)
    meter.input(connected=False)
    meter.idle(0.1)
    assert samples(meter)["input_lag_bytes", ("source", "input")] == 70
    assert samples(meter)["input_connected", ("source", "input")] == 0


def test_log_records_are_counted_by_level(meter_of, samples):
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
