"""What a run would meet: every input and output of a plan tried, none of them touched."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from stream_em.config import Plan
from stream_em.errors import SettingsError, Unreachable
from stream_em.stores import DirectoryStore, Store
from stream_em.streams import Probe


class Tried(NamedTuple):
    """A probe, and of which part of the configuration."""

    where: str  # "source", "sinks.0", "checkpoints"
    what: str
    problem: str | None  # None when all is well
    detail: str
    reached: bool = True  # False: nobody answered


def tried(plan: Plan) -> Iterator[Tried]:
    """All probes of a plan; one part's trouble does not keep the others from being tried.

    Nothing is locked, joined, committed, fenced or written.
    """
    yield from _part("source", lambda: _of_source(plan))
    for number, sink in enumerate(plan.sinks):
        yield from _part(f"sinks.{number}", sink.probes)
    if plan.dead_letters is not None:
        yield from _part("dead_letters", plan.dead_letters.probes)
    if plan.changes is not None:
        yield from _part("changes", plan.changes.probes)
    if plan.store is not None:
        store = plan.store
        yield from _part("checkpoints", lambda: _of_store(store))


def _part(where: str, probes: Callable[[], Iterable[Probe]]) -> Iterator[Tried]:
    try:
        for probe in probes():
            yield Tried(where, *probe)
    except Unreachable as error:
        yield Tried(where, "connection", str(error), "", reached=False)
    except SettingsError as error:
        yield Tried(where, "settings", str(error), "")


def _of_source(plan: Plan) -> Iterable[Probe]:
    return plan.source.named(plan.engine.name, plan.engine.instance_id).probes()


def _of_store(store: Store) -> Iterator[Probe]:
    """Other stores than folders are not tried: their port has no question for that."""
    if isinstance(store, DirectoryStore):
        folder = Path(store.directory)
        yield folder_probe([folder / (store.instance or ""), folder, folder.parent])


def folder_probe(folders: list[Path]) -> Probe:
    """Whether the first folder is writable, or can be created from the others around it."""
    what, there = f"folder {folders[0]}", next((f for f in folders if f.exists()), None)
    if there is None:
        return Probe(what, f"{folders[-1]} does not exist; create it, or give another `directory`")
    if not there.is_dir():
        return Probe(what, f"{there} is no folder; give another `directory`")
    if not os.access(there, os.W_OK | os.X_OK):
        return Probe(what, f"{there} is not writable; change its permissions, or the `directory`")
    return Probe(what, None, "writable" if there == folders[0] else "to be created")
