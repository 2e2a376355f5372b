"""What all outputs in files share: opening, locking, durability, promises."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from stream_em.errors import Locked, SettingsError, SinkFailed, Unreachable

EXACTLY_ONCE, AT_LEAST_ONCE = "exactly-once", "at-least-once"


def promised(delivery: str) -> bool:
    """Whether `delivery` asks for exactly once. Raises `SettingsError` for another word.

    >>> promised("exactly-once"), promised("at-least-once")
    (True, False)
    """
    if delivery not in (EXACTLY_ONCE, AT_LEAST_ONCE):
        close = get_close_matches(str(delivery), (EXACTLY_ONCE, AT_LEAST_ONCE), n=1)
        hint = f"did you mean {close[0]!r}?" if close else "choose one of these"
        raise SettingsError(
            f"delivery is {delivery!r}, expected {EXACTLY_ONCE!r} or {AT_LEAST_ONCE!r}; {hint}"
        )
    return delivery == EXACTLY_ONCE


@contextmanager
def reaching(path: str) -> Iterator[None]:
    """Errors of the operating system at the start of a run, as `Unreachable`."""
    try:
        yield
    except Unreachable:
        raise
    except OSError as error:
        raise Unreachable(
            f"output {path} cannot be opened ({error.strerror}); "
            "give a path in an existing, writable folder"
        ) from error


def failed(path: str, error: BaseException) -> SinkFailed:
    """An error in the middle of a run, as `SinkFailed`."""
    reason = (error.strerror if isinstance(error, OSError) else None) or error
    return SinkFailed(
        f"output {path} could not be written ({reason}); the last checkpoint holds: "
        "make room or repair the output, then start again"
    )


def lock(handle: int, path: str) -> None:
    """Keep other engines off an opened file or folder until it is closed.

    Raises `Locked` naming the process that holds it, where the system says so.
    """
    try:
        flock(handle, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        raise Locked(
            f"output {path} is held by {_holder(handle)}; "
            "stop that engine first, or give this one an output of its own"
        ) from None


def _holder(handle: int) -> str:
    """The process on this host that locked a file, as /proc/locks tells it."""
    status = os.fstat(handle)
    device, inode = status.st_dev, status.st_ino
    wanted = f"{os.major(device):02x}:{os.minor(device):02x}:{inode}"
    try:
        entries = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    except OSError:  # another system than Linux
        entries = []
    holders = [entry[4] for entry in entries if "FLOCK" in entry and wanted in entry]
    if holders and int(holders[0]) > 0:
        return f"process {holders[0]} on {os.uname().nodename}"
    return "another engine, perhaps on another host"


def sync_folder(folder: str) -> None:
    """Make what was created, renamed or deleted in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
