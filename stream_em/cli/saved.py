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
            raise SavedStateError(f"{path} holds no checkpoint; {_elsewhere(path)}")
        return Saved(path / found[0], found[1])
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SavedStateError(
            f"checkpoint {path} cannot be read ({error.strerror}); give a file or its folder"
        ) from None
    return Saved(path, decode(data, str(path)))


def _elsewhere(path: Path) -> str:
    """Where to look instead: engines that share a configuration have a folder each."""
    inside = [str(one) for one in sorted(path.iterdir()) if one.is_dir()]
    own = [one for one in inside if DirectoryStore(one).names()]
    if own:
        return f"those of its instances are in folders of their own: give {' or '.join(own)}"
    return "give the `directory` of [checkpoints], or a file"
