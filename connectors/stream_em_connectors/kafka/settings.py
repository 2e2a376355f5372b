"""What source and sink are told alike: where the brokers are, and by which client to reach them."""

import re
from typing import Any

from stream_em.errors import SettingsError
from stream_em_connectors.kafka.client import Client, ClientSettings
from stream_em_connectors.kafka.clients import client
from stream_em_connectors.kafka.security import secured

SERVER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:,/]+):(\d{1,5})")
TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


def client_of(said: Any) -> Client:
    """The client that `client = "..."` names. Raises `SettingsError` for an unknown one."""
    return client(said)


def client_settings(bootstrap_servers: Any, security: Any, client_id: str) -> ClientSettings:
    """What both roles of a client are told. Raises `SettingsError` for what is wrong in it."""
    return ClientSettings(servers(bootstrap_servers), secured(security), client_id)


def servers(said: Any) -> str:
    """The brokers to ask first, as "host:port,host:port". Raises `SettingsError`.

    >>> servers("127.0.0.1:9092, [::1]:9092")
    '127.0.0.1:9092,[::1]:9092'
    """
    listed = [one.strip() for one in said.split(",")] if isinstance(said, str) else []
    for one in listed:
        found = SERVER.fullmatch(one)
        if found is None or not 0 < int(found.group(2)) < 65536:
            listed = []
            break
    if not listed:
        raise SettingsError(
            f"bootstrap_servers is {said!r}, expected host:port such as 127.0.0.1:9092, several "
            "with commas between"
        )
    return ",".join(listed)


def topic(said: Any) -> str:
    """The name of a topic. Raises `SettingsError`."""
    if not isinstance(said, str) or not TOPIC.fullmatch(said) or said in (".", ".."):
        raise SettingsError(
            f"topic is {said!r}, expected a name of letters, digits, '.', '_' and '-'"
        )
    return said


def seconds(setting: str, said: Any) -> float:
    """A time to wait, more than nothing. Raises `SettingsError`."""
    if isinstance(said, bool) or not isinstance(said, (int, float)) or not 0 < said < 86_400:
        raise SettingsError(f"{setting} is {said!r}, expected a number of seconds above 0")
    return float(said)
