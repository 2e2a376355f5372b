"""librdkafka's answers to what a group committed: slow ones, and those that say more."""

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from stream_em.errors import Unreachable
from stream_em_connectors.kafka import librdkafka_offsets
from stream_em_connectors.kafka.client import ClientSettings, Committed, TopicPartition
from stream_em_connectors.kafka.complaints import Complaints

PLACE = TopicPartition("t", 0)


class Slow:
    """Answers what is asked with at least so much patience; told times out."""

    def __init__(self, needs: float) -> None:
        self.needs, self.asked = needs, []

    def __call__(self, settings: dict[str, Any]) -> "Slow":
        assert settings["isolation.level"] == "read_committed"
        return self

    def committed(self, places: list[Any], seconds: float) -> list[Any]:
        self.asked.append(seconds)
        if seconds < self.needs:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        for place in places:
            place.offset = 7
        return places

    def poll(self, seconds: float) -> None:
        """Nothing is told."""


@pytest.fixture
def offsets(monkeypatch: pytest.MonkeyPatch) -> Any:
    def made(slow: Slow, patience: float) -> librdkafka_offsets.GroupOffsets:
        monkeypatch.setattr(librdkafka_offsets, "Inquirer", slow)
        settings = ClientSettings("127.0.0.1:1", {}, "test", patience)
        return librdkafka_offsets.GroupOffsets(settings, Complaints(settings.bootstrap_servers))

    return made


def test_a_slow_answer_is_waited_for(offsets: Any) -> None:
    slow = Slow(needs=7.0)
    found = offsets(slow, 60.0).committed("g", [PLACE])
    assert found == {PLACE: Committed(7, "")}
    assert slow.asked == [1.0, 2.0, 4.0, 8.0]


def test_patience_ends(offsets: Any) -> None:
    with pytest.raises(Unreachable):
        offsets(Slow(needs=100.0), 0.3).committed("g", [PLACE])
