"""Why a cluster cannot be reached: what its servers do when spoken to."""

import socket
import ssl
from contextlib import suppress

from stream_em.errors import Unreachable
from stream_em_connectors.kafka.client import ClientSettings
from stream_em_connectors.kafka.security import Security, secured

PORT = 9092  # where none is named
TRIED = 3  # servers at most
PATIENCE = 1.0  # seconds for one server to accept a connection


def unreachable(settings: ClientSettings, doing: str, detail: str = "") -> Unreachable:
    """The error to raise: servers are tried once more, to say what is wrong with them."""
    found = "; ".join(
        f"{server.strip()} {_condition(server.strip(), secured(settings.security))}"
        for server in settings.bootstrap_servers.split(",")[:TRIED]
    )
    said = f" ({detail})" if detail else ""
    return Unreachable(
        f"Kafka did not answer when {doing}{said}: {found}; check bootstrap_servers, the network "
        "and, if the brokers want them, the keys of security"
    )


def refused(settings: ClientSettings, detail: str) -> Unreachable:
    """The error to raise when a broker does not accept the credentials."""
    security = secured(settings.security)
    return Unreachable(
        f"Kafka at {settings.bootstrap_servers} refused the user {security.username!r} with "
        f"{security.mechanism} over {security.protocol} ({detail}); check username, password, "
        "mechanism and protocol of security"
    )


def _condition(server: str, security: Security) -> str:
    host, colon, port = server.rpartition(":")
    address = (host.strip("[]"), int(port)) if colon and port.isdigit() else (server, PORT)
    try:
        connection = socket.create_connection(address, timeout=PATIENCE)
    except socket.gaierror:
        return "is a name that does not resolve"
    except TimeoutError:
        return f"does not accept a connection within {PATIENCE:g} s"
    except OSError as error:
        return f"cannot be connected to: {(error.strerror or str(error)).lower()}"
    with connection:
        return _tls(connection, address[0], security) if security.tls else _plain(connection)


def _plain(connection: socket.socket) -> str:
    """A TLS listener hangs up on, or answers with an alert to, what is not TLS."""
    with suppress(OSError):
        connection.sendall(b"\0\0\0\x0a\0\x12\0\0\0\0\0\1\xff\xff")
        answer = connection.recv(1)
        if answer in (b"", b"\x15"):
            return "accepts connections and hangs up: does it want SSL or SASL_SSL?"
        return "answers, but not in time, or not to this user"
    return "accepts connections and says nothing"


def _tls(connection: socket.socket, host: str, security: Security) -> str:
    try:
        context = ssl.create_default_context(cafile=security.ca_file)
        context.check_hostname = security.check_hostname
        context.wrap_socket(connection, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        return f"has a certificate that is not trusted: {error.verify_message}; check ca_file"
    except OSError as error:
        return f"does not agree on TLS: {error.strerror or error}"
    if not security.sasl:
        return "agrees on TLS, but does not answer in time, or not to this client"
    # A hang-up can overtake the refusal, so that the client never reads it.
    return (
        f"agrees on TLS, but hangs up on the user {security.username!r} with {security.mechanism}, "
        "or does not answer; check username, password and mechanism"
    )
