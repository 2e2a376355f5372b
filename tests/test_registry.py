"""Words find their classes, and misspelt ones get a hint."""

from importlib.metadata import EntryPoint

import pytest

from stream_em import registry
from stream_em.errors import SettingsError
from stream_em.streams import Sink, Source


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("sources", {"csv", "jsonl", "parquet"}),
        ("sinks", {"jsonl", "parquet", "stdout"}),
        ("stores", {"directory"}),
    ],
)
def test_what_comes_with_the_package_is_known(family, expected):
    assert expected <= set(registry.kinds(family))


@pytest.mark.parametrize("family", ["sources", "sinks"])
def test_every_kind_loads_and_bears_its_own_name(family):
    port = {"sources": Source, "sinks": Sink}[family]
    for kind in registry.kinds(family):
        cls = registry.resolve(family, kind)
        assert issubclass(cls, port)
        assert cls.kind == kind


def test_an_unknown_kind_is_told_what_is_near_and_what_there_is():
    with pytest.raises(SettingsError) as caught:
        registry.resolve("sources", "cvs")
    assert "did you mean 'csv'?" in str(caught.value)
    assert "jsonl" in str(caught.value)
    assert "parquet" in str(caught.value)


def test_a_kind_claimed_twice_is_refused(monkeypatch):
    points = [
        EntryPoint("csv", value, "stream_em.sources") for value in ("one:Source", "two:Source")
    ]
    monkeypatch.setattr(registry, "_points", lambda family: tuple(points))
    with pytest.raises(SettingsError, match=r"one:Source, two:Source"):
        registry.resolve("sources", "csv")


def test_a_kind_that_cannot_be_imported_says_what_is_missing(monkeypatch):
    point = EntryPoint("far", "package_not_installed.far:Source", "stream_em.sources")
    monkeypatch.setattr(registry, "_points", lambda family: (point,))
    with pytest.raises(SettingsError, match="package_not_installed"):
        registry.resolve("sources", "far")
