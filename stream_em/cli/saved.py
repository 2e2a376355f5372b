"""Saved state, read without taking any lock: a file, or the newest valid one of a folder."""

from pathlib import Path
from typing import NamedTuple

from stream_em.checkpoints import Checkpoint, decode
from stream_em.engine.authority import newest
from stream_em.errors import SavedStateError
from stream_em.stores import DirectoryStore


class Saved(NamedTuple):
    """A checkpoint and the file it came from."""

    path: Path
    checkpoint: Checkpoint


def saved(path: Path) -> Saved:
    """The checkpoint at `path`; of a folder the newest valid one.

    Raises `SavedStateError` when there is none.
    """
    if path.is_dir():
        found = newest(DirectoryStore(str(path)))
        if found is None:
            raise SavedStateError(
                f"{path} holds no checkpoint; give the `directory` of [checkpoints], or a file"
            )
        return Saved(path / found[0], found[1])
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SavedStateError(
            f"checkpoint {path} cannot be read ({error.strerror}); give a file or its folder"
        ) from None
    return Saved(path, decode(data, str(path)))
