"""When checkpoints fall due: after so many rows or seconds, whichever comes first."""

from dataclasses import dataclass
from typing import final

from stream_em.errors import SettingsError

RETRY_SECONDS = 1.0  # after a checkpoint that could not be written


@final
@dataclass(frozen=True)
class Schedule:
    """How often checkpoints are written and how many are kept; 0 switches an interval off.

    >>> Schedule(every_events=10_000).every_seconds
    30.0
    """

    every_events: int = 100_000  # rows accepted
    every_seconds: float = 30.0
    keep: int = 3  # at least 2: the true one and the one before it

    def __post_init__(self) -> None:
        for name in ("every_events", "every_seconds"):
            value = getattr(self, name)
            if not value >= 0:
                raise SettingsError(f"{name} came as {value}, expected 0 (off) or more")
        if self.keep < 2:
            raise SettingsError(
                f"keep came as {self.keep}, expected at least 2: "
                "a damaged newest checkpoint is replaced by the one before it"
            )


@final
class Agenda:
    """The rows and the time since the last checkpoint was begun.

    A checkpoint that falls due while another is in flight simply stays due, so
    intervals that pass meanwhile merge into one.
    """

    def __init__(self, schedule: Schedule, now: float) -> None:
        self._schedule = schedule
        self._began = now  # monotonic seconds
        self._retry: float | None = None
        self.rows = 0  # accepted since the last checkpoint
        self.changed = False  # whether there is anything to save

    def note(self, rows: int) -> None:
        """A batch was applied."""
        self.rows += rows
        self.changed = True

    def due(self, now: float) -> bool:
        """Whether a checkpoint should begin at this batch boundary."""
        if self._retry is not None:
            return now >= self._retry
        if not self.changed:
            return False
        plan = self._schedule
        return (0 < plan.every_events <= self.rows) or (0 < plan.every_seconds <= now - self._began)

    def began(self, now: float) -> None:
        """A checkpoint of everything so far was begun."""
        self._began, self._retry = now, None
        self.rows, self.changed = 0, False

    def failed(self, now: float) -> None:
        """That checkpoint could not be written: the next try is due soon, even without rows."""
        self._retry = now + RETRY_SECONDS
        self.changed = True
