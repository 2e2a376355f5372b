"""What went wrong between a client and its brokers: counted, and told now and then."""

import logging
import time
from collections import Counter
from collections.abc import Mapping
from typing import final

log = logging.getLogger(__name__)

QUIET_SECONDS = 10.0  # between two lines of the log


@final
class Complaints:
    """Counts by kind, "transport" or "auth"; the latest refusal; one line per 10 s.

    >>> complaints = Complaints("127.0.0.1:9092")
    >>> complaints.add("transport", "connection refused")
    >>> complaints.counts["transport"], complaints.refusal
    (1, None)
    """

    def __init__(self, servers: str) -> None:
        self._servers = servers
        self._counts = Counter(transport=0, auth=0)
        self._silent_until = 0.0
        self.refusal: str | None = None  # why the credentials were not accepted

    @property
    def counts(self) -> Mapping[str, int]:
        """transport, auth -> how many."""
        return dict(self._counts)

    def add(self, kind: str, text: str) -> None:
        """One more of a kind."""
        self._counts[kind] += 1
        if kind == "auth":
            self.refusal = text
        now = time.monotonic()
        if now >= self._silent_until:
            self._silent_until = now + QUIET_SECONDS
            log.warning("Kafka at %s: %s; trying again", self._servers, text)
