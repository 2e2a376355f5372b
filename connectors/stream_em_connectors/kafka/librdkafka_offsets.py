"""librdkafka: what a group committed, asked by a consumer that never joins it.

The client for administration has the same question, but is no member of anything: an answer
that sends it to another coordinator, as of a broker that has just started, crashes the
process (2.16, `rd_kafka_handle_OffsetFetch`).
"""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, final

from confluent_kafka import Consumer as Inquirer
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as Place

from stream_em_connectors.kafka.client import ClientSettings, Committed, TopicPartition
from stream_em_connectors.kafka.complaints import Complaints
from stream_em_connectors.kafka.librdkafka_wire import (
    FORBIDDEN,
    MENDING,
    heard,
    options,
    translated,
)
from stream_em_connectors.kafka.reaching import refused

STEP_SECONDS = 1.0  # for an answer, and twice as long each time: one that is late is lost
RETRY_SECONDS = 0.1


@final
class GroupOffsets:
    """Asks for one group at a time; a client is made for each when first needed."""

    def __init__(self, settings: ClientSettings, complaints: Complaints) -> None:
        self._settings, self._complaints = settings, complaints
        self._made: dict[str, Any] = {}

    def committed(
        self, group: str, places: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, Committed | None]:
        """What a group committed, pending transactions waited for.

        Raises `Unreachable` when nobody answers in time, `SettingsError` for what may not
        be asked.
        """
        if not places:
            return {}
        inquirer, asked = self._inquirer(group), [Place(*place) for place in places]
        deadline = time.monotonic() + self._settings.patience_seconds
        step = STEP_SECONDS
        while True:
            left = max(0.01, deadline - time.monotonic())
            answers, error = _asked(inquirer, asked, min(step, left))
            step *= 2
            told = inquirer.poll(0)  # of refusals and of rights that lack
            if error is None:
                found = {TopicPartition(one.topic, one.partition): one for one in answers}
                return {place: _committed(found.get(place)) for place in places}
            if self._complaints.refusal:
                raise refused(self._settings, self._complaints.refusal)
            if told is not None and told.error() and told.error().code() in FORBIDDEN:
                error = told.error()
            if error.code() not in MENDING or time.monotonic() > deadline:
                doing = f"asking for the offsets of group {group}"
                raise translated(error, self._settings, doing, group)
            time.sleep(RETRY_SECONDS)

    def close(self) -> None:
        """Let the clients go."""
        self._made.clear()

    def _inquirer(self, group: str) -> Any:
        if group not in self._made:
            chosen = options(self._settings, partial(heard, self._complaints))
            stable = {"group.id": group, "isolation.level": "read_committed"}
            self._made[group] = Inquirer({**chosen, **stable, "enable.auto.commit": False})
        return self._made[group]


def _asked(
    inquirer: Any, places: list[Any], seconds: float
) -> tuple[Sequence[Any], KafkaError | None]:
    """Answers, and the first error of the question or of one of its partitions."""
    try:
        answers = inquirer.committed(places, seconds)
    except KafkaException as error:
        return (), error.args[0]
    return answers, next((one.error for one in answers if one.error), None)


def _committed(found: Any) -> Committed | None:
    if found is None or found.offset < 0:
        return None
    return Committed(found.offset, _metadata(found))


def _metadata(found: Any) -> str:
    """Up to the NUL; where none was written, librdkafka may read on into foreign memory."""
    try:
        metadata = found.metadata or ""
    except UnicodeDecodeError as error:
        metadata = error.object.decode("utf-8", "replace")
    return str(metadata).partition("\0")[0]
