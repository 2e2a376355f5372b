"""librdkafka as a `Producer`."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, final

from confluent_kafka import Consumer as Inquirer
from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import Producer as Inner
from confluent_kafka import TopicPartition as Place

from stream_em.errors import (
    Fenced,
    OutcomeUnknown,
    SettingsError,
    SinkFailed,
    StreamEmError,
)
from stream_em_connectors.kafka.client import (
    ClientSettings,
    Committed,
    Headers,
    Producer,
    ProducerSettings,
    TopicPartition,
)
from stream_em_connectors.kafka.complaints import Complaints
from stream_em_connectors.kafka.librdkafka_questions import Questions
from stream_em_connectors.kafka.librdkafka_wire import (
    FORBIDDEN,
    SILENCES,
    heard,
    options,
    translated,
)
from stream_em_connectors.kafka.memberships import Membership, packed
from stream_em_connectors.kafka.permissions import GRANTS
from stream_em_connectors.kafka.reaching import refused, unreachable
from stream_em_connectors.kafka.rivals import fenced, too_long
from stream_em_connectors.kafka.waiting import within

RIVALS = frozenset(
    (
        KafkaError._FENCED,
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
    )
)
# A fatal error is raised within callbacks, where the next callback trips over it.
FAULTS = (KafkaException, SystemError)
PURGED = frozenset((KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT))
ROOM_KBYTES = 32 * 1024
ROOM_RECORDS = 200_000
DELIVERY_SECONDS = 120.0  # for a record, retries and all
OVERHEAD_BYTES = 4096  # of a request around its records
SERVED_EVERY = 500  # records between two looks at what was refused
STEP_SECONDS = 0.1
FLUSH_SECONDS = 1.0  # between two looks at how the transaction is
CLOSE_SECONDS = 1.0
GRACE_SECONDS = 0.5  # beyond a timeout, for the client to keep it by itself


@final
class LibrdkafkaProducer(Producer):
    """Hears of refused records only; of all others that none is left."""

    def __init__(self, settings: ClientSettings, writing: ProducerSettings) -> None:
        self._settings, self._writing = settings, writing
        self._complaints = Complaints(settings.bootstrap_servers)
        self._questions = Questions(settings, self._complaints)
        self._unjoined: dict[str, object] = {}  # group -> metadata of one that never joined
        self._failure: StreamEmError | None = None
        self._dropped = False  # whether records went with their transaction
        self._topics: set[str] = set()  # asked for, and so probably written
        self._sent = 0
        self._lock = threading.Lock()
        self._made: Any = None
        self._closed = False

    def partitions(self, topic: str) -> int | None:
        self._topics.add(topic)
        found = self._questions.topics([topic]).get(topic)
        return None if found is None else len(found.partitions)

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
    ) -> None:
        inner = self._inner if self._made is None else self._made
        self._sent += 1
        if self._sent % SERVED_EVERY == 0:
            self._serve(0.0)
        if self._failure is not None:
            raise self._failure
        try:
            try:
                if headers:
                    inner.produce(topic, value, key, headers=list(headers))
                else:  # to name none takes twice as long
                    inner.produce(topic, value, key)
            except BufferError:
                self._send_when_room(topic, key, value, headers)
        except KafkaException as error:
            if error.args[0].code() in (KafkaError._STATE, KafkaError._FATAL):
                self._check_transaction()
            raise self._translated(error.args[0], f"writing to topic {topic}", topic) from error

    def flush(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        left = 1
        while left:
            step = max(0.0, min(FLUSH_SECONDS, deadline - time.monotonic()))
            try:
                left = self._inner.flush(step)
            except FAULTS as error:
                raise self._translated(self._fault(error), "writing") from error
            if self._failure is not None:
                raise self._failure
            if left or self._dropped:
                self._check_transaction()
            if left and time.monotonic() >= deadline:
                raise SinkFailed(
                    f"Kafka did not acknowledge {left} records within {seconds:g} s; check the "
                    "brokers"
                )

    def init_transactions(self, seconds: float) -> None:
        doing = f"opening the transactions of {self._writing.transactional_id}"
        deadline = time.monotonic() + seconds
        while True:
            step = min(0.5, max(deadline - time.monotonic(), 0.01))
            try:
                self._inner.init_transactions(step)
                return
            except FAULTS as error:
                fault = self._fault(error)
            self._serve(0.0)
            if self._complaints.refusal:
                raise refused(self._settings, self._complaints.refusal)
            if fault.code() == KafkaError.INVALID_TRANSACTION_TIMEOUT:
                raise too_long(self._writing.transaction_seconds)
            if not fault.retriable():
                raise self._translated(fault, doing)
            if time.monotonic() >= deadline:
                raise unreachable(self._settings, doing, fault.str())

    def begin(self) -> None:
        self._failure, self._dropped = None, False
        self._bounded("beginning a transaction", 1.0, self._inner.begin_transaction)

    def send_offsets(
        self, group: str | object, offsets: Mapping[TopicPartition, Committed], seconds: float
    ) -> None:
        theirs = [
            Place(place.topic, place.partition, at.offset, at.metadata)
            for place, at in offsets.items()
        ]
        member = group if isinstance(group, Membership) else Membership(str(group))
        doing = f"adding offsets of group {member.group} to a transaction"
        metadata = packed(member) if member.generation >= 0 else self._metadata(member.group)
        send = partial(self._inner.send_offsets_to_transaction, theirs, metadata, seconds)
        topics = ", ".join(sorted({place.topic for place in offsets}))
        self._bounded(doing, seconds, send, topics, member.group)

    def commit(self, seconds: float) -> None:
        try:
            call = partial(self._inner.commit_transaction, seconds)
            self._bounded("committing a transaction", seconds, call)
        except Fenced:
            raise
        except StreamEmError as error:
            raise OutcomeUnknown(f"{error}; a restart finds out whether it happened") from error

    def abort(self, seconds: float) -> None:
        call = partial(self._inner.abort_transaction, seconds)
        self._bounded("aborting a transaction", seconds, call)
        self._serve(0.0)
        self._failure, self._dropped = None, False

    def close(self) -> None:
        """What waits is dropped; its own close would abort and flush."""
        self._closed = True
        with suppress(TimeoutError):
            within(CLOSE_SECONDS, self._questions.close)
        holder, self._made = [self._made], None
        if holder[0] is not None:
            with suppress(TimeoutError, KafkaException):
                within(CLOSE_SECONDS, _release, holder)

    @property
    def _inner(self) -> Any:
        with self._lock:
            if self._closed:
                raise SinkFailed("the producer is closed; open the sink again")
            if self._made is None:
                self._made = self._opened()
            return self._made

    def _opened(self) -> Any:
        writing = self._writing
        delivery = min(DELIVERY_SECONDS, writing.transaction_seconds or DELIVERY_SECONDS)
        chosen = {
            **options(self._settings, partial(heard, self._complaints)),
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": writing.linger_ms,
            "message.max.bytes": max(writing.max_record_bytes + OVERHEAD_BYTES, 1024 * 1024),
            "compression.type": writing.compression or "none",
            "partitioner": "murmur2_random",  # as the Java client and kafka-python have it
            "queue.buffering.max.kbytes": ROOM_KBYTES,
            "queue.buffering.max.messages": ROOM_RECORDS,
            "delivery.timeout.ms": int(delivery * 1000),
            "delivery.report.only.error": True,
            "on_delivery": self._refused,
        }
        if writing.transactional_id is not None:
            chosen["transactional.id"] = writing.transactional_id
            chosen["transaction.timeout.ms"] = int(writing.transaction_seconds * 1000)
            # Once all brokers were away, its default begins anew with new ones and asks a
            # group's coordinator that is gone, for ever (2.16).
            chosen["metadata.recovery.strategy"] = "none"
        try:
            return Inner(chosen)
        except KafkaException as error:
            raise SettingsError(f"librdkafka does not take its settings: {error}") from error

    def _send_when_room(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers
    ) -> None:
        deadline = time.monotonic() + DELIVERY_SECONDS
        while time.monotonic() < deadline:
            self._serve(STEP_SECONDS)
            if self._failure is not None:
                raise self._failure
            with suppress(BufferError):
                self._inner.produce(topic, value, key, headers=list(headers))
                return
        raise SinkFailed(f"Kafka took no record for {DELIVERY_SECONDS:g} s; check the brokers")

    def _serve(self, seconds: float) -> None:
        """Hear what was refused; once anything fatal has happened, that is raised here."""
        try:
            self._inner.poll(seconds)
        except FAULTS as error:
            self._failure = self._translated(self._fault(error), "writing")

    def _check_transaction(self) -> None:
        """Raises why a transaction can only be aborted: its records wait, or are dropped.

        One that is well refuses to begin again, for its state; one that failed says why.
        """
        if self._writing.transactional_id is None:
            return
        topics = ", ".join(sorted(self._topics))
        try:
            self._inner.begin_transaction()
        except FAULTS as error:
            fault = self._fault(error)
            if fault.code() != KafkaError._STATE or self._dropped:
                raise self._translated(fault, f"writing to topic {topics}", topics) from error

    def _metadata(self, group: str) -> object:
        """Those of a consumer that is never assigned anything; it connects nowhere."""
        if group not in self._unjoined:
            inquirer = Inquirer(
                {**options(self._settings, partial(heard, self._complaints)), "group.id": group}
            )
            self._unjoined[group] = inquirer.consumer_group_metadata()
            inquirer.close()
        return self._unjoined[group]

    def _bounded(
        self,
        doing: str,
        seconds: float,
        call: Callable[[], object],
        topic: str = "",
        group: str = "",
    ) -> None:
        """Its own timeouts are not always kept: a broker that hangs holds it up for a minute."""
        try:
            within(seconds + GRACE_SECONDS, call)
        except TimeoutError as error:
            raise SinkFailed(f"Kafka did not finish {doing}: {error}") from error
        except FAULTS as error:
            self._serve(0.0)
            raise self._translated(self._fault(error), doing, topic, group) from error

    def _fault(self, error: KafkaException | SystemError) -> KafkaError:
        """The client's own error, asked for again where it got lost."""
        raised = error if isinstance(error, KafkaException) else error.__cause__
        if isinstance(raised, KafkaException):
            return raised.args[0]
        try:
            self._inner.poll(0)
            if self._writing.transactional_id is not None:
                self._inner.begin_transaction()
        except KafkaException as told:
            return told.args[0]
        except SystemError:
            pass
        raise SinkFailed(
            "librdkafka failed for good and does not tell why; most often the user lacks "
            f"{GRANTS['cluster']}"
        ) from error

    def _translated(
        self, error: KafkaError, doing: str, topic: str = "", group: str = ""
    ) -> StreamEmError:
        if error.code() in RIVALS:
            return fenced(self._writing.transactional_id, doing)
        if self._failure is not None:
            return self._failure
        names = {"group": group, "transactional id": self._writing.transactional_id or ""}
        name = names.get(FORBIDDEN.get(error.code(), "topic"), topic)
        if error.code() in SILENCES:
            return SinkFailed(f"Kafka did not finish {doing}: {error.str()}")
        return translated(error, self._settings, doing, name, SinkFailed)

    def _refused(self, error: KafkaError | None, message: Message) -> None:
        if error is None or self._closed:
            return
        if error.code() in PURGED:
            self._dropped = True
            return
        doing = f"writing to topic {message.topic()}"
        self._failure = self._failure or self._translated(error, doing, message.topic() or "")


def _release(holder: list[Any]) -> None:
    with suppress(KafkaException):
        holder[0].purge(in_queue=True, in_flight=True, blocking=False)
    holder.clear()
