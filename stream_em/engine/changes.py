"""What became of clusters, told: a row for the sink of changes, and a line in the log."""

import logging
from collections.abc import Sequence

from stream_em.state import Change
from stream_em.streams import Columns

log = logging.getLogger(__name__)

LINES = 20  # of one batch at most; the rest is counted
SHOWN = 4  # coordinates of a position that fit on a line


def change_columns(changes: Sequence[Change]) -> Columns:
    """The table that a sink of changes writes: one row for each, in order.

    >>> change_columns([Change("birth", 3, None, 7, 100, "split", (0.5, 1.0))])["position"]
    [[0.5, 1.0]]
    """
    return {
        "row": [one.row for one in changes],
        "change": [one.kind for one in changes],
        "cluster": [one.slot for one in changes],
        "old_uid": [one.old_uid for one in changes],
        "new_uid": [one.new_uid for one in changes],
        "reason": [one.reason for one in changes],
        "position": [list(one.position) for one in changes],
    }


def log_changes(changes: Sequence[Change]) -> None:
    """One line each for the changes of a batch, up to `LINES`; then how many more.

    Provisional clusters, which answer while rows are held, have lines of their own at the
    level debug.
    """
    lasting = [one for one in changes if not _provisional(one)]
    if log.isEnabledFor(logging.DEBUG):
        _say(logging.DEBUG, [one for one in changes if _provisional(one)])
    if log.isEnabledFor(logging.INFO):
        _say(logging.INFO, lasting)


def _provisional(change: Change) -> bool:
    """Whether a provisional cluster began or ended; seeding ends the last of them."""
    return change.reason == "provisional" or (change.kind, change.reason) == ("death", "seeding")


def _say(level: int, changes: Sequence[Change]) -> None:
    for one in changes[:LINES]:
        fields = {
            "row": one.row,
            "cluster": one.slot,
            "old_uid": one.old_uid,
            "new_uid": one.new_uid,
            "reason": one.reason,
            "position": list(one.position),
        }
        log.log(level, "cluster %s", one.kind, extra={**fields, "words": in_words(one)})
    if len(changes) > LINES:
        log.log(level, "%d more cluster changes in this batch", len(changes) - LINES)


def in_words(change: Change) -> str:
    """A change for people, in one line.

    >>> in_words(Change("relocation", 2, 5, 9, 1_000, "far rows", (0.5, 1.0)))
    'relocation of cluster 2 (uid 5 -> 9) at row 1,000 to (0.5, 1): far rows'
    """
    uids = " -> ".join(str(uid) for uid in (change.old_uid, change.new_uid) if uid is not None)
    preposition = "into" if change.kind == "merge" else "to"
    if change.kind in ("birth", "death"):
        preposition = "at"
    place = ", ".join([f"{value:.4g}" for value in change.position[:SHOWN]])
    more = ", ..." if len(change.position) > SHOWN else ""
    return (
        f"{change.kind} of cluster {change.slot} (uid {uids}) at row {change.row:,} "
        f"{preposition} ({place}{more}): {change.reason}"
    )
