"""Where checkpoints are kept: the port, and a folder of files.

A store only adds and deletes: no checkpoint is ever overwritten, and a half-written one
never bears a checkpoint's name.
"""

import hashlib
import json
import os
import re
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import ClassVar, final

from stream_em.checkpoints import Checkpoint, decode, encode, sync_folder, write_atomically
from stream_em.errors import CheckpointDamaged, Locked, SettingsError, Unreachable

_NAME = re.compile(r"(\d+)-([^.]+)\.ckpt")
_TEMPORARY = re.compile(r"\.\d+-[^.]+\.ckpt\.\d+\.tmp")
_LOCK = "lock"


class Store(ABC):
    """Keeps checkpoints under names of their own. Subclasses are frozen dataclasses and final."""

    kind: ClassVar[str]

    @abstractmethod
    def lock(self) -> AbstractContextManager[None]:
        """Keep every other engine out while the context is open; creates what is missing.

        Raises `Locked` when one is in, `Unreachable` when nothing can be kept here.
        """

    @abstractmethod
    def save(self, checkpoint: Checkpoint) -> str:
        """Keep a checkpoint durably and return its name.

        Raises `OSError` when that fails; then nothing of it remains.
        """

    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names of what is kept, oldest first; the damaged ones too."""

    @abstractmethod
    def load(self, name: str) -> Checkpoint:
        """The checkpoint of that name. Raises `CheckpointDamaged` when missing or not whole."""

    @abstractmethod
    def size(self, name: str) -> int:
        """Bytes that a kept checkpoint takes. Raises `OSError` when it is gone."""

    @abstractmethod
    def digest(self, name: str) -> str:
        """SHA-256 of a kept checkpoint's bytes, hexadecimal. Raises `OSError` when it is gone."""

    @abstractmethod
    def delete(self, names: Iterable[str]) -> None:
        """Forget checkpoints; names that are gone already are passed over."""

    def of_instance(self, instance_id: str) -> "Store":
        """A store of its own for one of several engines that share a configuration."""
        raise SettingsError(
            f"a store of kind {self.kind} cannot be shared by instances; leave instance_id out"
        )

    @abstractmethod
    def clean(self) -> None:
        """Remove what saving left half done. Only under the lock."""


@final
@dataclass(frozen=True)
class DirectoryStore(Store):
    """A folder of files `<number>-<incarnation>.ckpt`.

    The folder is created when its parent exists. One engine at a time holds its `lock`
    file, for as long as it lives; a lock dies with its process.

    >>> DirectoryStore("nowhere").names()
    ()
    """

    kind: ClassVar[str] = "directory"
    directory: str
    instance: str | None = None  # a folder inside, for one of several engines

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock file of the folder."""
        try:
            Path(self.directory).mkdir(exist_ok=True)
            self._path.mkdir(exist_ok=True)
            handle = os.open(self._path / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise self._unreachable(error) from error
        try:
            self._take(handle)
            yield
        finally:
            os.close(handle)

    def save(self, checkpoint: Checkpoint) -> str:
        """Temporary file, fsync, rename, fsync of the folder."""
        name = f"{checkpoint.number:08d}-{checkpoint.incarnation}.ckpt"
        path = self._path / name
        if path.exists():
            raise FileExistsError(f"{path} cannot be written: checkpoints are never overwritten")
        try:
            write_atomically(path, encode(checkpoint))
        except OSError:
            path.unlink(missing_ok=True)  # renamed, but not known to be durable
            raise
        return name

    def names(self) -> tuple[str, ...]:
        """Names of the files, by number."""
        return tuple(sorted(self._listing(_NAME), key=_order))

    def size(self, name: str) -> int:
        """Bytes of the file."""
        return (self._path / name).stat().st_size

    def digest(self, name: str) -> str:
        """What `sha256sum` says of the file."""
        return hashlib.sha256((self._path / name).read_bytes()).hexdigest()

    def of_instance(self, instance_id: str) -> "DirectoryStore":
        """A folder of that name inside this one."""
        return replace(self, instance=instance_id)

    def load(self, name: str) -> Checkpoint:
        """Read one file and check it whole."""
        path = self._path / name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CheckpointDamaged(
                f"{path} cannot be read ({error.strerror}); "
                "use an older one, or start anew with --fresh"
            ) from error
        return decode(data, str(path))

    def delete(self, names: Iterable[str]) -> None:
        """Unlink files, durably."""
        doomed = list(names)
        for name in doomed:
            (self._path / name).unlink(missing_ok=True)
        if doomed:
            sync_folder(self._path)

    def clean(self) -> None:
        """Unlink temporary files, durably."""
        self.delete(self._listing(_TEMPORARY))

    @property
    def _path(self) -> Path:
        return Path(self.directory) / (self.instance or "")

    def _listing(self, pattern: re.Pattern[str]) -> list[str]:
        try:
            return [name for name in os.listdir(self._path) if pattern.fullmatch(name)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unreachable(error) from error

    def _take(self, handle: int) -> None:
        try:
            flock(handle, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            raise Locked(
                f"checkpoint folder {self._path} is held by {_holder(handle)}; "
                "stop that engine first, or give this one a folder of its own"
            ) from None
        except OSError as error:
            raise self._unreachable(error) from error
        owner = json.dumps({"process": os.getpid(), "host": socket.gethostname()}).encode()
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, owner, 0)
        except OSError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: OSError) -> Unreachable:
        return Unreachable(
            f"checkpoints cannot be kept in {self._path} ({error.strerror}); "
            "give a folder that exists or whose parent does, writable and with room"
        )


def _order(name: str) -> tuple[int, str]:
    number, rest = name.split("-", 1)
    return int(number), rest


def _holder(handle: int) -> str:
    """Who says to hold a lock file: 'process 123 on host'."""
    try:
        owner = json.loads(os.pread(handle, 4096, 0))
        return f"process {owner['process']} on {owner['host']}"
    except (ValueError, KeyError, TypeError):  # it died, or lives, between taking and writing
        return "another engine"
