"""Results out to a topic: one record for each row, exactly once or at least once."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar, final

from stream_em.errors import SettingsError, SinkFailed
from stream_em.streams import Columns, Json, Probe, Sink, Transactions
from stream_em_connectors.delivery import EXACTLY_ONCE, promised
from stream_em_connectors.kafka.client import Consumer, Producer
from stream_em_connectors.kafka.link import Link
from stream_em_connectors.kafka.messages import messages
from stream_em_connectors.kafka.permissions import not_granted
from stream_em_connectors.kafka.settings import client_of, client_settings, seconds
from stream_em_connectors.kafka.settings import topic as checked_topic
from stream_em_connectors.kafka.transactions import KafkaTransactions, Send, timeout_between

COMPRESSIONS = ("gzip", "snappy", "lz4", "zstd")
SMALLEST = 16_384  # bytes of a record: a row without its key, and with its cells cut, fits
CLIENT_ID = "stream-em"
PATIENCE_SECONDS = 10.0  # for a first answer, before the cluster counts as unreachable
CHECKING = "stream-em-check"  # a group that is never joined and never commits


@final
class KafkaSink(Sink):
    """A topic; the rows' `key` is the records' key, and so decides about their partition.

    Exactly once: records become visible with their checkpoint, to readers with
    `isolation.level = read_committed`, and all such sinks of a run share one producer,
    set as the first of them says. At least once: records are visible at once, may come
    twice after a crash, and carry `stream-em-source`, `stream-em-partition` and
    `stream-em-offset` as headers.

    A record larger than `max_record_bytes` loses its key first, then the end of its
    longest cells; the row says so. Calls to the cluster may take `timeout_seconds`.
    Raises `SettingsError`.

    >>> KafkaSink("localhost:9092", "assignments", delivery="at-least-once").exactly_once
    False
    """

    kind: ClassVar[str] = "kafka"

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        delivery: str = EXACTLY_ONCE,
        client: str = "kafka-python",
        security: Mapping[str, str | bool] | None = None,
        compression: str | None = None,
        linger_ms: float = 5.0,
        max_record_bytes: int = 1_000_000,
        timeout_seconds: float = 60.0,
        transaction_timeout_seconds: float | None = None,
    ) -> None:
        self.name = self.topic = checked_topic(topic)
        self.exactly_once = promised(delivery)
        wait = seconds("timeout_seconds", timeout_seconds)
        self._link = Link(
            client=client_of(client),
            settings=client_settings(bootstrap_servers, security, CLIENT_ID)._replace(
                patience_seconds=min(PATIENCE_SECONDS, wait)
            ),
            compression=_compression(compression),
            linger_ms=_at_least(0, "linger_ms", linger_ms),
            seconds=wait,
        )
        self.bootstrap_servers = self._link.settings.bootstrap_servers
        self.cluster: Json = self._link.cluster if self.exactly_once else None
        self._room = int(_at_least(SMALLEST, "max_record_bytes", max_record_bytes))
        self._transaction_seconds = (
            None
            if transaction_timeout_seconds is None
            else seconds("transaction_timeout_seconds", transaction_timeout_seconds)
        )
        self._way: _Way = (
            _Unlisted(topic) if self.exactly_once else _Alone(self._link, topic, self._room)
        )
        self._rows = 0  # ever written, as far as the true checkpoint knows

    def transactions(self, name: str, every_seconds: float) -> Transactions:
        """The transactions of a run, with its name as the transactional id."""
        timeout = timeout_between(every_seconds, self._transaction_seconds)
        return KafkaTransactions(self._link, name, timeout)

    def enlist(self, transactions: Transactions) -> None:
        """Write within these from now on."""
        if not isinstance(transactions, KafkaTransactions):
            raise SettingsError(
                f"topic {self.topic} cannot be written within {transactions.identity}; give it "
                "delivery = 'at-least-once'"
            )
        transactions.enlist(self.topic, self._room)
        self._way = _Enlisted(transactions)

    def begin(self, incarnation: str, overwrite: bool) -> Json:
        """Check that the topic exists; what it holds already stays.

        Raises `Unreachable`.
        """
        self._way.open()
        return {"rows": self._rows}

    def roll_back(self, extent: Json, number: int, incarnation: str) -> None:
        """Check that the topic exists; what no marker vouches for was aborted already."""
        self._way.open()
        self._rows = extent.get("rows", 0) if isinstance(extent, dict) else 0

    def write(self, columns: Columns) -> None:
        """Hand rows to the producer, waiting for room. Raises `SinkFailed`."""
        send, topic = self._way.sender(), self.topic
        for key, value, headers in messages(columns, self._way.traced, self._room):
            send(topic, key, value, headers)
        self._rows += len(next(iter(columns.values())))

    def barrier(self, number: int) -> Json:
        """Wait until every record is acknowledged; the extent is how many there were ever."""
        self._way.flush()
        return {"rows": self._rows}

    def committed(self, number: int) -> None:
        """Nothing waits: the transaction that made the checkpoint true showed the records."""

    def close(self) -> None:
        """Release what is the sink's own, waiting for nothing."""
        self._way.close()

    def probes(self) -> Iterator[Probe]:
        """The broker and the topic, asked by a reader: nothing is written or fenced."""
        servers = self._link.settings.bootstrap_servers
        consumer = self._link.consumer(CHECKING)
        try:
            yield Probe(f"broker {servers}", None, f"cluster {consumer.cluster()}")
            yield self._topic(consumer)
        finally:
            consumer.close()

    def _topic(self, consumer: Consumer) -> Probe:
        """Exactly once takes READ, too: the marker is an offset of the topic."""
        what = f"topic {self.topic}"
        found = consumer.topics([self.topic]).get(self.topic)
        if found is None:
            return Probe(what, self._link.missing(self.topic))
        permitted = consumer.permitted(self.topic)
        needed = ("READ", "WRITE") if self.exactly_once else ("WRITE",)
        lacking = [one for one in needed if permitted is not None and one not in permitted]
        if lacking:
            return Probe(what, not_granted(self.topic, lacking, self._link.settings))
        return Probe(what, None, f"{len(found.partitions)} partitions")


class _Way(ABC):
    """How records get to the cluster."""

    traced: bool  # whether records tell where they came from

    @abstractmethod
    def open(self) -> None:
        """Make sure that the topic is there."""

    @abstractmethod
    def sender(self) -> Send:
        """What sends a record."""

    @abstractmethod
    def flush(self) -> None:
        """Wait for all of them."""

    @abstractmethod
    def close(self) -> None:
        """Wait for none of them."""


@final
class _Alone(_Way):
    """A producer of its own, and no transactions."""

    traced = True

    def __init__(self, link: Link, topic: str, room: int) -> None:
        self._link, self._topic, self._room = link, topic, room
        self._producer: Producer | None = None

    def open(self) -> None:
        self.close()
        self._producer = self._link.producer(self._room)
        try:
            self._link.check(self._producer, self._topic)
        except BaseException:
            self.close()
            raise

    def sender(self) -> Send:
        return self._opened().send

    def flush(self) -> None:
        self._opened().flush(self._link.seconds)

    def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close()

    def _opened(self) -> Producer:
        if self._producer is None:
            raise SinkFailed(f"topic {self._topic} is not open for writing; start the run again")
        return self._producer


@final
class _Unlisted(_Way):
    """Exactly once, before anybody gave it transactions to write in."""

    traced = False

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def open(self) -> None:
        raise self._refusal()

    def sender(self) -> Send:
        raise self._refusal()

    def flush(self) -> None:
        raise self._refusal()

    def close(self) -> None:
        """Nothing was opened."""

    def _refusal(self) -> SettingsError:
        return SettingsError(
            f"topic {self._topic} is written exactly once, which takes checkpoints: add "
            "[checkpoints], or give it delivery = 'at-least-once'"
        )


@final
class _Enlisted(_Way):
    """The producer that all exactly-once sinks of the run share; it checked the topics."""

    traced = False

    def __init__(self, transactions: KafkaTransactions) -> None:
        self._transactions = transactions

    def open(self) -> None:
        """The transactions were opened first, and found the topic."""

    def sender(self) -> Send:
        return self._transactions.sender()

    def flush(self) -> None:
        self._transactions.flush()

    def close(self) -> None:
        """The transactions are closed by who opened them."""


def _at_least(least: float, setting: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= least:
        raise SettingsError(f"{setting} is {value!r}, expected a number of at least {least:g}")
    return value


def _compression(word: str | None) -> str | None:
    if word is not None and word not in COMPRESSIONS:
        raise SettingsError(
            f"compression is {word!r}, expected one of: {', '.join(COMPRESSIONS)}; or leave it out"
        )
    return word
