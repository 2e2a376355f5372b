"""The front door: the names a user types, and a cold import that brings numpy alone."""

import ast
import subprocess
import sys

import pytest

import stream_em as se

VERBS = "init step finish score clusters merge save load tally learn run replay k_curve"
MODELS = "KMeans SoftKMeans SphericalKMeans GaussianMixture StudentMixture VonMisesFisher"
COVARIANCES = "Spherical Diagonal Tied Full Isotropic"
FORGETTINGS = "KeepAll KeepNothing PowerWindow HalfLife EventTimeHalfLife"
SETTINGS = "Annealing Background Learn Prior Restructuring Seeding Standardise"
REPLAYS = "Chunk Incremental VarianceReduced"
OTHERS = "DirectoryStore StreamEmError StreamEmWarning"
NAMES = " ".join((VERBS, MODELS, COVARIANCES, FORGETTINGS, SETTINGS, REPLAYS, OTHERS)).split()

COLD_IMPORT = """
import sys
before = set(sys.modules)
import stream_em
dir(stream_em), stream_em.__all__, stream_em.__version__
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(loaded - set(sys.stdlib_module_names)))
"""


@pytest.mark.parametrize("name", NAMES)
def test_a_name_leads_to_its_room(name: str) -> None:
    found = getattr(se, name)
    assert found.__name__ == name
    assert found.__module__.startswith("stream_em.")


def test_all_lists_exactly_these_names() -> None:
    assert sorted(se.__all__) == sorted(NAMES)
    assert dir(se) == se.__all__


def test_type_checkers_see_the_same_names(modules) -> None:
    seen = {
        alias.asname: f"{node.module}.{alias.name}"
        for node in ast.walk(modules["stream_em"].tree)
        if isinstance(node, ast.ImportFrom) and node.module and _package(node.module) == "stream_em"
        for alias in node.names
    }
    resolved = {name: f"stream_em.{se._ROOM_OF[name]}.{name}" for name in se.__all__}
    assert seen == resolved


def _package(name: str) -> str:
    return name.partition(".")[0]


def test_a_misspelt_name_is_answered_with_what_there_is() -> None:
    with pytest.raises(AttributeError, match=r"no 'Kmeans'.*\bKMeans\b"):
        _ = se.Kmeans


def test_a_cold_import_loads_numpy_and_nothing_else() -> None:
    assert _loaded_by(COLD_IMPORT) <= {"stream_em", "numpy"}


def test_learning_from_arrays_needs_no_guest_but_numba() -> None:
    learning = """
import numpy
rows = numpy.random.default_rng(0).normal(size=(200, 2))
model = stream_em.GaussianMixture(n_components=2)
state, info = stream_em.step(model, stream_em.init(model, seed=1), rows)
"""
    head, tail = COLD_IMPORT.split("loaded =", 1)
    script = f"{head}{learning}loaded ={tail}"
    uninvited = "pyarrow msgspec prometheus_client click rich starlette uvicorn river pandas"
    assert not _loaded_by(script) & set(uninvited.split())


def _loaded_by(script: str) -> set[str]:
    """Top-level packages that a fresh interpreter loads, from the installed package (-P)."""
    command = [sys.executable, "-P", "-c", script]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return set(ran.stdout.split())
