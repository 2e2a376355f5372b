"""A snapshot never changes, and all samples of a scrape belong to one."""

import sys
import threading

import pytest


def test_a_snapshot_stays_what_it_was(meter_of, one_batch):
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
def test_all_samples_of_a_scrape_belong_to_one_batch(meter_of, one_batch, samples):
    """Every batch moves ten numbers in step; a scrape in between two would see them apart."""
    meter, stop = meter_of(), threading.Event()
    work = threading.Thread(target=_keep_going, args=(one_batch, meter, stop))
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


def _keep_going(one_batch, meter, stop):
    while not stop.is_set():
        one_batch(meter)
