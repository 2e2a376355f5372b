"""What the house tests look at: the source of every module of the installed packages."""

import ast
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGES = ("stream_em", "stream_em_connectors")


class Module(NamedTuple):
    """One module as it is installed; nothing of it is executed to read it."""

    name: str  # dotted; a package's is that of its folder
    path: Path
    text: str
    tree: ast.Module


@pytest.fixture(scope="session")
def modules() -> dict[str, Module]:
    """Every module of both packages, by dotted name."""
    return {found.name: found for package in PACKAGES for found in _inside(package)}


def _inside(package: str) -> list[Module]:
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    return [_read(path, package, folder) for path in sorted(folder.rglob("*.py"))]


def _read(path: Path, package: str, folder: Path) -> Module:
    parts = [package, *path.relative_to(folder).with_suffix("").parts]
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    text = path.read_text(encoding="utf-8")
    return Module(name, path, text, ast.parse(text, str(path)))
