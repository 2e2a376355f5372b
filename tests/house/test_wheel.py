"""The wheel, built as users get it: both packages, their types and doors, and nothing else."""

import configparser
import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every file of a freshly built wheel, by its path."""
    if not (repository / "pyproject.toml").exists():
        pytest.skip("the source tree is not here")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    ran = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _metadata(wheel: dict[str, bytes], file: str) -> str:
    (found,) = [name for name in wheel if name.endswith(f".dist-info/{file}")]
    return wheel[found].decode()


def test_top_level_folders_are_the_two_packages(wheel: dict[str, bytes]) -> None:
    folders = {name.partition("/")[0] for name in wheel}
    packages = {folder for folder in folders if not folder.endswith(".dist-info")}
    assert packages == {"stream_em", "stream_em_connectors"}
    assert len(folders) == 3


def test_every_source_file_is_in_it(wheel: dict[str, bytes], repository: Path) -> None:
    sources = {
        path.relative_to(parent).as_posix()
        for parent, package in (
            (repository, "stream_em"),
            (repository / "connectors", "stream_em_connectors"),
        )
        for path in (parent / package).rglob("*.py")
    }
    assert {name for name in wheel if name.endswith(".py")} == sources


@pytest.mark.parametrize("package", ["stream_em", "stream_em_connectors"])
def test_types_are_declared(wheel: dict[str, bytes], package: str) -> None:
    assert f"{package}/py.typed" in wheel


def test_no_tests_and_nothing_compiled_is_inside(wheel: dict[str, bytes]) -> None:
    strays = [name for name in wheel if "test" in name or name.endswith((".pyc", ".nbi", ".nbc"))]
    assert strays == []


def test_entry_points_lead_to_files_of_the_wheel(wheel: dict[str, bytes]) -> None:
    points = configparser.ConfigParser()
    points.read_string(_metadata(wheel, "entry_points.txt"))
    assert points["console_scripts"]["stream-em"] == "stream_em.cli:main"
    assert set(points["stream_em.sources"]) >= {"csv", "jsonl", "parquet"}
    assert set(points["stream_em.sinks"]) >= {"jsonl", "parquet", "stdout"}
    assert set(points["stream_em.stores"]) >= {"directory"}
    modules = {target.partition(":")[0] for group in points.values() for target in group.values()}
    paths = {module.replace(".", "/") for module in modules}
    absent = [p for p in paths if not {f"{p}.py", f"{p}/__init__.py"} & set(wheel)]
    assert absent == []


def test_metadata_tells_licence_python_and_readme(wheel: dict[str, bytes]) -> None:
    metadata = message_from_string(_metadata(wheel, "METADATA"))
    assert metadata["Name"] == "stream-em"
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["Requires-Python"] == ">=3.11"
    assert str(metadata.get_payload()).strip() != ""
    assert any(name.endswith("licenses/LICENSE") for name in wheel)
