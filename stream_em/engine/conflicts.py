"""Outputs that would overwrite each other, or be read again as input."""

import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import PurePath

from stream_em.streams import Sink, Source


def conflicts(
    source: Source,
    sinks: Sequence[Sink],
    dead_letters: Sink | None = None,
    changes: Sink | None = None,
) -> tuple[str, ...]:
    """What is wrong between the input and the outputs of a run; empty when nothing is.

    Two equal outputs, and an output inside the source's own glob.
    """
    outputs = [*sinks, *(sink for sink in (dead_letters, changes) if sink is not None)]
    found: list[str] = []
    for place, later in enumerate(outputs):
        for earlier in outputs[:place]:
            if _same(earlier, later):
                found.append(
                    f"two outputs are the same: {earlier.kind} {earlier.name!r} and "
                    f"{later.kind} {later.name!r}; give each a path or topic of its own"
                )
        pattern, path = _path(source), _path(later)
        if pattern and path and _inside(pattern, path):
            found.append(
                f"output {later.name!r} lies inside the source's {pattern!r} and would be read "
                "as input; write it to another folder or name"
            )
    return tuple(found)


def _path(port: Source | Sink) -> str | None:
    """The path a port reads or writes; None for ports that have none, and for standard streams."""
    path = getattr(port, "path", None)
    return None if path is None or str(path) == "-" else str(path)


def _same(a: Sink, b: Sink) -> bool:
    if a.name == b.name:
        return True
    first, second = _path(a), _path(b)
    return bool(first and second and os.path.realpath(first) == os.path.realpath(second))


def _inside(pattern: str, path: str) -> bool:
    """Whether the output, or a part in it if it is a folder, would match the pattern."""
    wanted = PurePath(os.path.realpath(pattern)).parts
    real = PurePath(os.path.realpath(path))
    return any(_matches(wanted, parts) for parts in (real.parts, (real / "part-1.parquet").parts))


def _matches(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(pattern[1:], parts[skip:]) for skip in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(pattern[1:], parts[1:])
