"""What the stream makes of what a client tells it: groups, gaps, failures, cuts. No broker here."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from stream_em.config import load
from stream_em.errors import (
    PartitionsLost,
    SavedStateError,
    SettingsError,
    SourceChanged,
    SourceFailed,
    Unreachable,
)
from stream_em.streams import Batch, Positions, Stream
from stream_em_connectors.kafka import KafkaSource, watch
from stream_em_connectors.kafka import source as source_module
from stream_em_connectors.kafka.client import (
    Chunk,
    Committed,
    Consumer,
    OutOfRange,
    Rebalance,
    Topic,
    TopicPartition,
)
from stream_em_connectors.kafka.codecs import Csv, Floats32
from stream_em_connectors.kafka.courtesy import Courtesy

Offsets = Mapping[TopicPartition, int]


@dataclass
class Log:
    """One partition: records by offset, what is gone, and where it ends."""

    first: int = 0
    records: dict[int, tuple[bytes | None, bytes | None]] = field(default_factory=dict)
    end: int = 0

    def add(self, *values: bytes | None, key: bytes | None = None) -> None:
        for value in values:
            self.records[self.end] = (value, key)
            self.end += 1


class Cluster:
    """What consumers read."""

    def __init__(self, **topics: int) -> None:
        self.ids = {name: f"{name}-id" for name in topics}
        self.logs = {
            TopicPartition(name, number): Log()
            for name, partitions in topics.items()
            for number in range(partitions)
        }
        self.committed: dict[TopicPartition, int] = {}
        self.consumers: list[Fake] = []
        self.down = False

    def add(self, partition: int, *values: bytes | None, key: bytes | None = None) -> None:
        self.logs[TopicPartition("t", partition)].add(*values, key=key)

    def made_again(self, name: str, partitions: int) -> None:
        for place in [place for place in self.logs if place.topic == name]:
            del self.logs[place]
        self.ids[name] = f"{self.ids[name]}-again"
        self.logs.update({TopicPartition(name, n): Log() for n in range(partitions)})


class Fake(Consumer):
    """A consumer in memory. `rebalance` is for the test to call from within a poll."""

    connected = True
    errors: Mapping[str, int] = MappingProxyType({"transport": 2})

    def __init__(self, cluster: Cluster, group: str, instance: str | None) -> None:
        self.cluster_, self.group, self.instance = cluster, group, instance
        self.at: dict[TopicPartition, int] = {}
        self.paused: set[TopicPartition] = set()
        self.callbacks: Rebalance | None = None
        self.during_poll: list[Callable[[], None]] = []
        self.commits: list[dict[TopicPartition, int]] = []
        self.left: bool | None = None
        self.refuses_commits = False

    def _ask(self) -> None:
        if self.cluster_.down:
            raise Unreachable("nobody answers")

    def cluster(self) -> str:
        self._ask()
        return "cluster-id"

    def topics(self, names: Sequence[str]) -> Mapping[str, Topic]:
        self._ask()
        found: dict[str, Topic] = {}
        for name in names:
            numbers = sorted(p.partition for p in self.cluster_.logs if p.topic == name)
            if numbers:
                found[name] = Topic(self.cluster_.ids[name], tuple(numbers))
        return found

    def beginnings(self, places: Sequence[TopicPartition]) -> Offsets:
        self._ask()
        return {place: self.cluster_.logs[place].first for place in places}

    def ends(self, places: Sequence[TopicPartition]) -> Offsets:
        self._ask()
        return {place: self.cluster_.logs[place].end for place in places}

    def offsets_at(
        self, places: Sequence[TopicPartition], milliseconds: int
    ) -> Mapping[TopicPartition, int | None]:
        logs = self.cluster_.logs
        return {
            place: next((o for o in sorted(logs[place].records) if o >= milliseconds), None)
            for place in places
        }

    def committed(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, Committed | None]:
        known = self.cluster_.committed
        return {place: Committed(known[place], "") if place in known else None for place in places}

    def assign(self, positions: Offsets) -> None:
        self.at = dict(positions)

    def subscribe(self, topics: Sequence[str], rebalance: Rebalance) -> None:
        self.callbacks = rebalance

    def give(self, *places: TopicPartition) -> None:
        assert self.callbacks is not None
        self.at.update(self.callbacks.assigned(frozenset(places)))

    def take(self, *places: TopicPartition) -> None:
        assert self.callbacks is not None
        self.callbacks.revoked(frozenset(places))
        for place in places:
            del self.at[place]

    def lose(self, *places: TopicPartition) -> None:
        assert self.callbacks is not None
        self.callbacks.lost(frozenset(places))
        for place in places:
            del self.at[place]

    def seek(self, place: TopicPartition, offset: int) -> None:
        self.at[place] = offset

    def position(self, place: TopicPartition) -> int:
        return self.at[place]

    def poll(self, seconds: float, max_records: int) -> list[Chunk]:
        while self.during_poll:
            self.during_poll.pop(0)()
        found = []
        for place in sorted(self.at):
            log = self.cluster_.logs.get(place, Log())
            if place in self.paused:
                continue
            if not log.first <= self.at[place] <= log.end:
                raise OutOfRange(place, self.at[place])
            offsets = sorted(o for o in log.records if o >= max(self.at[place], log.first))
            self.at[place] = log.end  # past markers
            if offsets:
                found.append(_chunk(place, log, offsets))
        return found

    def pause(self, places: Sequence[TopicPartition]) -> None:
        self.paused.update(places)

    def resume(self, places: Sequence[TopicPartition]) -> None:
        self.paused.difference_update(places)

    def commit(self, positions: Offsets) -> None:
        if self.refuses_commits:
            raise SourceFailed("not now")
        self.commits.append(dict(positions))
        self.cluster_.committed.update(positions)

    @property
    def steady(self) -> bool:
        return True

    def membership(self) -> object:
        return ("member", self.instance)

    def close(self, leave: bool = True) -> None:
        self.left = leave


def _chunk(place: TopicPartition, log: Log, offsets: list[int]) -> Chunk:
    values, keys = zip(*(log.records[offset] for offset in offsets), strict=True)
    return Chunk(
        place, offsets, values, keys, [1000 * o for o in offsets], lambda i: (("h", b"1"),)
    )


class FakeClient:
    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def consumer(self, settings: Any, reading: Any) -> Fake:
        made = Fake(self.cluster, reading.group_id, reading.instance_id)
        self.cluster.consumers.append(made)
        return made


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A topic "t" of two partitions, reached by every client."""
    made = Cluster(t=2)
    monkeypatch.setattr(source_module, "client_of", lambda name: FakeClient(made))
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.0)
    return made


def kafka(**settings: Any) -> KafkaSource:
    given = {"topics": ["t"], "features": ["x"], "max_wait_ms": 0, **settings}
    return KafkaSource("localhost:9092", **given)


def shared(**settings: Any) -> KafkaSource:
    return kafka(sharing="group", group_id="g", **settings).named("engine", "one")


def x(*values: float) -> list[bytes]:
    return [json.dumps({"x": value}).encode() for value in values]


def polled(stream: Stream, polls: int = 4) -> list[Batch]:
    found = [stream.poll(0) for _ in range(polls)]
    return [batch for batch in found if batch is not None]


def rows(batches: Sequence[Batch]) -> list[float]:
    return [value for batch in batches for value in batch.rows[:, 0].tolist()]


def after(stream: Stream, batches: Sequence[Batch]) -> Positions:
    at = stream.positions
    for batch in batches:
        at = at.advanced(batch.next_positions)
    return Positions(json.loads(json.dumps(dict(at.parts))))


P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


def test_positions_of_all_partitions_are_known_before_the_first_row(cluster: Cluster) -> None:
    cluster.add(0, *x(1, 2))
    stream = kafka(start="latest").opened_at(None)
    assert stream.positions.parts == {
        "t": {"id": "t-id"},
        "t/0": {"offset": 2, "id": "t-id"},
        "t/1": {"offset": 0, "id": "t-id"},
    }


def test_a_resumed_stream_gives_the_rest(cluster: Cluster) -> None:
    cluster.add(0, *x(*range(10)))
    cluster.add(1, *x(*range(10, 20)))
    stream = kafka(batch_size=7).opened_at(None)
    batches = polled(stream)
    assert rows(batches) == list(range(20))
    assert [len(batch.rows) for batch in batches] == [7, 7, 6]
    assert [batch.timed for batch in batches] == [False, False, True]
    for done in range(4):
        again = kafka(batch_size=3).opened_at(after(stream, batches[:done]))
        assert rows(polled(again, 9)) == rows(batches[done:])


def test_a_partition_that_is_not_in_the_checkpoint_is_new(cluster: Cluster) -> None:
    cluster.add(1, *x(1, 2))
    saved = Positions({"t": {"id": "t-id"}, "t/0": {"offset": 0, "id": "t-id"}})
    stream = kafka(start="latest").opened_at(saved)
    assert rows(polled(stream)) == [1, 2]


def test_new_partitions_are_noticed_and_read_from_their_beginning(cluster: Cluster) -> None:
    stream = kafka(start="latest").opened_at(None)
    assert polled(stream) == []
    cluster.logs[TopicPartition("t", 2)] = Log()
    cluster.add(2, *x(7))
    cluster.add(0, *x(5))
    batches = polled(stream)
    assert sorted(rows(batches)) == [5, 7]
    assert after(stream, batches).parts["t/2"] == {"offset": 1, "id": "t-id"}


def test_markers_behind_the_last_record_move_positions(cluster: Cluster) -> None:
    cluster.add(0, *x(1))
    cluster.logs[P0].end += 1  # a marker
    stream = kafka(start="earliest").opened_at(None)
    assert after(stream, polled(stream)).parts["t/0"]["offset"] == 2
    cluster.logs[P0].end += 3  # a transaction taken back
    moved = polled(stream)
    assert [len(batch.rows) for batch in moved] == [0]
    assert moved[0].next_positions.parts["t/0"]["offset"] == 5
    assert moved[0].rows.shape == (0, 1)
    assert polled(stream) == []


def test_until_end_stops_at_the_ends_as_they_were(cluster: Cluster) -> None:
    cluster.add(0, *x(1, 2))
    cluster.logs[P0].end += 1
    stream = kafka(until_end=True).opened_at(None)
    cluster.add(0, *x(3))
    cluster.add(1, *x(4))
    cluster.logs[TopicPartition("t", 2)] = Log()
    batches = polled(stream)
    assert rows(batches) == [1, 2]
    assert stream.ended
    assert not batches[0].timed
    at = after(stream, batches).parts
    assert (at["t/0"]["offset"], at["t/1"]["offset"], "t/2" in at) == (3, 0, False)


def test_until_end_of_empty_topics_ends_at_once(cluster: Cluster) -> None:
    stream = kafka(until_end=True).opened_at(None)
    assert stream.poll(0) is None
    assert stream.ended


def test_a_limit_holds_and_positions_stay_behind_it(cluster: Cluster) -> None:
    cluster.add(0, *x(*range(100)))
    stream = kafka(batch_size=40).opened_at(None)
    first = stream.poll(0)
    stream.limit(7)
    second = stream.poll(0)
    assert first is not None and second is not None
    assert (len(first.rows), len(second.rows)) == (40, 7)
    assert after(stream, [first, second]).parts["t/0"]["offset"] == 47


def test_rejected_records_come_with_all_that_is_known_of_them(cluster: Cluster) -> None:
    cluster.add(0, *x(1), b"bad", None, b"", *x(2), key=b"k")
    (batch,) = polled(kafka(max_record_bytes=20).opened_at(None))
    assert rows([batch]) == [1, 2]
    told = [(one.offset, one.reason, one.raw, one.key, one.time) for one in batch.rejected]
    assert told == [
        (1, "decode_error", b"bad", b"k", 1.0),
        (2, "empty", b"", b"k", 2.0),
        (3, "empty", b"", b"k", 3.0),
    ]
    assert {(one.source, one.partition, one.headers) for one in batch.rejected} == {
        ("t", 0, (("h", b"1"),))
    }
    assert batch.origins.keys == ("k", "k")
    assert batch.next_positions.parts["t/0"]["offset"] == 5


def test_rejected_records_behind_the_last_row_belong_to_the_next_batch(cluster: Cluster) -> None:
    cluster.add(0, b"bad", *x(1), b"bad", *x(2), b"bad")
    stream = kafka(batch_size=1).opened_at(None)
    batches = polled(stream)
    assert [(len(b.rows), len(b.rejected)) for b in batches] == [(1, 1), (1, 1), (0, 1)]
    assert [b.next_positions.parts["t/0"]["offset"] for b in batches] == [2, 4, 5]


def test_nothing_but_rejected_records_still_moves_on(cluster: Cluster) -> None:
    cluster.add(0, *[None] * 10)
    (batch,) = polled(kafka().opened_at(None))
    assert (len(batch.rows), len(batch.rejected)) == (0, 10)
    assert batch.next_positions.parts["t/0"]["offset"] == 10


def test_keys_that_are_no_text_are_base64(cluster: Cluster) -> None:
    cluster.add(0, *x(1), key="é".encode())
    cluster.add(0, *x(2))
    cluster.add(0, *x(3), key=b"\xff\x00")
    (batch,) = polled(kafka().opened_at(None))
    assert batch.origins.keys == ("é", None, "/wA=")


def test_record_timestamps_are_event_times_where_wanted(cluster: Cluster) -> None:
    cluster.add(0, *x(1), b"bad", *x(2))
    (batch,) = polled(kafka(time="@timestamp").opened_at(None))
    assert batch.origins.times is not None
    assert batch.origins.times.tolist() == [0.0, 2.0]
    (without,) = polled(kafka().opened_at(None))
    assert without.origins.times is None


class TestGaps:
    """Records that were deleted before they were read."""

    saved = Positions({"t": {"id": "t-id"}, "t/0": {"offset": 3, "id": "t-id"}})

    def test_at_the_start_they_are_an_error(self, cluster: Cluster) -> None:
        cluster.logs[P0] = Log(first=10, end=10)
        with pytest.raises(SavedStateError, match=r't partition 0 .*: 7 offsets.*on_gap = "skip"'):
            kafka().opened_at(self.saved)
        assert cluster.consumers[-1].left is not None

    def test_they_may_be_skipped_and_are_counted(self, cluster: Cluster) -> None:
        cluster.logs[P0] = Log(first=10, end=10)
        cluster.add(0, *x(1))
        stream = kafka(on_gap="skip").opened_at(self.saved)
        assert stream.positions.parts["t/0"]["offset"] == 10
        assert rows(polled(stream)) == [1]
        assert stream.skipped == 7

    def test_while_reading_they_are_an_error(self, cluster: Cluster) -> None:
        stream = kafka().opened_at(None)
        cluster.logs[P0] = Log(first=10, end=12)
        with pytest.raises(SavedStateError, match="10 offsets are gone"):
            polled(stream)

    def test_while_reading_they_may_be_skipped(self, cluster: Cluster) -> None:
        stream = kafka(on_gap="skip").opened_at(None)
        cluster.logs[P0] = Log(first=10, end=10)
        cluster.add(0, *x(5))
        batches = polled(stream)
        assert rows(batches) == [5]
        assert after(stream, batches).parts["t/0"]["offset"] == 11
        assert stream.skipped == 10

    def test_what_the_client_had_at_hand_is_read_again(self, cluster: Cluster) -> None:
        stream = kafka(on_gap="skip").opened_at(None)
        cluster.add(0, *x(1, 2))
        cluster.logs[P1] = Log(first=10, end=10)
        cluster.add(1, *x(3))
        assert rows(polled(stream)) == [1, 2, 3]


@pytest.mark.parametrize("on_gap", ["error", "skip"])
def test_beyond_the_end_is_never_skipped(cluster: Cluster, on_gap: str) -> None:
    saved = Positions({"t": {"id": "t-id"}, "t/0": {"offset": 3, "id": "t-id"}})
    with pytest.raises(SourceChanged, match="ends at offset 0, but reading stands at 3"):
        kafka(on_gap=on_gap).opened_at(saved)
    cluster.add(0, *x(1, 2, 3))
    stream = kafka(on_gap=on_gap).opened_at(saved)
    cluster.logs[P0] = Log(end=1)
    with pytest.raises(SourceChanged, match="truncated"):
        polled(stream)


class TestRecreated:
    """A topic deleted and made again under the same name."""

    def saved(self, cluster: Cluster) -> Positions:
        cluster.add(0, *x(1, 2))
        stream = kafka().opened_at(None)
        return after(stream, polled(stream))

    def test_at_the_start_it_is_refused(self, cluster: Cluster) -> None:
        saved = self.saved(cluster)
        cluster.made_again("t", 2)
        cluster.add(0, *x(*range(9)))
        with pytest.raises(SourceChanged, match=r"made again.*t-id.*on_recreated") as caught:
            kafka().opened_at(saved)
        assert caught.value.exit_code == 4

    def test_at_the_start_it_may_begin_again(self, cluster: Cluster) -> None:
        saved = self.saved(cluster)
        cluster.made_again("t", 1)
        cluster.add(0, *x(*range(9)))
        stream = kafka(on_recreated="beginning").opened_at(saved)
        batches = polled(stream)
        assert rows(batches) == list(range(9))
        merged = saved.advanced(stream.positions).advanced(batches[-1].next_positions)
        rest = kafka().opened_at(merged)  # t/1 of the old topic is still in there
        assert polled(rest) == []

    def test_under_the_run_it_ends_the_run(self, cluster: Cluster) -> None:
        stream = kafka().opened_at(None)
        cluster.made_again("t", 2)
        cluster.add(0, *x(*range(9)))
        with pytest.raises(SourceChanged, match="made again"):
            polled(stream)

    def test_under_the_run_it_may_begin_again(self, cluster: Cluster) -> None:
        cluster.add(0, *x(1, 2, 3))
        cluster.add(1, *x(4))
        stream = kafka(on_recreated="beginning", batch_size=2).opened_at(None)
        first = stream.poll(0)
        assert first is not None
        cluster.made_again("t", 3)
        cluster.add(0, *x(5))
        cluster.add(2, *x(6))
        batches = polled(stream, 6)
        assert rows(batches)[-2:] == [5, 6]
        at = after(stream, [first, *batches]).parts
        assert at["t"] == {"id": "t-id-again"}
        assert [at[f"t/{n}"]["offset"] for n in range(3)] == [1, 0, 1]
        assert rows(polled(kafka().opened_at(Positions(at)))) == []

    def test_a_deleted_topic_ends_the_run(self, cluster: Cluster) -> None:
        stream = kafka().opened_at(None)
        logs, cluster.logs = cluster.logs, {}
        cluster.consumers[-1].paused = set(logs)
        with pytest.raises(SourceChanged, match="deleted"):
            polled(stream)


def test_a_topic_that_does_not_exist_is_out_of_reach(cluster: Cluster) -> None:
    with pytest.raises(Unreachable, match="topic other does not exist"):
        kafka(topics=["t", "other"]).opened_at(None)


class TestStarts:
    def test_at_committed_offsets_else_at_the_beginning(self, cluster: Cluster) -> None:
        cluster.add(0, *x(1, 2))
        cluster.add(1, *x(3))
        cluster.committed[P0] = 1
        assert rows(polled(kafka(start="committed", group_id="g").opened_at(None))) == [2, 3]

    def test_at_a_time(self, cluster: Cluster) -> None:
        cluster.add(0, *x(*range(5)))
        cluster.add(1, *x(9))
        stream = kafka(start="1970-01-01T00:00:00.003Z").opened_at(None)
        assert rows(polled(stream)) == [3, 4]
        assert stream.positions.parts["t/1"]["offset"] == 1

    def test_committed_needs_a_group(self) -> None:
        with pytest.raises(SettingsError, match="group_id"):
            kafka(start="committed")

    @pytest.mark.parametrize("said", ["soon", "", 7])
    def test_others_are_refused(self, said: Any) -> None:
        with pytest.raises(SettingsError, match="start"):
            kafka(start=said)


class TestCommits:
    def test_without_a_group_nothing_is_committed(self, cluster: Cluster) -> None:
        stream = kafka().opened_at(None)
        stream.commit(stream.positions)
        assert stream.courtesy(stream.positions) is None
        assert cluster.consumers[-1].commits == []

    def test_with_one_positions_are_and_counted(self, cluster: Cluster) -> None:
        cluster.add(0, *x(1, 2))
        stream = kafka(group_id="g").opened_at(None)
        at = after(stream, polled(stream))
        stream.commit(at)
        assert cluster.consumers[-1].commits == [{P0: 2, P1: 0}]
        cluster.consumers[-1].refuses_commits = True
        with pytest.raises(SourceFailed):
            stream.commit(at)
        status = stream.status()
        assert status is not None
        assert (status.commits, status.failed_commits) == (1, 1)

    def test_a_transaction_may_carry_them(self, cluster: Cluster) -> None:
        cluster.add(0, *x(1, 2))
        cluster.committed[P0] = 0
        stream = kafka(group_id="g").opened_at(None)
        at = after(stream, polled(stream))
        wanted = {P0: Committed(2, ""), P1: Committed(0, "")}
        assert stream.courtesy(at) == Courtesy("cluster-id", "g", wanted)
        before = stream.status()
        assert before is not None
        assert before.uncommitted == {P0: 2, P1: 0}
        stream.committed(at)
        status = stream.status()
        assert status is not None
        assert (status.commits, status.uncommitted) == (1, {P0: 0, P1: 0})


def test_status_tells_lag_newest_and_what_is_uncommitted(cluster: Cluster) -> None:
    cluster.add(0, *x(*range(10)))
    stream = kafka(group_id="g", batch_size=4).opened_at(None)
    stream.poll(0)
    cluster.add(0, b"bad")
    status = stream.status()
    assert status is not None
    assert (status.lag, status.assigned, status.connected) == ({P0: 6, P1: 0}, 2, True)
    assert status.newest == {P0: 3.0}
    stream.commit(stream.positions)
    polled(stream)
    cluster.add(0, *x(1))
    stream.poll(0)
    status = stream.status()
    assert status is not None
    assert status.uncommitted == {P0: 12, P1: 0}
    assert status.errors["deserialize"] == 1


def test_nobody_answering_a_look_round_is_borne(cluster: Cluster) -> None:
    stream = kafka().opened_at(None)
    cluster.down = True
    cluster.add(0, *x(1))
    assert rows(polled(stream)) == [1]


class TestSharing:
    """`sharing = "group"`."""

    def test_it_needs_a_group_and_an_instance(self) -> None:
        with pytest.raises(SettingsError, match="group_id"):
            kafka(sharing="group")
        with pytest.raises(SettingsError, match="instance_id"):
            kafka(sharing="group", group_id="g").named("engine", None)
        with pytest.raises(SettingsError, match="instance_id"):
            kafka(sharing="group", group_id="g").opened_at(None)

    def test_batches_speak_of_owned_partitions_only(self, cluster: Cluster) -> None:
        cluster.add(0, *x(1))
        cluster.add(1, *x(2))
        stream = shared().opened_at(None)
        assert set(stream.positions.parts) == {"t", "t/0", "t/1"}
        fake = cluster.consumers[-1]
        assert fake.instance == "one"
        fake.during_poll.append(lambda: fake.give(P1))
        batches = polled(stream)
        assert rows(batches) == [2]
        assert set(after(stream, batches).parts) == {"t", "t/0", "t/1"}
        assert all("t/0" not in batch.next_positions.parts for batch in batches)
        stream.commit(after(stream, batches))
        assert fake.commits == [{P1: 1}]
        carried = stream.courtesy(after(stream, batches))
        assert carried is not None
        assert (carried.group, set(carried.offsets)) == (("member", "one"), {P1})

    @pytest.mark.parametrize(("committed", "found"), [(1, [3, 4]), (3, [4]), (9, [3, 4])])
    def test_the_later_of_checkpoint_and_committed_counts(
        self, cluster: Cluster, committed: int, found: list[float]
    ) -> None:
        cluster.add(0, *x(1, 2, 3, 4))
        cluster.committed[P0] = committed
        saved = Positions({"t": {"id": "t-id"}, "t/0": {"offset": 2, "id": "t-id"}})
        stream = shared().opened_at(saved)
        cluster.consumers[-1].during_poll.append(lambda: cluster.consumers[-1].give(P0))
        assert rows(polled(stream)) == found

    def test_latest_means_when_the_run_began(self, cluster: Cluster) -> None:
        stream = shared(start="latest").opened_at(None)
        cluster.add(0, *x(1))
        cluster.consumers[-1].during_poll.append(lambda: cluster.consumers[-1].give(P0))
        assert rows(polled(stream)) == [1]

    def test_before_a_partition_goes_all_is_settled_and_committed(self, cluster: Cluster) -> None:
        cluster.add(0, *x(*range(10)))
        cluster.add(1, *x(*range(10, 20)))
        stream = shared(batch_size=4).opened_at(None)
        fake, settled = cluster.consumers[-1], []
        stream.attend(lambda: settled.append(len(fake.commits)))
        fake.during_poll.append(lambda: fake.give(P0, P1))
        batches = [stream.poll(0), stream.poll(0), stream.poll(0)]
        fake.during_poll.append(lambda: fake.take(P0))
        rest = polled(stream, 5)
        assert rows([b for b in batches if b]) == list(range(12))
        assert rows(rest) == list(range(12, 20))
        assert settled == [0]
        assert fake.commits == [{P0: 10}]
        assert all("t/0" not in batch.next_positions.parts for batch in rest)
        status = stream.status()
        assert status is not None
        assert (status.assigned, status.rebalances) == (1, 1)

    def test_unserved_records_of_a_partition_that_goes_are_dropped(self, cluster: Cluster) -> None:
        cluster.add(0, *x(*range(4)))
        cluster.add(1, *x(*range(10, 12)))
        stream = shared(batch_size=3, max_wait_ms=60_000).opened_at(None)
        fake = cluster.consumers[-1]
        stream.attend(lambda: None)
        fake.during_poll.append(lambda: fake.give(P0, P1))
        first = stream.poll(0)
        second = stream.poll(0)
        assert first is not None and second is not None
        assert rows([first, second]) == [0, 1, 2, 3, 10, 11]
        cluster.add(0, *x(4, 5))
        assert stream.poll(0) is None  # two rows wait
        fake.during_poll.append(lambda: fake.take(P0))
        cluster.add(1, *x(12, 13, 14))
        third = stream.poll(0)
        assert third is not None
        assert rows([third]) == [12, 13, 14]
        assert fake.commits == [{P0: 4}]

    def test_what_cannot_be_settled_is_lost(self, cluster: Cluster) -> None:
        def fail() -> None:
            raise SourceFailed("the disk is full")

        stream = shared().opened_at(None)
        fake = cluster.consumers[-1]
        stream.attend(fail)
        fake.during_poll.append(lambda: fake.give(P0))
        polled(stream)
        fake.during_poll.append(lambda: fake.take(P0))
        with pytest.raises(PartitionsLost, match=r"t/0.*the disk is full"):
            stream.poll(0)
        assert fake.commits == []

    def test_lost_partitions_end_the_run(self, cluster: Cluster) -> None:
        cluster.add(0, *x(1))
        stream = shared().opened_at(None)
        fake = cluster.consumers[-1]
        fake.during_poll.append(lambda: fake.give(P0))
        polled(stream)
        cluster.add(0, *x(2))
        fake.during_poll.append(lambda: fake.lose(P0))
        with pytest.raises(PartitionsLost, match="t/0"):
            stream.poll(0)

    def test_a_gap_found_on_assignment_is_raised_by_the_poll(self, cluster: Cluster) -> None:
        stream = shared().opened_at(None)
        cluster.logs[P0] = Log(first=5, end=6)
        fake = cluster.consumers[-1]
        fake.during_poll.append(lambda: fake.give(P0))
        with pytest.raises(SavedStateError, match="5 offsets"):
            stream.poll(0)

    def test_closing_settles_nothing_and_stays_a_member(self, cluster: Cluster) -> None:
        settled: list[int] = []
        stream = shared().opened_at(None)
        fake = cluster.consumers[-1]
        stream.attend(lambda: settled.append(1))
        fake.during_poll.append(lambda: fake.give(P0))
        polled(stream)
        stream.close()
        fake.take(P0)
        assert (settled, fake.left) == ([], False)
        assert stream.ended and stream.poll(0) is None

    def test_until_end_waits_for_partitions(self, cluster: Cluster) -> None:
        cluster.add(0, *x(1))
        stream = shared(until_end=True).opened_at(None)
        assert stream.poll(0) is None
        assert not stream.ended
        cluster.consumers[-1].during_poll.append(lambda: cluster.consumers[-1].give(P0))
        assert rows(polled(stream)) == [1]
        assert stream.ended


class TestProbes:
    def test_all_is_well(self, cluster: Cluster) -> None:
        cluster.add(0, *x(*range(200)))
        found = list(kafka(group_id="g").probes())
        assert [one.problem for one in found] == [None, None, None]
        assert "cluster-id" in found[0].detail
        assert "2 partitions" in found[1].detail
        asked = cluster.consumers[-1]
        assert (asked.callbacks, asked.commits) == (None, [])  # neither joined nor committed
        assert asked.left is not None

    def test_an_empty_topic_has_no_record_yet(self, cluster: Cluster) -> None:
        assert [one.detail for one in kafka().probes()][-1] == "no record yet"

    def test_a_record_of_another_format_is_told(self, cluster: Cluster) -> None:
        cluster.add(0, b"1,2")
        assert "decode_error" in (list(kafka().probes())[-1].problem or "")

    def test_an_absent_topic_is_told(self, cluster: Cluster) -> None:
        assert "does not exist" in (list(kafka(topics=["other"]).probes())[-1].problem or "")

    def test_nobody_to_ask_is_unreachable(self, cluster: Cluster) -> None:
        cluster.down = True
        with pytest.raises(Unreachable):
            list(kafka().probes())


@pytest.mark.parametrize(
    "wrong",
    [
        {"bootstrap_servers": "localhost"},
        {"bootstrap_servers": ""},
        {"topics": []},
        {"topics": ["a b"]},
        {"features": []},
        {"codec": "xml"},
        {"batch_size": 0},
        {"missing": "maybe"},
        {"sharing": "some"},
        {"on_gap": "ignore"},
        {"on_recreated": "skip"},
        {"client": "java"},
        {"weight": ""},
        {"group_id": ""},
        {"max_reject_ratio": 2},
        {"features": ["a", "a.b"]},
        {"security": {"protocol": "NONSENSE"}},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    given = {"bootstrap_servers": "localhost:9092", "topics": ["t"], "features": ["x"], **wrong}
    with pytest.raises(SettingsError):
        KafkaSource(**given)


def test_identity_is_plain_and_leaves_out_what_is_free() -> None:
    identity = kafka(codec={"kind": "csv", "delimiter": ";"}).identity()
    assert json.loads(json.dumps(identity)) == identity
    free = kafka(
        codec={"kind": "csv", "delimiter": ";"}, batch_size=5, client="librdkafka", group_id="g"
    )
    assert free.identity() == identity
    assert kafka(codec="csv").identity() != identity


TOML = """
[model]
kind = "kmeans"
n_clusters = 3

[source]
kind = "kafka"
bootstrap_servers = "127.0.0.1:9092"
topics = ["readings"]
group_id = "stream-em-readings"
features = ["temperature", "engine.pressure"]
start = "earliest"
batch_size = 1000
max_wait_ms = 100
client = "kafka-python"
sharing = "none"
"""


class TestConfiguration:
    @pytest.fixture
    def planned(self, tmp_path: Path) -> Callable[[str], KafkaSource]:
        def made(more: str) -> KafkaSource:
            path = tmp_path / "clusters.toml"
            path.write_text(TOML + more)
            source = load(path).source
            assert isinstance(source, KafkaSource)
            return source

        return made

    def test_the_plain_table(self, planned: Any) -> None:
        given = {"topics": ["readings"], "features": ["temperature", "engine.pressure"]}
        expected = KafkaSource("127.0.0.1:9092", group_id="stream-em-readings", **given)
        assert planned("") == expected

    def test_a_codec_as_a_word_or_a_table(self, planned: Any) -> None:
        assert planned('codec = "floats32"').codec == Floats32()
        assert planned('codec = { kind = "csv", delimiter = ";" }').codec == Csv(delimiter=";")

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            ('codec = { kind = "csv", delimeter = ";" }', r"source.codec.delimeter.*'delimiter'"),
            ('codec = "jsn"', "source.codec.kind.*did you mean 'json'"),
            ("until_ends = true", "source.until_ends.*until_end"),
        ],
    )
    def test_what_is_misspelt_is_found(self, planned: Any, more: str, said: str) -> None:
        with pytest.raises(SettingsError, match=said):
            planned(more)

    def test_a_time_may_be_one_of_toml(self, tmp_path: Path) -> None:
        path = tmp_path / "clusters.toml"
        path.write_text(TOML.replace('"earliest"', "2026-01-01T00:00:03Z"))
        assert load(path).source == load(path, ["source.start=2026-01-01T00:00:03Z"]).source

    def test_security_tells_no_secret(self, planned: Any) -> None:
        table = '{ protocol = "SASL_SSL", mechanism = "PLAIN", username = "u", password = "hush" }'
        assert "hush" not in repr(planned(f"security = {table}"))


def test_no_client_library_is_loaded_before_it_is_wanted() -> None:
    script = (
        "import sys; from stream_em_connectors.kafka import KafkaSource; "
        "KafkaSource('localhost:9092', ['t'], ['x'], client='librdkafka'); "
        "assert not {'kafka', 'confluent_kafka', 'fastavro'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
