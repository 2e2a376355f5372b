"""Kafka in and out: one small client port, two clients behind it.

The names are found when they are first used; no client library is loaded before a
connection is wanted.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stream_em_connectors.kafka.sink import KafkaSink as KafkaSink
    from stream_em_connectors.kafka.source import KafkaSource as KafkaSource

__all__ = ["KafkaSink", "KafkaSource"]


def __getattr__(name: str) -> Any:
    rooms = {"KafkaSink": "sink", "KafkaSource": "source"}
    if name not in rooms:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{rooms[name]}"), name)
