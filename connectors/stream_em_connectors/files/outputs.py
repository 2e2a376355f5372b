"""What all outputs in files share: opening, locking, durability."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from stream_em.errors import Locked, SinkFailed, Unreachable
from stream_em.streams import Probe


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


def file_probe(path: str) -> Probe:
    """Whether a file can be written, or created. Opens nothing."""
    what = f"output {path}"
    if not os.path.exists(path):
        return Probe(what, _unwritable(os.path.dirname(path) or "."), "to be created")
    if not os.path.isfile(path):
        return Probe(what, "is no regular file and cannot be cut back; give another path")
    if not os.access(path, os.R_OK | os.W_OK):
        return Probe(what, "may not be read and written; change its permissions, or the path")
    return Probe(what, None, f"holds {os.path.getsize(path):,} bytes")


def folder_probe(path: str) -> Probe:
    """Whether files can be written in a folder, or the folder created. Opens nothing."""
    what = f"output {path}"
    if not os.path.exists(path):
        return Probe(what, _unwritable(os.path.dirname(path) or "."), "to be created")
    return Probe(what, _unwritable(path), "a writable folder")


def _unwritable(folder: str) -> str | None:
    """Why nothing can be created in a folder."""
    if not os.path.exists(folder):
        return f"folder {folder} does not exist; create it, or give another path"
    if not os.path.isdir(folder):
        return f"{folder} is no folder; give another path"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"folder {folder} is not writable; change its permissions, or give another path"
    return None


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
