"""The configuration as a tree whose leaves know where they came from.

Layers are laid over each other, the later one wins: the file, then environment
variables `STREAM_EM_SECTION__KEY`, then `--set section.key=value`, then flags.
"""

import copy
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stream_em.config.lines import key_lines
from stream_em.errors import SettingsError

PREFIX = "STREAM_EM_"


class Leaf(NamedTuple):
    """A value and its provenance."""

    value: Any
    origin: str  # "file.toml:3", "env STREAM_EM_...", "--set", "--from", ...


Node = Any  # Leaf, dict[str, Node], or a list of such dicts
Tree = dict[str, Node]


class Override(NamedTuple):
    """One value put over the others: where, what, and who says so."""

    path: tuple[str, ...]
    value: Any
    origin: str


def from_file(path: str | Path) -> Tree:
    """Read a TOML file. Raises `SettingsError` when it cannot be read or parsed."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(
            f"configuration {path} does not exist; write one with: stream-em init > {path}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"configuration {path} cannot be read ({error}); expected a TOML file in UTF-8"
        ) from None
    return from_text(text, Path(path).name)


def from_text(text: str, name: str) -> Tree:
    """Parse TOML; `name` is what the origins call it.

    >>> from_text('[model]\\nkind = "kmeans"', "a.toml")
    {'model': {'kind': Leaf(value='kmeans', origin='a.toml:2')}}
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(
            f"{name} is not valid TOML: {error}; strings need quotes, tables a [name]"
        ) from None
    lines = key_lines(text)
    tree = _grown(data, (), name, lines)
    assert isinstance(tree, dict)
    return tree


def _grown(value: Any, path: tuple[str, ...], name: str, lines: Mapping[Any, int]) -> Node:
    if isinstance(value, dict) and (value or len(path) < 2):
        return {key: _grown(item, (*path, key), name, lines) for key, item in value.items()}
    if _is_tables(value):
        return [_grown(item, (*path, str(i)), name, lines) for i, item in enumerate(value)]
    known = (lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines)
    line = next(known, None)
    return Leaf(value, name if line is None else f"{name}:{line}")


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(i, dict) for i in value)


def from_environment(environ: Mapping[str, str]) -> tuple[Override, ...]:
    """Overrides out of variables STREAM_EM_SECTION__KEY, `__` going one level down.

    >>> from_environment({"STREAM_EM_HTTP__ADDRESS": "0.0.0.0:9464", "HOME": "/"})[0].path
    ('http', 'address')
    """
    names = (n for n in sorted(environ) if n.startswith(PREFIX) and "__" in n[len(PREFIX) :])
    return tuple(
        Override(
            tuple(name[len(PREFIX) :].lower().split("__")),
            toml_value(environ[name]),
            f"env {name}",
        )
        for name in names
    )


def from_settings(settings: Sequence[str]) -> tuple[Override, ...]:
    """Overrides out of `--set path=value`. Raises `SettingsError` for another form.

    >>> from_settings(["model.n_components=16", "sinks.0.path=out.jsonl"])[1].value
    'out.jsonl'
    """
    return tuple(_setting(text) for text in settings)


def _setting(text: str) -> Override:
    path, equals, value = text.partition("=")
    steps = tuple(step.strip() for step in path.split("."))
    if not equals or not all(steps):
        raise SettingsError(
            f"--set {text!r} is not of the form path=value; example: --set model.n_components=16"
        )
    return Override(steps, toml_value(value), "--set")


def toml_value(text: str) -> Any:
    """A value in TOML's syntax; what is none is a bare string.

    >>> toml_value("8"), toml_value("[1, 2]"), toml_value("full"), toml_value('"8"')
    (8, [1, 2], 'full', '8')
    """
    try:
        parsed = tomllib.loads(f"value = {text.strip()}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if list(parsed) == ["value"] else text


def laid_over(tree: Tree, overrides: Sequence[Override]) -> Tree:
    """The tree with each override put in its place, in order; the input stays as it is.

    A bare string on the way is taken as the table of that kind.

    >>> tree = laid_over({}, [Override(("model", "covariance"), "full", "--set"),
    ...                       Override(("model", "covariance", "floor"), 2, "--set")])
    >>> plain(tree)
    {'model': {'covariance': {'kind': 'full', 'floor': 2}}}
    """
    result = copy.deepcopy(tree)
    for override in overrides:
        _put(result, override)
    return result


def _put(tree: Tree, override: Override) -> None:
    node: Node = tree
    for depth, step in enumerate(override.path[:-1]):
        node = _entered(node, step, override, depth)
    step, value = override.path[-1], _labelled(override.value, override.origin)
    if isinstance(node, list):
        place = _place(node, step, override)
        node[place : place + 1] = [value]
    else:
        node[step] = value


def _entered(node: Node, step: str, override: Override, depth: int) -> Node:
    """The table or list of tables behind `step`, made when absent."""
    if isinstance(node, list):
        place = _place(node, step, override)
        if place == len(node):
            node.append({})
        return node[place]
    following = override.path[depth + 1]
    child = node.get(step)
    if isinstance(child, Leaf):
        expands = isinstance(child.value, str)
        child = {"kind": child} if expands else None
    if child is None:
        child = [] if following.isdigit() else {}
    node[step] = child
    return child


def _place(node: list[Node], step: str, override: Override) -> int:
    if not step.isdigit() or int(step) > len(node):
        raise SettingsError(
            f"{'.'.join(override.path)} ({override.origin}): {step!r} is no place in a list of "
            f"{len(node)}; use a number from 0 to {len(node)}, the last of which appends"
        )
    return int(step)


def _labelled(value: Any, origin: str) -> Node:
    if isinstance(value, dict):
        return {key: _labelled(item, origin) for key, item in value.items()}
    if _is_tables(value):
        return [_labelled(item, origin) for item in value]
    return Leaf(value, origin)


def plain(node: Node) -> Any:
    """The values without their origins."""
    if isinstance(node, Leaf):
        return node.value
    if isinstance(node, dict):
        return {key: plain(item) for key, item in node.items()}
    return [plain(item) for item in node]


def origin_of(node: Node, path: Sequence[str]) -> str | None:
    """Who set the value at `path`: its own leaf's origin, or that of the leaf above it.

    A table answers with the origin of its first leaf; None when nobody set it.

    >>> origin_of({"model": {"covariance": Leaf("full", "--set")}}, ("model", "covariance", "kind"))
    '--set'
    """
    for step in path:
        if isinstance(node, Leaf):
            return node.origin if step == "kind" or not isinstance(node.value, str) else None
        if isinstance(node, dict) and step in node:
            node = node[step]
        elif isinstance(node, list) and step.isdigit() and int(step) < len(node):
            node = node[int(step)]
        else:
            return None
    while isinstance(node, (dict, list)):
        if not node:
            return None
        node = next(iter(node.values())) if isinstance(node, dict) else node[0]
    assert isinstance(node, Leaf)
    return node.origin
