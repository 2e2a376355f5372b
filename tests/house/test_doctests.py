"""Every example in a docstring runs, on the installed packages, and so does the README's."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import stream_em
import stream_em_connectors

FENCED_PYTHON = re.compile(r"^```(?:python|pycon)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _names() -> list[str]:
    inside = [
        found.name
        for package in (stream_em, stream_em_connectors)
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    return ["stream_em", "stream_em_connectors", *inside]


@pytest.mark.parametrize("name", _names())
def test_the_examples_of_a_module_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


def test_the_examples_of_the_readme_run(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (repository / "README.md").read_text(encoding="utf-8")
    source = "\n".join(FENCED_PYTHON.findall(text))
    example = doctest.DocTestParser().get_doctest(source, {}, "README.md", "README.md", 0)
    assert example.examples, "the README shows no example"
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    assert runner.run(example).failed == 0
