"""Outputs that would overwrite each other, be read again as input, or cannot commit."""

import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePath

from stream_em.engine.schedule import Schedule
from stream_em.errors import SettingsError
from stream_em.streams import Json, Sink, Source


def conflicts(
    source: Source,
    sinks: Sequence[Sink],
    dead_letters: Sink | None = None,
    changes: Sink | None = None,
) -> tuple[str, ...]:
    """What is wrong between the input and the outputs of a run; empty when nothing is.

    Two equal outputs, or two of one name, and an output inside the source's own glob.
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
            elif earlier.name == later.name:
                found.append(
                    f"two outputs have the same name {later.name!r} ({earlier.kind} and "
                    f"{later.kind}), by which checkpoints tell outputs apart; give one another "
                    "path or topic"
                )
        if later.name in _topics(source, later):
            found.append(
                f"output topic {later.name!r} is one of the source's topics and would be read as "
                "input; write it to another topic"
            )
        pattern, path = _path(source), _path(later)
        if pattern and path and _inside(pattern, path):
            found.append(
                f"output {later.name!r} lies inside the source's {pattern!r} and would be read "
                "as input; write it to another folder or name"
            )
    return tuple(found)


def unfit_for_transactions(
    sinks: Sequence[Sink], saved: bool, schedule: Schedule, name: str | None, take_over: bool
) -> tuple[str, ...]:
    """What transactional outputs lack, or `take_over` without such; empty when nothing does.

    `saved` tells whether there are checkpoints, `name` is the engine's if it was given.
    """
    transactional = [sink for sink in sinks if sink.cluster is not None]
    if not transactional:
        plain = "--take-over (take_over=True) needs outputs that are all transactional; there is"
        return (
            (f"{plain} none, so wait for the other engine's end or stop it",) if take_over else ()
        )
    found: list[str] = []
    clusters = [transactional[0].cluster]
    clusters += [sink.cluster for sink in transactional if sink.cluster != clusters[0]][:1]
    if len(clusters) > 1:
        found.append(
            "exactly-once outputs lie on several clusters or use several clients "
            f"({_apart(clusters)}), but one transaction covers one cluster; write these alike "
            "if one is meant, or the other outputs at least once"
        )
    if name is None:
        found.append(
            "engine.name is missing; exactly-once output to Kafka derives its transactional id "
            "and marker from it, so it has to be given"
        )
    if not saved:
        found.append(
            "exactly-once output to Kafka needs checkpoints to agree with; add [checkpoints] "
            'with a `directory`, or take delivery = "at-least-once"'
        )
    if saved:
        found.extend(_out_of_time(transactional[0], schedule.every_seconds))
    if take_over and len(transactional) < len(sinks):
        other = next(sink.name for sink in sinks if sink.cluster is None)
        found.append(
            f"--take-over (take_over=True) needs outputs that are all transactional, and {other} "
            "is not: a frozen engine could still write to it; stop that engine first"
        )
    return tuple(found)


def _out_of_time(sink: Sink, every_seconds: float) -> Iterator[str]:
    """What keeps transactions from lasting from one checkpoint to the next."""
    if not every_seconds > 0:
        yield (
            "checkpoints.every_seconds is 0, but transactions do not stay open for ever; give "
            "seconds, 30 is the default"
        )
        return
    try:
        sink.transactions(sink.name, every_seconds)
    except SettingsError as error:
        yield str(error)


def _path(port: Source | Sink) -> str | None:
    """The path a port reads or writes; None for ports that have none, and for standard streams."""
    path = getattr(port, "path", None)
    return None if path is None or str(path) == "-" else str(path)


def _topics(source: Source, sink: Sink) -> Sequence[str]:
    """The source's topics, if the sink writes topics of the same servers."""
    shared = _servers(source) & _servers(sink)
    return tuple(getattr(source, "topics", ())) if shared else ()


def _servers(port: Source | Sink) -> frozenset[str]:
    """The addresses a port reads or writes at; none where it has no servers."""
    text = str(getattr(port, "bootstrap_servers", "")).replace(" ", "")
    return frozenset(text.split(",")) - {""}


def _apart(clusters: Sequence[Json]) -> str:
    """What keeps clusters apart, said of each once.

    >>> _apart([{"servers": ["a:1"], "user": "u"}, {"servers": ["b:1"], "user": "u"}])
    "servers ['a:1'] and ['b:1']"
    """
    first, second = (one if isinstance(one, dict) else {"cluster": one} for one in clusters)
    apart = (name for name in first if first[name] != second.get(name))
    return ", ".join(f"{name} {first[name]} and {second.get(name)}" for name in apart)


def _same(a: Sink, b: Sink) -> bool:
    if (a.kind, a.name, _servers(a)) == (b.kind, b.name, _servers(b)):
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
