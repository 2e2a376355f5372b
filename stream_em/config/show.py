"""A configuration shown: as merged, or with every effective value and who set it."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

from stream_em.config import toml
from stream_em.config.layers import Tree, origin_of, plain
from stream_em.config.masks import MASK, is_secret, masked
from stream_em.config.plan import Plan

Path = tuple[str, ...]


def as_merged(tree: Tree) -> str:
    """The merged layers as TOML, secrets masked."""
    return toml.document(masked(plain(tree)))


def as_resolved(tree: Tree, plan: Plan) -> str:
    """Every effective value as TOML, its provenance in a comment, secrets masked.

    The text is itself a configuration that resolves to the same plan; what is None
    cannot be said in TOML and stays a comment.
    """
    tables = _effective(tree, plan)
    return "\n".join(_section(header, path, table, tree) for header, path, table in tables)


def _effective(tree: Tree, plan: Plan) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    def at(path: Path, *made: Any) -> tuple[Path, dict[str, Any]]:
        given = _below(tree, path)
        return path, {key: v for one in made for key, v in settings_of(one, given).items()}

    yield "[engine]", *at(("engine",), plan.engine)
    yield "[source]", *at(("source",), plan.source)
    yield "[model]", *at(("model",), plan.model)
    for i, sink in enumerate(plan.sinks):
        yield "[[sinks]]", *at(("sinks", str(i)), sink)
    if plan.dead_letters is not None:
        yield "[dead_letters]", *at(("dead_letters",), plan.dead_letters)
    if plan.changes is not None:
        yield "[changes]", *at(("changes",), plan.changes)
    if plan.store is not None:
        yield "[checkpoints]", *at(("checkpoints",), plan.store, plan.schedule)
    yield "[http]", *at(("http",), plan.http)
    yield "[metrics]", *at(("metrics",), plan.metrics)


def _below(tree: Tree, path: Path) -> dict[str, Any]:
    """The table that the layers gave at `path`; empty when they gave none."""
    node: Any = plain(tree)
    for step in path:
        node = node[int(step)] if isinstance(node, list) else node.get(step, {})
    return node if isinstance(node, dict) else {}


def settings_of(made: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords that construct `made` again, its kind first where it has one.

    `given` answers for keywords that `made` took without keeping them.
    """
    table = {}
    for name, parameter in inspect.signature(type(made)).parameters.items():
        table[name] = _value_of(getattr(made, name, given.get(name, parameter.default)))
    kind = getattr(type(made), "kind", None)
    return table if kind is None else {"kind": kind, **table}


def _value_of(value: Any) -> Any:
    if is_dataclass(value):
        return settings_of(value, {})
    if isinstance(value, (tuple, list)):
        return [_value_of(item) for item in value]
    return value


def _section(header: str, path: Path, table: Mapping[str, Any], tree: Tree) -> str:
    rows = [_row(path, steps, value, tree) for steps, value in _leaves(table, ())]
    width = min(max((len(text) for text, _ in rows), default=0), 60)
    return "".join([f"{header}\n", *(f"{text:<{width}}  # {who}\n" for text, who in rows)])


def _leaves(value: Any, steps: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _leaves(item, (*steps, name))
    else:
        yield steps, value


def _row(path: Path, steps: Path, value: Any, tree: Tree) -> tuple[str, str]:
    name = ".".join(toml.key(step) for step in steps)
    origin = origin_of(tree, (*path, *steps)) or "default"
    if value is None:
        return f"# {name} is not set", origin
    return f"{name} = {toml.value(MASK if is_secret(steps[-1]) else masked(value))}", origin
