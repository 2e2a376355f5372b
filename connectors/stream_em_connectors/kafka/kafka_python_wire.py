"""kafka-python: connecting, asking the cluster, and its errors in our words."""

import logging
import re
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, final
from weakref import WeakSet

import kafka.errors as wrong
from kafka.net.compat import KafkaNetClient

from stream_em.errors import RunFailed, SettingsError, SourceFailed, StreamEmError
from stream_em_connectors.kafka.client import ClientSettings
from stream_em_connectors.kafka.complaints import Complaints
from stream_em_connectors.kafka.packages import codec_advice
from stream_em_connectors.kafka.permissions import not_permitted
from stream_em_connectors.kafka.reaching import refused, unreachable
from stream_em_connectors.kafka.security import Security, secured

TRANSIENT = (  # time mends these
    wrong.RetriableError,
    wrong.KafkaConnectionError,
    wrong.UnknownBrokerIdError,
    wrong.BrokerNotAvailableError,
    wrong.RebalanceInProgressError,
    wrong.IllegalGenerationError,
    wrong.UnknownMemberIdError,
    wrong.MemberIdRequiredError,
    ConnectionError,
)
REFUSALS = (
    wrong.SaslAuthenticationFailedError,
    wrong.UnsupportedSaslMechanismError,
    wrong.IllegalSaslStateError,
)
RETRY_SECONDS = 0.1
FORBIDDEN = (
    (wrong.TopicAuthorizationFailedError, "topic"),
    (wrong.GroupAuthorizationFailedError, "group"),
    (wrong.TransactionalIdAuthorizationFailedError, "transactional id"),
    (wrong.ClusterAuthorizationFailedError, "cluster"),
)


def options(settings: ClientSettings, complaints: Complaints) -> dict[str, Any]:
    """The settings that its consumers and producers share."""
    hush()
    return {
        "bootstrap_servers": [one.strip() for one in settings.bootstrap_servers.split(",")],
        "client_id": settings.client_id,
        "reconnect_backoff_max_ms": 2000,
        "metrics_enabled": False,
        "kafka_client": partial(_connected, settings, complaints),
        **_secured(secured(settings.security)),
    }


def hush() -> None:
    """Its log repeats every attempt to connect; `Complaints` tell what matters of it.

    A level that somebody has set stays as it is.
    """
    logger = logging.getLogger("kafka")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL + 1)


def _secured(security: Security) -> dict[str, Any]:
    return {
        "security_protocol": security.protocol,
        "sasl_mechanism": security.mechanism,
        "sasl_plain_username": security.username,
        "sasl_plain_password": security.password,
        "ssl_cafile": security.ca_file,
        "ssl_certfile": security.certificate_file,
        "ssl_keyfile": security.key_file,
        "ssl_password": security.key_password,
        "ssl_check_hostname": security.check_hostname,
    }


@final
class _Watch:
    """Stands before the connections of a manager and hears how each of them ends."""

    def __init__(self, manager: Any, complaints: Complaints) -> None:
        self._connect = manager.get_connection
        self._complaints = complaints
        self._seen: WeakSet[Any] = WeakSet()

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        connection = self._connect(*arguments, **named)
        if connection not in self._seen:
            self._seen.add(connection)
            connection.close_future.add_errback(self._ended)
        return connection

    def _ended(self, error: BaseException) -> None:
        kind = "auth" if isinstance(error, REFUSALS) else "transport"
        self._complaints.add(kind, told(error))


def _connected(settings: ClientSettings, complaints: Complaints, **configs: Any) -> Any:
    """Its network client, with the cluster known. Raises `Unreachable`."""
    client = KafkaNetClient(**configs)
    manager = client._manager
    manager.get_connection = _Watch(manager, complaints)
    manager._build_transport = partial(_hearing_all, manager._build_transport)
    try:
        future = manager.bootstrap_async(settings.patience_seconds * 1000)
        deadline = time.monotonic() + settings.patience_seconds
        while not future.is_done and time.monotonic() < deadline and not complaints.refusal:
            client.poll(timeout_ms=50, future=future)
        if complaints.refusal:
            raise refused(settings, complaints.refusal)
        if not future.succeeded():
            raise unreachable(settings, "connecting")
    except BaseException:
        client.close()
        raise
    return client


async def _hearing_all(build: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """A transport that hands over what came before a hang-up, such as the refusal of a password.

    Its own `_read_from_sock` drops bytes that are read together with the end of the stream.
    The end is met again at the next read.
    """
    transport = await build(*arguments, **named)
    receive = transport._sock_recv

    def received() -> tuple[bytes, BaseException | None]:
        data, error = receive()
        return data, None if data else error

    transport._sock_recv = received
    return transport


def connected(inner: Any) -> bool:
    """Whether any connection of a consumer stands."""
    connections = list(inner._manager._conns.values())
    return any(connection.connected for connection in connections)


def ask(manager: Any, request: Callable[[], Any], settings: ClientSettings, doing: str) -> Any:
    """The answer of any broker. Raises `Unreachable` when none comes in time."""
    deadline = time.monotonic() + settings.patience_seconds
    failure: BaseException | None = None
    while (left := deadline - time.monotonic()) > 0:
        done = threading.Event()
        future = manager.call_soon(manager.send, request())
        future.add_both(lambda _, done=done: done.set())
        if not done.wait(left):
            break
        if future.succeeded():
            return future.value
        failure = future.exception
        if not isinstance(failure, TRANSIENT):
            raise translated(failure, settings, doing) from failure
        time.sleep(min(RETRY_SECONDS, left))
    raise unreachable(settings, doing, told(failure))


def translated(
    error: BaseException,
    settings: ClientSettings,
    doing: str,
    otherwise: type[RunFailed] = SourceFailed,
    name: str = "",
) -> StreamEmError:
    """An error of kafka-python as one of ours; `otherwise` is for what nothing else fits.

    `name` is of the thing in question, for errors that do not tell.
    """
    if isinstance(error, StreamEmError):
        return error
    error = unwrapped(error)
    if what := forbidden(error):
        return not_permitted(what, _names(error) or name, doing, settings)
    if isinstance(error, REFUSALS):
        return refused(settings, told(error))
    if isinstance(error, wrong.UnsupportedCodecError):
        return otherwise(f"{told(error)}, met when {doing}; {codec_advice(str(error))}")
    if isinstance(error, wrong.InvalidTopicError):
        return SettingsError(f"a topic's name is not legal: {told(error)}")
    if isinstance(error, (*TRANSIENT, TimeoutError)):
        return unreachable(settings, doing, told(error))
    return otherwise(f"Kafka failed when {doing}: {told(error)}")


def forbidden(error: BaseException) -> str:
    """What kind of thing may not be used; empty for errors of other kinds."""
    error = unwrapped(error)
    return next((what for kind, what in FORBIDDEN if isinstance(error, kind)), "")


def unwrapped(error: BaseException) -> BaseException:
    """What a broker answered, where the client tells it only in words.

    >>> unwrapped(wrong.KafkaError("Unexpected error: [Error 50] InvalidTransactionTimeout"))
    InvalidTransactionTimeoutError()
    """
    code = re.search(r"\[Error (\d+)\]", str(error)) if type(error) is wrong.KafkaError else None
    return wrong.for_code(int(code[1]))() if code else error


def _names(error: BaseException) -> str:
    """The topics or the group that an authorisation error speaks of."""
    said = next((one for one in error.args if one), "")
    return ", ".join(sorted(said)) if isinstance(said, set | frozenset) else str(said)


def told(error: BaseException | None) -> str:
    """An error and its kind, which many of the client's say by themselves.

    >>> told(wrong.KafkaTimeoutError("late")), told(TimeoutError()), told(None)
    ('KafkaTimeoutError: late', 'TimeoutError', '')
    """
    if error is None:
        return ""
    kind, text = type(error).__name__, str(error)
    return text if kind in text else f"{kind}: {text}".rstrip(": ")
