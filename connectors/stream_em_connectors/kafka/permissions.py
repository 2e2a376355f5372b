"""What a user of a cluster may not do, in the same words for every client."""

from collections.abc import Mapping, Sequence

from stream_em.errors import SettingsError
from stream_em_connectors.kafka.client import ClientSettings
from stream_em_connectors.kafka.security import secured

#: What a client of ours needs of each kind of resource.
GRANTS: Mapping[str, str] = {
    "topic": "READ to read it, WRITE to write it, both to write it exactly once,",
    "group": "READ",
    "transactional id": "WRITE",
    "cluster": "WRITE to the topic, or IDEMPOTENT_WRITE",
}


def not_permitted(what: str, name: str, doing: str, settings: ClientSettings) -> SettingsError:
    """The error for a permission that is missing: `what` is a key of `GRANTS`."""
    who = _who(settings)
    on = f"the {what} {name!r}" if name and what != "cluster" else f"the {what}"
    return SettingsError(
        f"{who} is not permitted to use {on} (met when {doing}); grant it {GRANTS[what]} there"
    )


def not_granted(topic: str, lacking: Sequence[str], settings: ClientSettings) -> str:
    """What is wrong with a topic on which these operations are not granted."""
    return f"{_who(settings)} may not write it: grant it {' and '.join(lacking)} on topic {topic}"


def _who(settings: ClientSettings) -> str:
    user = secured(settings.security).username
    return f"the user {user!r}" if user else "this client"
