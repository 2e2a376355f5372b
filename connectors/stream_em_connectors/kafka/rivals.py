"""What rivals do to transactions and groups, in the same words for every client."""

from stream_em.errors import Fenced, SettingsError, SourceFailed
from stream_em_connectors.kafka.client import ConsumerSettings


def fenced(transactional_id: str | None, doing: str) -> Fenced:
    """Somebody else has opened the same transactions, or they were open for too long."""
    return Fenced(
        f"another producer has taken over the transactions of {transactional_id} (met when "
        f"{doing}); is the engine running twice under one name? A transaction that stays open "
        "longer than its timeout, as after a laptop's sleep, looks the same"
    )


def too_long(seconds: float) -> SettingsError:
    """The broker does not allow transactions to stay open for so long."""
    return SettingsError(
        f"the broker refuses transactions that may stay open for {seconds:g} s; choose a shorter "
        "transaction timeout or checkpoint interval, or raise transaction.max.timeout.ms of the "
        "brokers"
    )


def fenced_out(reading: ConsumerSettings) -> SourceFailed:
    """A consumer of the same instance has taken this one's place in the group."""
    return SourceFailed(
        f"another consumer joined group {reading.group_id} as instance {reading.instance_id!r}; "
        "give every engine an instance_id of its own"
    )
