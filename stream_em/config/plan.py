"""From the tree of settings to the objects of a run, with every finding on the way."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from stream_em.config.layers import (
    Leaf,
    Override,
    Tree,
    from_environment,
    from_file,
    from_settings,
    laid_over,
    origin_of,
    plain,
)
from stream_em.config.masks import without_secrets
from stream_em.config.missing import missing_agreed
from stream_em.config.settings import EngineSettings, HttpSettings, MetricsSettings
from stream_em.engine import Schedule, conflicts, unfit_for_transactions
from stream_em.engine.gate import check_missing
from stream_em.errors import SettingsError
from stream_em.models.kinds import call, construct, hint
from stream_em.registry import resolve
from stream_em.stores import Store
from stream_em.streams import Sink, Source

SECTIONS = (
    "engine",
    "source",
    "model",
    "sinks",
    "dead_letters",
    "changes",
    "checkpoints",
    "http",
    "metrics",
)
#: Sections that may be written short: as a bare kind, or as a list of such.
SHORT: Mapping[str, type] = MappingProxyType(
    {"source": str, "model": str, "dead_letters": str, "changes": str, "sinks": list}
)
STEM = "default (the file's stem)"  # where a name comes from that nobody gave
SCHEDULE = tuple(field.name for field in fields(Schedule))


@dataclass(frozen=True)
class Plan:
    """All that a run needs, constructed and cross-checked; nothing is opened yet."""

    engine: EngineSettings
    name: str | None  # of the engine, where it was given and is not the file's stem
    source: Source
    model: Any
    sinks: tuple[Sink, ...]
    dead_letters: Sink | None
    changes: Sink | None
    store: Store | None  # None: nothing is saved
    schedule: Schedule
    http: HttpSettings
    http_given: bool  # False: served by default, so a taken port is no reason to stop
    metrics: MetricsSettings

    @property
    def outputs(self) -> tuple[Sink, ...]:
        """All sinks, dead letters and changes among them."""
        return _present(*self.sinks, self.dead_letters, self.changes)


def _present(*sinks: Sink | None) -> tuple[Sink, ...]:
    return tuple(sink for sink in sinks if sink is not None)


class Finding(NamedTuple):
    """Something wrong, or worth knowing, in a configuration."""

    severity: str  # "error" or "warning"
    origin: str  # who said it: "file.toml:3", "env STREAM_EM_...", "--set"
    message: str


@dataclass(frozen=True)
class Examination:
    """What became of a configuration: a plan, unless there are errors among the findings."""

    tree: Tree
    findings: tuple[Finding, ...]
    plan: Plan | None


def load(
    path: str | Path,
    settings: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    flags: Sequence[Override] = (),
) -> Plan:
    """The plan of a configuration file under the given overrides.

    `settings` are texts of the form path=value, `environ` is searched for
    STREAM_EM_SECTION__KEY, `flags` win over both. Raises `SettingsError` that names
    every finding, not only the first.
    """
    examined = examine(merged(path, settings, environ, flags))
    if examined.plan is None:
        errors = [f for f in examined.findings if f.severity == "error"]
        raise SettingsError("\n".join(f"{f.origin}: {f.message}" for f in errors))
    return examined.plan


def merged(
    path: str | Path,
    settings: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    flags: Sequence[Override] = (),
) -> Tree:
    """The tree of a file with environment, `--set` and flags laid over it in this order."""
    overrides = (*from_environment(environ or {}), *from_settings(settings), *flags)
    tree = laid_over(from_file(path), overrides)
    engine = tree.setdefault("engine", {})
    if isinstance(engine, dict):
        engine.setdefault("name", Leaf(Path(path).stem, STEM))
    return missing_agreed(tree)


def examine(tree: Tree) -> Examination:
    """Construct every section on its own and collect what is wrong with each."""
    desk = _Desk(tree, [])
    desk.check_sections()
    plan = _planned(desk)
    return Examination(tree, tuple(desk.findings), None if desk.failed else plan)


def _planned(desk: "_Desk") -> Plan | None:
    engine = desk.settings("engine", EngineSettings)
    source = desk.required("source", "sources")
    model = desk.tried("model", lambda: construct("model", desk.table("model")))
    if source is not None and model is not None:
        desk.tried("source", lambda: check_missing(source, model))
    sinks = desk.sinks()
    dead = desk.chosen("dead_letters", "sinks") if "dead_letters" in desk.tree else None
    changes = desk.chosen("changes", "sinks") if "changes" in desk.tree else None
    store, schedule = desk.checkpoints()
    if store is not None and engine is not None and engine.instance_id is not None:
        store = desk.tried("engine", partial(store.of_instance, engine.instance_id))
    http = desk.settings("http", HttpSettings)
    metrics = desk.settings("metrics", MetricsSettings)
    outputs = _present(*sinks, dead, changes)
    if source is not None:
        found = desk.tried("sinks", lambda: conflicts(source, outputs))
        for conflict in found or ():
            desk.note("error", str(conflict), "sinks")
    name = desk.given_name(engine)
    for problem in unfit_for_transactions(outputs, store is not None, schedule, name, False):
        desk.note("error", problem, "sinks")
    if source is not None and engine is not None:
        desk.tried("engine", lambda: source.named(engine.name, engine.instance_id))
    if desk.failed:
        return None
    if store is None:
        desk.note("warning", "no [checkpoints]: nothing is saved, and every run starts anew")
    if not sinks:
        desk.note("warning", "no [[sinks]]: the model learns, and no assignment is written")
    given = "http" in desk.tree
    return Plan(
        *(engine, name, source, model, sinks, dead, changes),
        *(store, schedule, http, given, metrics),
    )


@dataclass(frozen=True)
class _Desk:
    """Where the sections are worked on, one after the other, and findings pile up."""

    tree: Tree
    findings: list[Finding]

    @property
    def failed(self) -> bool:
        return any(finding.severity == "error" for finding in self.findings)

    def note(self, severity: str, message: str, where: str = "") -> None:
        """Add a finding; a message that begins with a path is traced to who set it."""
        named = re.match(r"[\w-]+(\.[\w-]+)*", message)
        steps = named.group().split(".") if named else []
        paths = [steps[:n] for n in range(len(steps), 0, -1)] + [where.split(".")]
        origins = (origin_of(self.tree, path) for path in paths)
        origin = next((o for o in origins if o is not None), "configuration")
        told = without_secrets(message, plain(self.tree))
        self.findings.append(Finding(severity, origin, told))

    def check_sections(self) -> None:
        for name, node in self.tree.items():
            if name not in SECTIONS:
                self.note("error", f"{name} is no section; {hint(name, SECTIONS)}")
            elif isinstance(node, Leaf) and not isinstance(node.value, SHORT.get(name, Leaf)):
                self.note("error", f"{name} is {node.value!r}, expected a table [{name}]")

    def table(self, name: str) -> Any:
        if name not in self.tree:
            raise SettingsError(
                f"[{name}] is missing; add it with a `kind`, or begin with: stream-em init"
            )
        return plain(self.tree[name])

    def tried(self, where: str, build: Callable[[], Any]) -> Any:
        try:
            return build()
        except SettingsError as error:
            self.note("error", str(error), where)
            return None

    def settings(self, name: str, cls: type[Any]) -> Any:
        table = plain(self.tree.get(name, {}))
        return self.called(cls, table, name) if isinstance(table, dict) else None

    def called(self, cls: type[Any], table: Mapping[str, Any], where: str) -> Any:
        """Construct `cls`, each unknown key being a finding of its own."""
        known = self.known_keys(table, inspect.signature(cls).parameters, where)
        return self.tried(where, lambda: call(cls, known, where))

    def known_keys(
        self, table: Mapping[str, Any], known: Iterable[str], where: str
    ) -> dict[str, Any]:
        names = tuple(known)
        for key in table:
            if key not in names:
                self.note("error", f"{where}.{key} is unknown; {hint(key, names)}", where)
        return {key: value for key, value in table.items() if key in names}

    def given_name(self, engine: EngineSettings | None) -> str | None:
        """The engine's name, unless it is only the file's."""
        by_default = origin_of(self.tree, ["engine", "name"]) == STEM
        return None if engine is None or by_default else engine.name

    def required(self, name: str, family: str) -> Any:
        table = self.tried(name, lambda: self.table(name))
        return None if table is None else self.constructed(table, family, name)

    def chosen(self, name: str, family: str) -> Any:
        return self.constructed(plain(self.tree[name]), family, name)

    def constructed(self, table: Any, family: str, where: str) -> Any:
        """An object of a kind that the registry knows."""
        table = {"kind": table} if isinstance(table, str) else table
        cls = self.tried(where, lambda: _class_of(table, family, where))
        if cls is None:
            return None
        return self.called(cls, {k: v for k, v in table.items() if k != "kind"}, where)

    def sinks(self) -> tuple[Sink, ...]:
        tables = plain(self.tree.get("sinks", []))
        if not isinstance(tables, list):
            self.note("error", "sinks is one table, expected a list of them: write [[sinks]]")
            return ()
        made = [self.constructed(t, "sinks", f"sinks.{i}") for i, t in enumerate(tables)]
        return tuple(sink for sink in made if sink is not None)

    def checkpoints(self) -> tuple[Store | None, Schedule]:
        """The store and its schedule: two constructors share the keys of [checkpoints]."""
        table = plain(self.tree.get("checkpoints", {}))
        if "checkpoints" not in self.tree or not isinstance(table, dict):
            return None, Schedule()
        table = {"kind": "directory", **table}
        cls = self.tried("checkpoints", lambda: _class_of(table, "stores", "checkpoints"))
        timing = {key: table.pop(key) for key in SCHEDULE if key in table}
        schedule = self.called(Schedule, timing, "checkpoints") or Schedule()
        if cls is None:
            return None, schedule
        own = tuple(inspect.signature(cls).parameters)
        del table["kind"]
        known = self.known_keys(table, (*own, *SCHEDULE), "checkpoints")
        return self.tried("checkpoints", lambda: call(cls, known, "checkpoints")), schedule


def _class_of(table: Any, family: str, where: str) -> type[Any]:
    if not isinstance(table, dict) or "kind" not in table:
        raise SettingsError(f"{where}.kind is missing, expected a table with a `kind`")
    try:
        return resolve(family, table["kind"])
    except SettingsError as error:
        raise SettingsError(f"{where}.kind: {error}") from None
