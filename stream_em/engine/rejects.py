"""Records that could not become rows: dead letters, log lines, and when it is too many."""

import base64
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import final

from stream_em.errors import TooManyRejects
from stream_em.streams import Columns, Rejected, Source

log = logging.getLogger(__name__)

MAX_REJECT_RATIO = 0.5  # for sources that do not say
WINDOW = 1_000  # records: the share of rejected ones is judged over the latest so many
LOG_SECONDS = 10.0
CUT_BACK = (
    "Outputs were cut back to the last checkpoint: correct the settings and start again, and "
    "these records are read again"
)

LIKELY = {
    "decode_error": "another codec, delimiter or encoding than configured, or decimal commas",
    "schema": "fields of other types than numbers, or decimal commas (decimal = ',')",
    "missing_feature": "wrong names in `features`, or empty cells (missing_values, missing)",
    "non_finite": "NaN, inf or numbers beyond 1e100 in the data",
    "empty": "blank lines or tombstones",
    "weight": "a wrong `weight` column: weights are numbers from 0 to 1e100",
    "late": "a wrong `time` column or unit, or an input out of order",
    "future": "a wrong `time` column or unit (milliseconds taken for seconds)",
    "too_large": "records without line ends: another format than configured",
}


def dead_letters(rejected: Sequence[Rejected]) -> Columns:
    """The table that a dead-letter sink writes: one row for each rejected record.

    >>> one = Rejected("a.csv", 0, 12, "schema", "x", "'n/a', expected a number", b"n/a")
    >>> dead_letters([one])["raw"], dead_letters([one])["raw_encoding"]
    (['n/a'], ['utf-8'])
    """
    raw = [_text(one.raw) for one in rejected]
    keys = [(None, None) if one.key is None else _text(one.key) for one in rejected]
    return {
        "source": [one.source for one in rejected],
        "partition": [one.partition for one in rejected],
        "offset": [one.offset for one in rejected],
        "reason": [one.reason for one in rejected],
        "field": [one.field for one in rejected],
        "detail": [one.detail for one in rejected],
        "time": [one.time for one in rejected],
        "raw": [text for text, _ in raw],
        "raw_encoding": [encoding for _, encoding in raw],
        "key": [text for text, _ in keys],
        "key_encoding": [encoding for _, encoding in keys],
        "headers": [[_header(*header) for header in one.headers] for one in rejected],
    }


def _header(name: str, value: bytes | None) -> dict[str, str | None]:
    text, encoding = (None, None) if value is None else _text(value)
    return {"name": name, "value": text, "encoding": encoding}


def _text(raw: bytes) -> tuple[str, str]:
    try:
        return raw.decode(), "utf-8"
    except UnicodeDecodeError:
        return base64.b64encode(raw).decode("ascii"), "base64"


@final
class Tribunal:
    """Judges the share of rejected records in a window of at least `WINDOW` recent ones.

    `aftermath` ends a verdict: what became of the outputs, and what to do.
    """

    @classmethod
    def over(cls, source: Source, aftermath: str = CUT_BACK) -> "Tribunal":
        """The one that judges by the limit of a source."""
        return cls(getattr(source, "max_reject_ratio", MAX_REJECT_RATIO), aftermath)

    def __init__(self, max_reject_ratio: float, aftermath: str = CUT_BACK) -> None:
        self._limit, self._aftermath = max_reject_ratio, aftermath
        self._batches: deque[tuple[int, tuple[Rejected, ...]]] = deque()
        self._records = self._rejected = 0  # in the window

    def judge(self, accepted: int, rejected: tuple[Rejected, ...]) -> None:
        """Take one batch in. Raises `TooManyRejects` when the share passes the limit."""
        self._batches.append((accepted + len(rejected), rejected))
        self._records += accepted + len(rejected)
        self._rejected += len(rejected)
        while self._records - self._batches[0][0] >= WINDOW:
            records, gone = self._batches.popleft()
            self._records -= records
            self._rejected -= len(gone)
        if self._records >= WINDOW and self._rejected > self._limit * self._records:
            raise TooManyRejects(self._verdict())

    def _verdict(self) -> str:
        first = next(one for _, rejected in self._batches for one in rejected)
        shown, encoding = _text(first.raw[:200])
        more = "..." if len(first.raw) > 200 else ""
        return (
            f"{self._rejected} of the latest {self._records} records were rejected, more than "
            f"max_reject_ratio = {self._limit:g} allows. The first: {first.source} "
            f"partition {first.partition} offset {first.offset}: {first.reason}"
            f"{f' in field {first.field!r}' if first.field else ''}: {first.detail}; "
            f"raw ({encoding}): {shown!r}{more}. "
            f"Likely cause: {LIKELY.get(first.reason, 'another format than configured')}. "
            f"{self._aftermath}"
        )


@final
class RejectLog:
    """One line for each reason and 10 s, with the number of lines left out."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}

    def note(self, rejected: Sequence[Rejected]) -> None:
        """Log what is due among some rejected records."""
        now = time.monotonic()
        for one in rejected:
            if now < self._next.get(one.reason, 0.0):
                self._suppressed[one.reason] = self._suppressed.get(one.reason, 0) + 1
                continue
            self._next[one.reason] = now + LOG_SECONDS
            self._say(one, self._suppressed.pop(one.reason, 0))

    def close(self) -> None:
        """Say how many were left out since the last line of each reason."""
        for reason, count in sorted(self._suppressed.items()):
            log.warning("rejected %d more records: %s", count, reason)
        self._suppressed.clear()

    def _say(self, one: Rejected, suppressed: int) -> None:
        log.warning(
            "rejected %s partition %d offset %d: %s%s: %s%s",
            one.source,
            one.partition,
            one.offset,
            one.reason,
            f" in {one.field}" if one.field else "",
            one.detail,
            f" ({suppressed} more not shown)" if suppressed else "",
        )
