"""The clients by their names in the configuration."""

from difflib import get_close_matches

from stream_em.errors import SettingsError
from stream_em_connectors.kafka.client import Client
from stream_em_connectors.kafka.kafka_python import KafkaPython
from stream_em_connectors.kafka.librdkafka import Librdkafka

NAMES = (KafkaPython.name, Librdkafka.name)


def client(name: str) -> Client:
    """The client of that name. Raises `SettingsError` for another one.

    >>> client("kafka-python").name
    'kafka-python'
    >>> client("librdkafk")
    Traceback (most recent call last):
    ...
    stream_em.errors.SettingsError: client is 'librdkafk'; did you mean 'librdkafka'?
    """
    for known in (KafkaPython(), Librdkafka()):
        if known.name == name:
            return known
    close = get_close_matches(str(name), NAMES, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(NAMES)}"
    raise SettingsError(f"client is {name!r}; {hint}")
