"""Plain values written as TOML."""

import json
import re
from collections.abc import Mapping
from datetime import date, time
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def key(name: str) -> str:
    """A key, quoted where TOML asks for it."""
    return name if _BARE.fullmatch(name) else json.dumps(name)


def value(item: Any) -> str:
    """A value in TOML's syntax, tables inline.

    >>> value({"kind": "half-life", "events": 100_000}), value([1.5, "a"]), value(float("inf"))
    ('{ kind = "half-life", events = 100000 }', '[1.5, "a"]', 'inf')
    """
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, str):
        return json.dumps(item, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(item, Mapping):
        inside = ", ".join(f"{key(k)} = {value(v)}" for k, v in item.items() if v is not None)
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(item, (list, tuple)):
        return f"[{', '.join(value(i) for i in item)}]"
    if isinstance(item, (date, time)):
        return item.isoformat()
    return repr(item)


def document(tree: Mapping[str, Any]) -> str:
    """A whole document of sections and lists of sections.

    >>> print(document({"model": {"kind": "kmeans"}, "sinks": [{"kind": "stdout"}]}), end="")
    [model]
    kind = "kmeans"
    <BLANKLINE>
    [[sinks]]
    kind = "stdout"
    """
    parts = [_part(name, node) for name, node in tree.items()]
    return "\n".join(sorted(parts, key=lambda part: part.startswith("[")))


def _part(name: str, node: Any) -> str:
    if isinstance(node, Mapping):
        return _table(f"[{key(name)}]", node)
    if isinstance(node, list) and node and all(isinstance(item, Mapping) for item in node):
        return "\n".join(_table(f"[[{key(name)}]]", item) for item in node)
    return f"{key(name)} = {value(node)}\n"


def _table(header: str, table: Mapping[str, Any]) -> str:
    lines = (f"{key(k)} = {value(v)}\n" for k, v in table.items() if v is not None)
    return f"{header}\n{''.join(lines)}"
