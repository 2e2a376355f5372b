"""What is told of an input behind a server: by partition, exact, and gone when it is gone."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

import stream_em as se
from stream_em.engine.ingest import Ingest
from stream_em.metrics.collector import registry
from stream_em.metrics.meter import Meter
from stream_em.server import READINESS
from stream_em.state import Found, Info, Scores
from stream_em.streams import (
    Batch,
    InputStatus,
    Json,
    Origins,
    Positions,
    Progress,
    Rejected,
    Source,
    Stream,
)

MODEL = se.KMeans(n_clusters=2, initial_means=[[0.0, 0.0], [9.0, 9.0]])
QUIET = InputStatus(True, {}, {}, {}, 0, 0, 0.0, {}, 0, 0, 0.0)
WHOLE = ("source", "a,b")


@pytest.fixture
def meter() -> Meter:
    return Meter(MODEL, source="a,b")


def status_of(**given: Any) -> InputStatus:
    return QUIET._replace(**given)


def samples(meter: Meter) -> dict[tuple[Any, ...], float]:
    text = generate_latest(registry(meter)).decode()
    return {
        (s.name.removeprefix("stream_em_"), *sorted(s.labels.items())): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
        if s.name.startswith("stream_em_")
    }


def by_partition(meter: Meter, name: str) -> dict[tuple[str, str], float]:
    found = samples(meter)
    return {
        (dict(labels)["source"], dict(labels)["partition"]): value
        for (family, *labels), value in found.items()
        if family == name
    }


def origins_of(places: list[tuple[int, int]], times: np.ndarray | None = None) -> Origins:
    """Rows of the topics a and b: (0 or 1, partition) of each."""
    source, partition = (np.array(c, dtype=np.int32) for c in zip(*places, strict=True))
    return Origins(("a", "b"), source, partition, np.arange(len(places)), None, times)


def learned(meter: Meter, origins: Origins, rejected: tuple[Rejected, ...] = ()) -> None:
    """A batch of those rows was applied."""
    n, nothing = len(origins.offset), np.zeros(len(origins.offset))
    ids = np.arange(2)
    labels = np.zeros(n, dtype=np.int64)
    scores = Scores(labels, nothing + 1, nothing, nothing, nothing, ids, ids, None)
    info = Info(n, float(n), 0.0, 0.0, 0.0, 0.0, 0.9, 0.1, (), scores, 0, 0, ())
    found = Found(ids, ids, np.full(2, 0.5), np.zeros((2, 2)), np.ones(2), np.ones(2))
    batch = Batch(np.zeros((n, 2)), None, origins, rejected, Positions({}), 100)
    meter.batch(info, batch, found, total_events=n)


def refused(source: str, reason: str) -> Rejected:
    return Rejected(source, 0, 0, reason, None, "", b"")


# --- the meter ------------------------------------------------------------------------


def test_lag_is_told_by_topic_and_partition_and_goes_with_its_partition(meter: Meter) -> None:
    lag, owed = {("a", 0): 7, ("b", 1): 0}, {("a", 0): 3, ("b", 1): 12}
    meter.input(connected=True, status=status_of(lag=lag, uncommitted=owed, assigned=2))
    assert by_partition(meter, "input_lag_records") == {("a", "0"): 7, ("b", "1"): 0}
    assert by_partition(meter, "input_uncommitted_records") == {("a", "0"): 3, ("b", "1"): 12}
    assert samples(meter)["input_assigned_partitions", WHOLE] == 2
    meter.input(connected=True, status=status_of(lag={("b", 1): 5}, assigned=1))
    meter.idle(0.1)
    assert by_partition(meter, "input_lag_records") == {("b", "1"): 5}
    assert by_partition(meter, "input_uncommitted_records") == {}
    assert samples(meter)["input_assigned_partitions", WHOLE] == 1


def test_records_are_counted_by_topic_and_the_rejected_among_them(meter: Meter) -> None:
    meter.input(connected=True, status=status_of(lag={("a", 0): 0, ("b", 0): 0}))
    learned(meter, origins_of([(0, 0), (0, 0), (1, 2)]), (refused("b", "schema"),))
    learned(meter, origins_of([(1, 0)]))
    found = samples(meter)
    counts = {k[1][1]: v for k, v in found.items() if k[0] == "input_records_total"}
    assert counts == {"a": 2, "b": 3}
    assert found["input_bytes_total", WHOLE] == 200


def test_files_keep_the_label_of_the_configuration(meter: Meter) -> None:
    learned(meter, origins_of([(0, 0), (1, 0)], np.array([5.0, 6.0])))
    found = samples(meter)
    assert found["input_records_total", WHOLE] == 2
    assert by_partition(meter, "input_last_event_timestamp_seconds") == {("a,b", "0"): 6.0}
    assert by_partition(meter, "input_lag_records") == {}
    assert "input_assigned_partitions" not in {key[0] for key in found}


def test_event_times_are_by_partition_of_a_topic_and_only_grow(meter: Meter) -> None:
    places = [(0, 0), (1, 0), (1, 3), (1, 0)]
    meter.input(connected=True, status=status_of(lag={("a", 0): 0, ("b", 0): 0, ("b", 3): 0}))
    learned(meter, origins_of(places, np.array([10.0, 20.0, np.nan, 25.0])))
    learned(meter, origins_of([(1, 0)], np.array([5.0])))
    seen = by_partition(meter, "input_last_event_timestamp_seconds")
    assert seen == {("a", "0"): 10.0, ("b", "0"): 25.0}


def test_record_times_stand_in_where_rows_have_no_times_of_their_own(meter: Meter) -> None:
    status = status_of(lag={("a", 0): 0, ("b", 0): 0}, newest={("a", 0): 99.0, ("b", 0): 99.0})
    meter.input(connected=True, status=status)
    meter.idle(0.1)  # read ahead, but nothing is learned of it yet
    assert by_partition(meter, "input_last_event_timestamp_seconds") == {}
    meter.input(connected=True, status=status, applied={("a", 0): 50.0, ("b", 0): 60.0})
    learned(meter, origins_of([(0, 0)], np.array([40.0])))
    seen = by_partition(meter, "input_last_event_timestamp_seconds")
    assert seen == {("a", "0"): 40.0, ("b", "0"): 60.0}


def test_a_revoked_partition_loses_its_event_time_and_gets_it_back(meter: Meter) -> None:
    both, one = {("a", 0): 0, ("b", 0): 0}, {("b", 0): 0}
    meter.input(connected=True, status=status_of(lag=both))
    learned(meter, origins_of([(0, 0), (1, 0)], np.array([10.0, 20.0])))
    for lag, expected in ((one, {("b", "0"): 20.0}), (both, {("a", "0"): 10.0, ("b", "0"): 20.0})):
        meter.input(connected=True, status=status_of(lag=lag, newest={("a", 0): 10.0}))
        meter.idle(0.1)
        assert by_partition(meter, "input_last_event_timestamp_seconds") == expected


def test_counts_go_on_where_an_input_is_opened_again(meter: Meter) -> None:
    errors = {"transport": 2, "auth": 1, "deserialize": 7}
    first = status_of(rebalances=3, errors=errors, commits=5, failed_commits=1)
    again = status_of(rebalances=1, errors={"transport": 1}, commits=2)
    for status in (first, first, again):
        meter.input(connected=True, status=status)
    meter.idle(0.1)
    found = samples(meter)
    assert found["input_rebalances_total", WHOLE] == 4
    assert found["input_errors_total", ("error", "transport"), WHOLE] == 3
    assert found["input_errors_total", ("error", "auth"), WHOLE] == 1
    assert found["offset_commits_total", ("outcome", "success"), WHOLE] == 7
    assert found["offset_commits_total", ("outcome", "failure"), WHOLE] == 1


def test_records_that_do_not_decode_are_errors_of_the_input(meter: Meter) -> None:
    meter.input(connected=True, status=status_of(errors={"deserialize": 40}))
    reasons = ("decode_error", "decode_error", "schema", "non_finite", "late")
    learned(meter, origins_of([(0, 0)]), tuple(refused("b", reason) for reason in reasons))
    found = samples(meter)
    assert found["input_errors_total", ("error", "deserialize"), WHOLE] == 3
    assert found["records_rejected_total", ("reason", "decode_error")] == 2


def test_durations_are_exact_one_by_one_and_shared_evenly_between_two_looks(meter: Meter) -> None:
    looks = [(1, 0.002), (1, 0.002), (4, 0.302), (0, 0.0), (1, 20.0)]
    for commits, seconds in looks:
        meter.input(connected=True, status=status_of(commits=commits, commit_seconds=seconds))
    meter.idle(0.1)
    found, name = samples(meter), "offset_commit_duration_seconds"
    assert found[f"{name}_count", WHOLE] == 5
    assert found[f"{name}_sum", WHOLE] == pytest.approx(20.302)
    buckets = {dict(k[1:])["le"]: v for k, v in found.items() if k[0] == f"{name}_bucket"}
    assert (buckets["0.0025"], buckets["0.05"], buckets["0.1"], buckets["+Inf"]) == (1, 1, 4, 5)


def test_a_failed_commit_took_its_time_too(meter: Meter) -> None:
    status = status_of(failed_commits=1, commit_seconds=0.4)
    meter.input(connected=True, status=status)
    meter.idle(0.1)
    assert samples(meter)["offset_commit_duration_seconds_sum", WHOLE] == pytest.approx(0.4)


def test_seconds_of_a_rebalance_under_way_wait_for_its_end(meter: Meter) -> None:
    for count, seconds in ((0, 0.0), (0, 0.3), (1, 0.5)):
        status = status_of(rebalances=count, rebalance_seconds=seconds)
        meter.input(connected=True, status=status)
    meter.idle(0.1)
    found = samples(meter)
    assert found["input_rebalance_duration_seconds_count", WHOLE] == 1
    assert found["input_rebalance_duration_seconds_sum", WHOLE] == pytest.approx(0.5)


# --- the engine -----------------------------------------------------------------------


@final
@dataclass(frozen=True)
class ServedSource(Source):
    """A topic of `rows` rows in two partitions; `told` says how it stands after so many polls."""

    kind: ClassVar[str] = "served"
    rows: int
    told: Callable[[int], InputStatus] = lambda polls: QUIET
    hold: threading.Event | None = None  # the end waits for it

    def opened_at(self, positions: Positions | None) -> Stream:
        """The stream."""
        return ServedStream(self)

    def identity(self) -> dict[str, Json]:
        """Nothing may change."""
        return {}


@final
class ServedStream(Stream):
    """Hands out ten rows a poll; the status is that of the last poll."""

    def __init__(self, source: ServedSource) -> None:
        self.features, self.positions = ("x", "y"), Positions({"t": 0})
        self._source, self._read, self._polls = source, 0, 0

    def poll(self, seconds: float) -> Batch | None:
        self._polls += 1
        n = min(10, self._source.rows - self._read)
        if not n:
            hold = self._source.hold
            if hold is not None:
                hold.wait(seconds)
            return None
        self._read += n
        zeros = np.zeros(n, dtype=np.int32)
        origins = Origins(("t",), zeros, np.arange(n, dtype=np.int32) % 2, np.arange(n), None, None)
        return Batch(np.ones((n, 2)), None, origins, (), Positions({"t": self._read}), 10 * n)

    @property
    def ended(self) -> bool:
        hold = self._source.hold
        return self._read == self._source.rows and (hold is None or hold.is_set())

    def status(self) -> InputStatus:
        left = self._source.rows - self._read
        lag, newest = {("t", 0): left // 2, ("t", 1): left // 2}, {("t", 0): 1e9 + self._read}
        return self._source.told(self._polls)._replace(
            lag=lag, uncommitted=lag, newest=newest, assigned=2
        )

    def limit(self, rows: int) -> None:
        """Batches are small."""

    def progress(self) -> Progress:
        return Progress(10 * self._read, None)

    def close(self) -> None:
        """Nothing to release."""


def test_a_run_tells_what_the_stream_says_of_itself() -> None:
    meter, lags = Meter(MODEL, source="t"), []

    def observe(snapshot: Any) -> None:
        if snapshot.input.status is not None:
            lags.append(sum(snapshot.input.status.lag.values()))

    def told(polls: int) -> InputStatus:
        return status_of(commits=min(polls, 4), commit_seconds=0.1 * min(polls, 4))

    se.run(ServedSource(200, told), MODEL, meter=meter, observe=observe)
    found = samples(meter)
    assert lags[-1] == 0
    assert by_partition(meter, "input_lag_records") == {("t", "0"): 0, ("t", "1"): 0}
    assert by_partition(meter, "input_uncommitted_records") == {("t", "0"): 0, ("t", "1"): 0}
    last = by_partition(meter, "input_last_event_timestamp_seconds")
    assert last == {("t", "0"): 1e9 + 200}
    whole = ("source", "t")
    assert found["input_records_total", whole] == found["events_total",] == 200
    assert found["input_assigned_partitions", whole] == 2
    assert found["offset_commits_total", ("outcome", "success"), whole] == 4
    assert found["offset_commit_duration_seconds_sum", whole] == pytest.approx(0.4)


@pytest.mark.parametrize("rows", [0, 30])
def test_an_input_that_lost_its_server_is_not_ready(rows: int) -> None:
    """Opened is not connected; the loop finds out whether rows come or not."""
    hold, ready, connected = threading.Event(), [], [True]

    def told(polls: int) -> InputStatus:
        return status_of(connected=connected[-1])

    def observe(snapshot: Any) -> None:
        ready.append(READINESS["input connected"](snapshot))
        if ready[-1] != connected[-1]:
            return  # what was changed has not come through yet
        if len(connected) == 3:
            hold.set()
        connected.append(not connected[-1])

    with _limited(hold):
        se.run(ServedSource(rows, told, hold), MODEL, observe=observe)
    assert len(connected) >= 4
    turns = [now for before, now in zip([False, *ready], ready, strict=False) if now != before]
    assert turns[:3] == [True, False, True]


class _limited:  # noqa: N801 - reads as a clause
    """Ends the input after a while, so that a failing test ends, too."""

    def __init__(self, hold: threading.Event) -> None:
        self._timer = threading.Timer(30.0, hold.set)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()


def test_the_status_of_a_batch_is_the_one_right_after_it() -> None:
    ingest = Ingest(ServedSource(30).opened_at(None))
    ahead = ingest.status
    assert ahead is not None and sum(ahead.lag.values()) == 30
    ingest.start()
    lags: list[Mapping[Any, int]] = []
    while len(lags) < 3:
        fetched: Any = ingest.queue.take(5.0)
        lags.append(fetched.status.lag)
    ingest.stop(5.0)
    assert [sum(lag.values()) for lag in lags] == [20, 10, 0]
