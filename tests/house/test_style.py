"""Rules of style that a script can hold: sizes, forbidden words, nothing mutable at the top."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

LONGEST_FILE = 400
LONGEST_FUNCTION = 50
CONTAINERS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
CONTAINER_CALLS = {"list", "dict", "set", "bytearray", "defaultdict", "deque", "Counter"}
MUTATORS = {
    *("append", "extend", "insert", "remove", "pop", "popitem", "clear", "update"),
    *("add", "discard", "setdefault", "sort", "reverse", "appendleft", "popleft"),
}
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
# Brackets keep this very file from being a finding.
HOW_IT_WAS_MADE = re.compile(r"/wor[k]/|/hom[e]/\w|\bthis sessio[n]\b|\bhelper agen[t]\b")
TEXTS = ("*.md", "*.toml", "*.py", ".ci/*", "*.yml", "*.yaml")


def test_files_are_small(modules) -> None:
    long = {name: _lines(found.text) for name, found in modules.items()}
    assert {name: lines for name, lines in long.items() if lines > LONGEST_FILE} == {}


def test_functions_are_small(modules) -> None:
    long = [
        f"{found.path}:{node.lineno} {node.name} has {_length(node)} lines"
        for found in modules.values()
        for node in ast.walk(found.tree)
        if isinstance(node, ast.FunctionDef) and _length(node) > LONGEST_FUNCTION
    ]
    assert long == []


def test_no_file_is_empty(modules) -> None:
    assert [name for name, found in modules.items() if not found.text.strip()] == []


def test_every_module_says_what_it_is(modules) -> None:
    assert [name for name, found in modules.items() if not ast.get_docstring(found.tree)] == []


def test_nothing_calls_super_or_hasattr(modules) -> None:
    calls = [
        f"{found.path}:{node.lineno} {node.func.id}"
        for found in modules.values()
        for node in ast.walk(found.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("super", "hasattr")
    ]
    assert calls == []


def test_nothing_is_left_for_later(modules) -> None:
    left = [
        f"{found.path}:{number} {line.strip()}"
        for found in modules.values()
        for number, line in enumerate(found.text.splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert left == []


def test_classes_are_abstract_or_final(modules) -> None:
    concrete_parents = [
        f"{name}.{kind.__name__} inherits from {parent.__name__}"
        for name in modules
        if not name.endswith("__main__")
        for kind in vars(importlib.import_module(name)).values()
        if inspect.isclass(kind) and kind.__module__ == name
        for parent in kind.__bases__
        if _is_ours(parent) and not inspect.isabstract(parent)
        if not issubclass(parent, BaseException)
    ]
    assert concrete_parents == []


def test_nothing_mutable_lives_at_module_level(modules) -> None:
    findings = [
        f"{found.path}:{line} {name}"
        for found in modules.values()
        for name, line in _mutable_names(found.tree)
        if not _is_constant(name) or name in _changed_names(found.tree)
    ]
    assert findings == []


def test_no_function_rebinds_a_module_level_name(modules) -> None:
    rebinding = [
        f"{found.path}:{node.lineno}"
        for found in modules.values()
        for node in ast.walk(found.tree)
        if isinstance(node, ast.Global)
    ]
    assert rebinding == []


def test_the_project_speaks_of_itself_alone(repository: Path) -> None:
    findings = [
        f"{path}:{number} {line.strip()[:100]}"
        for path in _texts(repository)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if HOW_IT_WAS_MADE.search(line)
    ]
    assert findings == []


def _lines(text: str) -> int:
    return len(text.splitlines())


def _length(function: ast.FunctionDef) -> int:
    """Lines of a function's body, its docstring aside."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def _is_ours(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in ("stream_em", "stream_em_connectors")


def _is_constant(name: str) -> bool:
    return name == name.upper() or name in ("__all__", "__slots__")


def _mutable_names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in tree.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and _is_container(node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from ((t.id, node.lineno) for t in targets if isinstance(t, ast.Name))


def _is_container(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        return value.func.id in CONTAINER_CALLS
    return isinstance(value, CONTAINERS)


def _changed_names(tree: ast.Module) -> set[str]:
    """Names whose items are assigned or deleted, or on which a changing method is called."""
    changed = set()
    for node in ast.walk(tree):
        stored = isinstance(node, ast.Subscript) and isinstance(node.ctx, (ast.Store, ast.Del))
        if stored or (isinstance(node, ast.Attribute) and node.attr in MUTATORS):
            changed.add(ast.unparse(node.value))
    return changed


def _texts(root: Path) -> Iterator[Path]:
    folders = ("stream_em", "connectors", "tests", "benchmarks", "deploy", ".ci")
    for pattern in TEXTS:
        yield from root.glob(pattern)
        for folder in folders:
            yield from (path for path in (root / folder).rglob(pattern) if path.is_file())
