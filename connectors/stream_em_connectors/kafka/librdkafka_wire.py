"""librdkafka: connecting, and its errors in our words."""

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, final

from confluent_kafka import KafkaError

from stream_em.errors import RunFailed, SettingsError, SourceFailed, StreamEmError
from stream_em_connectors.kafka.client import ClientSettings
from stream_em_connectors.kafka.complaints import Complaints
from stream_em_connectors.kafka.permissions import not_permitted
from stream_em_connectors.kafka.reaching import refused, unreachable
from stream_em_connectors.kafka.security import Security, secured

REFUSALS = frozenset(
    (
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.ILLEGAL_SASL_STATE,
    )
)
SILENCES = frozenset(
    (
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._WAIT_COORD,
        KafkaError._SSL,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
    )
)
MENDING = SILENCES | frozenset(  # also while a partition changes its leader, or a broker comes back
    (
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.KAFKA_STORAGE_ERROR,
    )
)
FATAL_TO_READING = frozenset(
    (
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError._BAD_COMPRESSION,
        KafkaError._BAD_MSG,
        KafkaError._NOT_IMPLEMENTED,
    )
)
FORBIDDEN: Mapping[int, str] = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "group",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "transactional id",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "cluster",
}


@final
class Uplink:
    """Whether any broker answers, as the statistics of a client tell."""

    def __init__(self) -> None:
        self.up = False

    def told(self, statistics: str) -> None:
        """Take the statistics, a JSON text."""
        brokers = json.loads(statistics)["brokers"].values()
        self.up = any(broker["state"] == "UP" for broker in brokers)


def options(settings: ClientSettings, heard: Callable[[KafkaError], None]) -> dict[str, Any]:
    """The settings that consumers, producers and questions share."""
    return {
        "bootstrap.servers": settings.bootstrap_servers,
        "client.id": settings.client_id,
        "reconnect.backoff.max.ms": 2000,
        # It would write to standard error; `Complaints` tell what matters of it.
        "logger": logging.Logger("librdkafka", logging.CRITICAL + 1),
        "error_cb": heard,
        **_secured(secured(settings.security)),
    }


def heard(complaints: Complaints, error: KafkaError) -> None:
    """Count what the client reports of its connections."""
    kind = "auth" if error.code() in REFUSALS else "transport"
    complaints.add(kind, error.str())


def _secured(security: Security) -> dict[str, Any]:
    given = {
        "security.protocol": security.protocol,
        "sasl.mechanism": security.mechanism,
        "sasl.username": security.username,
        "sasl.password": security.password,
        "ssl.ca.location": security.ca_file,
        "ssl.certificate.location": security.certificate_file,
        "ssl.key.location": security.key_file,
        "ssl.key.password": security.key_password,
    }
    hostname = "https" if security.check_hostname else "none"
    return {
        **{key: value for key, value in given.items() if value is not None},
        **({"ssl.endpoint.identification.algorithm": hostname} if security.tls else {}),
    }


def translated(
    error: KafkaError,
    settings: ClientSettings,
    doing: str,
    name: str = "",
    otherwise: type[RunFailed] = SourceFailed,
) -> StreamEmError:
    """An error of librdkafka as one of ours; `otherwise` is for what nothing else fits.

    `name` is that of the topic or group in question: the error itself does not tell.
    """
    code = error.code()
    if code in FORBIDDEN:
        return not_permitted(FORBIDDEN[code], name, doing, settings)
    if code in REFUSALS:
        return refused(settings, error.str())
    if code == KafkaError.TOPIC_EXCEPTION:
        return SettingsError(f"a topic's name is not legal: {name!r}")
    if code in SILENCES:
        return unreachable(settings, doing, error.str())
    return otherwise(f"Kafka failed when {doing}: {error.name()}: {error.str()}")
