"""What a source owes its group: positions that a transaction may carry along."""

from collections.abc import Mapping
from typing import NamedTuple

from stream_em_connectors.kafka.client import Committed, TopicPartition


class Courtesy(NamedTuple):
    """Positions for a group. Only a producer of the same cluster can commit them."""

    cluster: str  # its id
    group: str | object  # a name, or a consumer's membership in a shared group
    offsets: Mapping[TopicPartition, Committed]
