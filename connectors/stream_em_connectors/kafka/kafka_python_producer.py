"""kafka-python as a `Producer`."""

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, final

import kafka.errors as wrong
from kafka import KafkaProducer
from kafka.protocol.metadata import MetadataRequest
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata
from kafka.structs import TopicPartition as Place

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
from stream_em_connectors.kafka.deliveries import Deliveries
from stream_em_connectors.kafka.kafka_python_wire import (
    ask,
    forbidden,
    options,
    told,
    translated,
    unwrapped,
)
from stream_em_connectors.kafka.memberships import Membership
from stream_em_connectors.kafka.reaching import unreachable
from stream_em_connectors.kafka.rivals import fenced, too_long
from stream_em_connectors.kafka.waiting import within

RIVALS = (wrong.ProducerFencedError, wrong.InvalidProducerEpochError)
BATCH_BYTES = 256 * 1024
OVERHEAD_BYTES = 4096  # of a request around its records
DELIVERY_SECONDS = 120.0  # for a record, retries and all


@final
class KafkaPythonProducer(Producer):
    """Connects when first used. Its deadlines are kept by threads that are left behind."""

    def __init__(self, settings: ClientSettings, writing: ProducerSettings) -> None:
        self._settings, self._writing = settings, writing
        self._complaints = Complaints(settings.bootstrap_servers)
        self._deliveries = Deliveries(DELIVERY_SECONDS)
        self._lock = threading.Lock()
        self._made: Any = None
        self._closed = False

    def partitions(self, topic: str) -> int | None:
        doing = f"asking for the topic {topic}"
        wanted = [MetadataRequest.MetadataRequestTopic(name=topic)]

        def request() -> Any:
            return MetadataRequest(
                topics=wanted,
                allow_auto_topic_creation=False,
                include_cluster_authorized_operations=False,
                include_topic_authorized_operations=False,
            )

        answer = ask(self._inner._sender._client._manager, request, self._settings, doing)
        found = answer.topics[0]
        error = wrong.for_code(found.error_code)
        if error is wrong.UnknownTopicOrPartitionError:
            return None
        if error is not wrong.NoError:
            raise translated(error({topic}), self._settings, doing, SinkFailed)
        return len(found.partitions)

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
    ) -> None:
        inner = self._inner if self._made is None else self._made
        size = len(key or b"") + len(value or b"")
        self._deliveries.room(size)
        # It knows no headers without a value.
        theirs = [(name, content or b"") for name, content in headers]
        try:
            future = inner.send(topic, value=value, key=key, headers=theirs)
        except (wrong.KafkaError, ValueError, AssertionError) as error:
            self._deliveries.settled(size)
            raise self._failure(error, f"writing to topic {topic}") from error
        future._add_cb_eb(partial(self._delivered, size), partial(self._refused, size, topic))

    def flush(self, seconds: float) -> None:
        self._deliveries.wait(seconds)

    def init_transactions(self, seconds: float) -> None:
        doing = f"opening the transactions of {self._writing.transactional_id}"
        inner = self._inner
        inner.config["max_block_ms"] = seconds * 1000
        try:
            within(seconds + 1.0, inner.init_transactions)
        except (wrong.KafkaTimeoutError, TimeoutError) as error:
            raise unreachable(self._settings, doing) from error
        except wrong.KafkaError as error:
            if isinstance(unwrapped(error), wrong.InvalidTransactionTimeoutError):
                raise too_long(self._writing.transaction_seconds) from error
            raise self._failure(error, doing) from error

    def begin(self) -> None:
        self._deliveries.forget()
        self._bounded("beginning a transaction", 1.0, self._inner.begin_transaction)

    def send_offsets(
        self, group: str | object, offsets: Mapping[TopicPartition, Committed], seconds: float
    ) -> None:
        theirs = {
            Place(*place): OffsetAndMetadata(at.offset, _ended(at.metadata), -1)
            for place, at in offsets.items()
        }
        member = group if isinstance(group, Membership) else Membership(str(group))
        metadata = ConsumerGroupMetadata(*member)
        doing = f"adding offsets of group {member.group} to a transaction"
        try:
            within(seconds, self._inner.send_offsets_to_transaction, theirs, metadata)
        except (wrong.KafkaError, TimeoutError) as error:
            topics = ", ".join(sorted({place.topic for place in offsets}))
            raise self._failure(error, doing, topics, member.group) from error

    def commit(self, seconds: float) -> None:
        try:
            self._bounded("committing a transaction", seconds, self._inner.commit_transaction)
        except (Fenced, OutcomeUnknown):
            raise
        except StreamEmError as error:
            raise OutcomeUnknown(f"{error}; a restart finds out whether it happened") from error

    def abort(self, seconds: float) -> None:
        self._bounded("aborting a transaction", seconds, self._inner.abort_transaction)
        self._deliveries.forget()

    def close(self) -> None:
        """Its own close would send what waits; this one stops its thread where it is."""
        self._closed = True
        inner, self._made = self._made, None
        if inner is None:
            return
        inner._unregister_cleanup()
        inner._closed = True
        inner._sender.force_close()

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
        request = min(30.0, delivery / 2)
        chosen = {
            **options(self._settings, self._complaints),
            "acks": "all",
            "enable_idempotence": True,
            "linger_ms": writing.linger_ms,
            "batch_size": BATCH_BYTES,
            "max_request_size": max(writing.max_record_bytes + OVERHEAD_BYTES, 1024 * 1024),
            "compression_type": writing.compression,
            "max_block_ms": self._settings.patience_seconds * 1000,
            "delivery_timeout_ms": delivery * 1000,
            "request_timeout_ms": int(request * 1000),
        }
        if writing.transactional_id is not None:
            chosen["transactional_id"] = writing.transactional_id
            chosen["transaction_timeout_ms"] = int(writing.transaction_seconds * 1000)
        try:
            made = KafkaProducer(**chosen)
            if writing.transactional_id is not None:
                _give_way(made._transaction_manager)
            return made
        except RuntimeError as error:  # a library for the codec is missing
            advice = translated(wrong.UnsupportedCodecError(str(error)), self._settings, "opening")
            raise SettingsError(str(advice)) from error
        except wrong.KafkaError as error:
            raise translated(error, self._settings, "connecting", SinkFailed) from error

    def _bounded(self, doing: str, seconds: float, call: Callable[[], object]) -> None:
        try:
            within(seconds, call)
        except (wrong.KafkaError, TimeoutError) as error:
            raise self._failure(error, doing) from error

    def _failure(
        self, error: BaseException, doing: str, topic: str = "", group: str = ""
    ) -> StreamEmError:
        """What a call that failed means; the manager of transactions remembers the cause."""
        if self._deliveries.failure is not None:
            return self._deliveries.failure
        manager = self._made._transaction_manager if self._made is not None else None
        cause = manager.last_error if manager is not None else None
        causes = (unwrapped(error), *error.args, cause)
        if any(isinstance(one, RIVALS) for one in causes):
            return fenced(self._writing.transactional_id, doing)
        named = next((one for one in causes if isinstance(one, wrong.AuthorizationError)), error)
        if isinstance(named, TimeoutError | wrong.RetriableError):
            return SinkFailed(f"Kafka did not finish {doing}: {named}")
        names = {"group": group, "transactional id": self._writing.transactional_id or ""}
        name = names.get(forbidden(named), topic)
        return translated(named, self._settings, doing, SinkFailed, name)

    def _delivered(self, size: int, _: object) -> None:
        self._deliveries.settled(size)

    def _refused(self, size: int, topic: str, error: BaseException) -> None:
        failure = _delivery_failure(error, topic, self._writing, self._settings)
        self._deliveries.failed(failure)
        self._deliveries.settled(size)


def _give_way(manager: Any) -> None:
    """To a rival, for good.

    By itself the client answers a refused epoch with a new one under the same id, and so
    fences in turn who has taken it over (3.0.12).
    """

    def fenced_out(_: object, result: Any) -> None:
        error = wrong.ProducerFencedError()
        manager.transition_to_fatal_error(error)
        result.done(error)

    manager._FATAL_ERRORS = manager._FATAL_ERRORS | {wrong.InvalidProducerEpochError}
    manager._restart_epoch_bump_without_producer_id = fenced_out


def _ended(metadata: str) -> str:
    """librdkafka reads metadata on until a NUL, and writes one; so do we."""
    return f"{metadata}\0" if metadata else ""


def _delivery_failure(
    error: BaseException, topic: str, writing: ProducerSettings, settings: ClientSettings
) -> StreamEmError:
    doing = f"writing to topic {topic}"
    known = unwrapped(error)
    if isinstance(known, RIVALS):
        return fenced(writing.transactional_id, doing)
    if isinstance(known, wrong.AuthorizationError):
        return translated(known, settings, doing, SinkFailed, topic)
    return SinkFailed(f"Kafka did not take a record when {doing}: {told(error)}")
