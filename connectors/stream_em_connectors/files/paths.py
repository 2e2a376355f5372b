"""From a path or glob to files, in the order of their names."""

import glob
import os

from stream_em.errors import Unreachable


def matched(path: str) -> tuple[str, ...]:
    """The files that a path or glob stands for. Raises `Unreachable` when there is none."""
    if os.path.isdir(path):
        raise Unreachable(
            f"{path} is a folder, expected a file; give a glob such as {os.path.join(path, '*')}"
        )
    if os.path.exists(path):
        return (path,)
    if not glob.has_magic(path):
        raise Unreachable(f"{path} does not exist; correct the path or create the file")
    found = globbed(path)
    if not found:
        raise Unreachable(f"no file matches {path}; correct the glob or create the files")
    return found


def globbed(pattern: str) -> tuple[str, ...]:
    """The files that match a pattern now, or the one file it names; none is fine."""
    if not glob.has_magic(pattern) or os.path.exists(pattern):
        return (pattern,)
    found = glob.glob(pattern, recursive=True)
    return tuple(sorted(path for path in found if not os.path.isdir(path)))


def size(path: str) -> int:
    """Bytes of a file, 0 where it is gone."""
    try:
        return os.path.getsize(path)
    except OSError:
        return 0
