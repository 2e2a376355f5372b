"""The floor plan, executable: who may import whom, read from the source without running it."""

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

# A room may import only rooms named before it. "stream_em" is the front door: only the
# doors behind it, which a user could have written, come in through it.
ROOMS = (
    "errors",
    "arrays",
    "kernels",
    "scatter",
    "moments",
    "forgetting",
    "models",
    "state",
    "spread",
    "incomplete",
    "background",
    "seeding",
    "scoring",
    "averaging",
    "quarantine",
    "holding",
    "relocations",
    "births",
    "restructuring",
    "intake",
    "reading",
    "learning",
    "single",
    "unions",
    "selection",
    "kcurve",
    "replaying",
    "streams",
    "memory",
    "checkpoints",
    "stores",
    "metrics",
    "engine",
    "stream_em",
    "registry",
    "river",
    "sklearn",
    "server",
    "config",
    "cli",
    "__main__",
)
WING_MAY_IMPORT = ("stream_em.arrays", "stream_em.errors", "stream_em.streams")
GUESTS = {  # third-party package -> the rooms where it is received; numpy is at home
    "numba": ("stream_em.kernels", "stream_em_connectors.kafka.record_batches"),
    "prometheus_client": ("stream_em.metrics", "stream_em.server"),
    "starlette": ("stream_em.server",),
    "uvicorn": ("stream_em.server",),
    "click": ("stream_em.cli",),
    "rich": ("stream_em.cli",),
    "river": ("stream_em.cli", "stream_em.river"),
    "narwhals": ("stream_em.river",),
    "sklearn": ("stream_em.sklearn",),
    "msgspec": ("stream_em.config", "stream_em_connectors"),
    "pyarrow": ("stream_em_connectors", "stream_em.cli.sniff"),
    "kafka": ("stream_em_connectors.kafka",),
    "confluent_kafka": ("stream_em_connectors.kafka",),
    "fastavro": ("stream_em_connectors.codecs",),
}


class Import(NamedTuple):
    """One imported module, and the line that asks for it."""

    wanted: str  # the dotted name of a module
    place: str  # file:line


@pytest.fixture(scope="session")
def imports(modules) -> dict[str, tuple[Import, ...]]:
    """What each module imports, whether at its top or inside a function."""
    return {
        name: tuple(
            Import(_module(target, modules), f"{found.path}:{line}")
            for target, line in _imported(found.tree)
        )
        for name, found in modules.items()
    }


def _imported(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def _module(target: str, modules) -> str:
    """`stream_em.arrays.record` names the module `stream_em.arrays`."""
    while target not in modules and _package(target) in ("stream_em", "stream_em_connectors"):
        target, dot, _ = target.rpartition(".")
        assert dot, "a name of ours that is in no module of ours"
    return target


def _package(name: str) -> str:
    return name.partition(".")[0]


def _room(name: str) -> str:
    return name.split(".")[1] if "." in name else name


def _is_in(name: str, rooms: tuple[str, ...]) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def test_every_room_is_on_the_plan_and_every_room_of_the_plan_is_built(modules) -> None:
    built = {_room(name) for name in modules if _package(name) == "stream_em"}
    assert built == set(ROOMS)


def test_the_readme_draws_the_same_plan(repository: Path) -> None:
    text = (repository / "README.md").read_text(encoding="utf-8")
    plan = text.partition("\nstream_em/\n")[2].partition("\nconnectors/")[0]
    drawn = re.findall(r"^  (\w+)(?:\.py|/) ", plan, re.MULTILINE)
    assert drawn == ["__init__", *(room for room in ROOMS if room not in ("stream_em", "__main__"))]


def test_a_room_imports_only_rooms_named_before_it(imports) -> None:
    upward = [
        f"{place}: {_room(name)} imports {wanted}"
        for name, wants in imports.items()
        if _package(name) == "stream_em" and name != "stream_em"
        for wanted, place in wants
        if _package(wanted) == "stream_em" and ROOMS.index(_room(wanted)) > ROOMS.index(_room(name))
    ]
    assert upward == []


def test_the_wing_imports_only_the_ports_of_the_house(imports) -> None:
    strays = [
        f"{place}: {wanted}"
        for name, wants in imports.items()
        if _package(name) == "stream_em_connectors"
        for wanted, place in wants
        if _package(wanted) == "stream_em" and wanted not in WING_MAY_IMPORT
    ]
    assert strays == []


def test_the_house_knows_the_wing_by_entry_points_only(imports) -> None:
    strays = [
        f"{place}: {wanted}"
        for name, wants in imports.items()
        if _package(name) == "stream_em"
        for wanted, place in wants
        if _package(wanted) == "stream_em_connectors"
    ]
    assert strays == []


def test_no_module_waits_for_itself(imports) -> None:
    graph = {
        name: {wanted for wanted, _ in wants if _package(wanted) == _package(name)} - {name}
        for name, wants in imports.items()
        if name != "stream_em"  # resolves its names when they are asked for
    }
    for wanted in graph.values():
        wanted.discard("stream_em")
    assert len(list(TopologicalSorter(graph).static_order())) >= len(graph)


def test_imports_are_absolute(modules) -> None:
    relative = [
        f"{found.path}:{node.lineno}"
        for found in modules.values()
        for node in ast.walk(found.tree)
        if isinstance(node, ast.ImportFrom) and node.level > 0
    ]
    assert relative == []


def test_each_guest_stays_in_its_room(imports) -> None:
    ours = {"stream_em", "stream_em_connectors", "numpy", *sys.stdlib_module_names}
    astray = [
        f"{place}: {wanted}"
        for name, wants in imports.items()
        for wanted, place in wants
        if _package(wanted) not in ours and not _is_in(name, GUESTS.get(_package(wanted), ()))
    ]
    assert astray == []
