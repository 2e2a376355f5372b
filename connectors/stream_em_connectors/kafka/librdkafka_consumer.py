"""librdkafka as a `Consumer`."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any, final

from confluent_kafka import Consumer as Inner
from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as Place

from stream_em.errors import SourceFailed
from stream_em_connectors.kafka.client import (
    Chunk,
    ClientSettings,
    Committed,
    Consumer,
    ConsumerSettings,
    OutOfRange,
    Rebalance,
    Topic,
    TopicPartition,
)
from stream_em_connectors.kafka.complaints import Complaints
from stream_em_connectors.kafka.librdkafka_chunks import chunks
from stream_em_connectors.kafka.librdkafka_group import GroupCallbacks
from stream_em_connectors.kafka.librdkafka_questions import Questions
from stream_em_connectors.kafka.librdkafka_wire import (
    FATAL_TO_READING,
    SILENCES,
    Uplink,
    heard,
    options,
    translated,
)
from stream_em_connectors.kafka.memberships import Membership, unpacked
from stream_em_connectors.kafka.rivals import fenced_out
from stream_em_connectors.kafka.waiting import within

SOCKET_MS = 30_000  # for any one answer
STATISTICS_MS = 1000  # they tell which brokers are up
LEAVE_SECONDS = 2.0
FETCH_BYTES = 4 * 1024 * 1024  # of one partition in one answer
QUEUE_KBYTES = 64 * 1024  # fetched ahead
QUEUE_RECORDS = 200_000  # the same; whichever comes first
FULL_MS = 10  # until a full queue is looked at again; a second, its default, leaves it empty


@final
class LibrdkafkaConsumer(Consumer):
    """Questions go through a client of their own, so that they disturb no group."""

    def __init__(self, settings: ClientSettings, reading: ConsumerSettings) -> None:
        self._settings, self._reading = settings, reading
        self._complaints = Complaints(settings.bootstrap_servers)
        self._questions = Questions(settings, self._complaints)
        self._uplink = Uplink()
        self._starts: dict[TopicPartition, int] = {}  # of every partition that is ours
        self._ends: dict[TopicPartition, int] = {}  # of those read to their end
        self._made: Any = None
        self._group: GroupCallbacks | None = None
        self._member: Membership | None = None  # as of the last poll or callback
        self._held: Exception | None = None  # raised once the records before it are taken
        self._closed = False

    def cluster(self) -> str:
        return self._questions.cluster()

    def topics(self, names: Sequence[str]) -> Mapping[str, Topic]:
        return self._questions.topics(names)

    def permitted(self, topic: str) -> frozenset[str] | None:
        return self._questions.permitted(topic)

    def beginnings(self, places: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return self._questions.beginnings(places)

    def ends(self, places: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return self._questions.ends(places)

    def offsets_at(
        self, places: Sequence[TopicPartition], milliseconds: int
    ) -> Mapping[TopicPartition, int | None]:
        return self._questions.offsets_at(places, milliseconds)

    def committed(
        self, places: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, Committed | None]:
        return self._questions.committed(self._reading.group_id, places)

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        self._starts.clear()
        self._ends.clear()
        self._starts.update(positions)
        self._inner.assign([Place(*place, offset) for place, offset in positions.items()])

    def subscribe(self, topics: Sequence[str], rebalance: Rebalance) -> None:
        self._group = group = GroupCallbacks(
            rebalance, self._starts, self._reading.max_poll_seconds, self._learn_membership
        )
        self._inner.subscribe(
            list(topics), on_assign=group.assigned, on_revoke=group.revoked, on_lost=group.lost
        )

    def seek(self, place: TopicPartition, offset: int) -> None:
        self._starts[place] = offset
        self._ends.pop(place, None)
        # Its own seek fails while a fetch has not begun or an error has ended it.
        self._inner.incremental_unassign([Place(*place)])
        self._inner.incremental_assign([Place(*place, offset)])

    def position(self, place: TopicPartition) -> int:
        (found,) = self._inner.position([Place(*place)])
        read = found.offset if found.offset >= 0 else self._starts[place]
        # Gaps at the end, of markers and compacted records, are passed without a record.
        return int(max(read, self._ends.get(place, 0)))

    def poll(self, seconds: float, max_records: int) -> list[Chunk]:
        self._raise_held()
        with nullcontext() if self._group is None else self._group.polling():
            messages = self._consumed(seconds, max_records)
        if self._group is not None:
            self._learn_membership()
        if any(map(Message.error, messages)):
            messages = self._sifted(messages)
        if not messages:
            self._raise_held()
            return []
        self._uplink.up = True
        # A partition may have been given up after its records were put into the list.
        found = chunks(messages, single=len(self._starts) == 1)
        return [chunk for chunk in found if chunk.place in self._starts]

    def pause(self, places: Sequence[TopicPartition]) -> None:
        self._inner.pause([Place(*place) for place in places])

    def resume(self, places: Sequence[TopicPartition]) -> None:
        self._inner.resume([Place(*place) for place in places])

    def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        doing = f"committing offsets of group {self._reading.group_id}"
        wanted = [Place(*place, offset) for place, offset in positions.items()]
        call = partial(self._inner.commit, offsets=wanted, asynchronous=False)
        try:
            # Within a callback no other thread is served.
            calling = self._group is not None and self._group.calling
            done = call() if calling else within(self._settings.patience_seconds, call)
        except TimeoutError as error:
            raise SourceFailed(f"Kafka failed when {doing}: {error}") from error
        except KafkaException as error:
            raise self._commit_failure(error.args[0], doing) from error
        for place in done:
            if place.error:
                raise self._commit_failure(place.error, doing)

    def membership(self) -> Membership:
        if self._member is None:
            self._learn_membership()
        return self._member or Membership(self._reading.group_id)

    def _learn_membership(self) -> None:
        """On the polling thread: while a callback runs, others are given no answer."""
        with suppress(ValueError):
            self._member = unpacked(bytes(self._inner.consumer_group_metadata()))

    @property
    def steady(self) -> bool:
        return True  # it does not tell

    @property
    def connected(self) -> bool:
        return self._uplink.up

    @property
    def errors(self) -> Mapping[str, int]:
        return self._complaints.counts

    def close(self, leave: bool = True) -> None:
        self._closed = True
        with suppress(TimeoutError):
            within(LEAVE_SECONDS, self._questions.close)
        if self._group is not None:
            self._group.silent = True
        holder, self._made = [self._made], None
        if holder[0] is not None:
            with suppress(TimeoutError, KafkaException):
                within(LEAVE_SECONDS, _release, holder, leave)

    @property
    def _inner(self) -> Any:
        if self._closed:
            raise SourceFailed("the consumer is closed; open the source again")
        if self._made is None:
            self._made = Inner(self._options())
        return self._made

    def _options(self) -> dict[str, Any]:
        reading = self._reading
        session = min(reading.session_seconds, reading.max_poll_seconds) * 1000
        static = {"group.instance.id": reading.instance_id} if reading.instance_id else {}
        return {
            **options(self._settings, self._heard),
            **static,
            "socket.timeout.ms": SOCKET_MS,
            "group.id": reading.group_id,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "partition.assignment.strategy": "cooperative-sticky",
            "max.poll.interval.ms": int(reading.max_poll_seconds * 1000),
            "session.timeout.ms": int(session),
            "heartbeat.interval.ms": int(min(3000, session / 6)),
            "max.partition.fetch.bytes": FETCH_BYTES,
            "queued.max.messages.kbytes": QUEUE_KBYTES,
            "queued.min.messages": QUEUE_RECORDS,
            "fetch.queue.backoff.ms": FULL_MS,
            "statistics.interval.ms": STATISTICS_MS,
            "stats_cb": self._uplink.told,
        }

    def _consumed(self, seconds: float, max_records: int) -> list[Any]:
        """It would wait until it has all that was asked for, so it is asked twice."""
        try:
            messages: list[Any] = self._inner.consume(max_records, 0.0)
            if not messages and seconds > 0:
                messages = self._inner.consume(1, seconds)
                if messages and max_records > 1:
                    messages += self._inner.consume(max_records - 1, 0.0)
        except KafkaException as error:
            raise translated(error.args[0], self._settings, "reading") from error
        return messages

    def _sifted(self, messages: list[Any]) -> list[Any]:
        """The records among what came; what no waiting mends is held back behind them."""
        for message in messages:
            if (error := message.error()) is not None:
                self._held = self._held or self._failure(message, error)
        return [message for message in messages if message.error() is None]

    def _failure(self, message: Any, error: KafkaError) -> Exception | None:
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            self._ends[TopicPartition(message.topic(), message.partition())] = message.offset()
            self._uplink.up = True
        elif code in (KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION):
            place = TopicPartition(message.topic(), message.partition())
            return OutOfRange(place, self.position(place))
        elif _is_fatal(error):
            return self._fatal(error)
        elif code in FATAL_TO_READING:
            return translated(error, self._settings, "reading", message.topic() or "")
        elif code != KafkaError._MAX_POLL_EXCEEDED:  # it rejoins, and says what was lost
            heard(self._complaints, error)
        return None

    def _raise_held(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            raise held

    def _heard(self, error: KafkaError) -> None:
        heard(self._complaints, error)
        if _is_fatal(error):
            self._held = self._held or self._fatal(error)

    def _fatal(self, error: KafkaError) -> Exception:
        if "group.instance.id" in error.str():
            return fenced_out(self._reading)
        return translated(error, self._settings, "reading")

    def _commit_failure(self, error: KafkaError, doing: str) -> Exception:
        if error.code() in SILENCES:
            return SourceFailed(f"Kafka failed when {doing}: {error.str()}")
        return translated(error, self._settings, doing, self._reading.group_id)


def _is_fatal(error: KafkaError) -> bool:
    return error.fatal() or error.code() == KafkaError._FATAL


def _release(holder: list[Any], leave: bool) -> None:
    """Dropped without `close`, a consumer stays in its group until its session ends."""
    if leave:
        holder[0].close()
    holder.clear()
