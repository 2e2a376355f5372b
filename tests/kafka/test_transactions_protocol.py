"""What transactions ask of a producer, in which order, and what they never ask it again."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from stream_em.errors import (
    Fenced,
    OutcomeUnknown,
    OutputChanged,
    SettingsError,
    SinkFailed,
    Unreachable,
)
from stream_em.streams import Marker
from stream_em_connectors.kafka.client import ClientSettings, Committed, TopicPartition
from stream_em_connectors.kafka.courtesy import Courtesy
from stream_em_connectors.kafka.link import Link
from stream_em_connectors.kafka.sink import KafkaSink
from stream_em_connectors.kafka.transactions import KafkaTransactions, timeout_between

MARKER = Marker(7, "0000000007-a.ckpt", "0123456789abcdef")
METADATA = "0000000007-a.ckpt 0123456789abcdef"


@dataclass
class Recorder:
    """A client, its consumer and its producer: writes down what it is asked."""

    name: str = "recorder"
    asked: list[str] = field(default_factory=list)
    offsets: list[tuple[Any, dict[TopicPartition, Committed]]] = field(default_factory=list)
    stored: dict[TopicPartition, Committed] = field(default_factory=dict)
    failures: dict[str, Exception] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)

    def consumer(self, settings: Any, reading: Any) -> "Recorder":
        self.asked.append(f"consumer {reading.group_id}")
        return self

    def producer(self, settings: Any, writing: Any) -> "Recorder":
        self.sizes.append(writing.max_record_bytes)
        return self

    def partitions(self, topic: str) -> int | None:
        return None if topic == "missing" else 3

    def cluster(self) -> str:
        return "here"

    def committed(self, places: Any) -> dict[TopicPartition, Committed | None]:
        self._ask("committed")
        return {place: self.stored.get(place) for place in places}

    def send_offsets(self, group: Any, offsets: Any, seconds: float) -> None:
        self._ask("send_offsets")
        self.offsets.append((group, offsets))

    def send(self, *record: Any) -> None:
        self._ask("send")

    def flush(self, seconds: float) -> None:
        self._ask("flush")

    def init_transactions(self, seconds: float) -> None:
        self._ask("init_transactions")

    def begin(self) -> None:
        self._ask("begin")

    def commit(self, seconds: float) -> None:
        self._ask("commit")

    def abort(self, seconds: float) -> None:
        self._ask("abort")

    def close(self) -> None:
        self._ask("close")

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if what in self.failures:
            raise self.failures[what]


def made(recorder: Recorder, *topics: str) -> KafkaTransactions:
    settings = ClientSettings("127.0.0.1:9", {}, "test")
    transactions = KafkaTransactions(Link(recorder, settings, None, 5.0, 60.0), "run", 300.0)
    for topic in topics or ("out",):
        transactions.enlist(topic, 1000)
    return transactions


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def opened(recorder: Recorder) -> KafkaTransactions:
    transactions = made(recorder)
    transactions.open()
    recorder.asked.clear()
    return transactions


def test_the_marker_is_read_only_after_rivals_are_fenced(recorder: Recorder) -> None:
    made(recorder).open()
    assert recorder.asked == [
        *("init_transactions", "consumer run.marker", "committed", "close", "begin"),
    ]


def test_without_a_committed_offset_there_is_no_marker(recorder: Recorder) -> None:
    assert made(recorder).open() is None


def test_the_marker_of_any_topic_that_is_still_written_is_found(recorder: Recorder) -> None:
    recorder.stored[TopicPartition("b", 0)] = Committed(7, METADATA)
    assert made(recorder, "new", "b").open() == MARKER


def test_of_several_markers_the_latest_counts(recorder: Recorder) -> None:
    recorder.stored[TopicPartition("a", 0)] = Committed(3, "0000000003-x.ckpt fedcba9876543210")
    recorder.stored[TopicPartition("b", 0)] = Committed(7, METADATA)
    assert made(recorder, "a", "b").open() == MARKER


def test_a_strangers_commit_in_the_markers_group_is_refused(recorder: Recorder) -> None:
    recorder.stored[TopicPartition("out", 0)] = Committed(12, "")
    with pytest.raises(OutputChanged, match=r"run\.marker holds '' at offset 12"):
        made(recorder).open()
    assert recorder.asked[-1] == "close"


def test_a_missing_topic_is_refused_before_anybody_is_fenced(recorder: Recorder) -> None:
    with pytest.raises(Unreachable, match=r"topic missing does not exist.*--create --topic missin"):
        made(recorder, "out", "missing").open()
    assert recorder.asked == ["close"]


def test_the_marker_is_committed_for_every_topic_that_is_written(recorder: Recorder) -> None:
    transactions = made(recorder, "a", "b")
    transactions.open()
    assert not transactions.commit(MARKER, None)
    told = Committed(7, METADATA)
    places = {TopicPartition("a", 0): told, TopicPartition("b", 0): told}
    assert recorder.offsets == [("run.marker", places)]
    assert recorder.asked[-3:] == ["send_offsets", "commit", "begin"]


def test_the_producer_takes_the_largest_record_of_any_sink(recorder: Recorder) -> None:
    transactions = made(recorder)
    transactions.enlist("large", 5_000)
    transactions.enlist("small", 2_000)
    transactions.open()
    assert recorder.sizes == [5_000]


@pytest.mark.parametrize(("cluster", "along"), [("here", True), ("elsewhere", False)])
def test_positions_go_along_only_within_the_same_cluster(
    recorder: Recorder, opened: KafkaTransactions, cluster: str, along: bool
) -> None:
    offsets = {TopicPartition("in", 2): Committed(40, "")}
    assert opened.commit(MARKER, Courtesy(cluster, "group", offsets)) is along
    assert (("group", offsets) in recorder.offsets) is along


@pytest.mark.parametrize("failing", ["send_offsets", "commit", "begin"])
@pytest.mark.parametrize("error", [Fenced("rival"), OutcomeUnknown("silence")])
def test_once_undecided_the_producer_is_not_touched_again(
    recorder: Recorder, opened: KafkaTransactions, failing: str, error: Exception
) -> None:
    recorder.failures[failing] = error
    with pytest.raises(type(error)):
        opened.commit(MARKER, None)
    recorder.asked.clear()
    opened.abort()
    for use in (opened.sender, opened.flush, lambda: opened.commit(MARKER, None)):
        with pytest.raises(SinkFailed, match="ended before"):
            use()
    assert recorder.asked == []
    opened.close()
    assert recorder.asked == ["close"]


def test_a_fence_met_while_flushing_ends_it_as_well(
    recorder: Recorder, opened: KafkaTransactions
) -> None:
    recorder.failures["flush"] = Fenced("rival")
    with pytest.raises(Fenced):
        opened.flush()
    opened.abort()
    assert "abort" not in recorder.asked


def test_a_failed_courtesy_leaves_the_transaction_to_be_aborted(
    recorder: Recorder, opened: KafkaTransactions
) -> None:
    recorder.failures["send_offsets"] = SinkFailed("no access to the group")
    with pytest.raises(SinkFailed, match="no access"):
        opened.commit(MARKER, None)
    opened.abort()
    assert recorder.asked == ["send_offsets", "abort", "begin"]


def test_an_abort_that_fails_is_left_to_the_next_run(
    recorder: Recorder, opened: KafkaTransactions
) -> None:
    recorder.failures["abort"] = SinkFailed("no answer")
    opened.abort()
    opened.abort()
    assert recorder.asked == ["abort"]
    with pytest.raises(SinkFailed, match="ended before"):
        opened.sender()


def test_closing_twice_closes_once(recorder: Recorder, opened: KafkaTransactions) -> None:
    opened.close()
    opened.close()
    assert recorder.asked == ["close"]
    with pytest.raises(SinkFailed, match="not open"):
        opened.sender()


def test_who_decides_is_known_before_anything_is_connected() -> None:
    assert made(Recorder()).identity == "Kafka transactions of 'run'"


@pytest.mark.parametrize(
    ("every", "asked", "seconds"),
    [(0.0, None, 300), (30.0, None, 300), (150.0, None, 450), (300.0, None, 900), (1.0, 5.0, 5)],
)
def test_a_transaction_outlives_three_intervals(
    every: float, asked: float | None, seconds: float
) -> None:
    assert timeout_between(every, asked) == seconds


@pytest.mark.parametrize(
    ("every", "asked", "said"),
    [
        (301.0, None, "every_seconds = 300 or less"),
        (float("inf"), None, "every_seconds = 300 or less"),
        (30.0, 60.0, "transaction_timeout_seconds is 60, expected 90"),
        (30.0, 901.0, "transaction_timeout_seconds is 901, expected 90 .* to 900"),
    ],
)
def test_an_interval_that_no_transaction_outlives_is_refused(
    every: float, asked: float | None, said: str
) -> None:
    sink = KafkaSink("127.0.0.1:9", "out", transaction_timeout_seconds=asked)
    with pytest.raises(SettingsError, match=said):
        sink.transactions("run", every)


@pytest.mark.parametrize(
    "other",
    [
        {"topic": "other", "linger_ms": 0, "compression": "gzip"},
        {"bootstrap_servers": "B:2,a:1"},
        {"max_record_bytes": 20_000},
    ],
)
def test_sinks_of_one_cluster_and_client_share_a_producer(other: dict[str, Any]) -> None:
    first = {"bootstrap_servers": "a:1, b:2", "topic": "out"}
    assert KafkaSink(**first).cluster == KafkaSink(**{**first, **other}).cluster


@pytest.mark.parametrize(
    "other",
    [
        {"bootstrap_servers": "c:3"},
        {"client": "librdkafka"},
        {"security": {"protocol": "SSL"}},
        {"delivery": "at-least-once"},
    ],
)
def test_sinks_of_another_cluster_client_or_user_do_not(other: dict[str, Any]) -> None:
    first = {"bootstrap_servers": "a:1", "topic": "out"}
    assert KafkaSink(**first).cluster != KafkaSink(**{**first, **other}).cluster


def test_what_is_shared_tells_no_secret() -> None:
    security = {"protocol": "SASL_SSL", "mechanism": "PLAIN", "username": "u", "password": "hush"}
    sink = KafkaSink("a:1", "out", security=security)
    assert "hush" not in repr(sink.cluster)
    assert sink.cluster["security"]["username"] == "u"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"topic": "no such topic"}, "topic is 'no such topic'"),
        ({"delivery": "exactly_once"}, "did you mean 'exactly-once'"),
        ({"compression": "zip"}, "compression is 'zip', expected one of: gzip"),
        ({"linger_ms": -1}, "linger_ms is -1, expected a number of at least 0"),
        ({"max_record_bytes": 1000}, "max_record_bytes is 1000"),
        ({"timeout_seconds": 0}, "timeout_seconds is 0"),
        ({"timeout_seconds": "long"}, "timeout_seconds is 'long'"),
        ({"transaction_timeout_seconds": "long"}, "transaction_timeout_seconds is 'long'"),
        ({"bootstrap_servers": "here"}, "bootstrap_servers is 'here'"),
        ({"client": "librdkafk"}, "did you mean 'librdkafka'"),
        ({"security": {"protocl": "SSL"}}, "did you mean 'protocol'"),
    ],
)
def test_what_a_sink_cannot_be_told_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        KafkaSink(**{"bootstrap_servers": "127.0.0.1:9", "topic": "out", **settings})


@pytest.mark.parametrize(
    "use",
    [lambda s: s.begin("i", False), lambda s: s.roll_back({}, 1, "i"), lambda s: s.barrier(1)],
)
def test_exactly_once_without_transactions_is_refused(use: Callable[[KafkaSink], Any]) -> None:
    with pytest.raises(SettingsError, match=r"add \[checkpoints\], or give it delivery"):
        use(KafkaSink("127.0.0.1:9", "out"))
