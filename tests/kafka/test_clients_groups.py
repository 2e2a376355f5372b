"""What every client promises of groups: callbacks on the polling thread, in good order."""

import threading
import time

import pytest

from stream_em.errors import Fenced, OutcomeUnknown, SinkFailed, SourceFailed
from stream_em_connectors.kafka.client import Committed, Rebalance, TopicPartition

SECONDS = 20.0


class Member:
    """One consumer in a group, and what happened to it."""

    def __init__(self, consumer, topics, start=0) -> None:
        self.consumer, self.start = consumer, start
        self.owned: set[TopicPartition] = set()
        self.story: list[tuple[str, frozenset[TopicPartition]]] = []
        self.threads: set[int] = set()
        self.read: dict[TopicPartition, list[int]] = {}
        self.on_revoked = lambda places: None
        consumer.subscribe(topics, Rebalance(self.assigned, self.revoked, self.lost))

    def told(self, what: str, places: frozenset[TopicPartition]) -> None:
        self.story.append((what, places))
        self.threads.add(threading.get_ident())

    def assigned(self, places):
        self.told("assigned", places)
        self.owned |= places
        return dict.fromkeys(places, self.start)

    def revoked(self, places) -> None:
        self.told("revoked", places)
        self.on_revoked(places)
        self.owned -= places

    def lost(self, places) -> None:
        self.told("lost", places)
        self.owned -= places

    def poll(self) -> None:
        for chunk in self.consumer.poll(0.1, 1000):
            assert chunk.place in self.owned
            self.read.setdefault(chunk.place, []).extend(chunk.offsets)


def poll_until(condition, *members: Member, seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, [one.story for one in members]
        for one in members:
            one.poll()


@pytest.fixture
def four(topic, produce):
    """A topic of four partitions with ten records each."""
    name = topic(4)
    for partition in range(4):
        produce(name, [b"%d" % i for i in range(10)], partition)
    return name


@pytest.fixture
def member(reader, four):
    def joined(group: str, instance_id: str | None = None, **more) -> Member:
        start = more.pop("start", 0)
        session = {"session_seconds": 6.0, **more}
        return Member(reader(group, instance_id, **session), [four], start)

    return joined


def test_positions_of_an_assignment_take_effect_before_the_first_fetch(member, four) -> None:
    one = member(f"g-{four}", start=7)
    poll_until(lambda: len(one.read) == 4, one)
    assert all(offsets == [7, 8, 9] for offsets in one.read.values())
    assert one.threads == {threading.get_ident()}
    assert all(one.consumer.position(place) == 10 for place in one.owned)


def test_a_hand_over_is_cooperative(member, four) -> None:
    one = member(f"g-{four}")
    poll_until(lambda: len(one.read) == 4 and len(one.owned) == 4, one)
    positions: dict[TopicPartition, int] = {}
    one.on_revoked = lambda places: positions.update(
        {place: one.consumer.position(place) for place in places}
    )
    two = member(f"g-{four}", start=10)
    poll_until(lambda: len(one.owned) == len(two.owned) == 2, one, two)
    revoked = [places for what, places in one.story if what == "revoked"]
    assert frozenset.union(*revoked) == two.owned  # the other two were never taken away
    assert positions == dict.fromkeys(two.owned, 10)
    assert not one.owned & two.owned
    assert one.threads == two.threads == {threading.get_ident()}
    two.consumer.close()
    poll_until(lambda: len(one.owned) == 4, one)


def test_while_revoking_the_group_and_the_cluster_can_be_used(
    member, four, committed_offsets, writer
) -> None:
    group = f"g-{four}"
    one = member(group)
    poll_until(lambda: len(one.read) == 4, one)
    producer = writer(f"tx-{four}")
    producer.init_transactions(SECONDS)

    def settle(places) -> None:
        consumer = one.consumer
        ends = consumer.ends(sorted(places))
        consumer.commit(ends)
        assert consumer.committed(sorted(places)) == {place: Committed(10, "") for place in places}
        producer.begin()
        offsets = {place: Committed(9, "in transaction") for place in places}
        producer.send_offsets(consumer.membership(), offsets, SECONDS)
        producer.commit(SECONDS)

    one.on_revoked = settle
    two = member(group)
    poll_until(lambda: len(two.owned) == 2, one, two)
    expected = {place.partition: (9, "in transaction") for place in two.owned}
    assert committed_offsets(group, four) == expected


def test_what_a_callback_raises_comes_out_of_poll(member, four) -> None:
    one = member(f"g-{four}")
    poll_until(lambda: len(one.owned) == 4, one)

    def fail(places) -> None:
        raise ZeroDivisionError("settling failed")

    one.on_revoked = fail
    two = member(f"g-{four}")
    with pytest.raises(ZeroDivisionError, match="settling failed"):
        poll_until(lambda: len(two.owned) == 2, one, two)


def test_a_stale_membership_is_fenced_out_of_transactions(member, four, writer) -> None:
    one = member(f"g-{four}")
    poll_until(lambda: len(one.owned) == 4, one)
    stale = one.consumer.membership()
    two = member(f"g-{four}")
    poll_until(lambda: len(two.owned) == 2, one, two)
    producer = writer(f"tx-{four}")
    producer.init_transactions(SECONDS)

    def send(membership) -> None:
        producer.begin()
        offsets = {place: Committed(1, "") for place in sorted(one.owned)}
        producer.send_offsets(membership, offsets, SECONDS)
        producer.commit(SECONDS)

    with pytest.raises((SinkFailed, Fenced, OutcomeUnknown)):
        send(stale)
    producer.abort(SECONDS)

    def sent() -> bool:
        """Not before the group has come to rest, which not every client tells."""
        try:
            send(one.consumer.membership())
        except SinkFailed:
            producer.abort(SECONDS)
            return False
        return True

    poll_until(sent, one, two)


def test_memberships_are_understood_by_every_client(
    member, four, writer, every_client, committed_offsets
) -> None:
    group = f"g-{four}"
    one = member(group, "instance.1")
    poll_until(lambda: len(one.owned) == 4, one)
    place = min(one.owned)
    for offset, client in enumerate(every_client):
        producer = writer(f"tx-{four}-{offset}", of=client)
        producer.init_transactions(SECONDS)
        producer.begin()
        producer.send_offsets(one.consumer.membership(), {place: Committed(offset, "")}, SECONDS)
        producer.commit(SECONDS)
        assert committed_offsets(group, four) == {place.partition: (offset, "")}


def test_a_static_member_comes_back_without_a_rebalance(member, four) -> None:
    group = f"g-{four}"
    one, two = member(group, "one"), member(group, "two")
    poll_until(lambda: len(one.owned) == len(two.owned) == 2, one, two)
    poll_until(lambda: two.owned <= set(two.read), one, two)
    before, told = set(two.owned), len(one.story)
    two.consumer.close()
    again = member(group, "two")
    poll_until(lambda: len(again.read) == 2, one, again)
    assert again.owned == before
    assert len(one.story) == told


def test_two_of_one_instance(member, four) -> None:
    group = f"g-{four}"
    one = member(group, "same")
    poll_until(lambda: len(one.owned) == 4, one)
    two = member(group, "same")
    with pytest.raises(SourceFailed, match="instance"):
        poll_until(lambda: False, two, one)


def test_a_member_that_stays_holds_its_partitions_until_its_session_ends(member, four) -> None:
    group = f"g-{four}"
    one = member(group, session_seconds=3.0)
    poll_until(lambda: len(one.owned) == 4, one)
    one.consumer.close(leave=False)
    began = time.monotonic()
    two = member(group)
    poll_until(lambda: len(two.owned) == 4, two)
    assert time.monotonic() - began > 1.0  # a member that has left is not waited for


def test_closing_calls_nothing_back(member, four) -> None:
    one = member(f"g-{four}")
    poll_until(lambda: len(one.owned) == 4, one)
    told = len(one.story)
    one.consumer.close()
    assert len(one.story) == told


def test_a_member_that_does_not_poll_loses_its_partitions(member, four) -> None:
    one = member(f"g-{four}", max_poll_seconds=4.0)
    poll_until(lambda: len(one.owned) == 4, one)
    two = member(f"g-{four}", max_poll_seconds=4.0)
    poll_until(lambda: len(two.owned) == 4, two)
    poll_until(lambda: len(one.story) > 1, one, two)
    assert one.story[1][0] == "lost"
    poll_until(lambda: len(one.owned) == len(two.owned) == 2, one, two)
